"""Lists and searches over the operator API and its commands, against a running gateway."""

from __future__ import annotations

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from operating import PENDING, Operator, make_dead_letters


async def test_events_are_found_by_their_fields(operator: Operator, destination: ScriptedDestination) -> None:
    first, second = await make_dead_letters(operator, destination, 2)
    third = await operator.send(3, note="INV-é-3\n")
    await operator.until(PENDING, 0)

    async def found(*options: str) -> list[str]:
        listed = await operator.run("events", *options)
        assert listed.exit_code == 0, listed.output
        return [line.split()[0] for line in listed.stdout.splitlines()[1:]]

    shown = await operator.run("events", "evt_1")
    assert shown.stdout.startswith(f"id           {second}\n")
    assert await found("--external-id", "evt_3") == [third]
    assert await found("--contains", "evt_") == [third, second, first]
    assert await found("--contains", '"evt_0"', "--source", "mando", "--since", "1h") == [first]
    assert await found("--reason", "gone", "--destination", "app") == [second, first]
    assert await found("--http-status", "410", "--limit", "1") == [second, "more:"]
    assert await found("--reason", "ok") == [third]
    assert await found("--reason", "timeout") == []
    missing = await operator.run("events", "evt_9")
    assert (missing.exit_code, missing.stdout) == (1, "")
    dead = await operator.run("dead", "--reason", "gone", "--http-status", "410")
    assert dead.stdout.count("gone 410") == 2
    retried = await operator.run("retry", "--reason", "gone", "--dry-run")
    assert retried.stdout == "app  2 would be retried\n"
    assert (
        await operator.run("retry", "--http-status", "503", "--dry-run")
    ).stdout == "no dead letters match\n"


@pytest.mark.parametrize(
    "query",
    [
        *("limit=1000000000", "limit=0", "limit=-1", "limit=1;DROP TABLE events", "offset=-5", "sort=id"),
        *("cursor=made-up", "cursor=%27%20OR%201=1", "cursor=WzEsImEiXQ", "cursor=W10", "status=%25"),
        *("source=a&source=b", "since=soon", "type=", "source=a%00b"),
    ],
)
@pytest.mark.case("S-53")
async def test_lists_refuse_invalid_filters(operator: Operator, query: str) -> None:
    await operator.send(1)
    for kind in ("events", "deliveries"):
        code, answer = await operator.get(f"/api/v1/{kind}?{query}")
        assert (code, answer["error"]["code"]) == (400, "bad_request"), kind


@pytest.mark.case("S-53")
async def test_metacharacters_in_filters_are_text(operator: Operator) -> None:
    await operator.send(1)
    await operator.send(2, type="sale[x]?")
    for kind in ("events", "deliveries"):
        for given in ("type=%25", "type=sale.create?", "type=[a-z]*", "type=%27%20OR%20%271", "source=*"):
            code, answer = await operator.get(f"/api/v1/{kind}?{given.replace('?', '%3F')}")
            assert (code, answer[kind]) == (200, []), given
        code, answer = await operator.get(f"/api/v1/{kind}?type=sale[x]%3F*")
        assert [row["type"] for row in answer[kind]] == ["sale[x]?"]
        code, answer = await operator.get(f"/api/v1/{kind}?type={'*a' * 500}")
        assert (code, answer[kind]) == (200, [])


async def test_lists_continue_at_the_cursor(operator: Operator) -> None:
    ids = [await operator.send(number) for number in range(5)]
    seen, path = [], "/api/v1/events?limit=2"
    for _ in range(3):
        _, answer = await operator.get(path)
        seen += [row["id"] for row in answer["events"]]
        path = f"/api/v1/events?limit=2&cursor={answer['cursor']}"

    assert seen == ids[::-1]
    assert answer["cursor"] is None


async def test_an_event_with_bytes_that_are_not_utf_8_is_shown(
    operator: Operator,
) -> None:
    body = b'{"id": "evt_9", "type": "sale.created", "data": {}, "n": "\xc3\xa9"}'
    headers = providers.mando(body) | {"X-Note": "caf\udce9"}
    _, answer = await operator.running.send("mando", body, headers)
    shown = await operator.run("events", answer["id"])

    assert shown.exit_code == 0, shown.output
    assert '"n": "é"' in shown.stdout
