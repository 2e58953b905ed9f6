"""What a shell completes out of the running gateway: ids. It waits for a moment only, and never complains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

#: A person waits for this (seconds).
_PATIENCE = 1.0
_MOST = 100


def complete_event(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the newest events whose ids begin so."""
    return _ids(ctx, "/api/v1/events", "events", incomplete)


def complete_dead(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the newest dead letters whose ids begin so."""
    return _ids(ctx, "/api/v1/deliveries", "deliveries", incomplete, status="dead")


def _ids(ctx: click.Context, path: str, name: str, incomplete: str, **query: str) -> list[str]:
    import asyncio
    import contextlib

    from gatehouse.cli import records
    from gatehouse.cli.operator_client import ask
    from gatehouse.cli.options import load_config

    given = {key: ctx.params.get(key) for key in ("source", "destination") if ctx.params.get(key)}
    asked = records.path(path, limit=_MOST, **query, **given)

    async def found() -> Any:  # noqa: ANN401 - JSON
        async with asyncio.timeout(_PATIENCE):
            return await ask(load_config(ctx.params.get("config")), asked, ctx.params.get("operator"))

    # A completion that says what is wrong writes into the line that is being typed.
    with contextlib.suppress(Exception):
        rows = asyncio.run(found())[name]
        return [row["id"] for row in rows if row["id"].startswith(incomplete)]
    return []
