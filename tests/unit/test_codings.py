"""Compressed bodies are decoded in small steps, and whatever they contain, nothing else is raised."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatehouse.language import codings
from gatehouse.language.codings import (
    DecodedTooLargeError,
    MalformedCodingError,
    codings_of,
    decode,
    decode_steps,
)

brotli = import_module("brotli")
ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
}
#: The longest output of one step of brotli, which does not end exactly at its limit.
LONGEST_STEP = 256 * 1024
MIB = 1024 * 1024
chosen = st.lists(st.sampled_from(sorted(ENCODE)), min_size=1, max_size=2)


def encoded(body: bytes, names: list[str]) -> bytes:
    for name in names:
        body = ENCODE[name](body)
    return body


@given(st.binary(max_size=300) | st.binary(max_size=50).map(lambda part: part * 5000), chosen)
def test_a_body_decodes_to_what_was_encoded(body: bytes, names: list[str]) -> None:
    assert decode(encoded(body, names), names, 2 * len(body) + 100) == body


@given(st.binary(max_size=200), chosen, st.integers(0, 300), st.binary(max_size=20), st.integers(0, 300))
@example(b"", ["br"], 0, b"\x0b", 300)
@example(b"", ["gzip"], 0, b"\x1f", 300)
def test_damaged_bodies_decode_or_are_malformed(
    body: bytes, names: list[str], start: int, inserted: bytes, dropped: int
) -> None:
    sent = encoded(body, names)
    damaged = sent[:start] + inserted + sent[start + dropped :]

    with suppress(MalformedCodingError, DecodedTooLargeError):
        assert len(decode(damaged, names, 1000)) <= 1000


@pytest.mark.parametrize("name", ENCODE)
@given(body=st.binary(max_size=2000), cut=st.integers(1, 40), added=st.binary(min_size=1, max_size=40))
def test_a_body_that_is_cut_or_continued_is_malformed(name: str, body: bytes, cut: int, added: bytes) -> None:
    sent = ENCODE[name](body)
    if cut < len(sent):
        with pytest.raises(MalformedCodingError):
            decode(sent[:-cut], [name], MIB)
    with pytest.raises(MalformedCodingError):
        decode(sent + added, [name], MIB)


def test_a_bomb_takes_no_more_memory_than_its_limit() -> None:
    bombs = [(name, ENCODE[name](bytes(64 * MIB))) for name in ENCODE]
    tracemalloc.start()
    try:
        for name, bomb in bombs:
            with pytest.raises(DecodedTooLargeError):
                decode(bomb, [name], MIB)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < MIB + 2 * LONGEST_STEP


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", gzip.compress(bytes(4 * MIB))),
        ("deflate", zlib.compress(bytes(4 * MIB))),
        ("br", brotli.compress(bytes(4 * MIB))),
        # Empty stored blocks: 5 bytes each, and no output.
        ("deflate", b"\x78\x01" + b"\x00\x00\x00\xff\xff" * 200_000),
        ("gzip", gzip.compress(b"") * 50_000),
        ("gzip", gzip.compress(b"") * codings.MAX_MEMBERS),
    ],
)
@pytest.mark.alone
@pytest.mark.case("S-32")
def test_no_step_takes_long(name: str, body: bytes) -> None:
    """The gateway answers other requests between the steps."""
    longest, written, steps = 0.0, 0, decode_steps(body, [name], 8 * MIB)
    try:
        while True:
            started = time.thread_time()
            written = next(steps)
            longest = max(longest, time.thread_time() - started)
            assert written <= LONGEST_STEP
    except (StopIteration, MalformedCodingError):
        pass

    assert longest < 0.02


def test_the_number_of_gzip_members_is_limited() -> None:
    assert decode(gzip.compress(b"a") * codings.MAX_MEMBERS, ["gzip"], MIB) == b"a" * codings.MAX_MEMBERS
    with pytest.raises(MalformedCodingError):
        decode(gzip.compress(b"a") * (codings.MAX_MEMBERS + 1), ["gzip"], MIB)


def test_an_empty_body_stays_empty() -> None:
    assert decode(b"", ["gzip", "br"], 0) == b""


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], ()),
        (["identity", "UTF-8, none", ""], ()),
        (["X-Gzip , br", "deflate"], ("gzip", "br", "deflate")),
        (["zstd"], ("zstd",)),
    ],
)
def test_content_codings_are_read_from_all_headers_in_order(
    values: list[str], found: tuple[str, ...]
) -> None:
    assert codings_of(values) == found
