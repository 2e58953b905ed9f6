"""From the options of `sign` and `send` to a signed request."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from gatehouse.config.addresses import Address, Listens
from gatehouse.demo.sample import Sample, documented, freshened, signed, with_time, with_type
from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.cli.request_options import Wanted
    from gatehouse.ingest.source import Source

#: Addresses that mean "every address of this machine", where a client can't connect everywhere.
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request, ready to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Maker:
    """Makes the requests that the options ask for: each time a new one, unless they say otherwise."""

    def __init__(self, source: Source, listen: Listens, wanted: Wanted) -> None:
        self._source = source
        self._wanted = wanted
        #: The bytes of the file, when the options name one.
        self.given = None if wanted.body is None else read_body(wanted.body)
        self.url = _complete(wanted.url, source, listen)

    def make(self) -> SignedRequest:
        """Make and sign one request. Raises `GatewayError`."""
        wanted, source = self._wanted, self._source
        now = time.time() if wanted.now is None else wanted.now
        sample = self._sample(now)
        sample = Sample(self._with_own(sample.headers), sample.body)
        parts = urlsplit(self.url)
        request = signed(source, sample, now, path=parts.path, query=parts.query)
        url = urlunsplit(parts._replace(query=request.query))
        # Once more, so that an operator can also send a signature of their own.
        return SignedRequest(url, self._with_own(request.headers), request.body)

    def _sample(self, now: float) -> Sample:
        wanted, settings = self._wanted, self._source.settings
        sample = documented(settings, wanted.event_type)
        if sample is None:
            if self.given is None:
                message = f"source {self._source.name} has no documented example"
                raise GatewayError(message, hint="--body FILE with a body as its provider sends it")
            sample = Sample({"Content-Type": "application/json"}, b"")
        if wanted.fresh is not False:
            sample = with_time(freshened(sample, settings), settings, now)
        if self.given is not None:
            sample = Sample(sample.headers, self.given)
            sample = with_time(freshened(sample, settings), settings, now) if wanted.fresh else sample
        return with_type(sample, settings, wanted.event_type) if wanted.event_type else sample

    def _with_own(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Put the operator's own headers in the place of those of the same name."""
        own = dict(self._wanted.headers)
        replaced = {name.lower() for name in own}
        return {name: value for name, value in headers.items() if name.lower() not in replaced} | own


def read_body(file: str) -> bytes:
    """Read a file, or standard input for `-`. Raises `GatewayError`."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        message = f"{file}: can't be read: {error.strerror}"
        raise GatewayError(message, hint="--body FILE, or --body - for standard input") from error


def _complete(url: str | None, source: Source, listens: Listens) -> str:
    """Complete the URL: without one it is the gateway of this config, and an address alone gets the path."""
    if url is None:
        listen = next(iter(listens.addresses), None)
        if listen is None or listen.port == 0:
            what = "is a Unix socket" if listen is None else "takes any free port"
            raise GatewayError(f"the config's listener {what}", hint="--url http://host:port")
        host = "127.0.0.1" if listen.host in _WILDCARDS else listen.host
        return f"http://{Address(host, listen.port)}{source.path}"
    parts = urlsplit(url)
    return url if parts.path not in ("", "/") else parts._replace(path=source.path, fragment="").geturl()
