"""Each example of deploy/examples/ receives what the real gateway sends, and handles each event once."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from example_apps import EXAMPLES, NEW, OLD, STACKS, Example, running, signed
from gatehouse.config.load import parse
from machine import lacking
from processes import GatewayProcess, serving

PAGE = (Path(__file__).parents[2] / "docs/receiving-events.md").read_text()
CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{url: "sqlite:///gatehouse.db", min_free: 0}}
sources:
  mando: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "{url}", secret: env:SIGNING, retry: {{first: 10ms, max: 20ms}}}}
routes:
  - {{from: mando, to: app}}
"""
#: A float can't represent these digits.
TOTAL = "90071992547409931.10"
_numbers = itertools.count(100)


@pytest.fixture(scope="module", params=STACKS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """Run an example for the tests of this module."""
    with running(request.param, tmp_path_factory.mktemp("example")) as started:
        yield started


def sale(number: int, total: str = TOTAL) -> bytes:
    """Write what the gateway posts for a sale, with bytes that no JSON library would reproduce."""
    data = f'{{"id":  "sale_{number}", "note": "n\\u00e4in é", "total" : {total}}}'
    return (
        f'{{"specversion":"1.0","id":"evt_{number}","source":"/webhooks/mando","type":"sale.created",'
        f'"time":"2026-01-15T10:00:15Z","datacontenttype":"application/json","provider":"mando",'
        f'"receivedtime":"2026-01-15T10:00:16Z","data":{data}}}'
    ).encode()


async def outcomes(gateway: GatewayProcess, client: aiohttp.ClientSession, result: str) -> float:
    """Return the number of deliveries with this result."""
    async with client.get(f"{gateway.operator_url}/metrics") as answer:
        text = await answer.text()
    (value,) = re.findall(rf'^gatehouse_deliveries_total{{.*result="{result}".*}} (\S+)$', text, re.MULTILINE)
    return float(value)


async def until_delivered(gateway: GatewayProcess, client: aiohttp.ClientSession, count: int) -> None:
    async with asyncio.timeout(20):
        while await outcomes(gateway, client, "delivered") < count:  # noqa: ASYNC110 - metrics are polled
            await asyncio.sleep(0.02)


async def test_an_event_and_its_replay_have_one_effect_with_every_digit(
    example: Example, tmp_path: Path
) -> None:
    """The whole path: signed by the provider, sent through the gateway, and replayed by an operator."""
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(url=example.url))
    # Written by hand, because json.dumps would write the number with fewer digits.
    name = f"sale_{next(_numbers)}"
    data = f'{{"id": "{name}", "total": {TOTAL}}}'
    sent = f'{{"id": "evt_{name}", "type": "sale.created", "data": {data}}}'.encode()

    async with (
        serving(config, SECRET=providers.SECRET, SIGNING=NEW) as gateway,
        aiohttp.ClientSession() as client,
    ):
        url = f"{gateway.url}/webhooks/mando"
        async with client.post(url, data=sent, headers=providers.mando(sent)) as answer:
            assert answer.status == 200
            accepted = await answer.json()
        await until_delivered(gateway, client, 1)
        assert example.totals(name) == [TOTAL]

        replay = f"{gateway.operator_url}/api/v1/events/{accepted['id']}/replay"
        async with client.post(replay, json={"destinations": ["app"]}) as answer:
            assert answer.status < 300, await answer.text()
        await until_delivered(gateway, client, 2)

        assert await outcomes(gateway, client, "dead") == 0
    assert example.totals(name) == [TOTAL]
    assert example.has_received(accepted["id"])


def test_simultaneous_attempts_of_one_event_have_one_effect(example: Example) -> None:
    number = next(_numbers)
    body = sale(number)
    headers = signed(body, f"id_{number}")

    statuses = example.post_at_once(body, headers, 8)

    assert statuses == [204] * 8
    assert example.totals(f"sale_{number}") == [TOTAL]


