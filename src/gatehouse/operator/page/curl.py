"""Writes a curl command that sends the body and the headers of an event as the provider sent them. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where a developer's app listens.
DEFAULT_URL: Final = "http://localhost:3000/"
#: Bytes of a body that is part of the command. A longer one is read from a file.
LONGEST_INLINE: Final = 8 * 1024
#: What curl adds if the command does not name it, and what a provider's request does not have.
_ADDED: Final = ("content-type", "user-agent", "accept")
#: An address without characters that curl or a shell reads in another way.
_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]{1,2000}", re.ASCII)


class Command(NamedTuple):
    """A command for a POSIX shell."""

    text: str
    #: Whether it reads the body from a file in the current folder.
    needs_file: bool


def is_url(text: str) -> bool:
    """Return whether a request can be sent there. Nothing that `is_url` allows is an option of curl."""
    return _URL.fullmatch(text) is not None


def curl_command(url: str, headers: Iterable[tuple[str, str]], body: bytes, file: str) -> Command:
    """Return the command that posts a body to a URL that `is_url` allows.

    A body that is long, or that has a character other than printable ones and line feeds, is read from
    `file`. A terminal could act on such a character when the command is pasted. Events have no header with
    such a character.
    """
    usable = [(name, value) for name, value in headers if value.isprintable()]
    given = {name.lower() for name, _ in usable}
    text = _inline(body)
    data = (
        f"--data-raw {shlex.quote(text)}" if text is not None else f"--data-binary {shlex.quote(f'@{file}')}"
    )
    lines = [
        # Without --globoff, brackets in the URL would stand for several URLs.
        f"curl --globoff {shlex.quote(url)}",
        *(f"-H {shlex.quote(_header(name, value))}" for name, value in usable),
        *(f"-H {shlex.quote(f'{name}:')}" for name in _ADDED if name not in given),
        data,
    ]
    return Command(" \\\n  ".join(lines), needs_file=text is None)


def _header(name: str, value: str) -> str:
    # `Name:` would remove a header. `Name;` sends it without a value.
    return f"{name}: {value}" if value else f"{name};"


def _inline(body: bytes) -> str | None:
    if len(body) > LONGEST_INLINE:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").isprintable() else None
