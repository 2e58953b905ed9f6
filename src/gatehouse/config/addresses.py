"""Defines listen addresses, URLs, paths and networks as values of the config file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, InstanceOf, WithJsonSchema

from gatehouse.config.base import invalid_value, text_schema
from gatehouse.config.hints import address_hint, url_hint

_ADDRESS = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>[0-9]{1,5})"
_LISTEN = r"^(.*:[0-9]{1,5}|unix:/.+)$"
_MAX_PORT = 65535
#: The maximum length in a `sockaddr_un` on every system (unix(7); 104 on macOS, including the final NUL).
_MAX_SOCKET_PATH = 103
#: Hosts that stand for every address. The empty host covers IPv4 and IPv6.
_ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104 - compares with it


class Address(NamedTuple):
    """The host and port that a listener binds to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address is reachable only from this machine."""
        return is_loopback(self.host)

    def overlaps(self, other: Address) -> bool:
        """Return whether two listeners need the same port of the same address. Port 0 is any free port."""
        same_host = self.host == other.host or self.host in _ANY_HOST or other.host in _ANY_HOST
        return self.port == other.port != 0 and same_host


class UnixSocket(NamedTuple):
    """The path of a Unix socket that a listener binds to."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class BindAddresses(tuple[Address | UnixSocket, ...]):
    """All addresses and Unix sockets that a listener binds to."""

    __slots__ = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses with a port."""
        return tuple(one for one in self if isinstance(one, Address))

    @property
    def sockets(self) -> tuple[UnixSocket, ...]:
        """The Unix sockets."""
        return tuple(one for one in self if isinstance(one, UnixSocket))

    @property
    def port(self) -> int:
        """The port of the first address, or 0 without an address."""
        return self.addresses[0].port if self.addresses else 0

    def at(self, ports: Sequence[int]) -> BindAddresses:
        """Return a copy in which the addresses have the ports that they were bound to."""
        got = iter(ports)
        return BindAddresses(
            one._replace(port=next(got, one.port)) if isinstance(one, Address) else one for one in self
        )

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(value: Any) -> Any:
    """Convert `host:port` to an `Address`. An empty host stands for every IPv4 and IPv6 address."""
    if isinstance(value, str) and (match := re.fullmatch(_ADDRESS, value)):
        host, port = match["host"].strip("[]"), int(match["port"])
        if port <= _MAX_PORT and _is_possible_host(host):
            return Address(host, port)
    raise invalid_value(
        "not an address", address_hint(value) or "write host:port, as in 127.0.0.1:9090 or [::1]:9090"
    )


def parse_bind_addresses(value: Any) -> Any:
    """Convert an address, a `unix:/path`, or a list of them to `BindAddresses`."""
    many = value if isinstance(value, tuple) else (value,)
    if not many:
        raise invalid_value("must have at least one address", 'add one, as in ":8080"')
    found = BindAddresses(map(_parse_bind_address, many))
    if len(set(found)) < len(found):
        raise invalid_value("the same address twice", "remove one of them")
    return found


def _parse_bind_address(value: Any) -> Address | UnixSocket:
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable() or len(path.encode()) > _MAX_SOCKET_PATH:
            hint = f"write an absolute path of at most {_MAX_SOCKET_PATH} bytes, as in unix:/run/in.sock"
            raise invalid_value("not a path for a Unix socket", hint)
        return UnixSocket(path)
    address: Address = parse_address(value)
    return address


def _is_possible_host(host: str) -> bool:
    """Return False for an invalid IP address. Any other text may be a host name."""
    if not re.fullmatch(r"[0-9.]+|.*:.*", host):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


ListenAddresses = Annotated[
    InstanceOf[BindAddresses],
    BeforeValidator(parse_bind_addresses),
    WithJsonSchema(
        {
            "title": "address or list of addresses",
            "anyOf": [
                {"type": "string", "pattern": _LISTEN, "examples": [":8080", "unix:/run/gatehouse/in.sock"]},
                {"type": "array", "items": {"type": "string", "pattern": _LISTEN}, "minItems": 1},
            ],
        }
    ),
]
ListenAddress = Annotated[
    InstanceOf[Address],
    BeforeValidator(parse_address),
    text_schema("address", r".*:[0-9]{1,5}", "127.0.0.1:9090"),
]


#: Stands for a client that connects through a Unix socket.
UNIX: Final = "unix"
_PATH = r"/[A-Za-z0-9._~/-]{1,255}"


def parse_http_url(value: Any) -> Any:
    """Check that a value is an http or https URL with a host and without credentials."""
    if _http_parts(value) is None:
        raise invalid_value(
            "not an http or https URL",
            url_hint(value) or "write http://host:port/path or https://…, without credentials",
        )
    return value


def parse_public_url(value: Any) -> Any:
    """Check that a value is a URL with only a scheme and a host. Removes a final slash."""
    parts = _http_parts(value)
    if parts is None or parts.path not in ("", "/") or "?" in value:
        raise invalid_value(
            "must be only a scheme and a host",
            (parts is None and url_hint(value))
            or "write it as in https://hooks.example.com; the paths are those of the sources",
        )
    return value.removesuffix("/")


def _http_parts(value: Any) -> SplitResult | None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc and "#" not in value else None


def parse_https_url(value: Any) -> Any:
    """Check that a value is an https URL. Keys from an unencrypted connection would prove nothing."""
    parts = _http_parts(value)
    if parts is None or parts.scheme != "https":
        raise invalid_value(
            "not an https URL", url_hint(value) or "write https://host/path, without credentials"
        )
    return value


def parse_proxy_url(value: Any) -> Any:
    """Check that a value is the http URL of a proxy, with a port and nothing after it."""
    parts = _http_parts(value)
    if (
        parts is None
        or parts.scheme != "http"
        or parts.port is None
        or parts.path not in ("", "/")
        or "?" in value
    ):
        raise invalid_value("not the URL of a proxy", "write http://host:port, without credentials")
    return value


def parse_token_url(value: Any) -> Any:
    """Check that a value is an https URL, or an http URL of this machine. It is sent a secret."""
    parts = _http_parts(value)
    if parts is None or (parts.scheme != "https" and not is_loopback(parts.hostname or "")):
        hint = url_hint(value) or "write https://host/path, without credentials; http only for 127.0.0.1"
        raise invalid_value("not an https URL", hint)
    return value


def parse_path(value: Any) -> Any:
    """Check the path of a source. It must be one that proxies do not rewrite."""
    hint = "write it as in /in/shop, with letters, digits, - _ . ~ and single slashes"
    if not isinstance(value, str) or not re.fullmatch(_PATH, value):
        is_url = isinstance(value, str) and "://" in value
        raise invalid_value("not a path", f"remove the scheme and the host; {hint}" if is_url else hint)
    segments = value.removeprefix("/").removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise invalid_value("not a path: proxies would rewrite it", f"remove //, /./ and /../; {hint}")
    return value


def parse_path_prefix(value: Any) -> Any:
    """Check the path under which a proxy serves a listener. Removes a final slash."""
    return parse_path(value).removesuffix("/")


def parse_trusted_proxy(value: Any) -> Any:
    """Check that a value is an IP address, a network, or `unix`."""
    if value == UNIX:
        return value
    try:
        return parse_network(value)
    except ValueError as error:
        raise invalid_value(
            "not a network", "write it as in 10.0.0.0/8 or 127.0.0.1, or unix for Unix sockets"
        ) from error


def parse_network(value: Any) -> Any:
    """Check that a value is an IP address or a network in CIDR notation."""
    try:
        if isinstance(value, str):
            ipaddress.ip_network(value)
            return value
    except ValueError:
        pass
    raise invalid_value("not a network", "write it as in 10.0.0.0/8 or 127.0.0.1; the host bits must be zero")


HttpUrl = Annotated[
    str,
    BeforeValidator(parse_http_url),
    text_schema("URL", r"https?://[^@#\s]+", "http://billing.internal:8000/events"),
]
HttpsUrl = Annotated[
    str,
    BeforeValidator(parse_https_url),
    text_schema("https URL", r"https://[^@#\s]+", "https://provider.example/.well-known/jwks.json"),
]
ProxyUrl = Annotated[
    str,
    BeforeValidator(parse_proxy_url),
    text_schema("proxy URL", r"http://[^@#/?\s]+:[0-9]+/?", "http://proxy.internal:3128"),
]
TokenUrl = Annotated[
    str,
    BeforeValidator(parse_token_url),
    text_schema("https URL", r"https?://[^@#\s]+", "https://login.internal/oauth2/token"),
]
PublicUrl = Annotated[
    str,
    BeforeValidator(parse_public_url),
    text_schema("URL", r"https?://[^@#/?\s]+/?", "https://hooks.example.com"),
]
PathText = Annotated[str, BeforeValidator(parse_path), text_schema("path", _PATH, "/in/shop")]
PathPrefix = Annotated[str, BeforeValidator(parse_path_prefix), text_schema("path", _PATH, "/gatehouse")]
Network = Annotated[str, BeforeValidator(parse_network), text_schema("network", r".+", "10.0.0.0/8")]
TrustedProxy = Annotated[
    str, BeforeValidator(parse_trusted_proxy), text_schema("network or `unix`", r".+", "10.0.0.0/8", "unix")
]
