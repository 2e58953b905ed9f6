"""Suggests what a wrong value or name in the config was probably meant to be.

A value may be a secret in the wrong place. A hint repeats only numbers, known words and names of variables.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from gatehouse.language.placeholders import WITH_ARGUMENT, WITHOUT_ARGUMENT
from gatehouse.language.template import Template, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterable


_MAX_SHOWN = 80
#: A longer list of names would not help.
_MAX_NAMES = 40
#: Comparing with more names takes too long.
_MAX_COMPARED = 500
#: How similar a name must be to be suggested, from 0 to 1. Lower values suggest `openai` for `nope`.
_SIMILAR = 0.75


def escaped(text: str, limit: int = _MAX_SHOWN) -> str:
    """Shorten and escape text from a file for one line of a message."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode()


def suggest_name(given: str, known: Iterable[str]) -> str:
    """List the known names. Suggest one of them if it is similar to the given name."""
    names = sorted(itertools.islice(known, _MAX_COMPARED))
    if not names:
        return "none is configured"
    close = _closest(given[:_MAX_SHOWN].lower(), names)
    prefix = f'did you mean "{escaped(close)}"? ' if close else ""
    if len(names) > _MAX_NAMES:
        return f"{prefix}expected one of {len(names)} names, from {escaped(names[0])} to {escaped(names[-1])}"
    return f"{prefix}expected one of: {', '.join(map(escaped, names))}"


