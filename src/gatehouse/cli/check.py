"""The command `check`: shows what a config file sets up, and its problems."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import (
    chosen_config,
    config_argument,
    config_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import Config, DestinationConfig, SourceConfig
    from gatehouse.errors import Problem


@click.command("check")
@config_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the verdict, problems and warnings.")
@config_option
def check(file: str | None, as_json: bool, config: str | None) -> None:
    """Check a config file: show what it sets up, its problems, and the secrets that are missing.

    Exits 1 if `serve` would refuse to start, or would start with a part that can't serve. Warnings do not
    change the exit code. Secrets are read where this command runs, and are never shown. If the gateway of
    this config runs, the command also notes each variable that the gateway gets only after a restart.
    """
    from gatehouse.config.lint import lint
    from gatehouse.config.load import load
    from gatehouse.config.location import config_file
    from gatehouse.errors import ConfigError

    path = config_file(chosen_config(file, config))
    try:
        loaded = load(path)
    except ConfigError as error:
        if as_json:
            _print_check(str(path), error.problems, [])
            sys.exit(1)
        _print_heading(str(path), succeeded=False)
        raise
    from gatehouse.cli.secret_check import restart_notes, secret_problems, secret_warnings

    missing, notes = secret_problems(loaded), restart_notes(loaded)
    warnings = [*lint(loaded.config, loaded.document), *secret_warnings(loaded)]
    if as_json:
        _print_check(str(path), missing, warnings, notes)
        sys.exit(1 if missing else 0)
    _print_heading(str(path), succeeded=not missing)
    for line in _summary(loaded, missing):
        click.echo(line)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if missing:
        raise ConfigError(missing)


def _print_check(
    file: str, problems: Sequence[Problem], warnings: Sequence[Problem], notes: Sequence[str] = ()
) -> None:
    """Print the result for an editor or a pipeline."""
    verdict = {
        "file": file,
        "ok": not problems,
        "problems": [problem._asdict() for problem in problems],
        "warnings": [warning._asdict() for warning in warnings],
        "notes": list(notes),
    }
    click.echo(json.dumps(verdict, indent=2))


def _print_heading(file: str, *, succeeded: bool) -> None:
    verdict = click.style("SUCCESS", fg="green") if succeeded else click.style("FAILED", fg="red")
    click.echo(f"Checking '{file}'  {verdict}")


def _summary(loaded: LoadedConfig, missing: list[Problem]) -> Iterator[str]:
    from gatehouse.config import describe

    config = loaded.config
    yield "Found:"
    yield from _listeners(config)
    yield f" - store {config.store.url}" + ("" if config.store.password is None else ", with a password")
    yield f" - {_count(config.sources, 'source')}"
    for name, source in config.sources.items():
        yield from _source(name, source, _problems_of(("sources", name), missing))
    yield f" - {_count(config.destinations, 'destination')}"
    for name, destination in config.destinations.items():
        yield from _destination(name, destination, _problems_of(("destinations", name), missing))
    yield f" - {_count(config.routes, 'route')}"
    for index, settings in enumerate(config.routes):
        yield f"     routes.{index}  {describe.route(settings)}"


def _listeners(config: Config) -> Iterator[str]:
    public = f", public URL {config.server.public_url}" if config.server.public_url else ""
    number = (config.operator.token is not None) + len(config.operator.tokens)
    token = "" if number == 0 else ", with a token" if number == 1 else f", with {number} tokens"
    yield f" - server on {config.server.listen}{public}"
    yield f" - operator server on {config.operator.listen}{token}"


def _source(name: str, source: SourceConfig, missing: list[Problem]) -> Iterator[str]:
    from gatehouse.config import describe
    from gatehouse.config.rules import source_path

    keys = " · ".join(map(describe.dedupe_key, source.dedupe.by)) or "nothing"
    yield f"     {name}"
    yield f"       provider   {source.provider or 'none: described in the config'}"
    yield f"       path       {source_path(name, source.path)}"
    yield f"       verified   {describe.verification(source)}"
    yield f"       dedupe     by {keys} for {describe.duration(source.dedupe.window)}"
    yield f"       secrets    {_secrets(source, missing)}"


def _destination(name: str, destination: DestinationConfig, missing: list[Problem]) -> Iterator[str]:
    from yarl import URL

    from gatehouse.config import describe
    from gatehouse.delivery.destination import redact_url

    yield f"     {name}"
    yield f"       url        {redact_url(URL(destination.url))}"
    yield f"       format     {destination.format}"

    def problems(key: str) -> list[Problem]:
        return _problems_of(("destinations", name, key), missing)

    secret = _configured(problems("secret")) if destination.secret else "none: deliveries are not signed"
    yield f"       secret     {secret}"
    if destination.auth is not None:
        yield f"       auth       {destination.auth.type}, {_configured(problems('auth'))}"
    if destination.tls is not None:
        yield f"       tls        {describe.tls(destination.tls)}, {_configured(problems('tls'))}"
    if destination.proxy is not None:
        yield f"       proxy      {destination.proxy}"
    if destination.add_headers:
        yield f"       adds       {', '.join(destination.add_headers)}"


def _configured(missing: list[Problem]) -> str:
    if not missing:
        return "configured"
    reasons = "; ".join(f"{problem.message} ({problem.file}:{problem.line})" for problem in missing)
    return f"not usable: {reasons}"


def _secrets(source: SourceConfig, missing: list[Problem]) -> str:
    from gatehouse.config.handshakes import HmacProof
    from gatehouse.config.model import VerifierConfig

    verifiers = [one for entry in source.verify for one in getattr(entry, "of", (entry,))]
    uses_secrets = any(isinstance(one, VerifierConfig) and one.needs_secret for one in verifiers)
    if uses_secrets or any(isinstance(handshake.proof, HmacProof) for handshake in source.handshakes):
        return _configured(missing)
    return "none needed" + (": the configured ones are not used" if source.secrets else "")


def _problems_of(owner: tuple[str, ...], problems: list[Problem]) -> list[Problem]:
    prefix = ".".join(owner)
    return [problem for problem in problems if f"{problem.path}.".startswith(f"{prefix}.")]


def _count(things: object, noun: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {noun}" + ("" if number == 1 else "s")
