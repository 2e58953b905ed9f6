"""The type, subject and account that presets read from documented bodies that are not in the vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict

from gatehouse.events.event import Event
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from presets import source


class Reading(NamedTuple):
    """A documented body, and the expected values of its event."""

    preset: str
    name: str
    body: Any
    expected: Mapping[str, str]


def event(preset: str, body: Any, headers: Mapping[str, str]) -> Event:
    """Read a request as if it were verified, with the body as the signed bytes."""
    raw = json.dumps(body).encode()
    request = Request("POST", "/webhooks/it", "", CIMultiDict(headers), raw, "https://gateway.example", "")
    verified = VerifiedRequest(request, facts={"signed": raw, "timestamp": b"1800000000", "id": b"msg_1"})
    (found,) = source(preset).reader.read(verified, 1_800_000_000, ())
    return found.event


def bitbucket(**body: Any) -> dict[str, Any]:
    repository = {"slug": "repository", "project": {"key": "PROJ"}}
    return {"eventKey": "it", "date": "2017-09-19T09:58:11+1000", "repository": repository} | body


def messaging(**what: Any) -> dict[str, Any]:
    item = {"sender": {"id": "6789"}, "recipient": {"id": "68249"}, "timestamp": 1458668856463, **what}
    return {"object": "page", "entry": [{"id": "68249", "time": 1458668856500, "messaging": [item]}]}


def gocardless(kind: str, action: str, **links: str) -> dict[str, Any]:
    found = {"id": "EV123", "created_at": "2026-07-05T09:13:51.404Z", "resource_type": kind, "action": action}
    return {"events": [found | {"links": links}]}


def linear(kind: str, action: str, **body: Any) -> dict[str, Any]:
    return {"type": kind, "action": action, "organizationId": "org_1", "webhookId": "w", **body}


def hubspot(**body: Any) -> list[dict[str, Any]]:
    return [{"eventId": 1, "subscriptionId": 2, "portalId": 33, "occurredAt": 1462216307945, **body}]


PULL_REQUEST = {"id": 11, "toRef": {"repository": {"slug": "repository", "project": {"key": "PROJ"}}}}
PAGE = "https://bitbucket.example/projects/PROJ/repos/repository/pull-requests/11"
THREADS = {
    "app_id": "123456",
    "topic": "moderate",
    "target_id": "78901",
    "time": 1723226877,
    "subscription_id": "234567",
    "has_uid_field": False,
    "values": {"value": {"id": "8901234", "text": "Reply"}, "field": "replies"},
}
READINGS = [
    Reading(
        "bitbucket",
        "a pull request of Data Center, without a page",
        {
            "eventKey": "pr:opened",
            "date": "2017-09-19T09:58:11+1000",
            "pullRequest": PULL_REQUEST | {"links": {"self": [None]}},
        },
        {"subject": "PROJ/repository/11", "account": "PROJ", "time": "2017-09-18T23:58:11Z"},
    ),
    Reading(
        "bitbucket",
        "a pull request of Data Center",
        {"eventKey": "pr:opened", "pullRequest": PULL_REQUEST | {"links": {"self": [{"href": PAGE}]}}},
        {"subject": PAGE, "account": "PROJ"},
    ),
    Reading(
        "bitbucket", "a push to Data Center", bitbucket(), {"subject": "PROJ/repository", "account": "PROJ"}
    ),
    Reading(
        "bitbucket",
        "a repository of Data Center renamed",
        {
            "eventKey": "repo:modified",
            "old": {"slug": "old"},
            "new": {"slug": "new", "project": {"key": "PROJ"}},
        },
        {"subject": "PROJ/new", "account": "PROJ"},
    ),
    Reading(
        "meta",
        "a reaction is about the message",
        messaging(reaction={"reaction": "love", "action": "react", "mid": "m_1"}),
        {"type": "page.reaction", "subject": "m_1", "account": "68249"},
    ),
    Reading(
        "meta",
        "an edit is about the message",
        messaging(message_edit={"mid": "m_2", "text": "new", "num_edit": "1"}),
        {"type": "page.message_edit", "subject": "m_2"},
    ),
    Reading(
        "meta",
        "a message was read",
        messaging(read={"mid": "m_3"}),
        {"type": "page.read", "subject": "m_3"},
    ),
    Reading(
        "meta",
        "a reply on Threads",
        THREADS,
        {"type": "threads.replies", "subject": "8901234", "account": "78901", "time": "2024-08-09T18:07:57Z"},
    ),
    Reading(
        "hisab",
        "an invoice, as the SDK types it",
        {"event": "invoice.paid", "data": {"invoice": {"id": "inv_1"}}, "organization_id": "org_1"},
        {"subject": "inv_1", "account": "org_1"},
    ),
    Reading(
        "hisab",
        "a customer, as the SDK types it",
        {"event": "customer.created", "data": {"customer": {"id": "cus_1"}}, "organization_id": "org_1"},
        {"subject": "cus_1"},
    ),
    Reading(
        "hubspot",
        "an object of any type",
        hubspot(subscriptionType="object.creation", objectTypeId="0-48", objectId=1246965),
        {"type": "object.creation", "subject": "0-48/1246965", "account": "33"},
    ),
    Reading(
        "hubspot",
        "an association of any types",
        hubspot(
            subscriptionType="object.associationChange", fromObjectTypeId="0-1", fromObjectId=5, toObjectId=6
        ),
        {"subject": "0-1/5"},
    ),
    Reading(
        "gocardless",
        "a payment created by a subscription",
        gocardless("subscriptions", "payment_created", payment="PM1", subscription="SB1"),
        {"type": "subscriptions.payment_created", "subject": "SB1"},
    ),
    Reading(
        "gocardless",
        "a refund of a payment",
        gocardless("refunds", "created", refund="RF1", payment="PM1"),
        {"subject": "RF1"},
    ),
    Reading(
        "gocardless",
        "an outbound payment",
        gocardless("outbound_payments", "executed", outbound_payment="OUT1", creditor="CR1"),
        {"subject": "OUT1"},
    ),
    Reading(
        "gocardless", "a customer", gocardless("customers", "updated", customer="CU1"), {"subject": "CU1"}
    ),
    Reading(
        "docusign",
        "a template",
        {
            "event": "template-created",
            "generatedDateTime": "2026-06-05T14:00:00Z",
            "data": {"templateId": "t"},
        },
        {"subject": "t", "id": "template-created/t/2026-06-05T14:00:00Z"},
    ),
    Reading(
        "docusign",
        "an agreement of Click",
        {
            "event": "click-agreed",
            "uri": "/clickapi/v1/1",
            "generatedDateTime": "2026-06-05T14:00:00Z",
            "data": {},
        },
        {"subject": "/clickapi/v1/1", "id": "click-agreed//clickapi/v1/1/2026-06-05T14:00:00Z"},
    ),
    Reading(
        "getpeppr",
        "an inbound credit note",
        {"id": "evt_1", "type": "inbound.creditnote.received", "data": {"receivedDocumentId": "rd_1"}},
        {"type": "inbound.creditnote.received", "subject": "rd_1"},
    ),
    Reading(
        "linear",
        "a service level at risk",
        linear("IssueSLA", "highRisk", issueData={"id": "i", "identifier": "ENG-1"}),
        {"type": "IssueSLA.highRisk", "subject": "ENG-1", "account": "org_1"},
    ),
    Reading(
        "linear",
        "a notification of an agent",
        linear(
            "AppUserNotification", "issueMention", notification={"id": "n", "issue": {"identifier": "ENG-2"}}
        ),
        {"type": "AppUserNotification.issueMention", "subject": "ENG-2"},
    ),
    Reading(
        "linear",
        "a session of an agent",
        linear("AgentSessionEvent", "created", agentSession={"id": "s"}),
        {"type": "AgentSessionEvent.created", "subject": "s"},
    ),
    Reading(
        "linear",
        "an application was revoked",
        linear("OAuthApp", "revoked", oauthClientId="client"),
        {"type": "OAuthApp.revoked", "subject": "client"},
    ),
    Reading(
        "buildkite",
        "a job that promised to fail",
        {
            "event": "job.promised_exit_status",
            "job": {"id": "j", "promised_exit_status_at": "2026-06-03T04:15:41Z"},
        },
        {"type": "job.promised_exit_status", "subject": "j"},
    ),
]


@pytest.mark.parametrize("reading", READINGS, ids=[f"{one.preset}: {one.name}" for one in READINGS])
def test_type_subject_and_account_are_read_from_a_documented_body(reading: Reading) -> None:
    kinds = {"X-Event-Key": "it"} if reading.preset == "bitbucket" else {}
    found = event(reading.preset, reading.body, kinds)
    said = {"id": found.external_id, "type": found.type, "time": found.time}
    said |= {"subject": found.subject or "", "account": found.account or ""}

    assert said | dict(reading.expected) == said