def _closest(given: str, names: list[str]) -> str | None:
    """Return the known name that was probably meant: a similar one, or `github` for `github.com`."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given, by_lower, n=1, cutoff=_SIMILAR)
    first_word = re.split(r"[^a-z0-9]", given, maxsplit=1)[0]
    return by_lower[close[0]] if close else by_lower.get(first_word)


_EXAMPLE = 'write text with placeholders, as in "{body:id}"'
#: Names in other programs for the part before the first dot, bracket or colon.
_PLACEHOLDERS = {
    **dict.fromkeys(("$", "payload", "json", "raw", "raw_body", "rawbody", "request_body", "data"), "body"),
    **dict.fromkeys(("headers", "http_header", "request_headers"), "header"),
    **dict.fromkeys(("params", "query_params", "args", "querystring", "query_string"), "query"),
    **dict.fromkeys(("form_data", "formdata", "post"), "form"),
    **dict.fromkeys(("ts", "t", "time"), "timestamp"),
    **dict.fromkeys(("http_method", "verb"), "method"),
    **dict.fromkeys(("uri", "full_url"), "url"),
}
_INSIDE = re.compile(r"\s*(\$|[A-Za-z_]+)\s*(?:[.:]\s*(.*?)|\[\s*[\"']?([^\]\"']+)[\"']?\s*\](.*))?\s*")


def placeholder_hint(inside: str) -> str:
    """Suggest a placeholder for `{body.type}`, `{headers.X-Id}`, `{$.type}` or `{type}`."""
    match = _INSIDE.fullmatch(inside)
    if not match:
        return _placeholders()
    word, argument = match[1].lower(), f"{match[2] or match[3] or ''}{match[4] or ''}".strip(" .")
    name = _PLACEHOLDERS.get(word, word)
    if name not in WITH_ARGUMENT and name not in WITHOUT_ARGUMENT:
        near = difflib.get_close_matches(name, {*WITH_ARGUMENT, *WITHOUT_ARGUMENT}, n=1, cutoff=0.8)
        name, argument = (near[0], argument) if near else ("body", inside.strip())
    elif word == "data":  # more often a member of the body than the whole body
        name, argument = "body", inside.strip()
    meant = f"{name}:{argument}" if argument and name in WITH_ARGUMENT else name
    try:
        Template("{" + meant + "}")
    except TemplateError:
        return _placeholders()
    return f'did you mean "{{{escaped(meant)}}}"?'


def _placeholders() -> str:
    return f"expected one of: {', '.join(sorted({*WITHOUT_ARGUMENT, *WITH_ARGUMENT}))}"


def template_hint(value: Any) -> str:
    """Suggest what to write instead of a value that is not text.

    YAML reads braces without quotes as a mapping.
    """
    if isinstance(value, tuple):
        return next(
            (template_hint(one) for one in value if isinstance(one, dict)),
            f"{_EXAMPLE}, or a list of such texts",
        )
    if not isinstance(value, dict):
        return f"{_EXAMPLE}, or a list of such texts"
    if len(value) == 1:
        ((key, inner),) = value.items()
        braces = "{" + f"{key}" + "}"
        if inner is None and _is_template(braces):
            return f'put it in quotes: "{braces}"'
        if isinstance(inner, str) and key in WITH_ARGUMENT:
            return f'put it in quotes, without a space after the colon: "{{{key}:…}}"'
    return 'put it in quotes, as in "{body:id}"'


def is_unquoted_placeholder(value: dict[str, Any]) -> bool:
    """Return whether a mapping is a placeholder such as `{body:id}` without quotes."""
    ((key, inner), *rest) = value.items() or [("", "")]
    is_one = not rest and (inner is None or isinstance(inner, str | int | float))
    return is_one and re.split("[:.]", key, maxsplit=1)[0] in {*WITH_ARGUMENT, *WITHOUT_ARGUMENT}


#: Placeholders of other programs: `$.type`, `{{ body.type }}`, `${body.type}`.
_FOREIGN = re.compile(r"\$\.([\w.\[\]\"'-]+)|\$?\{\{?\s*([\w.$-]+)\s*\}\}|\$\{([\w.$-]+)\}")


def foreign_placeholder_hint(value: str | tuple[str, ...]) -> str | None:
    """Suggest a placeholder for a text in the syntax of another program."""
    for text in (value,) if isinstance(value, str) else value:
        if match := _FOREIGN.fullmatch(text):
            inside = match[1] or match[2] or match[3]
            return placeholder_hint(f"body.{inside}" if match[1] else inside)
    return None


def _is_template(text: str) -> bool:
    try:
        Template(text)
    except TemplateError:
        return False
    return True


_DIGESTS = re.compile(r"(?:hmac|hash)?[^a-z0-9]*(sha)[^a-z0-9]?(1|256|512)(?:[^a-z0-9]*hmac)?")
_SHARED_VALUE = "type: token with header: NAME"
#: Names in other programs for a type of verifier.
_TYPES = {
    "hmac": "type: hmac",
    **dict.fromkeys(("hash", "signature", "signed"), "type: hmac"),
    **dict.fromkeys(("apikey", "sharedsecret", "secret", "header", "static", "key"), _SHARED_VALUE),
    **dict.fromkeys(
        ("bearer", "bearertoken"), 'type: token with header: Authorization and prefix: "Bearer "'
    ),
    **dict.fromkeys(("basicauth", "httpbasic", "password", "userpass"), "type: basic"),
    **dict.fromkeys(("ip", "ips", "ipallowlist", "ipwhitelist", "whitelist", "cidr"), "type: allowlist"),
    **dict.fromkeys(("rsasha256", "rsasha1", "rsasha512"), "type: rsa with digest: …"),
    **dict.fromkeys(("ecdsasha256", "secp256k1", "p256"), "type: ecdsa"),
    **dict.fromkeys(("eddsa", "ed25519ph"), "type: ed25519"),
    **dict.fromkeys(("sns", "aws"), "type: aws-sns"),
    **dict.fromkeys(("false", "off", "no", "disabled", "insecure"), "type: none with insecure: true"),
    **dict.fromkeys(("or", "oneof", "anyof"), "type: any with of: […]"),
    **{name: f"type: jwt with algorithm: {name.upper()}" for name in ("hs256", "rs256", "es256")},
}


def type_hint(given: str, known: list[str], providers: tuple[str, ...]) -> str:
    """Suggest a type for `hmac-sha256`, `HMAC`, `bearer` or `stripe`."""
    lower = given.strip().lower()
    bare = re.sub(r"[^a-z0-9]", "", lower)
    if match := _DIGESTS.fullmatch(lower):
        return f"did you mean type: hmac with digest: sha{match[2]}?"
    if lower.replace("_", "-") in known:
        return f"did you mean type: {lower.replace('_', '-')}?"
    if bare in _TYPES:
        return f"did you mean {_TYPES[bare]}?"
    if lower in providers:
        return f"did you mean provider: {lower}? Set it on the source, instead of verify"
    return suggest_name(given, known)


#: Names in other programs for a value. The first one that is possible is suggested.
_VALUES = {
    **dict.fromkeys(("second", "seconds", "sec", "unix", "epoch"), ("s",)),
    **dict.fromkeys(("millisecond", "milliseconds", "millis", "unixms"), ("ms",)),
    **dict.fromkeys(("iso", "rfc3339", "isodate"), ("iso8601",)),
    **dict.fromkeys(("b64",), ("base64",)),
    **dict.fromkeys(("utf", "text", "raw", "plain", "ascii"), ("utf8", "plain", "raw")),
    **dict.fromkeys(("hexadecimal", "base16"), ("hex",)),
    **dict.fromkeys(("json", "cloudevent", "structured"), ("cloudevents",)),
    **dict.fromkeys(("yes", "on", "1"), ("true",)),
    **dict.fromkeys(("batch", "batched"), ("cloudevents-batch",)),
    **dict.fromkeys(("binary",), ("cloudevents-binary",)),
}


def value_hint(given: Any, known: list[str]) -> str:
    """Suggest one of the possible values for `SHA-256`, `seconds` or `yes`."""
    if given is True or given is False or given is None or not isinstance(given, (str, int)):
        return f"expected one of: {', '.join(known)}"
    text = str(given).strip().lower()
    bare = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in known}
    meant = bare.get(re.sub(r"[^a-z0-9]", "", text))
    meant = meant or next((value for value in _VALUES.get(text, ()) if value in known), None)
    # The hint repeats nothing of the value, only what is possible.
    listed = f"expected one of: {', '.join(known)}"
    return f"did you mean {meant}? {listed}" if meant else listed


#: Names in other programs for a key. The first one that is possible is suggested.
_KEYS = {
    **dict.fromkeys(("destination", "destinations", "dest", "target", "targets", "deliver_to"), ("to",)),
    **dict.fromkeys(("source", "sources", "in", "provider"), ("from",)),
    **dict.fromkeys(("type", "event", "events", "event_type", "event_types", "topics"), ("types",)),
    **dict.fromkeys(("algorithm", "algo", "hash", "hash_algorithm"), ("digest", "algorithm")),
    **dict.fromkeys(("endpoint", "uri", "address", "href"), ("url", "path", "listen")),
    **dict.fromkeys(("bind", "port", "addr", "host"), ("listen",)),
    **dict.fromkeys(("token", "key", "signing_secret", "signing_key", "password"), ("secrets", "secret")),
    **dict.fromkeys(("preset", "vendor", "kind"), ("provider",)),
    **dict.fromkeys(("retries", "backoff"), ("retry",)),
    **dict.fromkeys(("dsn", "database", "file", "path"), ("url",)),
    **dict.fromkeys(("idempotency", "dedup", "deduplication", "deduplicate"), ("dedupe",)),
    **dict.fromkeys(("verification", "auth", "authentication", "verifier"), ("verify",)),
    **dict.fromkeys(("content", "payload", "template", "message"), ("signed",)),
    **dict.fromkeys(("body_limit", "max_size", "limit"), ("max_body",)),
    **dict.fromkeys(("parallel", "parallelism", "workers", "max_concurrency"), ("concurrency",)),
    **dict.fromkeys(("rate_limit", "ratelimit"), ("rate",)),
}


def key_hint(given: str, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Suggest a key. `elsewhere` maps the keys of nested sections to the way they are written there."""
    word = given.strip().lower().replace("-", "_")
    meant = word if word in known else next((key for key in _KEYS.get(word, ()) if key in known), None)
    if meant:
        return f'did you mean "{meant}"? {suggest_name("", known)}'
    if word in elsewhere:
        return f"did you mean {elsewhere[word]}? {suggest_name('', known)}"
    return suggest_name(given, known)


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
_MAX_PORT = 65535


