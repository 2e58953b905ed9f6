"""Why a request was refused, and what to look at: for operators, never for callers.

Pure, and bounded: a fixed number of changes to config, secrets and request is tried, each with the
verifiers themselves. No finding holds a secret, a signature or any of the body.
"""

from __future__ import annotations

import contextlib
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import (
    AllowlistConfig,
    BasicConfig,
    EbayConfig,
    EcdsaConfig,
    Ed25519Config,
    JwtConfig,
    RsaConfig,
    SigningConfig,
    TokenConfig,
    TwilioConfig,
)
from gatehouse.config.quantities import format_duration
from gatehouse.diagnosis.clues import (
    Claimed,
    about_absence,
    about_allowlist,
    about_body,
    about_credentials,
    about_digest,
    about_form,
    about_request,
    about_twins,
    claimed_time,
)
from gatehouse.diagnosis.items import about_items, alone, fits_others, refused_items
from gatehouse.diagnosis.rewritten import combined_bodies, other_addresses, other_bodies
from gatehouse.diagnosis.variants import changes, other_secrets
from gatehouse.errors import Reason
from gatehouse.verify.any import most_informative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.diagnosis.known import KnownSource, Lock
    from gatehouse.language.request import Request

#: Schemes whose secrets are public keys.
_ASYMMETRIC = (EbayConfig, EcdsaConfig, Ed25519Config, RsaConfig)
#: Other sources whose secrets are tried.
_MOST_SOURCES = 50
#: Pairs of changes are tried on bodies up to this length; there may be some hundred of them.
_LONGEST_FOR_PAIRS = 64 * 1024


class Diagnosis(NamedTuple):
    """What is known of a refusal."""

    #: The verifier's reason.
    reason: str
    #: Short sentences, the most telling ones first.
    findings: tuple[str, ...]
    #: When the request says that it was signed (unix seconds), if it says so.
    signed_at: float | None = None


class _Case(NamedTuple):
    """One refusal by one verifier."""

    lock: Lock
    reason: Reason
    #: What the verifier reads: the request, or one element of its body.
    request: Request
    #: The request as it came.
    whole: Request
    source: KnownSource
    others: Sequence[KnownSource]
    now: float
    claimed: Claimed | None
    #: Other elements of the same body pass with the same secret.
    is_secret_right: bool = False


def diagnose(
    request: Request, source: KnownSource, others: Iterable[KnownSource], now: float, reason: Reason
) -> Diagnosis:
    """Say what to look at after `source` refused a request at `now` (unix seconds). Never raises."""
    findings: list[str] = []
    signed_at: float | None = None
    # One look that fails, on whatever input, must not take the others' findings with it.
    with contextlib.suppress(Exception):
        rest = [other for other in others if other.name != source.name][:_MOST_SOURCES]
        case = _case(request, source, rest, now, reason)
        if case:
            findings.extend(about_items(case.lock, request, now))
            case = _narrowed(case)
        elif reason in ("stale_timestamp", "malformed_timestamp") and source.max_age is not None:
            findings.append(_too_old(source.max_age, reason))
        signed_at = case.claimed.seconds if case and case.claimed else None
        for finding in _LOOKS[case.reason](case) if case else ():
            findings.append(finding)  # noqa: PERF402 - what was found before a look failed is kept
    with contextlib.suppress(Exception):
        findings.extend(about_request(request))
    return Diagnosis(reason, tuple(dict.fromkeys(findings)), signed_at)


def _too_old(max_age: float, reason: Reason) -> str:
    """Say what is known of a request that every verifier lets in."""
    allowed = f"`max_age: {format_duration(max_age)}`"
    if reason == "malformed_timestamp":
        return f"its signature fits, but nothing in it says when it was signed, which {allowed} needs"
    return (
        f"its signature fits, but it is older than {allowed}: an old event sent again, or a replayed request"
    )


