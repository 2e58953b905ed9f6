"""Every preset against an attacker who has captured a request but has no secret."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from multidict import CIMultiDict

from gatehouse.config.model import SigningConfig
from gatehouse.errors import VerificationError
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from presets import VECTORS, Vector, built, entries

#: One genuine request for each preset: its first accepted vector, which has one signature.
FIRST = {preset: vector for preset, _, vector in reversed(VECTORS) if vector.refused is None}
each_preset = pytest.mark.parametrize(("preset", "vector"), FIRST.items(), ids=FIRST)
#: Values that are never a signature. None is longer than a header can be, because such a request is not read.
ODD = (
    "",
    " ",
    "\t",
    "v1,",
    "v1=",
    "sha256=",
    "=",
    ",",
    "é",
    "\udce9\udcff",
    "\x01\x1b[31m",
    "x" * 8000,
    "null",
)


def with_values(request: Request, name: str, *values: str) -> Request:
    headers = CIMultiDict(
        (known, value) for known, value in request.headers.items() if known.lower() != name.lower()
    )
    for value in values:
        headers.add(name, value)
    return msgspec.structs.replace(request, headers=headers)


def proofs(of: Source, request: Request) -> Iterator[tuple[str, str]]:
    """Return the headers of the request that contain a signature or a credential."""
    names = frozenset().union(*(one.credential_headers() for one in of.verification.verifiers))
    return ((name, value) for name, value in request.headers.items() if name.lower() in names)


def passes(of: Source, request: Request, now: float) -> bool:
    try:
        of.verification.verify(request, now)
    except VerificationError:
        return False
    return True


@pytest.mark.case("S-03", "S-05", "S-06")
@each_preset
def test_other_values_in_place_of_a_signature_are_refused(preset: str, vector: Vector) -> None:
    of, request = built(preset, vector), vector.request()
    assert passes(of, request, vector.now)

    for name, right in proofs(of, request):
        beginnings = {right[:end] for end in range(0, len(right), 1 + len(right) // 80)}
        spoilt = {right + "0", right + "=" * 4, "0" + right, right[:-1] + "é", right[1:], right.swapcase()}
        passed = {
            value
            for value in {*ODD, *beginnings, *spoilt}
            if passes(of, with_values(request, name, value), vector.now)
        }
        assert passed <= padded(of, right)


def padded(of: Source, right: str) -> set[str]:
    """Base64url is valid with padding and without it, so both are accepted."""
    encodings = {
        entry.signature.encoding for entry in entries(of.settings) if isinstance(entry, SigningConfig)
    }
    return {right + "=" * 4, right.rstrip("=")} if encodings == {"base64url"} else set()


@pytest.mark.case("S-07")
@each_preset
def test_a_signature_header_that_appears_twice_is_refused(preset: str, vector: Vector) -> None:
    of, request = built(preset, vector), vector.request()

    for name, right in proofs(of, request):
        wrong = "x" * len(right)
        for values in ((right, wrong), (wrong, right), (right, right)):
            assert not passes(of, with_values(request, name, *values), vector.now)


@pytest.mark.case("S-07")
@each_preset
def test_a_signed_header_that_appears_twice_is_refused(preset: str, vector: Vector) -> None:
    """This applies to the timestamp, the id and any other signed header."""
    of, request = built(preset, vector), vector.request()

    for name in signed_headers(of) & {known.lower() for known in request.headers}:
        right = request.headers[name]
        for values in ((right, right[::-1]), (right[::-1], right), (right, right)):
            assert not passes(of, with_values(request, name, *values), vector.now), name


def signed_headers(of: Source) -> set[str]:
    """Return the names (in lower case) of the headers that all signatures of a source cover."""
    found = set()
    for entry in entries(of.settings):
        if isinstance(entry, SigningConfig):
            parts = [part for one in (entry.signed, entry.id) if one for part in one.alternatives[0]]
            found |= {
                part.argument.lower()
                for part in parts
                if not isinstance(part, bytes) and part.name == "header"
            }
            found |= {entry.timestamp.header.lower()} if entry.timestamp and entry.timestamp.header else set()
    return found


@pytest.mark.case("S-15")
@each_preset
def test_a_signed_body_in_another_format_is_refused(preset: str, vector: Vector) -> None:
    of, request = built(preset, vector), vector.request()
    body = request.body
    signed = of.verification.verify(request, vector.now).facts.get("signed", b"")
    if not body or body not in signed:
        return
    others = {
        body + b"\n",
        b" " + body,
        b"\xef\xbb\xbf" + body,
        body.replace(b"\n", b"\r\n"),
        body.replace(b" ", b""),
    }
    others |= {body.replace(b"\r\n", b"\n"), body[:-1], body.replace(b":", b": "), body.replace(b"/", b"\\/")}

    for other in others - {body}:
        assert not passes(of, msgspec.structs.replace(request, body=other), vector.now)
