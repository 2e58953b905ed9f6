"""Decides whether and when to retry. Pure.

- 2xx: delivered.
- 410: dead at once, because the destination says that nothing will ever be there.
- Other 4xx except 408, 425 and 429: a refusal, which an app also gives during its deployment. A few more
  attempts follow.
- Everything else: exponential backoff with full jitter, up to `max`, until `give_up_after`.

The `retry_on` of a destination comes first, for every status except 2xx. A status that it lists is retried
with the backoff of the last item. A status that it lists with `!` is dead at once.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import RetryConfig
    from gatehouse.config.quantities import StatusRange
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.errors import OutcomeReason

#: The longest `Retry-After` that is respected, in seconds.
MAX_RETRY_AFTER = 3600.0
#: The longest pause after each refusal, in seconds: five attempts in a quarter of an hour.
REFUSAL_PAUSES = (15.0, 60.0, 225.0, 600.0)
#: The pause is at least this share of its maximum, so that the attempts are really spread out.
_MIN_SHARE = 0.8

#: Outcomes that concern the event rather than the destination.
REFUSALS: tuple[OutcomeReason, ...] = ("rejected", "unsendable")


#: What `retry_on` says about a status: retried, final, or nothing.
RetryRule = Literal["retried", "final"] | None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The state of a delivery after an attempt."""

    status: Literal["pending", "delivered", "dead"]
    #: When a pending delivery is due again (Unix time).
    due_at: float


def retry_rule(ranges: Iterable[StatusRange], status: int | None) -> RetryRule:
    """Return what `retry_on` says about a status. An entry with `!` takes precedence over any range."""
    found: RetryRule = None
    for low, high, retried in ranges:
        if status is not None and low <= status <= high:
            if not retried:
                return "final"
            found = "retried"
    return found


def is_refused(outcome: Outcome, rule: RetryRule) -> bool:
    """Return whether one event of a batch may be the cause of this outcome."""
    return rule == "final" or (rule is None and outcome.reason in ("rejected", "gone"))


def decide(
    outcome: Outcome,
    *,
    attempts: int,
    refusals: int,
    received: float,
    now: float,
    policy: RetryConfig,
    uniform: Callable[[float, float], float],
    rule: RetryRule = None,
) -> Decision:
    """Decide what follows from an attempt.

    Args:
        outcome: The outcome of the attempt.
        attempts: The number of attempts, including this one.
        refusals: The number of refused attempts, including this one. It is counted separately, so that the
            first 404 of an app that returns after an outage does not count as its fifth.
        received: When the event was received.
        now: The current time.
        policy: The destination's `retry`.
        uniform: `random.uniform`.
        rule: What the destination's `retry_on` says about the status.
    """
    if outcome.reason == "ok":
        return Decision("delivered", now)
    if rule == "final" or (outcome.reason == "gone" and rule is None):
        return Decision("dead", now)
    if rule == "retried" or outcome.reason not in REFUSALS:
        pause = uniform(0, _longest_pause(attempts, policy))
    elif refusals <= len(REFUSAL_PAUSES):
        longest = REFUSAL_PAUSES[refusals - 1]
        pause = uniform(_MIN_SHARE * longest, longest)
    else:
        return Decision("dead", now)
    # The pause is added to `Retry-After`, so that deliveries that failed together do not return together.
    due = now + pause + min(outcome.retry_after or 0.0, MAX_RETRY_AFTER)
    return Decision("dead", now) if due > received + policy.give_up_after else Decision("pending", due)


def _longest_pause(attempts: int, policy: RetryConfig) -> float:
    try:
        return min(policy.max, policy.first * policy.factor ** (attempts - 1))
    except OverflowError:
        return policy.max


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Parse `Retry-After`, seconds or a date, as seconds from `now`; None for anything else."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return MAX_RETRY_AFTER if len(text) > len("3600") else min(float(text), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None
