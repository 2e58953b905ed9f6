"""Applies an outcome to its delivery: decides what follows, stores it, counts it and logs it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gatehouse.delivery.outcome import Outcome
from gatehouse.delivery.retry import REFUSALS, Decision, RetryRule, decide, retry_rule
from gatehouse.errors import StoreUnavailableError
from gatehouse.language.times import rfc3339
from gatehouse.store.base import Result
from gatehouse.store.batch import Batcher
from gatehouse.store.records import Attempt
from gatehouse.telemetry.live import AttemptSeen, Hub
from gatehouse.telemetry.log import get_logger, log_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.gauges import DestinationGauges
    from gatehouse.events.event import Event
    from gatehouse.store.base import Delivery, Store
    from gatehouse.telemetry.metrics import DestinationMetrics

MAX_BATCH = 128
#: Seconds before the next commit after one that recorded several results; see `Batcher`.
PAUSE = 0.002
#: Seconds between the beginnings of two commits while nobody needs the outcomes. At 300 to 800 events per
#: second, this makes an event a tenth cheaper.
SPACING = 0.01
#: The error of an attempt that was waiting for a reply when the gateway stopped.
_INTERRUPTED = "the gateway stopped before a reply came"
#: Seconds: the range of the pause before a result is written again while the store is unavailable.
_RETRY_PAUSES = (0.1, 0.5)
#: For how many deliveries refusals are counted. A forgotten delivery gets a few more attempts.
_MAX_COUNTED = 10_000

Results = Batcher[Result, bool]


def batch_results(store: Store) -> Results:
    """Create the batcher that all destinations share, so that their results share commits."""
    return Batcher(store.record, limit=MAX_BATCH, pause=PAUSE, spacing=SPACING)


class Recorder:
    """Records the outcomes of one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        results: Results,
        metrics: DestinationMetrics,
        gauges: DestinationGauges,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float],
        starts_at: Callable[[float], float | None] = lambda due: due,
        live: Hub | None = None,
    ) -> None:
        """`starts_at` returns when a delivery that is due at a time can start; None if that is unknown."""
        self._starts_at = starts_at
        self._live = live or Hub()
        self._destination = destination
        self._results = results
        self._metrics = metrics
        self._gauges = gauges
        self._clock = clock
        self._uniform = uniform
        self._refusals: dict[str, int] = {}

    async def record(self, delivery: Delivery, outcome: Outcome, *, urgent: bool = True) -> float | None:
        """Record an attempt. Returns when the store has the delivery due again, or None.

        One that is not urgent waits up to `SPACING` for others, to share their commit.
        """
        result = self._result(delivery, outcome, self._clock(), conclusive=True)
        return await self._await_result(result, self._results.submit(result, urgent=urgent))

    async def record_batch(
        self, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], *, conclusive: bool = True
    ) -> list[float | None]:
        """Record the outcomes of several events in one POST, as `record` does for one.

        `conclusive` means that a refusal concerns its own event. Otherwise it may concern another event of
        the same POST, so the delivery is retried and the refusal is not counted.
        """
        now = self._clock()
        pairs = zip(deliveries, outcomes, strict=True)
        return await self._record_together(
            [self._result(delivery, outcome, now, conclusive=conclusive) for delivery, outcome in pairs]
        )

    async def _record_together(self, results: Sequence[Result]) -> list[float | None]:
        # All are submitted before any is awaited, so that they share a commit. One task per result would cost
        # more than the write.
        written = [self._results.submit(result) for result in results]
        await asyncio.wait(written)
        recording = [self._await_result(*both) for both in zip(results, written, strict=True)]
        if all(one.exception() is None for one in written):
            return [await one for one in recording]
        return await asyncio.gather(*recording)

    def count_resent(self, delivery: Delivery, outcome: Outcome) -> Delivery:
        """Count an attempt that is repeated at once. The store gets it together with the last one.

        Returns the delivery as it is for the next attempt.
        """
        now, number = self._clock(), delivery.attempts + 1
        self._count(delivery, outcome, Decision("pending", now))
        attempt = Attempt(
            number=number,
            at=now,
            reason=outcome.reason,
            http_status=outcome.http_status,
            duration=outcome.duration,
            error=outcome.error,
            reply=outcome.reply,
        )
        return replace(delivery, attempts=number, unrecorded=(*delivery.unrecorded, attempt))

    def count_relay_attempt(self, delivery: Delivery, outcome: Outcome) -> None:
        """Count an attempt within a provider's request. The store learns of it only if it succeeds."""
        self._count(delivery, outcome, None)

    def count_relayed(self, event: Event) -> None:
        """Count a delivery within a provider's request, once it is stored as delivered."""
        self._metrics.delivered.inc()
        self._metrics.lag.observe(max(0.0, self._clock() - event.received))

    async def record_interrupted(self, delivery: Delivery, duration: float) -> None:
        """Record an attempt that the shutdown interrupted. It counts, and the delivery is due at once."""
        now = self._clock()
        outcome = Outcome("timeout", None, duration, error=_INTERRUPTED)
        result = self._count_result(delivery, outcome, Decision("pending", now), now)
        await self._await_result(result, self._results.submit(result))

    async def record_postponed(self, deliveries: Sequence[Delivery], outcome: Outcome) -> list[float | None]:
        """Schedule deliveries again whose last attempt `count_resent` has already counted."""
        now, results = self._clock(), []
        for one in deliveries:
            attempts = one.attempts - one.earlier
            decision = self._decide(one, outcome, now, attempts=attempts, refusals=0, rule="retried")
            fields = decision.status, one.attempts, outcome.reason, outcome.http_status, decision.due_at, now
            results.append(Result(one, *fields, outcome.duration))
        return await self._record_together(results)

    def _result(self, delivery: Delivery, outcome: Outcome, now: float, *, conclusive: bool) -> Result:
        """Decide what follows from an attempt, and count it."""
        if outcome.reason == "ok":
            return self._count_result(delivery, outcome, Decision("delivered", now), now)
        rule: RetryRule = (
            retry_rule(self._destination.retry_on, outcome.http_status) if conclusive else "retried"
        )
        attempts = delivery.attempts - delivery.earlier + 1
        refusals = self._count_refusal(delivery, outcome) if rule is None else 0
        decision = self._decide(delivery, outcome, now, attempts=attempts, refusals=refusals, rule=rule)
        return self._count_result(delivery, outcome, decision, now)

    def _decide(
        self,
        delivery: Delivery,
        outcome: Outcome,
        now: float,
        *,
        attempts: int,
        refusals: int,
        rule: RetryRule,
    ) -> Decision:
        return decide(
            outcome,
            attempts=attempts,
            refusals=refusals,
            received=delivery.since,
            now=now,
            policy=self._destination.retry,
            uniform=self._uniform,
            rule=rule,
        )

    def _count_result(self, delivery: Delivery, outcome: Outcome, decision: Decision, now: float) -> Result:
        self._count(delivery, outcome, decision)
        return Result(
            delivery,
            decision.status,
            delivery.attempts + 1,
            outcome.reason,
            outcome.http_status,
            decision.due_at,
            now,
            outcome.duration,
            outcome.error,
            outcome.reply,
        )

    async def _await_result(self, result: Result, written: asyncio.Future[bool]) -> float | None:
        """Wait until a result is stored. Returns when the store has the delivery due again, or None."""
        stored: bool | None
        try:
            stored = await written
        except StoreUnavailableError:
            stored = await self._retry_write(result)
        if stored is None:
            return result.delivery.leased_until
        if not stored:
            self._metrics.lost_leases.inc()
            return result.delivery.leased_until
        self._count_recorded(result)
        return result.due_at if result.status == "pending" else None

    async def _retry_write(self, result: Result) -> bool | None:
        """Try again while the lease lasts. None after that, because the store leases the delivery again."""
        while True:
            pause = self._uniform(*_RETRY_PAUSES)
            if self._clock() + pause >= result.delivery.leased_until:
                return None
            await asyncio.sleep(pause)
            with suppress(StoreUnavailableError):
                return await self._results.submit(result)

    def _count_recorded(self, result: Result) -> None:
        delivery, status = result.delivery, result.status
        if status == "pending":
            self._gauges.stored(delivery.event.received)
            return
        self._refusals.pop(delivery.event.id, None)
        self._gauges.pending.add(-1)
        if status == "delivered":
            self._metrics.delivered.value += 1
            self._metrics.lag.observe(max(0.0, result.at - delivery.event.received))
            return
        self._metrics.died.inc()
        self._gauges.dead.add(1)
        get_logger().warning(
            "delivery.dead",
            event_id=delivery.event.id,
            type=delivery.event.type,
            source=delivery.event.source,
            destination=delivery.destination,
            attempts=result.attempts,
            reason=result.reason,
        )

    def _count_refusal(self, delivery: Delivery, outcome: Outcome) -> int:
        if outcome.reason not in REFUSALS:
            return 0
        if len(self._refusals) >= _MAX_COUNTED:
            self._refusals.pop(next(iter(self._refusals)))
        count = self._refusals.pop(delivery.event.id, 0) + 1
        self._refusals[delivery.event.id] = count
        return count

    def _count(self, delivery: Delivery, outcome: Outcome, decision: Decision | None) -> None:
        self._metrics.attempts[outcome.reason].value += 1
        self._metrics.attempt_duration.observe(outcome.duration)
        starts = None
        if decision is not None and decision.status == "pending":
            starts = self._starts_at(decision.due_at)
        next_try = None if starts is None else rfc3339(starts)
        if self._live.active:
            self._publish(delivery, outcome, decision, next_try)
        fields: dict[str, Any] = {
            "event_id": delivery.event.id,
            "type": delivery.event.type,
            "source": delivery.event.source,
            "destination": delivery.destination,
            "attempt": delivery.attempts + 1,
            "reason": outcome.reason,
            "status": outcome.http_status,
            "duration_ms": round(outcome.duration * 1000, 1),
        }
        if next_try is not None:
            fields["next_try"] = next_try
        if outcome.error is not None:
            fields["error"] = outcome.error
        log_fields("info" if outcome.reason == "ok" else "warning", "delivery.attempted", fields)

    def _publish(
        self, delivery: Delivery, outcome: Outcome, decision: Decision | None, next_try: str | None
    ) -> None:
        """Show the attempt to those who watch."""
        event = delivery.event
        seen = AttemptSeen(
            event_id=event.id,
            source=event.source,
            type=event.type,
            external_id=event.external_id,
            destination=delivery.destination,
            number=delivery.attempts + 1,
            reason=outcome.reason,
            http_status=outcome.http_status,
            duration_ms=round(outcome.duration * 1000, 1),
            status=None if decision is None else decision.status,
            next=next_try,
            error=outcome.error,
        )
        self._live.publish("attempt", seen)
