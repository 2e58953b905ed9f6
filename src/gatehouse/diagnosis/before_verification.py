"""Requests that were refused before, or apart from, their verification: by method, size or encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.diagnosis.finding import Finding
from gatehouse.diagnosis.observations import brief
from gatehouse.diagnosis.wording import as_sentence, counted
from gatehouse.errors import (
    BodyTooLargeError,
    ForbiddenError,
    MethodNotAllowedError,
    UnsupportedEncodingError,
)

if TYPE_CHECKING:
    from gatehouse.errors import RequestRejectedError
    from gatehouse.language.request import Request


def about_error(error: RequestRejectedError, request: Request, source: str, max_body: int | None) -> Finding:
    """Explain an error. `max_body` is the length limit of a body, in bytes, if it is known."""
    finding = Finding(as_sentence(error.message))
    match error:
        case MethodNotAllowedError():
            return finding._replace(expected=error.allow, received=brief(request.method))
        case UnsupportedEncodingError():
            return finding._replace(
                expected="no header Content-Encoding",
                received=f"Content-Encoding: {brief(request.headers.get('Content-Encoding', ''))}",
                change=f"sources.{source}.decode",
            )
        case BodyTooLargeError():
            return finding._replace(
                expected=None if max_body is None else f"at most {counted(max_body, 'byte')}",
                received=_length(request),
                change=f"sources.{source}.max_body",
            )
        case ForbiddenError():
            return finding._replace(change=f"sources.{source}.handshake_secrets")
        case _:
            return finding


def _length(request: Request) -> str | None:
    """Return the length of the body, or else the one that was announced."""
    if request.body:
        return counted(len(request.body), "byte")
    announced = request.headers.get("Content-Length", "")
    is_number = announced.isascii() and announced.isdigit() and len(announced) < 16  # noqa: PLR2004 - petabytes
    return f"{counted(int(announced), 'byte')} (Content-Length)" if is_number else None
