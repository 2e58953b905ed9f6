"""Deliveries that a lane could not attempt return to the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from doubles.delivery import make_destination, make_event
from gatehouse.delivery.leasing import Leaser
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.base import Delivery


class Store:
    """Takes back released deliveries, or fails."""

    def __init__(self) -> None:
        self.released: list[int] = []
        self.is_down = False

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        if self.is_down:
            raise StoreUnavailableError("down")
        self.released.append(len(deliveries))


def leaser_with(store: Store, returned: int) -> Leaser:
    leaser = Leaser(
        make_destination("http://127.0.0.1/"), cast("Any", store), cast("Any", None), clock=time.time
    )
    for _ in range(returned):
        leaser.put_back(Delivery(make_event(), "billing", 0, time.time() + 30))
    return leaser


async def test_deliveries_are_returned_in_small_transactions() -> None:
    store = Store()

    await leaser_with(store, 2500).release()

    assert store.released == [1000, 1000, 500]


async def test_a_failed_return_leaves_deliveries_to_their_lease_and_the_rest_follows_later() -> None:
    store = Store()
    leaser = leaser_with(store, 1500)
    store.is_down = True
    with pytest.raises(StoreUnavailableError):
        await leaser.release()
    store.is_down = False

    await leaser.release()

    assert store.released == [500]
