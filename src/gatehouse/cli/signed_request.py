"""Builds the signed request that the options of `sign` and `send` describe."""

from __future__ import annotations

import functools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import click

from gatehouse.cli.options import LAST_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.config.addresses import BindAddresses
    from gatehouse.ingest.source import Source
    from gatehouse.samples.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The options that describe a request."""

    event_type: str | None
    #: A file, `-` for standard input, or None for the documented example.
    body: str | None
    url: str | None
    headers: tuple[tuple[str, str], ...]
    #: Paths in the body, and the values to set there.
    values: tuple[tuple[str, str], ...]
    now: int | None
    fresh: bool | None


def request_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as `options`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:  # noqa: ANN401 - click's own
        options = RequestOptions(**{name: given.pop(name) for name in RequestOptions.__slots__})
        command(options=options, **given)

    decorated: Callable[..., Any] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that is ready to send."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class RequestBuilder:
    """Builds the requests that the options describe. Each one is a new event, unless the options differ."""

    def __init__(self, source: Source, listen: BindAddresses, options: RequestOptions) -> None:
        self._source = source
        self._options = options
        #: The bytes of the file, if the options name one.
        self.given_body = None if options.body is None else read_body(options.body)
        self.url = _complete_url(options.url, source, listen)

    def build(self) -> SignedRequest:
        """Build and sign one request. Raises `GatewayError`."""
        from gatehouse.samples.sample import Sample, sign_sample

        options, source = self._options, self._source
        now = time.time() if options.now is None else options.now
        sample = self._sample(now)
        sample = Sample(self._with_given_headers(sample.headers), sample.body)
        parts = urlsplit(self.url)
        request = sign_sample(source, sample, now, path=parts.path, query=parts.query)
        url = urlunsplit(parts._replace(query=request.query))
        # Again after signing, so that an operator can also send another signature.
        return SignedRequest(request.method, url, self._with_given_headers(request.headers), request.body)

    def _sample(self, now: float) -> Sample:
        from gatehouse.samples.editing import with_setting
        from gatehouse.samples.event_type import with_type

        options, settings = self._options, self._source.settings
        sample = self._with_body(self._documented(now), now)
        if options.event_type:
            sample = with_type(sample, settings, options.event_type)
        for path, value in options.values:
            sample = with_setting(sample, settings, path, value)
        return sample

    def _documented(self, now: float) -> Sample:
        """Make the sample that is nearest to the type. Its headers are used with `--body` too."""
        from gatehouse.errors import GatewayError
        from gatehouse.samples.sample import Sample
        from gatehouse.samples.typed import Samples

        options, samples = self._options, Samples(self._source.settings)
        wanted = samples.nearest(options.event_type)
        sample = samples.make(wanted, None if options.fresh is False else now)
        if sample is None and self.given_body is None:
            message = f"source {self._source.name} has no documented example"
            raise GatewayError(message, hint="pass a body as the provider sends it with --body FILE")
        return sample or Sample({"Content-Type": "application/json"}, b"")

    def _with_body(self, sample: Sample, now: float) -> Sample:
        """Replace the body by the bytes of the file, if the options name one."""
        from gatehouse.samples.sample import Sample, with_new_ids, with_time

        if self.given_body is None:
            return sample
        settings = self._source.settings
        sample = Sample(sample.headers, self.given_body)
        return with_time(with_new_ids(sample, settings), settings, now) if self._options.fresh else sample

    def _with_given_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Replace headers by those that the options give."""
        given = dict(self._options.headers)
        replaced = {name.lower() for name in given}
        return {name: value for name, value in headers.items() if name.lower() not in replaced} | given


def read_body(file: str) -> bytes:
    """Read a file, or standard input for `-`. Raises `GatewayError`."""
    from gatehouse.errors import GatewayError

    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        hint = "name a readable file with --body FILE, or use --body - for standard input"
        raise GatewayError(f"{file}: can't be read: {error.strerror}", hint=hint) from error


def _complete_url(url: str | None, source: Source, listens: BindAddresses) -> str:
    """Return the URL to send to. The default host is this config's gateway, the default path the source's."""
    from gatehouse.config.addresses import Address
    from gatehouse.errors import GatewayError
    from gatehouse.network.sockets import client_host

    if url is None:
        listen = next(iter(listens.addresses), None)
        if listen is None or listen.port == 0:
            what = "is a Unix socket" if listen is None else "takes any free port"
            hint = "pass the gateway's address with --url http://host:port"
            raise GatewayError(f"the config's listener {what}", hint=hint)
        return f"http://{Address(client_host(listen.host), listen.port)}{source.path}"
    parts = urlsplit(url)
    return url if parts.path not in ("", "/") else parts._replace(path=source.path, fragment="").geturl()


def parse_headers(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Read the values of `--header`. Raises `click.BadParameter`."""
    return tuple(map(_parse_header, values))


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    token = name.strip().replace("-", "").replace("_", "")
    if not colon or not (token.isascii() and token.isalnum()) or not text.isprintable():
        raise click.BadParameter(f'"{text}" is not NAME:VALUE')
    return name.strip(), value.strip()


def _parse_values(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    return tuple(map(_parse_value, values))


def _parse_value(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise click.BadParameter(f'"{text}" is not PATH=VALUE')
    return path, value


def _complete_type(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the types that have a sample; none if the config does not load."""
    from gatehouse.cli.options import load_config
    from gatehouse.errors import GatewayError
    from gatehouse.samples.typed import Samples

    # An option without its value ends click's parsing before it reads the argument.
    name = ctx.params.get("source") or next(iter(ctx.args), "")
    try:
        source = load_config(ctx.params.get("config")).config.sources.get(name)
    except GatewayError:
        return []
    types = Samples(source).types() if source else ()
    return [one for one in types if one.startswith(incomplete)]


def _check_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    try:
        parts = urlsplit(value or "http://default")
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise click.BadParameter(f'"{value}" is not an http or https URL')
    return value


_OPTIONS = (
    click.option(
        "--type",
        "event_type",
        metavar="TYPE",
        shell_complete=_complete_type,
        help="Make an event of this type. If it has no sample, another sample gets this type.",
    ),
    click.option(
        "--body",
        metavar="FILE",
        type=click.Path(),
        help="Send the bytes of FILE; - reads standard input.  [default: the provider's documented example]",
    ),
    click.option(
        "--url",
        metavar="URL",
        callback=_check_url,
        help="Where to send it. A URL without a path gets the source's path."
        "  [default: this config's listener, on this machine]",
    ),
    click.option(
        "--header",
        "headers",
        metavar="NAME:VALUE",
        multiple=True,
        callback=parse_headers,
        help="Add or replace a header; may be repeated.",
    ),
    click.option(
        "--set",
        "values",
        metavar="PATH=VALUE",
        multiple=True,
        callback=_parse_values,
        help="Set a value of the body, as in data.object.amount=500; may be repeated.",
    ),
    click.option(
        "--now",
        type=click.IntRange(0, LAST_SECOND),
        metavar="UNIX",
        help="Sign as of this time, in Unix seconds.  [default: now]",
    ),
    click.option(
        "--fresh/--no-fresh",
        default=None,
        help="Replace the ids, so that it is a new event.  [default: --fresh, but not for --body FILE]",
    ),
)
