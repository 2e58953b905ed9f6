"""When a published key is fetched, cached, refreshed and evicted."""

from __future__ import annotations

import pytest

from gatehouse.verify.key_cache import MAX_KEYS, MAX_MISSES, KeyCache

URL = "https://p.example/key"
HOUR, DAY = 3600.0, 86_400.0


def look_up(cache: KeyCache, now: float, *, outdated: bool = False, url: str = URL) -> str:
    return cache.look_up(url, now, is_outdated=lambda _: outdated)


def test_an_unknown_url_is_fetched() -> None:
    assert look_up(KeyCache(), 0) == "fetch"
    assert KeyCache().get(URL) is None


def test_a_key_is_cached_for_an_hour_and_then_fetched_again() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert cache.get(URL) == b"key"
    assert look_up(cache, HOUR - 1) == "cached"
    assert look_up(cache, HOUR) == "fetch"


def test_an_outdated_key_is_fetched_every_ten_seconds() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert look_up(cache, 9, outdated=True) == "cached"
    assert look_up(cache, 10, outdated=True) == "fetch"
    cache.store(URL, b"key", 10)
    assert look_up(cache, 19, outdated=True) == "cached"
    assert cache.mark_unreachable(URL, HOUR + 20)
    assert look_up(cache, HOUR + 29, outdated=True) == "cached"


def test_a_cached_key_is_used_for_a_day_when_fetching_fails() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert cache.mark_unreachable(URL, HOUR)
    assert look_up(cache, HOUR + 59) == "cached"
    assert look_up(cache, HOUR + 60) == "fetch"
    assert cache.mark_unreachable(URL, DAY - 1)
    assert not cache.mark_unreachable(URL, DAY)
    assert cache.get(URL) is None
    assert look_up(cache, DAY) == "unreachable"


def test_a_key_older_than_a_day_is_not_used() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)

    assert look_up(cache, DAY) == "fetch"


def test_a_url_without_a_key_is_not_fetched_for_a_minute() -> None:
    cache = KeyCache()
    cache.mark_absent(URL, 0)

    assert look_up(cache, 59) == "absent"
    assert look_up(cache, 60) == "fetch"


def test_an_unreachable_url_is_not_fetched_for_five_seconds() -> None:
    cache = KeyCache()

    assert not cache.mark_unreachable(URL, 0)
    assert look_up(cache, 4) == "unreachable"
    assert look_up(cache, 5) == "fetch"


def test_a_removed_key_is_not_used_any_more() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    cache.mark_absent(URL, HOUR)

    assert cache.get(URL) is None
    assert look_up(cache, HOUR) == "absent"
    cache.store(URL, b"new", HOUR + 60)
    assert look_up(cache, HOUR + 61) == "cached"


def test_the_least_recently_used_key_is_evicted_first() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    for number in range(MAX_KEYS - 1):
        cache.store(f"{URL}/{number}", b"key", 0)
    assert look_up(cache, 1) == "cached"
    cache.store(f"{URL}/more", b"key", 0)

    assert cache.get(URL) == b"key"
    assert cache.get(f"{URL}/0") is None


def test_made_up_urls_do_not_evict_keys() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    for number in range(MAX_MISSES + 10):
        cache.mark_absent(f"{URL}/{number}", 0)

    assert cache.get(URL) == b"key"
    assert look_up(cache, 1, url=f"{URL}/0") == "fetch"
    assert look_up(cache, 1, url=f"{URL}/{MAX_MISSES}") == "absent"


@pytest.mark.case("F-09")
def test_keys_that_verified_no_request_do_not_evict_one_that_did() -> None:
    cache = KeyCache()
    cache.store(URL, b"key", 0)
    cache.mark_verified(URL)
    for number in range(3 * MAX_KEYS):
        cache.store(f"{URL}/{number}", b"not a key", 1)

    assert cache.get(URL) == b"key"
    assert cache.get(f"{URL}/{3 * MAX_KEYS - 1}") is not None
    assert cache.get(f"{URL}/0") is None


@pytest.mark.case("F-09")
def test_the_least_recently_used_of_too_many_verified_keys_is_evicted() -> None:
    cache = KeyCache()
    for number in range(MAX_KEYS + 1):
        cache.store(f"{URL}/{number}", b"key", 0)
        cache.mark_verified(f"{URL}/{number}")

    assert cache.get(f"{URL}/0") is None
    assert cache.get(f"{URL}/{MAX_KEYS}") == b"key"
