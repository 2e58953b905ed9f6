"""When the address of a published key is asked, and what is used meanwhile."""

from __future__ import annotations

import pytest

from gatehouse.verify.key_cache import MAX_KEYS, MAX_MISSES, KeyCache

URL = "https://p.example/key"
HOUR, DAY = 3600.0, 86_400.0


def find(cache: KeyCache, now: float, *, outdated: bool = False, url: str = URL) -> str:
    return cache.look_up(url, now, is_outdated=lambda _: outdated)


def test_an_unknown_address_is_asked() -> None:
    assert find(KeyCache(), 0) == "fetch"
    assert KeyCache().get(URL) is None


def test_a_key_is_held_for_an_hour_and_then_asked_for_again() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert cache.get(URL) == b"key"
    assert find(cache, HOUR - 1) == "cached"
    assert find(cache, HOUR) == "fetch"


def test_a_key_that_will_not_do_is_asked_for_every_ten_seconds() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert find(cache, 9, outdated=True) == "cached"
    assert find(cache, 10, outdated=True) == "fetch"
    cache.store(URL, b"key", 10)
    assert find(cache, 19, outdated=True) == "cached"
    assert cache.mark_unreachable(URL, HOUR + 20)
    assert find(cache, HOUR + 29, outdated=True) == "cached"


def test_when_asking_fails_a_known_key_is_used_for_a_day() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert cache.mark_unreachable(URL, HOUR)
    assert find(cache, HOUR + 59) == "cached"
    assert find(cache, HOUR + 60) == "fetch"
    assert cache.mark_unreachable(URL, DAY - 1)
    assert not cache.mark_unreachable(URL, DAY)
    assert cache.get(URL) is None
    assert find(cache, DAY) == "unreachable"


def test_a_key_older_than_a_day_is_no_key() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert find(cache, DAY) == "fetch"


def test_an_address_without_a_key_is_let_be_for_a_minute() -> None:
    cache = KeyCache()
    cache.mark_absent(URL, 0)

    assert find(cache, 59) == "absent"
    assert find(cache, 60) == "fetch"


def test_an_address_that_was_not_reached_is_let_be_for_five_seconds() -> None:
    cache = KeyCache()

    assert not cache.mark_unreachable(URL, 0)
    assert find(cache, 4) == "unreachable"
    assert find(cache, 5) == "fetch"


def test_a_key_that_is_gone_is_not_used_any_more() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    cache.mark_absent(URL, HOUR)

    assert cache.get(URL) is None
    assert find(cache, HOUR) == "absent"
    cache.store(URL, b"new", HOUR + 60)
    assert find(cache, HOUR + 61) == "cached"


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    for number in range(MAX_KEYS - 1):
        cache.store(f"{URL}/{number}", b"key", 0)
    assert find(cache, 1) == "cached"
    cache.store(f"{URL}/more", b"key", 0)

    assert cache.get(URL) == b"key"
    assert cache.get(f"{URL}/0") is None


def test_made_up_addresses_push_no_key_out() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    for number in range(MAX_MISSES + 10):
        cache.mark_absent(f"{URL}/{number}", 0)

    assert cache.get(URL) == b"key"
    assert find(cache, 1, url=f"{URL}/0") == "fetch"
    assert find(cache, 1, url=f"{URL}/{MAX_MISSES}") == "absent"


@pytest.mark.case("F-09")
def test_a_key_that_verified_a_request_outlives_any_number_that_did_not() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    cache.mark_verified(URL)
    for number in range(3 * MAX_KEYS):
        cache.store(f"{URL}/{number}", b"a page that says there is nothing", 1)

    assert cache.get(URL) == b"key"
    assert cache.get(f"{URL}/{3 * MAX_KEYS - 1}") is not None
    assert cache.get(f"{URL}/0") is None


@pytest.mark.case("F-09")
def test_of_too_many_keys_that_verified_requests_the_longest_unused_goes() -> None:
    cache = KeyCache()
    for number in range(MAX_KEYS + 1):
        cache.store(f"{URL}/{number}", b"key", 0)
        cache.mark_verified(f"{URL}/{number}")

    assert cache.get(f"{URL}/0") is None
    assert cache.get(f"{URL}/{MAX_KEYS}") == b"key"