def duration_hint(value: Any) -> str | None:
    """Suggest a duration for `300`, `5min`, `7 days`, `1w` or `PT5M`."""
    text = _lower(value)
    if re.fullmatch(_NUMBER, text):
        return _did_you_mean(f"{text}s") + " A duration needs a unit" if float(text) else None
    if match := re.fullmatch(r"([0-9]{1,3}) ?(w|weeks?)", text):
        return _did_you_mean(f"{int(match[1]) * 7}d")
    found = _iso_duration(text) or _worded_duration(text)
    # A valid duration that is out of bounds has no suggestion.
    return _did_you_mean(found) if found and found != value else None


def _iso_duration(text: str) -> str:
    parts = r"p(?:([0-9]{1,4})d)?(?:t(?:([0-9]{1,4})h)?(?:([0-9]{1,4})m)?(?:([0-9]{1,4})s)?)?"
    match = re.fullmatch(parts, text)
    pairs = zip(match.groups(), "dhms", strict=True) if match else ()
    return "".join(f"{number}{unit}" for number, unit in pairs if number)


def _worded_duration(text: str) -> str:
    pieces = re.findall(_NUMBER + r"\s*([a-z]+)", text)
    rest = re.sub(_NUMBER + r"\s*[a-z]+|[\s,]|and", "", text)
    units = [_UNIT_OF.get(unit) for _, unit in pieces]
    if rest or None in units:
        return ""
    return "".join(f"{number}{unit}" for (number, _), unit in zip(pieces, units, strict=True))


