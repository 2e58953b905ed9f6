"""Which elements of a batch are refused, where each carries its own signature or token (`each`). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.config.model import SigningConfig, TokenConfig
from gatehouse.errors import VerificationError
from gatehouse.language.document import is_json
from gatehouse.language.split import Split
from gatehouse.verify.signature import signed_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.diagnosis.known import Lock
    from gatehouse.errors import Reason
    from gatehouse.language.request import Request

#: As many elements as one diagnosis looks at.
_MOST_ITEMS = 100
#: As many as one sentence names.
_MOST_NAMED = 5


class RefusedItem(NamedTuple):
    """An element that does not pass by itself."""

    #: Its place, from 1.
    number: int
    reason: Reason
    #: The request with the element for a body: what the verifier reads it from.
    request: Request


def about_items(lock: Lock, request: Request, now: float) -> Iterator[str]:
    """Say which elements are refused."""
    each, total = _each(lock.entry), _count(lock.entry, request)
    if each and not total and is_json(request.body):
        yield f"there is no element in {each} of the body"
    refused = refused_items(lock, request, now)
    if refused and total > 1:
        reasons = ", ".join(dict.fromkeys(one.reason for one in refused))
        rest = "; the secret fits the others" if fits_others(lock, request, refused) else ""
        yield f"{_which(refused, total)} in {each}: {reasons}{rest}"


def fits_others(lock: Lock, request: Request, refused: Sequence[RefusedItem]) -> bool:
    """Tell whether some elements pass: then config and secret are right."""
    return 0 < len(refused) < min(_count(lock.entry, request), _MOST_ITEMS)


def refused_items(lock: Lock, request: Request, now: float) -> list[RefusedItem]:
    """Try the first elements, one by one. Empty without `each`, and when an element can't be tried alone."""
    each = _each(lock.entry)
    if each is None or _reads_outside(lock.entry):
        return []
    try:
        items = signed_items(request, Split(tuple(each.split("."))))[:_MOST_ITEMS]
    except VerificationError:
        return []
    single = alone(lock)
    requests = [msgspec.structs.replace(request, body=raw) for raw, _ in items]
    tried = ((number, single.refusal(one, now), one) for number, one in enumerate(requests, 1))
    return [RefusedItem(number, reason, one) for number, reason, one in tried if reason is not None]


def _each(entry: VerifyEntry) -> str | None:
    return entry.each if isinstance(entry, SigningConfig | TokenConfig) else None


def alone(lock: Lock) -> Lock:
    """Return the verifier of a single element."""
    return lock._replace(entry=lock.entry.model_copy(update={"each": None}))


def _count(entry: VerifyEntry, request: Request) -> int:
    each = _each(entry)
    try:
        return len(signed_items(request, Split(tuple(each.split("."))))) if each else 0
    except VerificationError:
        return 0


def _reads_outside(entry: VerifyEntry) -> bool:
    """Tell whether an element is signed together with what encloses it."""
    templates = (entry.signed, entry.id) if isinstance(entry, SigningConfig) else ()
    return any(part.name == "outer" for template in templates if template for part in template.placeholders)


def _which(refused: Sequence[RefusedItem], total: int) -> str:
    numbers = [str(one.number) for one in refused]
    if len(numbers) == min(total, _MOST_ITEMS):
        return f"all {total} elements"
    more = " and others" if len(numbers) > _MOST_NAMED else ""
    plural = "s" if len(numbers) > 1 else ""
    return f"element{plural} {', '.join(numbers[:_MOST_NAMED])}{more} of {total}"