def diagnose_head(request: Request, source: KnownSource, now: float, reason: Reason) -> Diagnosis:
    """Say what can be said without the body, when that was not kept. Never raises."""
    findings: list[str] = []
    locks = list(source.each_lock())
    claimed = [found for lock in locks if (found := _claimed(lock, request))]
    with contextlib.suppress(Exception):
        if reason == "missing_signature":
            findings.extend(about_absence([lock.entry for lock in locks], request))
        elif reason == "duplicate_header":
            findings.extend(told for lock in locks for told in about_twins(lock.entry, request))
    if claimed and reason in ("stale_timestamp", "future_timestamp"):
        findings.append(_age_in_words(now - claimed[0].seconds))
    findings.append("the body is too long to be kept: save the request, and gatehouse verify says more")
    return Diagnosis(reason, tuple(findings), claimed[0].seconds if claimed else None)


def _claimed(lock: Lock, request: Request) -> Claimed | None:
    with contextlib.suppress(Exception):
        return claimed_time(lock.entry, request)
    return None


def _age_in_words(age: float) -> str:
    return f"the timestamp is {abs(age):.0f} s {'old' if age > 0 else 'ahead of this clock'}"


def _case(
    request: Request, source: KnownSource, others: Sequence[KnownSource], now: float, reason: Reason
) -> _Case | None:
    """Find the verifier that refuses; of several of which any may pass, the one whose reason tells most."""
    for group in source.locks:
        tried = [lock for lock in group if lock.can_be_tried and (lock.secrets or not lock.needs_secrets)]
        refusals = [(lock, lock.refusal(request, now)) for lock in tried]
        refused = {why: lock for lock, why in reversed(refusals) if why is not None}
        if refused and all(why is not None for _, why in refusals):
            why = most_informative(refused)
            lock = refused[why]
            return _Case(lock, why, request, request, source, others, now, claimed_time(lock.entry, request))
    untried = next((lock for lock in source.each_lock() if not lock.can_be_tried), None)
    return _Case(untried, reason, request, request, source, others, now, None) if untried else None


def _narrowed(case: _Case) -> _Case:
    """Look at the first element that is refused, where each is signed by itself."""
    refused = refused_items(case.lock, case.request, case.now)
    if not refused or case.reason == "missing_signature":
        return case
    lock, request = alone(case.lock), refused[0].request
    told = fits_others(case.lock, case.request, refused)
    claimed = claimed_time(lock.entry, request)
    return case._replace(lock=lock, request=request, claimed=claimed, is_secret_right=told)


def _look_at_absence(case: _Case) -> Iterator[str]:
    locks = [lock for group in case.source.locks if case.lock in group for lock in group] or [case.lock]
    yield from about_absence([lock.entry for lock in locks], case.request)
    yield from _whole_others(case)


def _look_at_twins(case: _Case) -> Iterator[str]:
    yield from about_twins(case.lock.entry, case.request)


def _look_at_time(case: _Case) -> Iterator[str]:
    entry = case.lock.entry
    if not isinstance(entry, SigningConfig) or entry.timestamp is None:
        return
    if case.claimed is None:
        yield "there is no timestamp where it should be, or none that can be read"
        return
    unit, age = entry.timestamp.unit, case.now - case.claimed.seconds
    if case.claimed.unit != unit:
        yield f"the timestamp is in {case.claimed.unit}, where `unit: {unit}` is configured"
    if abs(age) > entry.timestamp.tolerance:
        yield f"{_age_in_words(age)}; up to {format_duration(entry.timestamp.tolerance)} is let in"
    meant = _with_unit(case.lock.ageless(), case.claimed.unit)
    if meant.opens(case.request, case.now):
        if case.claimed.unit != unit:
            yield f"it would verify with `unit: {case.claimed.unit}`"
        else:
            yield "without its age it would verify: a late retry, a replayed request, or a wrong clock"
        return
    yield from _look_at_signature(case._replace(lock=meant))


def _with_unit(lock: Lock, unit: str) -> Lock:
    entry = lock.entry
    if not isinstance(entry, SigningConfig) or entry.timestamp is None:
        return lock
    timestamp = entry.timestamp.model_copy(update={"unit": unit})
    return lock._replace(entry=entry.model_copy(update={"timestamp": timestamp}))


def _look_at_signature(case: _Case) -> Iterator[str]:
    """Search for what would let it in; the first that does is the answer."""
    case = case._replace(lock=case.lock.ageless())
    for search in (_other_sources, _one_change, _two_changes, _rewritten_twice):
        found = next(search(case), None)
        if found is not None:
            yield found
            return
    yield from about_form(case.lock.entry, case.request)
    yield from about_credentials(case.lock.entry, case.request)
    body = about_digest(case.whole)
    if body:
        yield body.said
    if case.lock.secrets and not case.is_secret_right and not (body and body.is_changed):
        yield _of_secrets(case.lock, is_body_as_sent=body is not None)


