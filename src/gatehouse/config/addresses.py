"""Listen addresses, URLs, paths and networks of the config file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, InstanceOf, WithJsonSchema

from gatehouse.config.base import in_words, wrong
from gatehouse.config.hints import address_hint, url_hint

_ADDRESS = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>[0-9]{1,5})"
_LISTEN = r"^(.*:[0-9]{1,5}|unix:/.+)$"
_HIGHEST_PORT = 65535
#: What fits into a `sockaddr_un` on every system (unix(7); macOS has 104 with the NUL at the end).
_LONGEST_SOCKET_PATH = 103
#: The empty host is every address of either family.
_ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104 - names it to recognise it


class Address(NamedTuple):
    """Where a listener binds."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is reachable from this machine alone."""
        return is_loopback(self.host)

    def overlaps(self, other: Address) -> bool:
        """Tell whether two listeners would want the same port of the same address. Port 0 is any free one."""
        same_host = self.host == other.host or self.host in _ANY_HOST or other.host in _ANY_HOST
        return self.port == other.port != 0 and same_host


class UnixSocket(NamedTuple):
    """A listener's path in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Listens(tuple[Address | UnixSocket, ...]):
    """Where a listener binds: one place or several."""

    __slots__ = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those with a port."""
        return tuple(one for one in self if isinstance(one, Address))

    @property
    def sockets(self) -> tuple[UnixSocket, ...]:
        """Those in the file system."""
        return tuple(one for one in self if isinstance(one, UnixSocket))

    @property
    def port(self) -> int:
        """The port of the first address; 0 when there is none."""
        return self.addresses[0].port if self.addresses else 0

    def at(self, ports: Sequence[int]) -> Listens:
        """Return the same with the ports that its addresses got: port 0 is any free one."""
        got = iter(ports)
        return Listens(
            one._replace(port=next(got, one.port)) if isinstance(one, Address) else one for one in self
        )

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def is_loopback(host: str) -> bool:
    """Tell whether an address is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(value: Any) -> Any:
    """Turn `host:port` into an `Address`; an empty host means every address of the machine, IPv4 and IPv6."""
    if isinstance(value, str) and (match := re.fullmatch(_ADDRESS, value)):
        host, port = match["host"].strip("[]"), int(match["port"])
        if port <= _HIGHEST_PORT and _could_be_a_host(host):
            return Address(host, port)
    raise wrong("not an address", address_hint(value) or "host:port, as in 127.0.0.1:9090 or [::1]:9090")


def parse_listens(value: Any) -> Any:
    """Turn an address, a `unix:/path`, or a list of them into `Listens`."""
    many = value if isinstance(value, tuple) else (value,)
    if not many:
        raise wrong("needs at least one address", 'as in ":8080"')
    found = Listens(map(_parse_listen, many))
    if len(set(found)) < len(found):
        raise wrong("an address is there twice", "each address once")
    return found


def _parse_listen(value: Any) -> Address | UnixSocket:
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable() or len(path.encode()) > _LONGEST_SOCKET_PATH:
            hint = f"a path from the root, at most {_LONGEST_SOCKET_PATH} bytes: unix:/run/gatehouse/in.sock"
            raise wrong("not a path for a socket", hint)
        return UnixSocket(path)
    address: Address = parse_address(value)
    return address


def _could_be_a_host(host: str) -> bool:
    """Refuse what is meant as an IP address and is none."""
    if not re.fullmatch(r"[0-9.]+|.*:.*", host):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


ListenPlaces = Annotated[
    InstanceOf[Listens],
    BeforeValidator(parse_listens),
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
    in_words("address", r".*:[0-9]{1,5}", "127.0.0.1:9090"),
]


#: What stands for a peer on a Unix socket.
UNIX: Final = "unix"
_PATH = r"/[A-Za-z0-9._~/-]{1,255}"


def parse_http_url(value: Any) -> Any:
    """Check an http or https URL with a host and without credentials."""
    if _http_parts(value) is None:
        raise wrong(
            "not a URL that can be posted to",
            url_hint(value) or "http://host:port/path or https://…, without credentials",
        )
    return value


def parse_public_url(value: Any) -> Any:
    """Check a URL that is scheme and host only; a slash at its end is left out."""
    parts = _http_parts(value)
    if parts is None or parts.path not in ("", "/") or "?" in value:
        raise wrong(
            "not scheme and host alone",
            (parts is None and url_hint(value))
            or "as in https://hooks.example.com; paths are those of the sources",
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
    """Check an https URL: keys that came over an open line would prove nothing."""
    parts = _http_parts(value)
    if parts is None or parts.scheme != "https":
        raise wrong("not an https URL", url_hint(value) or "https://host/path, without credentials")
    return value


def parse_path(value: Any) -> Any:
    """Check the path of a source: as it stands in requests, so nothing that a proxy would rewrite."""
    hint = "as in /in/shop: letters, digits, - _ . ~ between single slashes"
    if not isinstance(value, str) or not re.fullmatch(_PATH, value):
        is_url = isinstance(value, str) and "://" in value
        raise wrong("not a path", f"the path alone, without scheme and host: {hint}" if is_url else hint)
    segments = value.removeprefix("/").removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise wrong("a path that proxies rewrite", f"{hint}; no //, /./ or /../")
    return value


def parse_trusted_proxy(value: Any) -> Any:
    """Check an address, a network, or the word for Unix sockets."""
    if value == UNIX:
        return value
    try:
        return parse_network(value)
    except ValueError as error:
        raise wrong("not a network", "as in 10.0.0.0/8 or 127.0.0.1; unix for Unix sockets") from error


def parse_network(value: Any) -> Any:
    """Check an address or a network in CIDR form."""
    try:
        if isinstance(value, str):
            ipaddress.ip_network(value)
            return value
    except ValueError:
        pass
    raise wrong("not a network", "as in 10.0.0.0/8 or 127.0.0.1; the bits behind the / are zero")


HttpUrl = Annotated[
    str,
    BeforeValidator(parse_http_url),
    in_words("URL", r"https?://[^@#\s]+", "http://billing.internal:8000/events"),
]
HttpsUrl = Annotated[
    str,
    BeforeValidator(parse_https_url),
    in_words("https URL", r"https://[^@#\s]+", "https://provider.example/.well-known/jwks.json"),
]
PublicUrl = Annotated[
    str,
    BeforeValidator(parse_public_url),
    in_words("URL", r"https?://[^@#/?\s]+/?", "https://hooks.example.com"),
]
PathText = Annotated[str, BeforeValidator(parse_path), in_words("path", _PATH, "/in/shop")]
Network = Annotated[str, BeforeValidator(parse_network), in_words("network", r".+", "10.0.0.0/8")]
TrustedProxy = Annotated[
    str, BeforeValidator(parse_trusted_proxy), in_words("network or `unix`", r".+", "10.0.0.0/8", "unix")
]
