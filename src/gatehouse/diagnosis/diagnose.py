"""Explains a refusal to operators: the findings name what is wrong, and what to do.

Pure and bounded: a limited number of changes to the config, the secrets and the request is tried. No finding
contains a secret, a signature or a part of the body. Senders never see a finding.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import AllowlistConfig, BasicConfig, JwtConfig, SigningConfig, TokenConfig
from gatehouse.config.quantities import format_duration
from gatehouse.diagnosis.finding import Finding, limit_for
from gatehouse.diagnosis.items import about_items, of_one_item, refused_items, some_verify
from gatehouse.diagnosis.observations import (
    SignedTime,
    about_allowlist,
    about_body,
    about_request,
    about_unreadable_timestamp,
    signed_time,
)
from gatehouse.diagnosis.search import Refusal, explain_other_sources, explain_signature
from gatehouse.diagnosis.signature_headers import about_duplicates, about_missing_signature
from gatehouse.diagnosis.tokens import about_certificates, about_other_receiver, about_token_times
from gatehouse.diagnosis.wording import matches
from gatehouse.errors import Reason
from gatehouse.verify.any import most_informative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.diagnosis.known import KnownSource, KnownVerifier
    from gatehouse.language.request import Request

#: How many other sources a diagnosis tries.
_MAX_SOURCES = 50


class Diagnosis(NamedTuple):
    """What is known about a refusal."""

    #: The reason that the verifier gave.
    reason: str
    #: What was found and what to do. The most important findings come first.
    explained: tuple[Finding, ...]
    #: When the request was signed, according to its timestamp (Unix seconds). None without a timestamp.
    signed_at: float | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings as full sentences."""
        return tuple(finding.text for finding in self.explained)


def diagnose(
    request: Request, source: KnownSource, others: Iterable[KnownSource], now: float, reason: Reason
) -> Diagnosis:
    """Explain why `source` refused a request at `now` (Unix seconds). Never raises."""
    findings: list[Finding] = []
    signed_at: float | None = None
    # If one step fails, whatever the input, the findings of the other steps are kept.
    with contextlib.suppress(Exception):
        rest = [other for other in others if other.name != source.name][:_MAX_SOURCES]
        refusal = _refusal(request, source, rest, now, reason)
        if refusal:
            findings.extend(about_items(refusal.verifier, request, now))
            refusal = _narrowed(refusal)
        elif reason in ("stale_timestamp", "malformed_timestamp") and source.max_age is not None:
            findings.append(_too_old(source, source.max_age, reason))
        signed_at = refusal.signed_time.seconds if refusal and refusal.signed_time else None
        for finding in _EXPLANATIONS[refusal.reason](refusal) if refusal else ():
            findings.append(finding)  # noqa: PERF402 - keeps the findings before a step fails
    with contextlib.suppress(Exception):
        findings.extend(about_request(request, decodes=source.decodes))
    return Diagnosis(reason, _each_text_once(findings), signed_at)


def _each_text_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    found: dict[str, Finding] = {}
    for finding in findings:
        found.setdefault(finding.text, finding)
    return tuple(found.values())


def _too_old(source: KnownSource, max_age: float, reason: Reason, age: float | None = None) -> Finding:
    """Explain the refusal of a request that every verifier accepts. `age` is in seconds, if it is known."""
    limit = f"`max_age: {format_duration(max_age)}`"
    if reason == "malformed_timestamp":
        return Finding(
            f"The signature is valid, but the request has no signed time, which {limit} needs. Check "
            f"`event.time` in `sources.{source.name}`, or remove `max_age` there.",
            expected="a signed time",
            received="none",
            change=f"sources.{source.name}.event.time",
        )
    key = f"sources.{source.name}.max_age"
    return Finding(
        f"The signature is valid, but the request is older than {limit}. It is an old event that was sent "
        f"again, or a replayed request. To accept such requests, raise `max_age` in `sources.{source.name}`.",
        expected=f"signed at most {format_duration(max_age)} ago",
        received="signed earlier" if age is None else f"signed {age:.0f} s ago",
        change=key if age is None else limit_for(key, age),
    )