def _rewritten_twice(case: _Case) -> Iterator[str]:
    if not _covers_body(case.lock):
        return
    opens = case.lock.tries(case.now)
    for phrase, changed in combined_bodies(case.request):
        if opens(changed):
            yield f"it would verify {phrase}"


def _covers_body(lock: Lock) -> bool:
    """Tell whether the bytes of the body decide: of each item, when all are signed by themselves."""
    entry = lock.entry
    if not isinstance(entry, SigningConfig):
        return isinstance(entry, TwilioConfig | EbayConfig | JwtConfig)
    return any(part.name.startswith(("body", "item_", "form")) for part in entry.signed.placeholders)


def _of_secrets(lock: Lock, *, is_body_as_sent: bool) -> str:
    what = "signature" if isinstance(lock.entry, SigningConfig) else "request"
    kind = "public key" if isinstance(lock.entry, _ASYMMETRIC) else "secret"
    count = len(lock.secrets)
    which = f"the {kind} does not fit" if count == 1 else f"none of {count} {kind}s fits"
    if is_body_as_sent or not _covers_body(lock):
        return f"{which} the {what}: is it the current one, of this account and mode?"
    return (
        f"{which} the {what}: it is the {kind}, or a body changed on the way; is it the current one, of this "
        f"account and mode, and does nothing in front rewrite bodies?"
    )


def _other_sources(case: _Case) -> Iterator[str]:
    for other in case.others:
        for theirs in other.each_lock():
            alike = theirs.entry.type == case.lock.entry.type and theirs.secrets
            if alike and case.lock._replace(secrets=theirs.secrets).opens(case.request, case.now):
                yield f"it fits the secret of source {other.name}: are the secrets mixed up?"
    yield from _whole_others(case)


def _whole_others(case: _Case) -> Iterator[str]:
    for other in case.others:
        if other.lets_in(case.whole, case.now):
            yield f"it would verify as source {other.name}: does its provider send to the wrong address?"


def _one_change(case: _Case) -> Iterator[str]:
    lock, request, now = case.lock, case.request, case.now
    for change in changes(lock.entry, request):
        if lock._replace(entry=change.applied(lock.entry)).opens(request, now):
            yield f"it would verify with {change.written}"
    for phrase, secrets in other_secrets(lock.secrets):
        if lock._replace(secrets=secrets).opens(request, now):
            yield f"it would verify {phrase}"
    requests = (*other_bodies(request, case.source.max_body), *other_addresses(request))
    for phrase, changed in requests:
        if lock.opens(changed, now):
            yield f"it would verify {phrase}"


def _two_changes(case: _Case) -> Iterator[str]:
    lock, request = case.lock, case.request
    if len(request.body) > _LONGEST_FOR_PAIRS:
        return
    for first, second in combinations(changes(lock.entry, request), 2):
        if first.kind != second.kind:
            entry = second.applied(first.applied(lock.entry))
            if lock._replace(entry=entry).opens(request, case.now):
                yield f"it would verify with {first.written} and {second.written}"


def _look_at_body(case: _Case) -> Iterator[str]:
    yield from about_body(case.lock.entry, case.request)


def _look_at_credentials(case: _Case) -> Iterator[str]:
    if isinstance(case.lock.entry, AllowlistConfig):
        yield from about_allowlist(case.request)
    elif isinstance(case.lock.entry, TokenConfig | BasicConfig):
        yield from _look_at_signature(case)


_LOOKS: dict[Reason, Callable[[_Case], Iterator[str]]] = {
    "missing_signature": _look_at_absence,
    "malformed_signature": _look_at_signature,
    "duplicate_header": _look_at_twins,
    "wrong_signature": _look_at_signature,
    "stale_timestamp": _look_at_time,
    "future_timestamp": _look_at_time,
    "malformed_timestamp": _look_at_time,
    "malformed_body": _look_at_body,
    "wrong_credentials": _look_at_credentials,
}
