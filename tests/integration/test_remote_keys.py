"""Keys from a real TLS server: every fetch has limits, and cached keys survive failures of the server."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doubles.key_server import HOST, URL, Setting, key, serving, until, wait_for
from gatehouse.verify.key_cache import NEW_URLS_PER_MINUTE
from gatehouse.verify.remote_keys import MAX_BYTES, MAX_FETCHES_PER_HOST


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Run a key server, and remote keys that use it."""
    async with serving(tmp_path) as (_, _, made):
        yield made


async def test_a_key_is_fetched_once_and_then_cached(setting: Setting) -> None:
    assert await setting.key_of() == b"the key"
    assert await setting.key_of() == b"the key"

    assert setting.server.asked == ["/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"]
    (headers,) = setting.server.headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("Gatehouse/")
    assert "Cookie" not in headers


async def test_nothing_is_fetched_for_a_request_without_a_key_url(setting: Setting) -> None:
    assert await setting.reason_of(None) == "missing_signature"
    assert setting.server.asked == []


async def test_concurrent_requests_for_the_same_key_share_one_fetch(setting: Setting) -> None:
    gate = asyncio.Event()
    setting.server.answer = wait_for(gate)
    requests = [asyncio.create_task(setting.key_of()) for _ in range(20)]
    await until(lambda: setting.server.open == 1)
    requests[0].cancel()
    gate.set()

    found = await asyncio.gather(*requests, return_exceptions=True)
    assert found[1:] == [b"the key"] * 19
    assert len(setting.server.asked) == 1


async def test_the_number_of_concurrent_fetches_is_limited(setting: Setting) -> None:
    gate = asyncio.Event()
    setting.server.answer = wait_for(gate)
    requests = [
        asyncio.create_task(setting.key_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    gate.set()

    await asyncio.gather(*requests)
    assert setting.server.most_open == MAX_FETCHES_PER_HOST


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_a_url_without_a_key_is_remembered_for_a_minute(setting: Setting, status: int) -> None:
    setting.server.answer = key(b"no", status)

    assert await setting.reason_of() == "wrong_signature"
    setting.server.answer = key(b"the key")
    assert await setting.reason_of() == "wrong_signature"
    assert len(setting.server.asked) == 1
    setting.now = 60
    assert await setting.key_of() == b"the key"


@pytest.mark.parametrize("status", [204, 301, 302, 307, 429, 500, 503])
async def test_a_response_that_is_neither_a_key_nor_absent_is_503(
    setting: Setting, status: int, logged: io.StringIO
) -> None:
    setting.server.answer = key(b"", status, Location=f"https://{HOST}/elsewhere")

    assert await setting.reason_of() == "keys"
    assert await setting.reason_of() == "keys"
    assert len(setting.server.asked) == 1, "asked again at once, or followed a redirect"
    assert [json.loads(line)["event"] for line in logged.getvalue().splitlines()] == ["keys.unavailable"]
    setting.now = 5
    setting.server.answer = key(b"the key")
    assert await setting.key_of() == b"the key"


async def test_a_response_that_is_too_long_is_not_read_to_its_end(setting: Setting) -> None:
    setting.server.answer = key(b"x" * (MAX_BYTES + 1))
    assert await setting.reason_of() == "wrong_signature"

    setting.server.answer = key(b"x" * MAX_BYTES)
    assert len(await setting.key_of(f"{URL}/2")) == MAX_BYTES


@pytest.mark.alone
async def test_a_fetch_that_takes_too_long_is_503(setting: Setting) -> None:
    setting.server.answer = wait_for(setting.server.stopping)
    started = time.monotonic()

    assert await setting.reason_of() == "keys"
    assert 0.9 < time.monotonic() - started < 3


async def test_a_host_with_an_untrusted_certificate_is_503(setting: Setting) -> None:
    assert await setting.reason_of("https://sns.ap-south-1.amazonaws.com/x.pem") == "keys"
    assert setting.server.asked == []


async def test_a_url_without_tls_is_not_fetched(setting: Setting) -> None:
    assert await setting.reason_of(URL.replace("https", "http")) == "wrong_signature"
    assert setting.server.asked == []


async def test_a_source_may_fetch_a_few_new_urls_per_minute(setting: Setting) -> None:
    setting.server.answer = key(b"no", 404)
    for number in range(NEW_URLS_PER_MINUTE):
        assert await setting.reason_of(f"{URL}/{number}") == "wrong_signature"

    assert await setting.reason_of(f"{URL}/more") == "keys"
    assert await setting.reason_of(f"{URL}/more", "another source") == "wrong_signature"
    setting.now = 60
    assert await setting.reason_of(f"{URL}/one-more") == "wrong_signature"


async def test_a_known_key_is_refreshed_when_the_budget_is_spent(setting: Setting) -> None:
    await setting.key_of()
    setting.now = 3600
    setting.server.answer = key(b"no", 404)
    for number in range(NEW_URLS_PER_MINUTE + 1):
        await setting.reason_of(f"{URL}/{number}")
    setting.server.answer = key(b"the next key")

    assert await setting.key_of() == b"the next key"


async def test_a_cached_key_is_used_while_its_url_is_down(setting: Setting) -> None:
    await setting.key_of()
    setting.now = 3600
    setting.server.answer = key(b"", 503)

    assert await setting.key_of() == b"the key"
    assert await setting.key_of() == b"the key"
    assert len(setting.server.asked) == 2
    setting.now = 86_400
    assert await setting.reason_of() == "keys"


async def test_an_outdated_key_is_fetched_again(setting: Setting) -> None:
    await setting.key_of()
    setting.verifier.outdated = True
    setting.server.answer = key(b"the next key")

    assert await setting.key_of() == b"the key"
    setting.now = 60
    assert await setting.key_of() == b"the next key"


async def test_closing_cancels_fetches(setting: Setting) -> None:
    setting.server.answer = wait_for(setting.server.stopping)
    wanter = asyncio.create_task(setting.key_of())
    await until(lambda: setting.server.open == 1)

    await setting.keys.close()

    with pytest.raises(asyncio.CancelledError):
        await wanter


@pytest.mark.alone
@pytest.mark.case("F-09")
async def test_a_hanging_host_does_not_delay_the_keys_of_another(setting: Setting) -> None:
    other = "https://sns.us-east-1.amazonaws.com/x.pem"
    setting.server.answer = wait_for(setting.server.stopping)
    hanging = [
        asyncio.create_task(setting.reason_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    setting.server.answer = key(b"the key")

    began = time.monotonic()
    assert await setting.key_of(other) == b"the key"
    assert time.monotonic() - began < 0.5
    await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.alone
@pytest.mark.case("F-09")
async def test_a_known_key_is_refreshed_while_new_urls_hang(setting: Setting) -> None:
    assert await setting.key_of() == b"the key"
    setting.now = 3600
    setting.server.answer = wait_for(setting.server.stopping)
    hanging = [
        asyncio.create_task(setting.reason_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    setting.server.answer = key(b"the next key")

    began = time.monotonic()
    assert await setting.key_of() == b"the next key"
    assert time.monotonic() - began < 0.5
    await asyncio.gather(*hanging, return_exceptions=True)
