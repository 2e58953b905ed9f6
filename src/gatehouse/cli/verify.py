"""The command `verify`: says whether a request verifies, and explains why a request was refused."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.findings import finding, refusal, refused_request
from gatehouse.cli.options import LAST_SECOND, complete_source, config_option, load_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.cli.saved_request import Verdict


@click.command("verify")
@click.argument("source", metavar="SOURCE", required=False, shell_complete=complete_source)
@click.argument("file", metavar="FILE", required=False, type=click.Path(allow_dash=True))
@click.option(
    "--now",
    type=click.IntRange(0, LAST_SECOND),
    metavar="UNIX",
    help="Verify as of this time, in Unix seconds.  [default: now]",
)
@click.option(
    "--client", metavar="ADDRESS", default="", help="The sender's address, for sources with an allowlist."
)
@click.option("--rejected", metavar="ID", help="Explain a request that a running gateway refused.")
@click.option(
    "--operator",
    metavar="URL",
    help="With --rejected: URL of the gateway's operator listener.  [default: from the config]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def verify(
    source: str | None,
    file: str | None,
    now: int | None,
    client: str,
    rejected: str | None,
    operator: str | None,
    as_json: bool,
    config: str | None,
) -> None:
    """Verify a saved request as SOURCE would. Print its events, or why it is refused and what to do.

    FILE is a raw HTTP request, or - for standard input: request line, headers, a blank line, and the body
    byte for byte. With --rejected and without SOURCE and FILE, the running gateway explains a request that it
    refused.

    Exits 0 if the request verifies, and 1 if it is refused.
    """
    if rejected is not None:
        if source is not None:
            raise click.UsageError("use --rejected without SOURCE and FILE: the gateway has the request")
        if now is not None or client:
            raise click.UsageError("use --now and --client with FILE, not with --rejected")
        sys.exit(_explain_rejected(config, rejected, operator, as_json=as_json))
    if source is None or file is None:
        raise click.UsageError("name SOURCE and FILE, or --rejected ID")
    verdict = _verify_file(config, source, file, now, client)
    if as_json:
        click.echo(json.dumps(verdict._asdict(), indent=2))
    else:
        _print_verdict(verdict)
    sys.exit(0 if verdict.verified else 1)


def _verify_file(config: str | None, name: str, file: str, now: int | None, client: str) -> Verdict:
    import asyncio

    from gatehouse.cli.saved_request import parse_request, verify_request
    from gatehouse.config.secrets import Secrets

    source, loaded = load_source(config, name)
    request = parse_request(_read(file), public_url=source.public_url, client=client)
    moment = time.time() if now is None else float(now)
    return asyncio.run(verify_request(source, request, moment, loaded.config, Secrets(loaded.directory)))


def _read(file: str) -> bytes:
    from gatehouse.errors import GatewayError

    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        hint = "check the name and the permissions of the file, or use - for standard input"
        raise GatewayError(f"{file}: can't be read: {error.strerror}", hint=hint) from error


def _print_verdict(verdict: Verdict) -> None:
    refused = refusal(verdict.reason, verdict.findings, verdict.explained)
    for line in _verified(verdict) if verdict.verified else refused:
        click.echo(line)
    if verdict.reason in ("stale_timestamp", "future_timestamp") and verdict.signed_at is not None:
        click.echo(
            f"Try: add --now {verdict.signed_at:.0f} to verify it as of the time when it was signed", err=True
        )


def _verified(verdict: Verdict) -> Iterator[str]:
    yield f"Verified by {verdict.by}" if verdict.by else "Accepted without verification"
    if verdict.handshake:
        yield f"Handshake {verdict.handshake}: the gateway answers it and stores no event."
    for event in verdict.events:
        yield from _event(event)
    yield from map(finding, verdict.findings)


def _event(event: dict[str, Any]) -> Iterator[str]:
    from gatehouse.telemetry.log import clean

    yield "Event"
    for name in ("id", "type", "time", "subject", "account"):
        if event[name] is not None:
            yield f"  {name:<9}{clean(event[name])}"
    for place, key in enumerate(event["keys"], 1):
        yield f"  dedupe   {place}. {'missing' if key is None else clean(key)}"
    yield f"  to       {', '.join(event['destinations']) or 'no route matches: stored, not delivered'}"


def _explain_rejected(config: str | None, rejected: str, operator: str | None, *, as_json: bool) -> int:
    """Print the running gateway's explanation. Returns 1: the request was refused."""
    from urllib.parse import quote

    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch

    record = fetch(find_access(config, operator), f"/api/v1/rejected/{quote(rejected, safe='')}")
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return 1
    for line in refused_request(record):
        click.echo(line)
    return 1
