"""The refused elements of a batch in which each element has its own signature or token (`each`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.config.model import SigningConfig, TokenConfig
from gatehouse.diagnosis.finding import Finding
from gatehouse.errors import VerificationError
from gatehouse.language.document import is_json
from gatehouse.language.split import Split
from gatehouse.verify.signature import signed_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.diagnosis.known import KnownVerifier
    from gatehouse.errors import Reason
    from gatehouse.language.request import Request

#: How many elements a diagnosis verifies.
_MAX_ITEMS = 100
#: How many elements a finding names.
_MAX_NAMED = 5


class RefusedItem(NamedTuple):
    """An element that does not verify."""

    #: Its position, starting at 1.
    number: int
    reason: Reason
    #: The request with the element as its body: the verifier reads it from there.
    request: Request


def about_items(verifier: KnownVerifier, request: Request, now: float) -> Iterator[Finding]:
    """Name the elements that are refused."""
    each, total = _each(verifier.entry), _count(verifier.entry, request)
    if each and not total and is_json(request.body):
        yield Finding(
            f"The body has no elements in `{each}`. Check `each` in `{verifier.path}`.",
            expected=f"elements in {each}",
            received="none",
            change=f"{verifier.path}.each",
        )
    refused = refused_items(verifier, request, now)
    if refused and total > 1:
        reasons = ", ".join(dict.fromkeys(one.reason for one in refused))
        were = "was" if len(refused) == 1 else "were"
        others = (
            " The other elements verify, so the secret is right."
            if some_verify(verifier, request, refused)
            else ""
        )
        yield Finding(f"{_numbers(refused, total)} in `{each}` {were} refused: {reasons}.{others}")


def some_verify(verifier: KnownVerifier, request: Request, refused: Sequence[RefusedItem]) -> bool:
    """Return whether some elements verify. The config and the secret are right then."""
    return 0 < len(refused) < min(_count(verifier.entry, request), _MAX_ITEMS)


def refused_items(verifier: KnownVerifier, request: Request, now: float) -> list[RefusedItem]:
    """Verify the first elements one by one, and return those that are refused.

    Returns nothing without `each`, and if an element can't be verified without the rest of the body.
    """
    each = _each(verifier.entry)
    if each is None or _reads_outside(verifier.entry):
        return []
    try:
        items = signed_items(request, Split(tuple(each.split("."))))[:_MAX_ITEMS]
    except VerificationError:
        return []
    single = of_one_item(verifier)
    requests = [msgspec.structs.replace(request, body=raw) for raw, _ in items]
    tried = ((number, single.refusal(one, now), one) for number, one in enumerate(requests, 1))
    return [RefusedItem(number, reason, one) for number, reason, one in tried if reason is not None]


def _each(entry: VerifyEntry) -> str | None:
    return entry.each if isinstance(entry, SigningConfig | TokenConfig) else None


def of_one_item(verifier: KnownVerifier) -> KnownVerifier:
    """Return the verifier for a request whose body is one element."""
    return verifier._replace(entry=verifier.entry.model_copy(update={"each": None}))


def _count(entry: VerifyEntry, request: Request) -> int:
    each = _each(entry)
    try:
        return len(signed_items(request, Split(tuple(each.split("."))))) if each else 0
    except VerificationError:
        return 0


def _reads_outside(entry: VerifyEntry) -> bool:
    """Return whether the signature of an element also covers something outside the element."""
    templates = (entry.signed, entry.id) if isinstance(entry, SigningConfig) else ()
    return any(part.name == "outer" for template in templates if template for part in template.placeholders)


def _numbers(refused: Sequence[RefusedItem], total: int) -> str:
    numbers = [str(one.number) for one in refused]
    if len(numbers) == min(total, _MAX_ITEMS):
        return f"All {total} elements"
    more = " and others" if len(numbers) > _MAX_NAMED else ""
    plural = "s" if len(numbers) > 1 else ""
    return f"Element{plural} {', '.join(numbers[:_MAX_NAMED])}{more} of {total}"
