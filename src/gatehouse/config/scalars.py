"""The small types of the config file: `30s`, `1MiB`, `100/s`, `env:NAME`, `host:port`, numbers within bounds.

Each is written as text in YAML and becomes what the program works with; each says in its error what would be
right, and none repeats the value: it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, InstanceOf, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gatehouse.config.mistakes import address_hint, duration_hint, rate_hint, secret_hint, size_hint

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = r"([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+"
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
_SIZE = r"[0-9]{1,9}(B|KB|MB|KiB|MiB)"
_SPACES = _SIZES | {"GB": 10**9, "GiB": 2**30}
_SPACE = r"[0-9]{1,9}(B|KB|MB|GB|KiB|MiB|GiB)"
_RATE = r"[0-9]{1,9}(\.[0-9]{1,9})?/(s|m|h)"
_REFERENCE = r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"
_ADDRESS = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>[0-9]{1,5})"
_LISTEN = r"^(.*:[0-9]{1,5}|unix:/.+)$"

_A_DURATION = "more than nothing, with a unit: 300ms, 30s, 5m, 12h, 7d; at most 3650d"
_HIGHEST_PORT = 65535
#: What fits into a `sockaddr_un` on every system (unix(7); macOS has 104 with the NUL at the end).
_LONGEST_SOCKET_PATH = 103
#: The empty host is every address of either family.
_ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104 - names it to recognise it
#: Ten years: longer is a slip of the keyboard.
_LONGEST = 3650 * 86_400.0
#: What may wait for the store in all; a longer body could never be accepted.
_LARGEST = 64 * 2**20
#: More room than a store could ever need is a slip too.
_ROOMIEST = 2**40
#: More attempts per second than one process starts.
_FASTEST = 100_000.0


def wrong(message: str, hint: str) -> PydanticCustomError:
    """Make the error that the loader turns into a problem with a hint."""
    return PydanticCustomError("gatehouse", "{problem}", {"problem": message, "hint": hint})


def in_words(title: str, pattern: str, *examples: str) -> WithJsonSchema:
    """Describe a type that is written as text, for editors and for the reference."""
    return WithJsonSchema(
        {"type": "string", "title": title, "pattern": f"^{pattern}$", "examples": list(examples)}
    )


def parse_duration(value: Any) -> Any:
    """Turn `1h30m` into seconds."""
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        pieces = re.findall(r"([0-9.]+)(ms|s|m|h|d)", value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces) / 1000
        if 0 < seconds <= _LONGEST:
            return seconds
    raise wrong("not a duration", duration_hint(value) or _A_DURATION)


def format_duration(seconds: float) -> str:
    """Write seconds as the config does: `14h36m`."""
    pieces = []
    milliseconds = round(seconds * 1000)
    for unit, size in _UNITS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"


def parse_size(value: Any) -> Any:
    """Turn `1MiB` into bytes; a bare number is bytes."""
    size = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str) and re.fullmatch(_SIZE, value):
        unit = value.lstrip("0123456789")
        size = int(value.removesuffix(unit)) * _SIZES[unit]
    if 0 < size <= _LARGEST:
        return size
    raise wrong(
        "not a size", size_hint(value) or "bytes, or a number and a unit, as in 512KiB, 1MiB; at most 64MiB"
    )


def parse_space(value: Any) -> Any:
    """Turn `2GiB` of a disk into bytes; a bare number is bytes, and may be 0."""
    size = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str) and re.fullmatch(_SPACE, value):
        unit = value.lstrip("0123456789")
        size = int(value.removesuffix(unit)) * _SPACES[unit]
    if 0 <= size <= _ROOMIEST:
        return size
    raise wrong(
        "not an amount of disk",
        size_hint(value) or "0, bytes, or a number and a unit, as in 512MiB, 2GiB; at most 1024GiB",
    )


def format_size(size: int) -> str:
    """Write bytes as the config does: `1MiB`."""
    unit = next(unit for unit in ("MiB", "KiB", "B") if size % _SIZES[unit] == 0)
    return f"{size // _SIZES[unit]}{unit}"


def parse_rate(value: Any) -> Any:
    """Turn `100/s` into a number per second."""
    if isinstance(value, str) and re.fullmatch(_RATE, value):
        number, _, unit = value.partition("/")
        rate = float(number) * 1000 / _UNITS[unit]
        if 0 < rate <= _FASTEST:
            return rate
    raise wrong("not a rate", rate_hint(value) or "a number per s, m or h, as in 100/s; at most 100000/s")


@dataclass(frozen=True)
class Between:
    """A number within bounds, and nothing that only looks like one: no `"10"`, no `true`, no NaN."""

    low: int
    high: int

    def _check(self, value: Any, *, whole: bool) -> Any:
        is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and self.low <= value <= self.high:
            return value
        kind = "whole number" if whole else "number"
        raise wrong(f"not a {kind} from {self.low} to {self.high}", f"as in {self.low}, without quotes")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any) -> Any:
            return self._check(value, whole=source is int)

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(core) | {"minimum": self.low, "maximum": self.high}


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


class SecretRef(NamedTuple):
    """Where a secret is kept. The secret itself is never in the config."""

    #: `env` or `file`.
    kind: str
    #: The variable's name, or the file's path.
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_secret_ref(value: Any) -> Any:
    """Turn `env:NAME` or `file:/path` into a `SecretRef`."""
    if isinstance(value, str) and value.isprintable() and re.fullmatch(_REFERENCE, value):
        kind, _, name = value.partition(":")
        return SecretRef(kind, name)
    # The value itself may be the secret: no piece of it is repeated, not even what stands before a colon.
    if isinstance(value, str) and value.startswith("env:"):
        raise wrong("env: without the name of a variable", "letters, digits and _, as in env:MANDATO_SECRET")
    hint = secret_hint(value) or "env:NAME or file:/path; never the secret itself"
    raise wrong("not a reference to a secret", hint)


Duration = Annotated[
    float, BeforeValidator(parse_duration), in_words("duration", _DURATION, "30s", "5m", "7d")
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "title": "size",
            "anyOf": [
                {"type": "string", "pattern": f"^{_SIZE}$", "examples": ["512KiB", "1MiB"]},
                {"type": "integer", "minimum": 1, "maximum": _LARGEST},
            ],
        }
    ),
]
Space = Annotated[
    int,
    BeforeValidator(parse_space),
    WithJsonSchema(
        {
            "title": "disk space",
            "anyOf": [
                {"type": "string", "pattern": f"^{_SPACE}$", "examples": ["512MiB", "2GiB"]},
                {"type": "integer", "minimum": 0, "maximum": _ROOMIEST},
            ],
        }
    ),
]
Rate = Annotated[float, BeforeValidator(parse_rate), in_words("rate", _RATE, "100/s")]
SecretReference = Annotated[
    InstanceOf[SecretRef],
    BeforeValidator(parse_secret_ref),
    in_words("secret", _REFERENCE, "env:STRIPE_SECRET", "file:/run/secrets/stripe"),
]
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
