"""The queries that operators may send, and those that are refused without using the store."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from multidict import MultiDict

from gatehouse.operator.access import BLOCK_SECONDS, MAX_WRONG_TOKENS, WINDOW, WrongTokens
from gatehouse.operator.queries import (
    BadQueryError,
    delivery_query,
    event_query,
    page_limit,
    page_time,
    replay_destinations,
    retry_request,
)
from gatehouse.operator.records import RECENT_SECONDS, RecentRequests
from gatehouse.operator.responses import json_answer
from gatehouse.store.records import DeliveryQuery, EventQuery

NOW = 1_750_000_000.0


def test_filters_are_read() -> None:
    given = {"source": "shop", "type": "invoice.*", "status": "dead", "since": "2025-06-15T15:06:40Z"}

    assert event_query(given | {"until": "1750000001", "limit": "5", "cursor": "x"}) == EventQuery(
        source="shop", type="invoice.*", status="dead", since=NOW, until=NOW + 1
    )
    assert delivery_query(given | {"destination": "app", "event_id": "01J"}) == DeliveryQuery(
        destination="app", event_id="01J", source="shop", type="invoice.*", status="dead", since=NOW
    )


def test_the_filters_of_a_search_are_read() -> None:
    texts = {"external_id": "evt_1", "subject": "inv_1", "account": "acct_1", "destination": "app"}

    assert event_query(texts | {"contains": 'a\n\t"é\0'}) == EventQuery(
        external_id="evt_1",
        subject="inv_1",
        account="acct_1",
        destination="app",
        contains=b'a\n\t"\xc3\xa9\0',
    )
    assert delivery_query({"external_id": "evt_1"}) == DeliveryQuery(external_id="evt_1")
    asked = {"reason": "timeout", "http_status": "503"}
    assert event_query(asked) == EventQuery(reason="timeout", http_status=503)
    assert delivery_query(asked) == DeliveryQuery(reason="timeout", http_status=503)
    assert retry_request({"reason": "timeout", "http_status": 503}, NOW).query == DeliveryQuery(
        reason="timeout", http_status=503, status="dead"
    )
    for text in ("", "x" * 1025, "\udcff"):
        with pytest.raises(BadQueryError, match="contains"):
            event_query({"contains": text})
    for name in ("subject", "account", "contains"):
        with pytest.raises(BadQueryError, match="unknown filter"):
            delivery_query({name: "x"})


@pytest.mark.parametrize(
    "given",
    [
        {"sort": "id"},
        {"order": "source; DROP TABLE events"},
        {"offset": "-1"},
        {"status": "dead' OR 1=1"},
        {"status": ""},
        {"source": ""},
        {"source": "a\nb"},
        {"source": "\udcff"},
        {"type": "x" * 1025},
        {"type": "*\x00"},
        {"since": "yesteryear"},
        {"since": "-1e400"},
        {"until": "nan"},
        {"reason": "slow"},
        {"reason": ""},
        {"http_status": "99"},
        {"http_status": "600"},
        {"http_status": "5xx"},
        {"http_status": "\u0665\u0660\u0660"},
        {"http_status": ""},
    ],
)
@pytest.mark.case("S-53")
def test_invalid_filters_are_refused(given: dict[str, str]) -> None:
    for read in (event_query, delivery_query):
        with pytest.raises(BadQueryError):
            read(given)


def test_a_filter_given_twice_is_refused() -> None:
    with pytest.raises(BadQueryError, match="once"):
        event_query(MultiDict([("source", "a"), ("source", "b")]))


@pytest.mark.parametrize(
    "text", ["0", "501", "1000000000", "-1", "+5", "1.5", "", " 5", "\u0665", "1e2", "0x10"]
)
@pytest.mark.case("S-53")
def test_a_limit_is_a_number_from_1_to_500(text: str) -> None:
    with pytest.raises(BadQueryError, match="1 to 500"):
        page_limit({"limit": text})


def test_a_valid_limit_is_accepted() -> None:
    assert [page_limit({}), page_limit({"limit": "1"}), page_limit({"limit": "500"})] == [50, 1, 500]


@pytest.mark.parametrize("text", ["9ms", "151ms", "1h", "50", "", "0ms", "-50ms"])
def test_the_time_for_a_page_is_a_duration_up_to_that_of_a_page_without_it(text: str) -> None:
    assert [page_time({}), page_time({"within": "50ms"})] == [0.15, 0.05]
    with pytest.raises(BadQueryError, match="10ms to 150ms"):
        page_time({"within": text})


def test_a_retry_concerns_dead_deliveries_as_of_now() -> None:
    retry = retry_request({"destination": "app", "since": NOW}, NOW + 9)

    assert retry.query == DeliveryQuery(destination="app", since=NOW, status="dead")
    assert (retry.dry_run, retry.cursor, retry.as_of) == (False, None, NOW + 9)


def test_a_retry_of_everything_requires_all() -> None:
    assert retry_request({"all": True}, NOW).query == DeliveryQuery(status="dead")
    for given in ({}, {"status": "dead"}, {"dry_run": True}, {"all": False}):
        with pytest.raises(BadQueryError, match="all"):
            retry_request(given, NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"destination": None},
        {"destination": ["app"]},
        {"destination": True},
        {"destinations": ["app"]},
        {"all": "yes"},
        {"all": True, "dry_run": "false"},
        {"all": True, "dry_run": 1},
        {"all": True, "status": "delivered"},
        {"all": True, "limit": 5},
        {"all": True, "as_of": "2020-01-01T00:00:00Z"},
        {"all": True, "since": {}},
    ],
)
def test_a_retry_that_could_be_misread_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadQueryError):
        retry_request(given, NOW)


def test_each_step_of_a_retry_uses_the_time_of_the_first_and_no_future_time() -> None:
    assert retry_request({"all": True, "as_of": NOW - 60}, NOW).as_of == NOW - 60
    assert retry_request({"all": True, "as_of": NOW + 60}, NOW).as_of == NOW


def test_a_replay_accepts_names_of_destinations_or_nothing() -> None:
    assert replay_destinations({}) is None
    assert replay_destinations({"destinations": ["a", "b", "a"]}) == ["a", "b"]
    bad: tuple[dict[str, Any], ...] = (
        *({"destination": "a"}, {"destinations": []}, {"destinations": "a"}),
        *({"destinations": [1]}, {"destinations": None}, {"destinations": ["a"], "all": True}),
    )
    for given in bad:
        with pytest.raises(BadQueryError):
            replay_destinations(given)


def test_bytes_that_are_not_utf_8_become_valid_json() -> None:
    answer = json_answer({"subject": "caf\udce9", "big": 12345678901234567890})

    assert isinstance(answer.body, bytes)
    assert msgspec.json.decode(answer.body) == {"subject": "caf" + "\ufffd" * 3, "big": 12345678901234567890}


def test_a_request_that_is_repeated_within_seconds_is_ignored() -> None:
    recent = RecentRequests()

    assert recent.claim(("a", "x"), 0.0)
    assert recent.claim(("a", "y"), 0.0)
    assert not recent.claim(("a", "x"), RECENT_SECONDS - 0.1)
    assert recent.claim(("a", "x"), RECENT_SECONDS)
    recent.forget(("a", "x"))
    assert recent.claim(("a", "x"), RECENT_SECONDS)


def test_the_number_of_remembered_requests_is_bounded() -> None:
    recent = RecentRequests()
    for number in range(20_000):
        recent.claim((str(number),), 0.0)

    assert len(recent._claims) <= 10_000
    assert not recent.claim(("19999",), 0.0)


@pytest.mark.case("S-57")
def test_the_tenth_wrong_token_within_a_minute_blocks_an_address() -> None:
    wrong = WrongTokens()
    blocked = [wrong.count("192.0.2.1", float(second)) for second in range(MAX_WRONG_TOKENS)]

    assert blocked == [False] * (MAX_WRONG_TOKENS - 1) + [True]
    assert wrong.wait("192.0.2.1", MAX_WRONG_TOKENS - 1.0) == BLOCK_SECONDS
    assert wrong.wait("192.0.2.1", MAX_WRONG_TOKENS - 2.0 + BLOCK_SECONDS) == 1.0
    assert wrong.wait("192.0.2.1", MAX_WRONG_TOKENS - 1.0 + BLOCK_SECONDS) == 0.0
    assert wrong.wait("192.0.2.2", MAX_WRONG_TOKENS - 1.0) == 0.0


@pytest.mark.case("S-57")
def test_few_wrong_tokens_a_minute_never_block() -> None:
    wrong = WrongTokens()

    assert not any(
        wrong.count("192.0.2.1", number * WINDOW / (MAX_WRONG_TOKENS - 1)) for number in range(1000)
    )


@pytest.mark.case("S-57")
def test_an_ipv6_network_is_one_address() -> None:
    wrong = WrongTokens()
    for number in range(MAX_WRONG_TOKENS):
        wrong.count(f"2001:db8::{number:x}", 0.0)

    assert wrong.wait("2001:db8::ffff", 0.0) == BLOCK_SECONDS
    assert wrong.wait("2001:db8:0:1::1", 0.0) == 0.0


@pytest.mark.case("S-57")
def test_the_number_of_remembered_addresses_is_bounded() -> None:
    wrong = WrongTokens()
    for number in range(10_000):
        wrong.count(f"10.0.{number // 256}.{number % 256}", 0.0)

    assert len(wrong._addresses) <= 4096
