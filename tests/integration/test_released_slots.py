"""However a request ends, it releases its admission slot and its memory."""

from __future__ import annotations

import asyncio

import pytest

from doubles import providers
from doubles.raw import connected, head, request
from gatehouse.ingest.pipeline import Pipeline
from gateways import Running

BODY = providers.body(id="evt_1", type="sale.created", data={})
GOOD = request(BODY, *(f"{name}: {value}" for name, value in providers.mando(BODY).items()))
REFUSED = request(b"{}")

#: What is sent, and whether an answer is read before the connection ends.
ENDINGS = {
    "accepted": (GOOD, True),
    "refused": (REFUSED, True),
    "two at once": (GOOD + REFUSED, True),
    "unknown source": (GOOD.replace(b"/webhooks/", b"/nowhere/"), True),
    "wrong method": (GOOD.replace(b"POST", b"PATCH"), True),
    "encoded": (request(b"{}", "Content-Encoding: gzip"), True),
    "too large": (head("Content-Length: 99999999"), True),
    "no HTTP": (b"GARBAGE\r\n\r\n", True),
    "no HTTP, after a request": (GOOD + b"GARBAGE\r\n\r\n", True),
    "a head that is cut off": (GOOD[:40], False),
    "a body that is cut off": (GOOD[:-3], False),
    "gone before its answer": (GOOD, False),
}


async def nothing_is_held(running: Running) -> None:
    """Wait until all slots and all bytes are released."""
    server = running.gateway.ingest
    assert server._connections is not None
    async with asyncio.timeout(5):
        while server._connections._admission._active or server._bodies.held:  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.01)
    assert (server._connections._admission._active, server._bodies.held) == (0, 0)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_request_releases_its_slot_and_memory(running: Running, ending: str) -> None:
    sent, waits = ENDINGS[ending]
    async with connected(running) as wire:
        wire.writer.write(sent)
        if waits:
            assert await wire.answer()
            # Not only when the connection ends.
            await nothing_is_held(running)
        else:
            await wire.writer.drain()
            await asyncio.sleep(0)
            wire.writer.transport.abort()

    await nothing_is_held(running)


async def test_a_defect_releases_the_slot_and_memory(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Pipeline, "receive", broken)
    async with connected(running) as wire:
        wire.writer.write(GOOD)
        assert (await wire.answer()).startswith(b"HTTP/1.1 503 ")

        await nothing_is_held(running)


async def test_a_client_that_leaves_before_admission_takes_no_slot(running: Running) -> None:
    server = running.gateway.ingest._connections
    assert server is not None
    admission = server._admission
    admission._max_active = 1
    assert admission.enter()
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(GOOD)
        while not admission._waiting:  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.01)
        wire.writer.transport.abort()
        while server._open:  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.01)
    admission.leave()

    await nothing_is_held(running)
