"""One finding of a diagnosis, and the form in which its parts are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import VerifierConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.diagnosis.known import KnownVerifier

#: What an operator can type into `timestamp.tolerance` or `max_age`, with its seconds.
_LIMITS = (("5m", 300), ("10m", 600), ("15m", 900), ("30m", 1800), ("1h", 3600))
_CODE = re.compile("`([^`]+)`")


class Finding(NamedTuple):
    """What was found and what to do. No part contains a secret, a signature or a part of the body."""

    #: Full sentences.
    text: str
    #: What the source expects, next to what the request has; None where the diagnosis can't put it briefly.
    expected: str | None = None
    received: str | None = None
    #: The keys of the config to change or to check, one a line: a path and, if it is known, the new value.
    change: str | None = None
    #: True if it was observed in the request, or verified with the change. False if it is a possible cause.
    certain: bool = True


def keys(path: str, written: str) -> str:
    """Return the keys in a text such as `` `digest: sha1` and `key: hex` ``, each below a path."""
    return "\n".join(f"{path}.{key}" for key in _CODE.findall(written))


def plain(written: str) -> str:
    """Return a text without the marks around its keys."""
    return written.replace("`", "")


def secrets_key(verifier: KnownVerifier, references: Sequence[str] | None = None) -> str | None:
    """Return the key with the secrets of a verifier, or with some of them; None if it has none."""
    names = verifier.references if references is None else references
    if not names:
        return None
    has_own = isinstance(verifier.entry, VerifierConfig) and verifier.entry.secrets
    path = verifier.path if has_own else ".".join(verifier.path.split(".")[:2])
    return f"{path}.secrets: {names[0]}" if len(names) == 1 else f"{path}.secrets: [{', '.join(names)}]"


def limit_for(path: str, age: float) -> str:
    """Return a key that limits an age, with a usual value that allows this age (seconds).

    An hour is the longest one: an older request is more likely a replayed or a saved one than a late retry.
    """
    fitting = next((text for text, seconds in _LIMITS if seconds > age), None)
    return f"{path}: {fitting}" if fitting else path
