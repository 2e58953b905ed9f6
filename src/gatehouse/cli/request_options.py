"""The options with which `sign` and `send` describe a request."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from collections.abc import Callable

#: In the year 2286. Much later ones can't be written as a date.
_LAST_SECOND = 9_999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the options say."""

    event_type: str | None
    #: A file, `-` for standard input, or None for the documented example.
    body: str | None
    url: str | None
    headers: tuple[tuple[str, str], ...]
    now: int | None
    fresh: bool | None


def request_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as `wanted`."""

    @functools.wraps(command)
    def with_wanted(**given: Any) -> None:  # noqa: ANN401 - click's own
        wanted = Wanted(**{name: given.pop(name) for name in Wanted.__slots__})
        command(wanted=wanted, **given)

    decorated: Callable[..., Any] = with_wanted
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _headers(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    return tuple(map(_header, values))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    token = name.strip().replace("-", "").replace("_", "")
    if not colon or not (token.isascii() and token.isalnum()) or not text.isprintable():
        raise click.BadParameter(f'"{text}" is not NAME:VALUE')
    return name.strip(), value.strip()


def _url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    try:
        parts = urlsplit(value or "http://default")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f'"{value}" is not an http or https URL')
    return value


_OPTIONS = (
    click.option("--type", "event_type", metavar="TYPE", help="Replace the event type."),
    click.option(
        "--body",
        metavar="FILE",
        type=click.Path(),
        help="Use the bytes of FILE, - for standard input.  [default: the provider's documented example]",
    ),
    click.option(
        "--url",
        metavar="URL",
        callback=_url,
        help="Where it goes; without a path, the source's is added."
        "  [default: this config's listener, on this machine]",
    ),
    click.option(
        "--header",
        "headers",
        metavar="NAME:VALUE",
        multiple=True,
        callback=_headers,
        help="Add or replace a header; may be repeated.",
    ),
    click.option(
        "--now",
        type=click.IntRange(0, _LAST_SECOND),
        metavar="UNIX",
        help="Sign as of this time, in unix seconds.  [default: now]",
    ),
    click.option(
        "--fresh/--no-fresh",
        default=None,
        help="Put new ids into it: it is a new event then.  [default: fresh, except for the body of a FILE]",
    ),
)
