"""The CloudEvents `id` of a preset is as unique as its dedupe keys: equal `source` and `id` mean a duplicate.

CloudEvents 1.0.2, `id`: producers must make the combination of `source` and `id` unique for each distinct
event, and consumers may treat equal ones as duplicates. Such a destination must not drop what the gateway
treats as two events.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from gatehouse.events.dedupe import DedupeKey
from gatehouse.events.event import UNREADABLE, ReadEvent
from gatehouse.ingest.source import Source
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.placeholders import WITH_ARGUMENT, WITHOUT_ARGUMENT
from gatehouse.language.scope import Scope
from gatehouse.language.template import Placeholder, Template
from gatehouse.verify.base import VerifiedRequest
from presets import FILES, VECTORS, Vector, built, source

#: Placeholders for all bytes of a request.
BYTES = ("body", "signed", "body_sha256", "item_sha256", "body_sorted", "form_sorted", "claims")
Keys = tuple[DedupeKey | None, ...]

each_good_vector = pytest.mark.parametrize(
    ("preset", "vector"),
    [
        pytest.param(preset, vector, id=f"{preset}-{number}")
        for preset, number, vector in VECTORS
        if vector.refused is None
    ],
)


def verified(of: Source, vector: Vector) -> VerifiedRequest:
    return of.verification.verify(vector.request(), vector.now)


def are_duplicates(one: Keys, other: Keys) -> bool:
    return bool({key.scoped for key in one if key} & {key.scoped for key in other if key})


def identity(read: ReadEvent) -> str | None:
    """Return the id that a destination sees, or None for the gateway's own id, which is always new."""
    event = read.event
    return None if event.external_id == event.id else event.external_id


@pytest.mark.parametrize("preset", FILES)
def test_two_vectors_with_one_id_are_duplicates(preset: str) -> None:
    found: dict[str, list[Keys]] = defaultdict(list)
    for vector in FILES[preset].vectors:
        if vector.refused is not None:
            continue
        of = built(preset, vector)
        for read in of.reader.read(verified(of, vector), vector.now, ()):
            given = identity(read)
            if given is not None:
                found[given].append(read.keys)

    for given, keys in found.items():
        for one, other in itertools.combinations(keys, 2):
            assert are_duplicates(one, other), given


@pytest.mark.case("F-21")
@each_good_vector
def test_an_event_that_differs_in_any_part_of_its_keys_has_another_id(preset: str, vector: Vector) -> None:
    of = built(preset, vector)
    try:
        scopes = of.reader.scopes(verified(of, vector))
    except MalformedDocumentError:
        return  # unreadable: it has the gateway's own id
    for scope in scopes:
        first = of.reader._read(scope, vector.now, ())
        for parts in varied(of, scope):
            other = changed(scope, parts)
            second = of.reader._read(other, vector.now, ())
            if second.event.type == UNREADABLE or are_duplicates(first.keys, second.keys):
                continue
            assert identity(first) is None or identity(first) != identity(second), list(map(str, parts))


def varied(of: Source, scope: Scope) -> Iterator[tuple[Placeholder, ...]]:
    """Yield every combination of one part from each dedupe key. These parts must change for a new event."""
    resolved = [parts for key in of.settings.dedupe.templates if (parts := resolving(key, scope))]
    if resolved:
        yield from itertools.product(*resolved)


def resolving(template: Template, scope: Scope) -> list[Placeholder]:
    """Return the placeholders of the alternative that applies."""
    for parts in template.alternatives:
        placeholders = [part for part in parts if isinstance(part, Placeholder)]
        if all(part.optional or value(part, scope) for part in placeholders):
            return [part for part in placeholders if part.name not in ("body_name", "value", "method")]
    return []


def value(part: Placeholder, scope: Scope) -> bytes | None:
    try:
        if part.argument:
            return WITH_ARGUMENT[part.name](part.argument)(scope)
        return WITHOUT_ARGUMENT[part.name](scope)
    except MalformedDocumentError:
        return None


def changed(scope: Scope, parts: Iterable[Placeholder]) -> Scope:
    """Return the request of another event that differs only in these parts."""
    request, facts, body, outer = scope.request, dict(scope.facts), scope.body, scope.outer
    for part in parts:
        if part.name == "header":
            headers = CIMultiDict(request.headers)
            headers[part.argument] = other_text(headers.get(part.argument, ""))
            request = msgspec.structs.replace(request, headers=headers)
        elif part.name == "query":
            query = (
                f"{request.query}&{part.argument}=other"
                if scope.query.get(part.argument) is None
                else (
                    request.query.replace(
                        f"{part.argument}={scope.query[part.argument]}", f"{part.argument}=other"
                    )
                )
            )
            request = msgspec.structs.replace(request, query=query)
        elif part.name == "body" and part.argument:
            body = with_value(body, part.path)
        elif part.name == "outer":
            outer = tuple(Document(with_value(bytes(one.raw(()) or b"{}"), part.path)) for one in outer)
        elif part.name in BYTES or part.name == "form":
            body = with_bytes(body)
            # A form's fields are read from the request.
            request = msgspec.structs.replace(request, body=request.body + b"0")
            facts["signed"] = (facts.get("signed") or b"") + b"0"
        else:
            facts[part.name] = (facts.get(part.name) or b"") + b"0"
    return Scope(request, facts=facts, body=body, outer=outer)


def other_text(text: str) -> str:
    return f"{text}0" if not text.endswith("0") else f"{text[:-1]}1"


def with_bytes(body: bytes) -> bytes:
    """Return an equal document with other bytes."""
    try:
        document = json.loads(body)
    except ValueError:
        return body + b"0"
    if isinstance(document, dict):
        return json.dumps({**document, "gatehouse-says-nothing": 1}).encode()
    return json.dumps(document).encode() + b" "


def with_value(body: bytes, path: tuple[str, ...]) -> bytes:
    """Return the document with another value at the path."""
    document = json.loads(body)
    place: Any = document
    for step in path[:-1]:
        if isinstance(place, list):
            place = place[int(step)]
        else:
            if not isinstance(place.get(step), dict | list):
                place[step] = {}
            place = place[step]
    last: Any = int(path[-1]) if isinstance(place, list) else path[-1]
    old = place[last] if isinstance(place, list) else place.get(last)
    place[last] = another(old)
    return json.dumps(document).encode()


def another(old: Any) -> Any:
    match old:
        case bool():
            return not old
        case int() | float():
            return old + 1
        case None:
            return "other"
        case str():
            return other_text(old)
        case _:
            return "other"


def test_the_test_finds_an_id_that_is_less_unique_than_the_key() -> None:
    """It checks the same preset with an id that contains too little."""
    vector = FILES["mandrill"].vectors[0]
    of = source("mandrill", vector.secrets, event={"id": "{body:event}"})
    scope = of.reader.scopes(verified(of, vector))[0]
    first = of.reader._read(scope, vector.now, ())
    seconds = [of.reader._read(changed(scope, parts), vector.now, ()) for parts in varied(of, scope)]

    assert any(
        identity(first) == identity(second) and not are_duplicates(first.keys, second.keys)
        for second in seconds
    )
