"""Text of a request as the bytes that were sent: the one way in which header, path and query become bytes."""

from __future__ import annotations


def as_sent(text: str) -> bytes:
    """Undo what the HTTP parser did to bytes that are not UTF-8. Raises nothing.

    Other halves of characters no request carries. They become bytes that no request carries either.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
