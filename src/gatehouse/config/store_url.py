"""Checks and parses the URL of the store: a SQLite file, or a PostgreSQL database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from pydantic import BeforeValidator

from gatehouse.config.addresses import is_loopback
from gatehouse.config.base import invalid_value, text_schema

if TYPE_CHECKING:
    pass

#: Other parameters are refused: PostgreSQL would take `sslmod` as a server setting, and the connection would
#: stay unencrypted.
_PARAMETERS = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "host", "target_session_attrs"),
)
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: Modes in which every connection is encrypted.
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_QUERY = rf"({'|'.join(_PARAMETERS)})=[^&#\s]+"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]+)(:[0-9]{1,5})?"
_POSTGRES = (
    rf"postgres(ql)?://(?P<user>[^:@/?#\s]+)@(?P<hosts>({_HOST}(,{_HOST})*)?)/(?P<name>[^/?#\s]+)"
    rf"(\?(?P<query>{_QUERY}(&{_QUERY})*))?"
)
_SQLITE = r"sqlite:///[^?]*[^/?]"
_MAX_PORT = 65535
_HINT = "write sqlite:///gatehouse.db, sqlite:////var/lib/gatehouse/gatehouse.db, or postgresql://…"
_HINT_POSTGRES = "postgresql://user@host:5432,host2:5432/name?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem"
_CREDENTIALS_HINT = "move it to store.password, as in password: env:GATEHOUSE_STORE_PASSWORD"


class PostgresParts(NamedTuple):
    """The hosts and parameters of a PostgreSQL URL."""

    #: Host names without ports, or the directory of a Unix socket.
    hosts: tuple[str, ...]
    parameters: dict[str, str]

    @property
    def is_unencrypted(self) -> bool:
        """Whether the connection may send events unencrypted over a network."""
        is_remote = not all(host.startswith("/") or is_loopback(host) for host in self.hosts)
        return is_remote and self.parameters.get("sslmode") not in _ENCRYPTED


def parse_store_url(value: Any) -> Any:
    """Check the URL of the store. The errors repeat no part of it, because it may contain a password."""
    if not isinstance(value, str) or not value.isprintable():
        raise invalid_value("not the URL of a store", _HINT)
    if re.match(r"postgres(ql)?:", value):
        _check_postgres(value)
        return value
    path = value.removeprefix("sqlite:///")
    if path == value or path.endswith("/") or not path:
        raise invalid_value("not the URL of a store", _HINT)
    if path.startswith(":memory:") or "?" in path:
        raise invalid_value(
            "not the path of a file", f"{_HINT}; a store in memory would lose accepted events"
        )
    return value


def postgres_parts(url: str) -> PostgresParts | None:
    """Return the parts of a PostgreSQL URL, or None for any other URL."""
    found = re.fullmatch(_POSTGRES, url) if url.isascii() else None
    if found is None:
        return None
    parameters = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    hosts = found["hosts"] or parameters.get("host", "")
    names = (re.sub(r":[0-9]+$", "", host).strip("[]") for host in hosts.split(","))
    return PostgresParts(tuple(unquote(name) for name in names if name), parameters)


def _check_postgres(url: str) -> None:
    if _has_password(url):
        raise invalid_value("the URL must not contain a password", _CREDENTIALS_HINT)
    parts = postgres_parts(url)
    if parts is None and postgres_parts(url.partition("?")[0]) is not None:
        raise invalid_value("an unknown or empty parameter", f"use only: {', '.join(_PARAMETERS)}")
    if parts is None or not parts.hosts or not _has_possible_ports(url):
        raise invalid_value("not the URL of a PostgreSQL database", f"write {_HINT_POSTGRES}")
    mode = parts.parameters.get("sslmode", "prefer")
    if mode not in _MODES:
        raise invalid_value("unknown sslmode", f"use one of: {', '.join(_MODES)}")
    if mode.startswith("verify") and "sslrootcert" not in parts.parameters:
        raise invalid_value(
            f"sslmode={mode} needs sslrootcert",
            "name the certificates to trust, as in sslrootcert=/etc/ssl/db.pem",
        )
    for name in _FILES:
        if not parts.parameters.get(name, "/").startswith("/"):
            raise invalid_value(f"{name} must be an absolute path", f"write it as in {name}=/etc/ssl/db.pem")


def _has_password(url: str) -> bool:
    address, _, query = url.partition("://")[2].partition("?")
    return (
        ":" in address.rpartition("@")[0]
        or re.search(r"(^|&)(password|passfile|sslpassword)=", query) is not None
    )


def _has_possible_ports(url: str) -> bool:
    hosts = url.partition("@")[2].partition("/")[0]
    return all(0 < int(port) <= _MAX_PORT for port in re.findall(r":([0-9]+)(?=,|$)", hosts))


StoreUrl = Annotated[
    str,
    BeforeValidator(parse_store_url),
    text_schema(
        "store URL",
        f"({_SQLITE}|{re.sub(r'[?]P<[a-z]+>', '', _POSTGRES)})",
        "sqlite:///gatehouse.db",
        _HINT_POSTGRES,
    ),
]
