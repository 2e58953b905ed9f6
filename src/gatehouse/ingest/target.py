"""What a request asks for: its path and query, in whichever form the target was sent (RFC 9112, 3.2)."""

from __future__ import annotations

import re
from typing import Final

#: A host without a user's name in front of it: RFC 9110, 4.2.4 says to treat such a name as an error.
_ABSOLUTE: Final = re.compile(r"https?://[^/?#@]+(?P<origin>[/?#].*)?", re.IGNORECASE | re.DOTALL)


def path_and_query(target: str) -> tuple[str, str]:
    """Split a target, as a path or as a URL. The path of what is neither is empty: `*`, or a host alone."""
    if target.startswith("/"):
        origin = target
    elif absolute := _ABSOLUTE.fullmatch(target):
        origin = absolute["origin"] or "/"
        if origin.startswith("?"):
            origin = f"/{origin}"
    else:
        return "", ""
    path, _, query = origin.partition("?")
    return path, query