def diagnose_head(request: Request, source: KnownSource, now: float, reason: Reason) -> Diagnosis:
    """Explain a refusal from the head of the request, if the body was not kept. Never raises."""
    findings: list[Finding] = []
    verifiers = list(source.each_verifier())
    times = [(one, found) for one in verifiers if (found := _signed_time(one, request))]
    with contextlib.suppress(Exception):
        if reason == "missing_signature":
            findings.extend(about_missing_signature(verifiers, request))
        elif reason == "duplicate_header":
            findings.extend(found for one in verifiers for found in about_duplicates(one.entry, request))
        elif reason in ("stale_timestamp", "future_timestamp"):
            findings.extend(_about_age(source, times, now, reason))
    findings.append(
        Finding(
            "The body was too long to keep, so this is all that is known. Save the whole request, and run "
            f"`gatehouse verify {source.name} FILE`.",
            certain=False,
        )
    )
    return Diagnosis(reason, tuple(findings), times[0][1].seconds if times else None)


def _signed_time(verifier: KnownVerifier, request: Request) -> SignedTime | None:
    with contextlib.suppress(Exception):
        return signed_time(verifier.entry, request)
    return None


def _about_age(
    source: KnownSource, times: Iterable[tuple[KnownVerifier, SignedTime]], now: float, reason: Reason
) -> Iterator[Finding]:
    """Compare the timestamps with the limits of their verifiers, or else with the one of the source."""
    for verifier, time in times:
        entry, age = verifier.entry, now - time.seconds
        if isinstance(entry, SigningConfig) and entry.timestamp and abs(age) > entry.timestamp.tolerance:
            yield _age(age, entry.timestamp.tolerance)
            return
    if source.max_age is not None and reason == "stale_timestamp":
        oldest = max((now - time.seconds for _, time in times), default=None)
        yield _too_old(source, source.max_age, reason, oldest)


def _age(age: float, limit: float) -> Finding:
    """Compare the age of a timestamp with the limit, both in seconds."""
    where = "old" if age > 0 else "in the future"
    return Finding(
        f"The timestamp is {abs(age):.0f} s {where}; the limit is {format_duration(limit)}.",
        expected=f"at most {format_duration(limit)} {where}",
        received=f"{abs(age):.0f} s {where}",
    )


def _refusal(
    request: Request, source: KnownSource, others: Sequence[KnownSource], now: float, reason: Reason
) -> Refusal | None:
    """Find the verifier that refuses the request: of alternatives, the one with the most telling reason."""
    for group in source.verifiers:
        tried = [one for one in group if one.can_run and (one.secrets or not one.needs_secrets)]
        refusals = [(one, one.refusal(request, now)) for one in tried]
        refusing = {why: one for one, why in reversed(refusals) if why is not None}
        if refusing and all(why is not None for _, why in refusals):
            why = most_informative(refusing)
            time = signed_time(refusing[why].entry, request)
            return Refusal(refusing[why], why, request, request, source, others, now, time)
    untried = next((one for one in source.each_verifier() if not one.can_run), None)
    return Refusal(untried, reason, request, request, source, others, now, None) if untried else None


def _narrowed(refusal: Refusal) -> Refusal:
    """Narrow the refusal to the first refused element, if each element is signed by itself."""
    refused = refused_items(refusal.verifier, refusal.request, refusal.now)
    if not refused or refusal.reason == "missing_signature":
        return refusal
    verifier, request = of_one_item(refusal.verifier), refused[0].request
    return refusal._replace(
        verifier=verifier,
        request=request,
        signed_time=signed_time(verifier.entry, request),
        is_secret_right=some_verify(refusal.verifier, refusal.request, refused),
    )


def _explain_missing_signature(refusal: Refusal) -> Iterator[Finding]:
    groups = [group for group in refusal.source.verifiers if refusal.verifier in group]
    alternatives = [one for group in groups for one in group] or [refusal.verifier]
    others = list(explain_other_sources(refusal))
    yield from others
    yield from about_missing_signature(alternatives, refusal.request, with_suggestions=not others)


