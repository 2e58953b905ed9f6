"""The screens of sources: what to register, what was verified and refused, and samples."""

from __future__ import annotations

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway, Running
from operators import ask
from pages import counted_since, look, submit

MANDO = "/sources/mando"
CONFIGURED = CONFIG.replace(
    "destinations:\n",
    "  asana: {{provider: asana, secrets: [env:SECRET]}}\n"
    "  closed: {{provider: mando, secrets: [env:ABSENT]}}\n"
    "destinations:\n",
)


async def test_a_source_shows_what_to_register_what_was_verified_and_what_was_refused(
    running: Running,
) -> None:
    body = providers.body(id="evt_1", type="sale.created")
    assert (await running.send("mando", body, providers.mando(body)))[0] == 200
    assert (await running.send("mando", body, {"X-Mando-Signature": "sha256=" + "0" * 64}))[0] == 401
    listed, page = await look(running, "/sources"), await look(running, MANDO)
    assert MANDO in (await look(running, "/sources?state=ready,+last+request+refused")).links
    assert "No source matches" in (await look(running, "/sources?name=mango")).words

    assert "mando ready, last request refused now" in listed.words
    assert "https://hooks.example.com/webhooks/mando Copy Provider mando" in page.words
    assert "HMAC-SHA256 of {body} in X-Mando-Signature" in page.words
    assert "Answer deadline of the provider 5 s Retry horizon of the provider 2 h 36 min" in page.words
    assert "env:SECRET 1 now" in page.words
    assert "Refused in the last hour 1" in page.words
    assert "wrong_signature 401" in page.words
    assert "sale.created evt_1" in page.words
    assert "accepted 1" in page.words
    assert "Destination Types Line in the config app *" in page.words
    _, kept = await ask(running, "GET", "/api/v1/rejected", {})
    since = await counted_since(running)
    assert page.links >= {
        f"/refused/{kept['rejected'][0]['id']}",
        "/refused?source=mando",
        f"/events?source=mando&{since}",
        "/destinations/app",
    }
    assert (await look(running, "/sources/mand")).status == 404


async def test_a_sample_becomes_an_event_of_the_source(
    running: Running, destination: ScriptedDestination
) -> None:
    sent = await submit(running, MANDO, f"{MANDO}/sample", type="refund.created")
    (received,) = await destination.wait_for(1)
    _, stored = await ask(running, "GET", "/api/v1/events", {})

    (event,) = stored["events"]
    assert (sent.status, event["source"], event["type"]) == (200, "mando", "refund.created")
    assert "Sample accepted with HTTP status 200. Type refund.created." in sent.words
    assert f"/events/{event['id']}" in sent.links
    assert received.event_id == event["id"]
    reloaded = await look(running, f"{MANDO}/sample")
    assert (reloaded.status, reloaded.location) == (303, MANDO)


async def test_a_source_that_is_not_ready_says_why_and_sends_no_sample(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIGURED.format(url=destination.url)) as running:
        page = await look(running, "/sources/closed")
        sent = await submit(running, "/sources/closed", "/sources/closed/sample")
        async with running.client.post(
            f"{running.url}/webhooks/asana", headers={"X-Hook-Secret": "a1b2" * 8}
        ) as answer:
            assert answer.status == 200
        shown = await look(running, "/sources/asana")

    assert page.words.startswith(
        "Sources Source closed not ready Send a sample Not ready"
        " Source closed answers 503: env:ABSENT is not set. Set the variable, then restart the gateway."
    )
    assert sent.status == 409
    assert "env:ABSENT" in sent.words.partition("Not ready")[0]
    assert "Anyone can send a handshake." in shown.words
    assert "X-Hook-Secret" in shown.words
    assert "a1b2" * 8 in shown.words
    assert "Anyone can send a handshake." not in page.words
