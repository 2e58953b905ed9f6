"""The part of a destination's reply that is kept."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatehouse.delivery.http_client import Reply
from gatehouse.delivery.kept_replies import start_of, without_cut_character

EURO = "€".encode()


@pytest.mark.parametrize(
    ("body", "limit", "kept"),
    [
        (b"no such customer", 1024, b"no such customer"),
        (b"no such customer", 16, b"no such customer"),
        (b"no such customer", 7, b"no such"),
        (b"no such customer", 0, None),
        (b"", 1024, None),
        (EURO * 2, 6, EURO * 2),
        (EURO * 2, 5, EURO),
        (EURO * 2, 4, EURO),
        (EURO * 2, 3, EURO),
        (EURO, 2, None),
        (b"\xff\xfe\x80\x80\x80\x80", 5, b"\xff\xfe\x80\x80\x80"),
    ],
)
def test_a_reply_is_cut_at_the_limit_but_not_inside_a_character(
    body: bytes, limit: int, kept: bytes | None
) -> None:
    assert start_of(Reply(500, None, body), limit) == kept


@pytest.mark.parametrize(
    ("pieces", "kept"), [((b"<h1>", b"Error</h1>"), b"<h1>Error"), ((b"ab", EURO[:2]), b"ab"), ((), None)]
)
def test_the_start_of_a_reply_that_did_not_end_is_kept(pieces: tuple[bytes, ...], kept: bytes | None) -> None:
    assert start_of(Reply(500, None, None, partial=pieces), 9) == kept


@pytest.mark.parametrize(("encoding", "kept"), [("gzip", None), ("Identity", b"text"), (None, b"text")])
def test_a_compressed_reply_is_not_kept(encoding: str | None, kept: bytes | None) -> None:
    assert start_of(Reply(500, None, b"text", None, encoding), 1024) == kept


@given(st.text(), st.integers(0, 40))
@example("a\U0001f600", 3)
@example("é", 1)
def test_the_start_of_a_text_is_text(text: str, limit: int) -> None:
    body = text.encode()
    start = without_cut_character(body[:limit])
    assert text.startswith(start.decode())
    assert len(start) > min(limit, len(body)) - 4


@given(st.binary(), st.integers(0, 40))
def test_bytes_that_are_not_text_lose_at_most_three_bytes(body: bytes, limit: int) -> None:
    start = without_cut_character(body[:limit])
    assert body.startswith(start)
    assert len(start) >= len(body[:limit]) - 3
