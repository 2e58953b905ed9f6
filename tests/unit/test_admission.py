"""Requests are admitted in order, whatever happens to those that wait."""

from __future__ import annotations

import sys
import time

from gatehouse.ingest.base_connection import Admission


class Waiting:
    """A waiting connection; a closed one returns its slot at once."""

    def __init__(self, admission: Admission, *, is_gone: bool) -> None:
        self._admission = admission
        self._is_gone = is_gone
        self.admitted = 0
        admission.wait(self)

    def admit(self) -> None:
        self.admitted += 1
        if self._is_gone:
            self._admission.leave()

    def refuse_late(self) -> None:
        raise AssertionError


async def test_closed_connections_are_skipped_in_any_number() -> None:
    admission = Admission(time.monotonic, max_active=2, max_wait=60)
    assert admission.enter()
    assert admission.enter()
    gone = [Waiting(admission, is_gone=True) for _ in range(2 * sys.getrecursionlimit())]
    first, second, third = (Waiting(admission, is_gone=False) for _ in range(3))

    admission.leave()
    assert {one.admitted for one in gone} == {1}
    assert (first.admitted, second.admitted) == (1, 0)

    admission.leave()
    admission.leave()
    assert (second.admitted, third.admitted) == (1, 1)
    assert not admission.enter()
