"""`gatehouse check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import chosen_config, config_argument, config_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import Config, DestinationConfig, RouteConfig, SourceConfig
    from gatehouse.errors import Problem


@click.command("check")
@config_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the verdict, problems and warnings.")
@config_option
def command(file: str | None, as_json: bool, config: str | None) -> None:
    """Check a config file: what it says, what is wrong with it, and which secrets are missing.

    Exits 1 when `serve` would not start, or would start with something that can't serve. Warnings pass.
    Secrets are looked up where this command runs, and never shown. When the gateway of this config runs, a
    variable that it does not have is noted: it needs a restart.
    """
    from gatehouse.config.lint import lint
    from gatehouse.config.load import config_file, load
    from gatehouse.errors import ConfigError

    path = config_file(chosen_config(file, config))
    try:
        loaded = load(path)
    except ConfigError as error:
        if as_json:
            _print_json(str(path), error.problems, [])
            sys.exit(1)
        _head(str(path), succeeded=False)
        raise
    from gatehouse.cli.readiness import secret_problems, secret_warnings
    from gatehouse.cli.running import restart_notes

    missing, notes = secret_problems(loaded), restart_notes(loaded)
    warnings = [*lint(loaded.config, loaded.document), *secret_warnings(loaded)]
    if as_json:
        _print_json(str(path), missing, warnings, notes)
        sys.exit(1 if missing else 0)
    _head(str(path), succeeded=not missing)
    for line in _found(loaded, missing):
        click.echo(line)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if missing:
        raise ConfigError(missing)


def _print_json(
    file: str, problems: Sequence[Problem], warnings: Sequence[Problem], notes: Sequence[str] = ()
) -> None:
    """Print what an editor or a pipeline needs: each with file, line, path, message, hint and code."""
    import json
    from dataclasses import asdict

    verdict = {
        "file": file,
        "ok": not problems,
        "problems": [asdict(problem) for problem in problems],
        "warnings": [asdict(warning) for warning in warnings],
        "notes": list(notes),
    }
    click.echo(json.dumps(verdict, indent=2))


def _head(file: str, *, succeeded: bool) -> None:
    verdict = click.style("SUCCESS", fg="green") if succeeded else click.style("FAILED", fg="red")
    click.echo(f"Checking '{file}'  {verdict}")


def _found(loaded: LoadedConfig, missing: list[Problem]) -> Iterator[str]:
    config = loaded.config
    yield "Found:"
    yield from _listeners(config)
    yield f" - store {config.store.url}" + ("" if config.store.password is None else ", with a password")
    yield f" - {_count(config.sources, 'source')}"
    for name, source in config.sources.items():
        yield from _source(name, source, _of(("sources", name), missing))
    yield f" - {_count(config.destinations, 'destination')}"
    for name, destination in config.destinations.items():
        yield from _destination(name, destination, _of(("destinations", name), missing))
    yield f" - {_count(config.routes, 'route')}"
    for index, route in enumerate(config.routes):
        yield f"     routes.{index}  {_route(route)}"


def _listeners(config: Config) -> Iterator[str]:
    public = f", reached at {config.server.public_url}" if config.server.public_url else ""
    token = "" if config.operator.token is None else ", with a token"
    yield f" - server on {config.server.listen}{public}"
    yield f" - operator server on {config.operator.listen}{token}"


def _source(name: str, source: SourceConfig, missing: list[Problem]) -> Iterator[str]:
    from gatehouse.config import describe
    from gatehouse.config.rules import source_path

    keys = " · ".join(map(describe.dedupe_key, source.dedupe.by)) or "nothing"
    yield f"     {name}"
    yield f"       provider   {source.provider or 'its own'}"
    yield f"       path       {source_path(name, source.path)}"
    yield f"       verified   {describe.verification(source)}"
    yield f"       dedupe     by {keys} for {describe.duration(source.dedupe.window)}"
    yield f"       secrets    {_secrets(source, missing)}"


def _destination(name: str, destination: DestinationConfig, missing: list[Problem]) -> Iterator[str]:
    from yarl import URL

    from gatehouse.delivery.destination import redact_url

    yield f"     {name}"
    yield f"       url        {redact_url(URL(destination.url))}"
    yield f"       format     {destination.format}"
    signing = _configured(missing) if destination.secret else "none: what is sent is not signed"
    yield f"       secret     {signing}"


def _route(route: RouteConfig) -> str:
    sources, types, to = (", ".join(names) for names in (route.sources, route.types, route.to))
    return f"from {sources}, types {types}, to {to}"


def _configured(missing: list[Problem]) -> str:
    if not missing:
        return "configured: true"
    reasons = "; ".join(f"{problem.message} ({problem.file}:{problem.line})" for problem in missing)
    return f"configured: false: {reasons}"


def _secrets(source: SourceConfig, missing: list[Problem]) -> str:
    from gatehouse.config.handshakes import HmacProof

    verifiers = [one for entry in source.verify for one in getattr(entry, "of", (entry,))]
    uses = any(hasattr(one, "secrets") and not getattr(one, "jwks", None) for one in verifiers)
    if uses or any(isinstance(handshake.proof, HmacProof) for handshake in source.handshakes):
        return _configured(missing)
    return "none needed" + (": what is named is not used" if source.secrets else "")


def _of(owner: tuple[str, str], problems: list[Problem]) -> list[Problem]:
    prefix = ".".join(owner)
    return [problem for problem in problems if f"{problem.path}.".startswith(f"{prefix}.")]


def _count(things: object, noun: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {noun}" + ("" if number == 1 else "s")
