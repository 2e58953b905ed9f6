"""The memory of bodies is counted to the byte, whatever happens to them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from gatehouse.errors import (
    BodyTooLargeError,
    RequestRejectedError,
    RequestTimeoutError,
    UnavailableError,
    UnsupportedEncodingError,
)
from gatehouse.ingest.body import Bodies

BUDGET = 100


async def sent(*pieces: bytes, ends: bool = True, coding: str | None = None) -> Any:
    """Return a request of whose body these pieces have arrived."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.transport = asyncio.Transport()
    content = StreamReader(protocol, 2**16, loop=loop)
    for piece in pieces:
        content.feed_data(piece)
    if ends:
        content.feed_eof()
    fields = CIMultiDictProxy(CIMultiDict({"content-encoding": coding} if coding else {}))
    return SimpleNamespace(
        head=SimpleNamespace(headers=fields),
        content=content,
        content_length=None,
        connection=SimpleNamespace(release_slot=lambda: None, transport=None),
    )


@pytest.mark.parametrize("pieces", [(), (b"{}",), (b"{", b"}", b" ")])
async def test_a_complete_body_counts_until_it_is_released(
    pieces: tuple[bytes, ...],
) -> None:
    bodies = Bodies(BUDGET)

    body = bodies.read_complete(await sent(*pieces), 10)

    assert body == b"".join(pieces)
    assert bodies.held == len(body)


async def test_read_complete_returns_none_for_an_incomplete_body() -> None:
    bodies, http = Bodies(BUDGET), await sent(b"{", ends=False)

    assert bodies.read_complete(http, 10) is None
    assert bodies.held == 0
    http.content.feed_data(b"}")
    http.content.feed_eof()
    assert await bodies.read_arriving(http, 10, 5.0) == b"{}"
    assert bodies.held == 2


@pytest.mark.parametrize(
    ("size", "coding", "error"),
    [
        (11, None, BodyTooLargeError),
        (2, "gzip", UnsupportedEncodingError),
        (2, "Identity, br", UnsupportedEncodingError),
    ],
)
async def test_a_refused_body_does_not_count(
    size: int, coding: str | None, error: type[RequestRejectedError]
) -> None:
    bodies = Bodies(BUDGET)

    with pytest.raises(error):
        bodies.read_complete(await sent(b"x" * size, coding=coding), 10)
    assert bodies.held == 0


async def test_a_body_with_the_identity_encoding_is_accepted() -> None:
    assert Bodies(BUDGET).read_complete(await sent(b"{}", coding="Identity"), 10) == b"{}"


async def test_a_body_above_the_limit_is_refused_and_the_others_still_count() -> None:
    bodies = Bodies(BUDGET)
    bodies.read_complete(await sent(b"x" * 60), BUDGET)

    with pytest.raises(UnavailableError):
        bodies.read_complete(await sent(b"x" * 41), BUDGET)
    assert bodies.held == 60
    assert bodies.read_complete(await sent(b"x" * 40), BUDGET) is not None
    assert bodies.held == BUDGET


async def test_a_slow_body_is_evicted_for_a_complete_one() -> None:
    bodies, slow = Bodies(BUDGET), await sent(b"x" * 60, ends=False)
    reading = asyncio.create_task(bodies.read_arriving(slow, BUDGET, 5.0))
    await asyncio.sleep(0)
    assert bodies.held == 60

    assert bodies.read_complete(await sent(b"y" * 60), BUDGET) == b"y" * 60

    assert bodies.held == 60
    with pytest.raises(UnavailableError):
        await reading
    assert bodies.held == 60


@pytest.mark.parametrize("ending", ["late", "cancelled"])
async def test_a_body_that_stays_incomplete_is_released(ending: str) -> None:
    bodies, slow = Bodies(BUDGET), await sent(b"x" * 60, ends=False)
    reading = asyncio.create_task(bodies.read_arriving(slow, BUDGET, 0.01 if ending == "late" else 5.0))
    await asyncio.sleep(0)
    assert bodies.held == 60
    if ending == "cancelled":
        reading.cancel()

    with pytest.raises(RequestTimeoutError if ending == "late" else asyncio.CancelledError):
        await reading
    assert bodies.held == 0
