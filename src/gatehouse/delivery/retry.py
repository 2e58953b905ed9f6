"""Whether to try again, and when: pure.

2xx delivered 410 dead at once: the destination says that nothing will ever be there other 4xx, but 408,
425, 429 refusals, which an app that is being deployed also gives: a few more attempts everything else full
jitter between zero and a limit that grows to `max`, until `give_up_after`

`retry_on` of a destination comes first, for all but 2xx: a status that it lists is retried as the last line
says, one that it lists with a `!` is dead at once.
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

#: The longest that a destination may ask us to wait.
MAX_RETRY_AFTER = 3600.0
#: Longest pauses after each refusal: five attempts in a quarter of an hour.
REFUSAL_PAUSES = (15.0, 60.0, 225.0, 600.0)
#: Below this share of a pause none is drawn, so that the attempts are indeed spread.
_MIN_SHARE = 0.8

#: Outcomes that are about the event rather than the destination.
REFUSALS: tuple[OutcomeReason, ...] = ("rejected", "unsendable")


#: What `retry_on` says of a status: retried, final, or nothing.
RetryRule = Literal["retried", "final"] | None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a delivery after an attempt."""

    status: Literal["pending", "delivered", "dead"]
    #: When a pending one is due again (unix seconds).
    due_at: float


def retry_rule(ranges: Iterable[StatusRange], status: int | None) -> RetryRule:
    """Look a status up in `retry_on`. One with a `!` stands out of any range, wherever it is written."""
    found: RetryRule = None
    for low, high, retried in ranges:
        if status is not None and low <= status <= high:
            if not retried:
                return "final"
            found = "retried"
    return found


def is_refused(outcome: Outcome, rule: RetryRule) -> bool:
    """Tell whether an outcome may be about one event alone: of several that were sent together, which one?"""
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
    """Decide after an attempt.

    Args:
        outcome: what the attempt came to.
        attempts: how many were made, this one included.
        refusals: how many of them were refused, this one included. Counted apart, so that the first 404 of
            an app that comes back after an hour's outage is not taken for its fifth.
        received: when the event was received.
        now: the time.
        policy: the destination's `retry`.
        uniform: `random.uniform`.
        rule: what its `retry_on` says of the status.
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
    # The pause is drawn on top of what was asked for: else all that failed together come back together.
    due = now + pause + min(outcome.retry_after or 0.0, MAX_RETRY_AFTER)
    return Decision("dead", now) if due > received + policy.give_up_after else Decision("pending", due)


def _longest_pause(attempts: int, policy: RetryConfig) -> float:
    try:
        return min(policy.max, policy.first * policy.factor ** (attempts - 1))
    except OverflowError:
        return policy.max


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read `Retry-After`, which is seconds or a date, as seconds from `now`; None for anything else."""
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
