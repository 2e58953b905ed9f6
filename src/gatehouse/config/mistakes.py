"""What was probably meant by a value that can't be read: `5min` is `5m`, `${X}` is `env:X`.

Each function returns a hint, or None when the value looks like nothing known. The value may be a secret in
the wrong place: what is repeated of it is a number, a word that is known, or the name of a variable.
"""

from __future__ import annotations

import re
from typing import Any

_DURATION_UNITS = {
    "ms": ("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}
_UNIT_OF = {word: unit for unit, words in _DURATION_UNITS.items() for word in words}
_SIZE_OF = {
    **dict.fromkeys(("b", "byte", "bytes"), "B"),
    **dict.fromkeys(("k", "kb", "kilobytes"), "KB"),
    **dict.fromkeys(("m", "mb", "mbyte", "megabytes"), "MB"),
    **dict.fromkeys(("g", "gb", "gbyte", "gigabytes"), "GB"),
    **dict.fromkeys(("ki", "kib"), "KiB"),
    **dict.fromkeys(("mi", "mib"), "MiB"),
    **dict.fromkeys(("gi", "gib"), "GiB"),
}
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_HIGHEST_PORT = 65535


def duration_hint(value: Any) -> str | None:
    """`300`, `5min`, `7 days`, `1w`, `PT5M`."""
    text = _lower(value)
    if re.fullmatch(_NUMBER, text):
        return _did_you_mean(f"{text}s") + " a duration has a unit" if float(text) else None
    if match := re.fullmatch(r"([0-9]{1,3}) ?(w|weeks?)", text):
        return _did_you_mean(f"{int(match[1]) * 7}d")
    found = _iso_duration(text) or _spelt_duration(text)
    return _did_you_mean(found) if found else None


def _iso_duration(text: str) -> str:
    parts = r"p(?:([0-9]{1,4})d)?(?:t(?:([0-9]{1,4})h)?(?:([0-9]{1,4})m)?(?:([0-9]{1,4})s)?)?"
    match = re.fullmatch(parts, text)
    pairs = zip(match.groups(), "dhms", strict=True) if match else ()
    return "".join(f"{number}{unit}" for number, unit in pairs if number)


def _spelt_duration(text: str) -> str:
    pieces = re.findall(_NUMBER + r"\s*([a-z]+)", text)
    rest = re.sub(_NUMBER + r"\s*[a-z]+|[\s,]|and", "", text)
    units = [_UNIT_OF.get(unit) for _, unit in pieces]
    if rest or None in units:
        return ""
    return "".join(f"{number}{unit}" for (number, _), unit in zip(pieces, units, strict=True))


def size_hint(value: Any) -> str | None:
    """`1 MB`, `512k`, `1Mi`."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([a-z]+)", _lower(value))
    unit = _SIZE_OF.get(match[2]) if match else None
    return _did_you_mean(f"{match[1]}{unit}") if match and unit else None


def rate_hint(value: Any) -> str | None:
    """`100`, `100/sec`, `100 per minute`, `50rps`."""
    match = re.fullmatch(_NUMBER + r"\s*(?:/|per|r/|rp|)\s*([a-z]*)", _lower(value))
    unit = _UNIT_OF.get(match[2] or "s") if match else None
    return _did_you_mean(f"{match[1]}/{unit}") if match and unit in ("s", "m", "h") else None


def _lower(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value).strip().lower() if is_number or isinstance(value, str) else ""


def address_hint(value: Any) -> str | None:
    """`8080`, `localhost`, `http://0.0.0.0:8080`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _HIGHEST_PORT:
        return f'":{value}" on every address, or "127.0.0.1:{value}" on this machine alone'
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"[0-9]{1,5}", value):
        return address_hint(int(value))
    if re.match(r"(https?|tcp)://", value):
        return "host:port alone, without a scheme and a path"
    if re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]", value):
        return "a port behind it, as in localhost:8080"
    return None


def secret_hint(value: Any) -> str | None:
    """`${X}`, `$X`, `ENV:X`, `env: X`, `X_Y`, `/run/secrets/x`. What may be a secret is not repeated."""
    if isinstance(value, dict):
        return "env:NAME or file:/path, no space behind the colon"
    text = value if isinstance(value, str) else ""
    if text.startswith("$"):
        return dollar_hint(text)
    return next((hint for pattern, hint in _SECRETS if re.fullmatch(pattern, text)), None)


_SECRETS = (
    (
        r"\s*(?i:env|environment|file)\s*[:.=/].*",
        "env:NAME or file:/path, in lower-case letters, with a colon and no space",
    ),
    (r"(~|\.{0,2})/[^\s:]+", "file: in front of the path of a file, as in file:/run/secrets/shop"),
    (
        r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+",
        "env: in front of the name of a variable, as in env:SHOP_SECRET",
    ),
)
_VARIABLE = re.compile(r"\$(?:\{([A-Z][A-Z0-9_]{0,63})[}:]|([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+))")


def dollar_hint(text: str) -> str:
    """Say how `${X}` is written here. A name is repeated where it can be nothing else."""
    found = _VARIABLE.search(text)
    name = (found[1] or found[2]) if found else "NAME"
    return f"env:{name}; $… is not replaced in this file"


def url_hint(value: Any) -> str | None:
    """`billing:8000/events`, `${BILLING_URL}`, `http://user:word@host/`."""
    text = value if isinstance(value, str) else ""
    return next((hint for pattern, hint in _URLS if re.match(pattern, text)), None)


_URLS = (
    (
        r".*\$\{|\$|env:",
        "the URL itself: variables are not replaced in this file, and env:NAME is for secrets alone",
    ),
    (r"https?:/?[^/]", "two slashes behind http: or https:"),
    (r"https?://[^/]*@", "without user:password@"),
    (
        r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/\S*)?$",
        "http:// or https:// in front of it, as in http://host:port/path",
    ),
)


def _did_you_mean(text: str) -> str:
    return f"did you mean {text}?"