def _explain_duplicates(refusal: Refusal) -> Iterator[Finding]:
    yield from about_duplicates(refusal.verifier.entry, refusal.request)


def _explain_timestamp(refusal: Refusal) -> Iterator[Finding]:
    verifier, entry, time = refusal.verifier, refusal.verifier.entry, refusal.signed_time
    if isinstance(entry, JwtConfig):
        yield about_token_times(entry, verifier.path)
    if not isinstance(entry, SigningConfig) or entry.timestamp is None:
        return
    if time is None:
        yield about_unreadable_timestamp(verifier.path, entry, refusal.request)
        return
    unit, age = entry.timestamp.unit, refusal.now - time.seconds
    if time.unit != unit:
        yield Finding(
            f"The timestamp has the unit `{time.unit}`, but the source has `unit: {unit}`.",
            expected=f"unit: {unit}",
            received=f"unit: {time.unit}",
            change=f"{verifier.path}.timestamp.unit: {time.unit}",
        )
    if abs(age) > entry.timestamp.tolerance:
        yield _age(age, entry.timestamp.tolerance)
    other = _with_unit(verifier.without_age_limit(), time.unit)
    if not other.accepts(refusal.request, refusal.now):
        yield from explain_signature(refusal._replace(verifier=other))
    elif time.unit != unit:
        yield Finding(
            f"{matches(entry)} with `timestamp: {{unit: {time.unit}}}`. Change it in `{verifier.path}`.",
            expected=f"unit: {unit}",
            received=f"unit: {time.unit}",
            change=f"{verifier.path}.timestamp.unit: {time.unit}",
        )
    elif age > 0:
        yield Finding(
            "Except for its age, the request is valid. It is a late retry or a replayed request, or a clock "
            "is wrong. Check the clock of this machine. To accept late retries, raise `timestamp.tolerance` "
            f"in `{verifier.path}`.",
            change=limit_for(f"{verifier.path}.timestamp.tolerance", age),
            certain=False,
        )
    else:
        yield Finding(
            "Except for its timestamp, the request is valid. Check the clock of this machine.", certain=False
        )


def _with_unit(verifier: KnownVerifier, unit: str) -> KnownVerifier:
    entry = verifier.entry
    if not isinstance(entry, SigningConfig) or entry.timestamp is None:
        return verifier
    timestamp = entry.timestamp.model_copy(update={"unit": unit})
    return verifier._replace(entry=entry.model_copy(update={"timestamp": timestamp}))


def _explain_body(refusal: Refusal) -> Iterator[Finding]:
    yield from about_body(refusal.verifier, refusal.request)


def _explain_credentials(refusal: Refusal) -> Iterator[Finding]:
    if isinstance(refusal.verifier.entry, AllowlistConfig):
        yield from about_allowlist(refusal.verifier, refusal.request)
    elif isinstance(refusal.verifier.entry, TokenConfig | BasicConfig):
        yield from explain_signature(refusal)
    elif isinstance(refusal.verifier.entry, JwtConfig):
        yield about_other_receiver(refusal.verifier.entry, refusal.verifier.path)


def _explain_mismatch(refusal: Refusal) -> Iterator[Finding]:
    entry = refusal.verifier.entry
    if isinstance(entry, JwtConfig) and entry.certificates is not None:
        yield about_certificates(refusal.verifier.path)
    else:
        yield from explain_signature(refusal)


_EXPLANATIONS: dict[Reason, Callable[[Refusal], Iterator[Finding]]] = {
    "missing_signature": _explain_missing_signature,
    "malformed_signature": explain_signature,
    "duplicate_header": _explain_duplicates,
    "wrong_signature": _explain_mismatch,
    "stale_timestamp": _explain_timestamp,
    "future_timestamp": _explain_timestamp,
    "malformed_timestamp": _explain_timestamp,
    "malformed_body": _explain_body,
    "wrong_credentials": _explain_credentials,
}