def test_simultaneous_events_each_have_an_effect(example: Example) -> None:
    numbers = [next(_numbers) for _ in range(4)]

    for number in numbers:
        body = sale(number)
        assert set(example.post_at_once(body, signed(body, f"id_{number}"), 2)) == {204}

    assert [example.totals(f"sale_{number}") for number in numbers] == [[TOTAL]] * 4


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_either_secret_is_accepted_during_a_rotation(example: Example, secret: str) -> None:
    number = next(_numbers)
    body = sale(number)

    assert example.post(body, signed(body, f"id_{number}", secret=secret)) == 204
    assert example.totals(f"sale_{number}") == [TOTAL]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"webhook-signature": "v1,bm90IGEgc2lnbmF0dXJl"}, id="another-signature"),
        pytest.param({"webhook-signature": ""}, id="no-signature"),
        pytest.param({"webhook-signature": "no, structure, at all =="}, id="malformed"),
        pytest.param({"webhook-signature": "v1,%"}, id="not-base64"),
        pytest.param({"webhook-id": "another"}, id="another-id"),
        pytest.param({"webhook-timestamp": str(int(time.time()) - 1)}, id="another-time"),
        pytest.param({"webhook-timestamp": "nan"}, id="no-time"),
    ],
)
def test_a_forged_request_is_refused_and_has_no_effect(example: Example, changes: dict[str, str]) -> None:
    number = next(_numbers)
    body = sale(number)
    headers = signed(body, f"id_{number}") | changes

    assert example.post(body, headers) == 401
    assert example.totals(f"sale_{number}") == []
    assert not example.has_received(headers["webhook-id"])


def test_a_changed_body_is_refused(example: Example) -> None:
    number = next(_numbers)
    body = sale(number)
    changed = json.dumps(json.loads(body)).encode()  # the same values as other bytes

    assert example.post(changed, signed(body, f"id_{number}")) == 401
    assert example.post(b"\xff", signed(body, f"id_{number}")) == 401
    assert example.post(b"", signed(body, f"id_{number}")) == 401
    assert example.totals(f"sale_{number}") == []


@pytest.mark.parametrize("seconds", [-330, 330])
def test_a_timestamp_too_far_from_now_is_refused(example: Example, seconds: int) -> None:
    number = next(_numbers)
    body = sale(number)

    assert example.post(body, signed(body, f"id_{number}", at=time.time() + seconds)) == 401
    assert example.totals(f"sale_{number}") == []


def test_an_event_that_failed_is_handled_at_the_next_attempt(example: Example) -> None:
    """The id and the work are stored in one transaction."""
    number = next(_numbers)
    body = sale(number).replace(b'"total"', b'"missing"')

    assert example.post(body, signed(body, f"id_{number}")) == 500
    assert not example.has_received(f"id_{number}")

    complete = sale(number)
    assert example.post(complete, signed(complete, f"id_{number}")) == 204
    assert example.totals(f"sale_{number}") == [TOTAL]


def test_an_event_of_another_type_is_answered_and_ignored(example: Example) -> None:
    number = next(_numbers)
    body = sale(number).replace(b"sale.created", b"sale.voided")

    assert example.post(body, signed(body, f"id_{number}")) == 204
    assert example.totals(f"sale_{number}") == []


@pytest.mark.parametrize("kind", ["json", "x-www-form-urlencoded", "octet-stream"])
def test_the_content_type_does_not_change_the_bytes_that_are_verified(example: Example, kind: str) -> None:
    number = next(_numbers)
    body = sale(number)

    assert example.post(body, signed(body, f"id_{number}", kind=kind)) == 204
    assert example.totals(f"sale_{number}") == [TOTAL]


def test_the_largest_event_is_accepted_and_a_body_above_the_limit_is_not(example: Example) -> None:
    number = next(_numbers)
    large = sale(number).replace(b'"provider"', b'"filler":"%b","provider"' % (b"x" * 1_500_000))
    too_large = b" " * (2 * 1024 * 1024 + 1)

    assert example.post(large, signed(large, f"id_{number}")) == 204
    assert example.post(too_large, signed(too_large, f"id_{number}_too_large")) == 413
    assert example.totals(f"sale_{number}") == [TOTAL]


@pytest.mark.parametrize("file", STACKS.values())
def test_the_page_shows_the_file(file: str) -> None:
    text = (EXAMPLES / file).read_text()

    assert f"\n{text}```\n" in PAGE, f"copy deploy/examples/{file} into docs/receiving-events.md"


def test_every_folder_of_examples_is_on_the_page_and_run() -> None:
    assert {folder.name for folder in EXAMPLES.iterdir()} == set(STACKS)
    for file in STACKS.values():
        assert f"(../deploy/examples/{file})" in PAGE


def block(language: str) -> str:
    """Return the last block of a language on the page."""
    return str(re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[-1])


def test_the_config_of_the_page_is_valid() -> None:
    config = parse(block("yaml")).config

    assert config.destinations["app"].url == "http://127.0.0.1:8000/events"


def test_the_signed_request_of_the_page_is_accepted_twice_and_handled_once(
    example: Example, tmp_path: Path
) -> None:
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            lacking(f"no {program}")
    (tmp_path / "app.secret").write_text(NEW + "\n")
    script = block("bash").replace(":8000", f":{example.port}")

    for _ in range(2):
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout.startswith("HTTP/1.1 204")
    assert example.totals("sale_1") == ["45.50"]