def size_hint(value: Any) -> str | None:
    """Suggest a size for `1 MB`, `512k` or `1Mi`."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([a-z]+)", _lower(value))
    unit = _SIZE_OF.get(match[2]) if match else None
    meant = f"{match[1]}{unit}" if match and unit else value
    return _did_you_mean(meant) if meant != value else None


def rate_hint(value: Any) -> str | None:
    """Suggest a rate for `100`, `100/sec`, `100 per minute` or `50rps`."""
    match = re.fullmatch(_NUMBER + r"\s*(?:/|per|r/|rp|)\s*([a-z]*)", _lower(value))
    unit = _UNIT_OF.get(match[2] or "s") if match else None
    meant = f"{match[1]}/{unit}" if match and unit in ("s", "m", "h") else value
    return _did_you_mean(meant) if meant != value else None


def _lower(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value).strip().lower() if is_number or isinstance(value, str) else ""


def address_hint(value: Any) -> str | None:
    """Suggest an address for `8080`, `localhost` or `http://0.0.0.0:8080`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_PORT:
        return f'write ":{value}" for every address, or "127.0.0.1:{value}" for this machine only'
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"[0-9]{1,5}", value):
        return address_hint(int(value))
    if re.match(r"(https?|tcp)://", value):
        return "write only host:port, without a scheme and a path"
    if re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]", value):
        return "add a port, as in localhost:8080"
    return None


def secret_hint(value: Any) -> str | None:
    """Suggest a reference for `${X}`, `$X`, `ENV:X`, `env: X`, `X_Y` or `/run/secrets/x`.

    The hint repeats nothing that may be a secret.
    """
    if isinstance(value, dict):
        return "write env:NAME or file:/path, without a space after the colon"
    text = value if isinstance(value, str) else ""
    if text.startswith("$"):
        return dollar_hint(text)
    return next((hint for pattern, hint in _SECRETS if re.fullmatch(pattern, text)), None)


_SECRETS = (
    (
        r"\s*(?i:env|environment|file)\s*[:.=/].*",
        "write env:NAME or file:/path, in lower case, with a colon and without a space",
    ),
    (r"(~|\.{0,2})/[^\s:]+", "write file: before the path, as in file:/run/secrets/shop"),
    (
        r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+",
        "write env: before the name of the variable, as in env:SHOP_SECRET",
    ),
)
_VARIABLE = re.compile(r"\$(?:\{([A-Z][A-Z0-9_]{0,63})[}:]|([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+))")


def dollar_hint(text: str) -> str:
    """Suggest `env:X` for `${X}`. The hint repeats a name only if it cannot be a secret."""
    found = _VARIABLE.search(text)
    name = (found[1] or found[2]) if found else "NAME"
    return f"write env:{name}; the config file does not support $…"


def url_hint(value: Any) -> str | None:
    """Suggest a URL for `billing:8000/events`, `${BILLING_URL}` or `http://user:word@host/`."""
    text = value if isinstance(value, str) else ""
    return next((hint for pattern, hint in _URLS if re.match(pattern, text)), None)


_URLS = (
    (
        r".*\$\{|\$|env:",
        "write the URL itself: the config file supports no variables, and env:NAME is only for secrets",
    ),
    (r"https?:/?[^/]", "write two slashes after http: or https:"),
    (r"https?://[^/]*@", "remove user:password@"),
    (
        r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/\S*)?$",
        "write http:// or https:// before it, as in http://host:port/path",
    ),
)


def _did_you_mean(text: str) -> str:
    return f"did you mean {text}?"
