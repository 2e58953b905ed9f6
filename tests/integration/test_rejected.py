"""Rejected requests can be listed over real sockets, without their secrets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from multidict import CIMultiDict

from doubles import providers
from doubles.destination import ScriptedDestination
from gatehouse.cli import main
from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import VerificationError
from gatehouse.ingest.rejected import (
    MAX_BODY,
    MAX_BYTES,
    MAX_REQUESTS,
    RejectedRequests,
)
from gatehouse.language.request import Request
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"
BODY = providers.body(id="evt_1", type="invoice.accepted", text="unmistakable")
WRONG = "another-secret-of-some-length"


async def api(running: Running, path: str, **headers: str) -> tuple[int, Any]:
    url = f"{running.operator_url}/api/v1/{path}"
    async with running.client.get(url, headers=headers) as answer:
        assert answer.content_type == "application/json"
        return answer.status, json.loads(await answer.text())


async def rejected(running: Running, query: str = "") -> list[dict[str, Any]]:
    status, answer = await api(running, f"rejected{query}")
    assert status == 200
    found: list[dict[str, Any]] = answer["rejected"]
    return found


@pytest.mark.case("S-48")
async def test_a_rejected_request_is_listed_with_its_reason_and_without_secrets(running: Running) -> None:
    headers = providers.mandato(BODY, secret=WRONG) | {"Authorization": "Bearer hush-hush-hush-hush"}
    await running.send("mandato", BODY, headers)

    (record,) = await rejected(running)

    assert record["outcome"] == "unauthorized"
    assert (record["source"], record["reason"], record["status"]) == ("mandato", "wrong_signature", 401)
    assert (record["method"], record["path"], record["client"]) == ("POST", "/webhooks/mandato", "127.0.0.1")
    assert record["body"] == {"length": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()[:16]}
    assert record["findings"][0].startswith("The signature does not match the secret `env:SECRET`.")
    assert [one["text"] for one in record["explained"]] == record["findings"]
    assert (record["explained"][0]["change"], record["explained"][0]["certain"]) == (
        *("sources.mandato.secrets: env:SECRET", False),
    )
    seen = dict(record["headers"])
    assert seen["Content-Type"] == "application/json"
    assert seen["X-Mandato-Delivery-Id"] == "dlv_1"
    assert re.fullmatch(r"[0-9a-f]{4}… \(64 characters\)", seen["X-Mandato-Signature"])
    assert seen["Authorization"] == "Bear… (26 characters)"
    for text in (headers["X-Mandato-Signature"], "hush-hush", "unmistakable", WRONG, providers.SECRET):
        assert text not in json.dumps(record)


async def test_the_newest_come_first_and_can_be_filtered_by_source(running: Running) -> None:
    for name in ("mandato", "mando", "mandato"):
        await running.send(name, BODY, {})

    every = await rejected(running)

    assert [record["source"] for record in every] == ["mandato", "mando", "mandato"]
    assert [record["id"] for record in await rejected(running, "?source=mando")] == [every[1]["id"]]
    assert await rejected(running, "?limit=1") == every[:1]
    assert await api(running, f"rejected/{every[2]['id']}") == (200, every[2])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("rejected/01JD", 404),
        ("rejected?source=nobody", 400),
        ("rejected?limit=0", 400),
        ("rejected?limit=x", 400),
        (f"rejected?limit={'9' * 5000}", 400),
        ("nothing", 404),
    ],
)
@pytest.mark.case("S-53")
async def test_an_invalid_query_is_a_json_error(running: Running, path: str, status: int) -> None:
    answer = await api(running, path)

    assert answer[0] == status
    assert set(answer[1]["error"]) == {"code", "message"}


@pytest.mark.case("S-48")
async def test_refusals_before_verification_are_kept_with_their_outcome(running: Running) -> None:
    url = f"{running.url}/webhooks/mandato?token=hush&bare"
    async with running.client.put(url, data=BODY):
        pass
    await running.send("mandato", BODY, {"Content-Encoding": "gzip"})
    await running.send("mandato", b"x" * (1024 * 1024 + 1), {})
    await running.send("nowhere", BODY, {})

    too_large, encoding, method = await rejected(running)

    assert (too_large["outcome"], too_large["status"]) == ("too_large", 413)
    assert too_large["body"] == {"length": 1024 * 1024 + 1, "sha256": None}
    assert encoding["findings"] == ["Send the body without Content-Encoding."]
    assert (method["outcome"], method["method"], method["query"]) == (
        "method_not_allowed",
        "PUT",
        ["token", "…"],
    )
    assert "hush" not in json.dumps(method)


async def test_a_fault_of_the_gateway_is_not_kept_as_a_rejected_request(run_gateway: RunGateway) -> None:
    config = "operator: {listen: '127.0.0.1:0'}\nserver: {listen: '127.0.0.1:0'}\n"
    async with run_gateway(config + "sources: {a: {provider: mando, secrets: env:UNSET}}") as running:
        assert (await running.send("a", BODY, {}))[0] == 503
        assert await rejected(running) == []
        (source,) = (await api(running, "sources"))[1]["sources"]
        assert (source["ready"], source["not_ready"]) == (False, "env:UNSET is not set")


async def test_the_sources_are_listed_with_their_verification(running: Running) -> None:
    status, answer = await api(running, "sources")

    assert status == 200
    assert answer["sources"][0] == {
        "name": "mandato",
        "path": "/webhooks/mandato",
        "provider": "mandato",
        "docs": "https://docs.getmandato.dev/guides/webhooks-guide",
        "register": "https://hooks.example.com/webhooks/mandato",
        "methods": ["POST"],
        "answer_within": 30.0,
        "retried_for": 14.6 * 3600,
        "ready": True,
        "not_ready": None,
        "verified_by": "HMAC-SHA256 of {body} in X-Mandato-Signature",
        "last_accepted": None,
        "unrouted": 0,
        "refused_last_hour": 0,
        "last_refused": None,
        "secrets": [{"position": 1, "name": "env:SECRET", "matched": 0, "last_used": None}],
    }


async def test_facts_of_a_provider_that_nobody_knows_are_null(run_gateway: RunGateway) -> None:
    config = """
        server: {listen: "127.0.0.1:0"}
        operator: {listen: "127.0.0.1:0"}
        sources:
          own: {verify: {type: none, insecure: true}, event: {type: x}, path: /in/own}
          meta: {provider: meta, secrets: env:SECRET, handshake_secrets: env:SECRET, answer_deadline: 7s}
    """
    async with run_gateway(config) as running:
        own, meta = (await api(running, "sources"))[1]["sources"]
        (_, status), listed = await api(running, "status"), (own, meta)

    assert (own["register"], own["answer_within"], own["retried_for"]) == ("/in/own", None, None)
    assert (meta["methods"], meta["answer_within"]) == (["POST", "GET"], 7.0)
    assert [(one["register"], one["methods"]) for one in status["sources"]] == [
        (one["register"], one["methods"]) for one in listed
    ]


async def test_secrets_from_handshakes_are_listed(running: Running) -> None:
    assert await api(running, "handshakes") == (200, {"handshakes": []})
    running.gateway.handshake_secrets.add("asana", "hello", "shown", received=0.0, client="203.0.113.7")

    _, answer = await api(running, "handshakes")

    assert answer["handshakes"][0]["secret"] == "shown"


@pytest.mark.parametrize("path", ["rejected", "rejected/01JD", "sources", "status", "handshakes"])
async def test_the_api_requires_the_operator_token(
    run_gateway: RunGateway, destination: ScriptedDestination, path: str
) -> None:
    config = CONFIG.replace('operator: {{listen: "127.0.0.1:0"}}', f"operator: {OPERATOR}")
    async with run_gateway(config.format(url=destination.url), T=TOKEN) as running:
        assert (await api(running, path))[0] == 401
        assert (await api(running, path, Authorization=f"Bearer {TOKEN}x"))[0] == 401
        assert (await api(running, path, Authorization=f"Bearer {TOKEN}"))[0] in (200, 404)


OPERATOR = '{{listen: "127.0.0.1:0", token: env:T}}'


async def test_verify_explains_a_request_that_a_running_gateway_refused(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path, logged: StringIO
) -> None:
    config = CONFIG.replace('operator: {{listen: "127.0.0.1:0"}}', f"operator: {OPERATOR}")
    text = config.format(url=destination.url)
    (tmp_path / "gateway.yaml").write_text(text)
    headers = providers.mandato(BODY)
    async with run_gateway(text, T=TOKEN) as running:
        await running.send("mandato", BODY + b"\n", headers)
        await asyncio.sleep(0)  # the log is written one iteration later
        line = next(line for line in logged.getvalue().splitlines() if "request.rejected" in line)
        rejected_id = json.loads(line)["rejected_id"]

        def verify(*options: str, token: str = TOKEN) -> Result:
            arguments = ["verify", "--rejected", rejected_id, "--operator", running.operator_url, *options]
            arguments += ["-c", str(tmp_path / "gateway.yaml")]
            return CliRunner(env={"T": token}).invoke(main, arguments)

        shown = await asyncio.to_thread(verify)
        as_json = await asyncio.to_thread(verify, "--json")
        locked_out = await asyncio.to_thread(lambda: verify(token=TOKEN + "x"))

    assert shown.exit_code == 1
    assert shown.stdout.startswith(
        "Refused: wrong_signature\n"
        " - The signature matches if the newline at the end of the body is removed. A tool added the "
        "newline, usually an editor. Send and save bodies byte for byte.\n"
        f"Request {rejected_id} to the source mandato\n"
    )
    assert f"  body     {len(BODY) + 1} bytes, SHA-256 " in shown.stdout
    assert json.loads(as_json.stdout)["id"] == rejected_id
    assert "answered 401" in locked_out.stderr
    assert "\nTry: " in locked_out.stderr
    for output in (shown.output, as_json.output, logged.getvalue()):
        for text in (headers["X-Mandato-Signature"], "unmistakable", providers.SECRET, TOKEN):
            assert text not in output


async def test_a_request_with_a_body_too_long_to_keep_is_diagnosed_by_its_head(running: Running) -> None:
    body = providers.body(text="x" * MAX_BODY)
    await running.send("mandato", body, {"X-Hub-Signature-256": "sha256=00"})

    (record,) = await rejected(running)

    assert record["body"] == {"length": len(body), "sha256": None}
    assert record["findings"][0] == "The header X-Mandato-Signature is missing."
    assert record["findings"][-1].startswith("The body was too long to keep")


def memory(*names: str) -> RejectedRequests:
    settings = {
        "verify": ({"type": "hmac", "signature": {"header": "X-Sig"}},),
        "event": {"type": "x"},
        "secrets": "env:S",
    }
    sources = {name: SourceConfig.model_validate(settings) for name in names}
    known = known_sources(sources, Secrets(Path(), {"S": providers.SECRET}), 1024 * 1024)
    return RejectedRequests(known, lambda: 1_750_000_000.0)


def refuse(
    memory: RejectedRequests, source: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> str:
    request = Request("POST", f"/webhooks/{source}", "", CIMultiDict(headers or {}), body)
    error = VerificationError("missing_signature")
    return memory.add(source, request, error, status=401, body_length=len(body), client="203.0.113.7")


def test_a_flood_is_kept_within_limits_and_does_not_affect_other_sources() -> None:
    kept = memory("a", "b", "c", "d", "e", "quiet")
    first = refuse(kept, "quiet", b"quiet")

    for _ in range(100):
        for name in "abcde":
            refuse(kept, name, b"x" * MAX_BODY, {"User-Agent": "y" * 4000})

    assert len(kept.newest()) == 5 * MAX_REQUESTS + 1
    assert kept.weight <= MAX_BYTES
    assert kept.weight == sum(one.weight for one in kept.newest())
    quiet = kept.find(first)
    assert quiet is not None
    assert quiet.request is not None


def test_a_flood_costs_no_diagnosis() -> None:
    kept = memory("a")
    for _ in range(1000):
        refuse(kept, "a", b"{}")

    assert all(one.explained is None for one in kept.newest())


def test_a_dropped_request_is_still_listed_as_dropped() -> None:
    kept = memory("a", "b", "c", "d")
    ids = [refuse(kept, name, b"x" * MAX_BODY) for _ in range(MAX_REQUESTS) for name in "abcd"]

    oldest = kept.find(ids[0])

    assert oldest is not None
    assert oldest.request is None
    assert tuple(one.text for one in kept.explain(oldest)) == (
        "Gatehouse did not keep this request: it was too large, or newer requests replaced it.",
    )


def test_a_head_that_is_too_long_is_not_kept() -> None:
    kept = memory("a")

    refuse(kept, "a", b"{}", {f"X-{n}": "y" * 1000 for n in range(20)})

    assert kept.newest()[0].request is None
    assert kept.weight == 0
