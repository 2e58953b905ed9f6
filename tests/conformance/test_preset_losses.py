"""Pairs of similar genuine events. If they shared a dedupe key, the second one would be lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse.events.event import ReadEvent
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from presets import source

GITHUB_DISPATCH = {
    "inputs": {"environment": "staging"},
    "ref": "refs/heads/main",
    "repository": {"full_name": "octo-org/octo-repo", "pushed_at": "2026-05-04T09:12:31Z"},
    "sender": {"login": "octocat", "id": 1},
    "workflow": ".github/workflows/deploy.yml",
}
GITHUB_MEMBERSHIP = {
    "action": "added",
    "scope": "team",
    "member": {"login": "octocat", "id": 1},
    "team": {"name": "deployers", "id": 7},
    "organization": {"login": "octo-org", "id": 6811672},
}
BITBUCKET_PUSH = {
    "push": {"changes": [{"new": {"name": "staging", "target": {"hash": "da15608"}}}]},
    "repository": {"full_name": "team_name/repo_name"},
}

WOOCOMMERCE_ACTION = {"action": "woocommerce_add_to_cart", "arg": "6f4922f45568161a8cdf4ad2299f6d23"}


def read(preset: str, body: object, headers: dict[str, str]) -> list[ReadEvent]:
    """Read a request as if it were verified, with the body as the signed bytes."""
    raw = json.dumps(body).encode()
    request = Request("POST", "/webhooks/it", "", CIMultiDict(headers), raw, "https://gateway.example", "")
    verified = VerifiedRequest(request, facts={"signed": raw})
    return source(preset).reader.read(verified, 1_800_000_000, ())


def keys(preset: str, body: object, headers: dict[str, str]) -> set[bytes]:
    return {key.scoped for _, found, _ in read(preset, body, headers) for key in found if key}


@pytest.mark.parametrize(
    ("preset", "event", "delivery", "body"),
    [
        ("github", "X-GitHub-Event", "X-GitHub-Delivery", GITHUB_DISPATCH),
        ("github", "X-GitHub-Event", "X-GitHub-Delivery", GITHUB_MEMBERSHIP),
        ("bitbucket", "X-Event-Key", "X-Request-UUID", BITBUCKET_PUSH),
        ("woocommerce", "X-WC-Webhook-Topic", "X-WC-Webhook-Delivery-ID", WOOCOMMERCE_ACTION),
    ],
    ids=[
        "workflow dispatched twice",
        "member added twice",
        "branch moved back and forth",
        "same in cart twice",
    ],
)
def test_equal_bodies_without_a_time_are_distinguished_by_their_delivery_id(
    preset: str, event: str, delivery: str, body: object
) -> None:
    first = keys(preset, body, {event: "it", delivery: "72d3162e-cc78-11e3-81ab-4c9367dc0958"})
    second = keys(preset, body, {event: "it", delivery: "0b989ba4-242f-11e5-81e1-c7b6966d2516"})

    assert first
    assert not first & second


def mailgun(timestamp: float) -> dict[str, Any]:
    token = f"{timestamp:.0f}"
    event = {"id": "CPgfbmQMTCKtHW6uIWtuVe", "event": "opened", "timestamp": timestamp}
    return {"signature": {"token": token, "timestamp": token}, "event-data": event}


def test_a_mailgun_event_id_is_unique_only_within_a_day() -> None:
    assert not keys("mailgun", mailgun(1521472262.9), {}) & keys("mailgun", mailgun(1521558662.9), {})


def test_whatsapp_statuses_of_two_members_of_a_group_are_two_events() -> None:
    status = {"id": "wamid.A1", "status": "delivered", "timestamp": "1749416400", "recipient_id": "120363"}
    statuses = [status | {"recipient_participant_id": who} for who in ("16505551234", "16505555678")]
    body = {"entry": [{"id": "1", "changes": [{"field": "messages", "value": {"statuses": statuses}}]}]}

    assert len(keys("whatsapp", body, {})) == len(statuses)


def test_the_data_of_a_graph_element_does_not_contain_its_secret() -> None:
    element = {
        "id": "lsgTZMr9KwAAA",
        "subscriptionId": "7f105c7d",
        "clientState": "graph-client-state-0123456789",
        "changeType": "created",
        "resource": "Users/48d31887/Messages/AAMk",
    }
    change = element | {"resourceData": {"id": "AAMk"}}
    rich = change | {"encryptedContent": {"data": "AAAA", "dataKey": "BBBB"}}
    lifecycle = {name: element[name] for name in ("subscriptionId", "clientState")}
    body = {"value": [change, rich, lifecycle | {"lifecycleEvent": "reauthorizationRequired"}]}

    events = [event for event, _, _ in read("ms-graph", body, {})]

    assert [json.loads(event.data or b"") for event in events] == [
        {"id": "AAMk"},
        {"data": "AAAA", "dataKey": "BBBB"},
        "7f105c7d",
    ]
    assert [event.subject for event in events] == [element["resource"], element["resource"], "7f105c7d"]


def test_two_changes_of_a_drive_with_equal_bytes_share_no_key() -> None:
    element = {
        "subscriptionId": "7f105c7d",
        "clientState": "graph-client-state-0123456789",
        "changeType": "updated",
        "resource": "me/drive/root",
        "resourceData": {"@odata.type": "#Microsoft.Graph.DriveItem"},
    }

    assert not keys("ms-graph", {"value": [element]}, {})


def test_a_whatsapp_message_contains_its_sender() -> None:
    contact = {"profile": {"name": "Sheena Nelson"}, "wa_id": "16505551234"}
    messages = [{"from": "16505551234", "id": f"wamid.A{n}", "type": "text"} for n in (1, 2)]
    value = {"metadata": {"phone_number_id": "1065"}, "contacts": [contact], "messages": messages}
    template = {"field": "message_template_status_update", "value": {"event": "APPROVED"}}
    body = {"entry": [{"id": "1", "changes": [{"field": "messages", "value": value}, template]}]}

    events = [event for event, _, _ in read("whatsapp", body, {})]

    assert [event.subject for event in events] == ["wamid.A1", "wamid.A2", None]
    assert [json.loads(event.data or b"") for event in events] == [value, value, template]
