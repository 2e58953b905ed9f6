"""Where things are: URLs, paths, networks."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator

from gatehouse.config.mistakes import url_hint
from gatehouse.config.scalars import in_words, wrong

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
