"""Items that wait while a write runs are the next write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gatehouse.store.batch import Batcher


class Recorder:
    """Writes a batch when the test allows it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [item * 10 for item in items]


async def test_items_that_arrive_during_a_write_share_the_next_one() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=3)
    futures = [batcher.submit(0)]
    await asyncio.sleep(0)
    futures += [batcher.submit(item) for item in range(1, 6)]
    recorder.gate.set()

    assert await asyncio.gather(*futures) == [0, 10, 20, 30, 40, 50]
    assert recorder.batches == [[0], [1, 2, 3], [4, 5]]


async def test_a_canceled_item_is_not_written() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=10)
    first = batcher.submit(0)
    await asyncio.sleep(0)
    given_up, kept = batcher.submit(1), batcher.submit(2)
    given_up.cancel()
    recorder.gate.set()

    assert [await first, await kept] == [0, 20]
    assert recorder.batches == [[0], [2]]


async def test_a_failed_write_fails_only_its_batch() -> None:
    async def write(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise OSError("full")
        return list(items)

    batcher = Batcher(write, limit=1)
    bad, good = batcher.submit(1), batcher.submit(2)

    with pytest.raises(OSError, match="full"):
        await bad
    assert await good == 2


async def test_only_full_batches_start_before_the_previous_one_ends() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=3, at_once=3)
    futures = [batcher.submit(item) for item in range(11)]
    await asyncio.sleep(0.01)
    assert recorder.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]  # at most three at once
    recorder.gate.set()
    await asyncio.gather(*futures)
    assert recorder.batches[3:] == [[9, 10]]

    recorder.gate.clear()
    recorder.batches.clear()
    futures = [batcher.submit(0)]
    await asyncio.sleep(0.01)
    futures += [batcher.submit(1), batcher.submit(2)]
    await asyncio.sleep(0.01)
    assert recorder.batches == [[0]]  # a batch that is not full waits for more items
    recorder.gate.set()
    await asyncio.gather(*futures)
    assert recorder.batches == [[0], [1, 2]]


async def test_drain_waits_for_all_submitted_items() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=1)
    futures = [batcher.submit(item) for item in range(3)]
    recorder.gate.set()
    await batcher.drain()

    assert all(future.done() for future in futures)
    await batcher.drain()


async def test_after_a_batch_of_several_items_repeated_items_share_the_next_one() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=20, pause=3600)
    first = [batcher.submit(item) for item in range(4)]
    await asyncio.sleep(0)
    waiting = [batcher.submit(item) for item in range(4, 6)]
    recorder.gate.set()
    await asyncio.gather(*first)
    again = [batcher.submit(item) for item in range(6, 10)]
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting, *again)

    assert recorder.batches == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


async def test_an_item_waits_no_longer_than_the_pause() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=20, pause=0.01)
    futures = [batcher.submit(item) for item in range(4)]
    await asyncio.sleep(0)
    futures += [batcher.submit(4)]
    recorder.gate.set()

    async with asyncio.timeout(5):
        await asyncio.gather(*futures)
    assert recorder.batches == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize(("first", "waiting"), [(3, 2), (4, 20)])
async def test_few_items_and_a_full_batch_cause_no_pause(first: int, waiting: int) -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=20, pause=3600)
    futures = [batcher.submit(item) for item in range(first)]
    await asyncio.sleep(0)
    futures += [batcher.submit(item) for item in range(waiting)]
    recorder.gate.set()

    async with asyncio.timeout(5):
        await asyncio.gather(*futures)
    assert [len(batch) for batch in recorder.batches] == [first, waiting]


async def test_a_drain_does_not_wait_for_the_pause() -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=20, pause=3600)
    futures = [batcher.submit(item) for item in range(4)]
    await asyncio.sleep(0)
    futures += [batcher.submit(4)]
    recorder.gate.set()
    await asyncio.gather(*futures[:4])

    async with asyncio.timeout(5):
        await batcher.drain()
    assert all(future.done() for future in futures)


async def test_items_that_are_not_urgent_wait_for_company_but_the_first_one_does_not() -> None:
    recorder = Recorder()
    recorder.gate.set()
    batcher = Batcher(recorder.write, limit=24, spacing=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await batcher.submit(0, urgent=False)
    assert loop.time() - began < 0.05
    await asyncio.gather(*(batcher.submit(item, urgent=False) for item in (1, 2)))
    assert 0.1 <= loop.time() - began < 1
    assert recorder.batches == [[0], [1, 2]]


@pytest.mark.parametrize("last_is_urgent", [True, False])
async def test_an_urgent_item_or_enough_others_end_the_wait(last_is_urgent: bool) -> None:
    recorder = Recorder()
    batcher = Batcher(recorder.write, limit=24, spacing=60)
    first = batcher.submit(0, urgent=False)
    await asyncio.sleep(0)
    others = [batcher.submit(item, urgent=False) for item in (1, 2)]
    recorder.gate.set()
    await first
    for _ in range(3):
        await asyncio.sleep(0)
    assert recorder.batches == [[0]]
    async with asyncio.timeout(5):
        assert await batcher.submit(3, urgent=last_is_urgent) == 30
        assert await asyncio.gather(*others) == [10, 20]
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_a_drain_writes_items_that_are_not_urgent() -> None:
    recorder = Recorder()
    recorder.gate.set()
    batcher = Batcher(recorder.write, limit=24, spacing=60)
    await batcher.submit(0, urgent=False)
    waiting = batcher.submit(1, urgent=False)
    async with asyncio.timeout(5):
        await batcher.drain()
    assert waiting.result() == 10
