"""Fetches access tokens from a token endpoint (RFC 6749, client credentials), and keeps the current one.

Attempts that need a token at the same time share one fetch. A token is replaced before it expires, while the
attempts still use it. Everything about an answer is limited, and no message here repeats a part of it.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from gatehouse import __version__
from gatehouse.config.addresses import is_loopback
from gatehouse.delivery.faults import TokenError, describe_error, reason_for_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.client_tls import ClientTls
    from gatehouse.delivery.credentials import ClientCredentials

#: Seconds for one fetch.
FETCH_TIMEOUT: Final = 10.0
#: Bytes of an answer.
MAX_ANSWER: Final = 64 * 1024
#: Seconds that a token is used if the answer does not say, and at most.
_LIFETIME: Final = 300.0
_MAX_LIFETIME: Final = 86400.0
#: A token is replaced this long before it expires: a share of its lifetime, and at most so many seconds.
_AHEAD: Final = (0.2, 60.0)
#: Likewise for the time at which it is no longer used.
_RESERVE: Final = (0.05, 5.0)
#: Seconds after a failed fetch, or after a fetch because of a refusal, without another one.
_PAUSE: Final = 1.0

_HEADERS: Final = {
    "User-Agent": f"Gatehouse/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    # Fetches are rare, so the other side would have closed a connection that was kept.
    "Connection": "close",
}
_OK: Final = 200
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
#: The error codes of RFC 6749, section 5.2. Other text of an answer is never shown.
_ERRORS: Final = frozenset(
    (
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
        *("unsupported_grant_type", "invalid_scope"),
    )
)


class _Answer(msgspec.Struct):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - not a secret
    expires_in: int | float | str | None = None


class _ErrorAnswer(msgspec.Struct):
    error: str


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_error: Final = msgspec.json.Decoder(_ErrorAnswer).decode


class _Token(NamedTuple):
    value: str
    #: When it is replaced, and when it is no longer used, in the event loop's time.
    refresh_at: float
    unusable_at: float


class AccessTokens:
    """The access token for one destination."""

    def __init__(
        self,
        credentials: ClientCredentials,
        session: aiohttp.ClientSession,
        tls: ClientTls | None,
        proxy: URL | None = None,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` replaces the event loop's time."""
        self._credentials = credentials
        self._session = session
        self._tls = tls
        is_local = is_loopback(URL(credentials.token_url).host or "")
        self._proxy = None if is_local else proxy
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._token: _Token | None = None
        self._fetch: asyncio.Task[_Token] | None = None
        self._failed: tuple[TokenError, float] | None = None
        self._refused_at = float("-inf")

    async def current(self, deadline: float) -> str:
        """Return a token, and fetch one if there is none. Raises `TokenError`, at `deadline` at the latest.

        `deadline` is in the event loop's time.
        """
        now, token = self._clock(), self._token
        if token is not None and now < token.unusable_at:
            if now >= token.refresh_at and not self._has_just_failed(now):
                self._start_fetch()
            return token.value
        return await self._fetched(deadline)

    async def after_refusal(self, refused: str, deadline: float) -> str | None:
        """Return another token than the refused one; None if the token of such a fetch was just refused too.

        Raises `TokenError`, at `deadline` at the latest.
        """
        now = self._clock()
        if self._token is not None and self._token.value != refused:
            # Another attempt has fetched it meanwhile.
            return await self.current(deadline)
        if self._fetch is None:
            if now - self._refused_at < _PAUSE:
                return None
            self._refused_at = now
        self._token = None
        return await self._fetched(deadline)

    def mark_accepted(self) -> None:
        """Record that the destination accepted a token, so that a refusal causes a fetch at once again."""
        self._refused_at = float("-inf")

    async def _fetched(self, deadline: float) -> str:
        now = self._clock()
        if self._fetch is None and self._failed is not None and self._has_just_failed(now):
            raise TokenError(*self._failed[0].args)
        task = self._start_fetch()
        # `wait` does not cancel the task: other attempts may wait for the same token.
        await asyncio.wait([task], timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        if not task.done():
            raise _no_token("the token endpoint did not answer in time")
        if task.cancelled():
            raise _no_token("the gateway stops")
        if isinstance(error := task.exception(), TokenError):
            # Each attempt gets an error of its own, because raising one adds to its traceback.
            raise TokenError(*error.args)
        return task.result().value

    def _has_just_failed(self, now: float) -> bool:
        return self._failed is not None and now - self._failed[1] < _PAUSE

    def _start_fetch(self) -> asyncio.Task[_Token]:
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._request(), name="access token")
            self._fetch.add_done_callback(self._end_fetch)
        return self._fetch

    def _end_fetch(self, task: asyncio.Task[_Token]) -> None:
        self._fetch = None
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, TokenError):
            self._failed = error, self._clock()
        elif error is None:
            self._token, self._failed = task.result(), None

    async def _request(self) -> _Token:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                return await self._download()
        except TokenError:
            raise
        except TimeoutError:
            raise _no_token("the token endpoint did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = reason_for_error(error)
            why = describe_error(error) or "the fetch failed"
            text = f"no access token: at the token endpoint: {why}"
            raise TokenError(text, reason if reason in ("dns", "tls") else "connect") from None

    async def _download(self) -> _Token:
        tls = True if self._tls is None else await self._tls.context()
        fields = {"grant_type": "client_credentials"}
        if self._credentials.scope is not None:
            fields["scope"] = self._credentials.scope
        headers = {**_HEADERS, "Authorization": self._credentials.authorization}
        started = self._clock()
        async with self._session.post(
            self._credentials.token_url,
            data=fields,
            headers=headers,
            allow_redirects=False,
            ssl=tls,
            proxy=self._proxy,
            timeout=aiohttp.ClientTimeout(),
        ) as answer:
            content = await _read(answer.content)
        if answer.status != _OK:
            code = _error_code(content)
            raise _no_token(f"the token endpoint answered {answer.status}" + (f" {code}" if code else ""))
        return _parse(content, started)


async def _read(content: aiohttp.StreamReader) -> bytes:
    chunks, size = [], 0
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER:
            raise _no_token(f"the answer of the token endpoint is longer than {MAX_ANSWER // 1024} KiB")
    return b"".join(chunks)


def _parse(content: bytes, now: float) -> _Token:
    """Read an answer that was asked for at `now`. Raises `TokenError`."""
    try:
        answer = _decode_answer(content)
    except (msgspec.DecodeError, RecursionError):
        raise _no_token("the answer of the token endpoint contains no access_token") from None
    if answer.token_type.lower() != "bearer":
        raise _no_token("the token endpoint issues tokens of another type than Bearer")
    if not _TOKEN.fullmatch(answer.access_token):
        raise _no_token("the access_token of the token endpoint can't be sent in a header")
    lifetime = _lifetime(answer.expires_in)
    ahead, reserve = (min(share * lifetime, most) for share, most in (_AHEAD, _RESERVE))
    return _Token(answer.access_token, now + lifetime - ahead, now + lifetime - reserve)


def _lifetime(given: float | str | None) -> float:
    """Return how long a token is used, in seconds. Some servers write the number as text."""
    try:
        seconds = _LIFETIME if given is None else float(given)
    except (ValueError, OverflowError):
        seconds = _LIFETIME
    # A comparison with NaN is false, so it becomes the maximum, as does a number that is too large.
    return max(0.0, seconds) if seconds < _MAX_LIFETIME else _MAX_LIFETIME


def _error_code(content: bytes) -> str | None:
    try:
        code = _decode_error(content).error
    except (msgspec.DecodeError, RecursionError):
        return None
    return code if code in _ERRORS else None


def _no_token(why: str) -> TokenError:
    return TokenError(f"no access token: {why}", "connect")
