"""Two similar events are two events, even if their bodies are equal. A retry is a duplicate."""

from __future__ import annotations

import pytest

from repeats import DAY, HOUR, NOW, Repeat, assert_two_events, changed, delivery

GITHUB_CHECK = {
    "action": "requested_action",
    "check_run": {"id": 128620228, "head_sha": "ec26c3e57ca3", "status": "completed"},
    "requested_action": {"identifier": "fix"},
    "repository": {"full_name": "octo-org/octo-repo"},
}
GITHUB_ISSUE = {
    "action": "closed",
    "issue": {
        "id": 73464126,
        "html_url": "https://github.com/o/r/issues/2",
        "updated_at": "2026-05-04T09:12:31Z",
    },
}
GITHUB_RELEASE = {
    "action": "edited",
    "changes": {"body": {"from": "Old words"}},
    "release": {
        "id": 1,
        "html_url": "https://github.com/o/r/releases/1",
        "created_at": "2026-05-04T09:12:31Z",
    },
}
GITHUB_ALERT = {
    "action": "reopened_by_user",
    "alert": {"number": 10, "state": "open", "created_at": "2026-05-04T09:12:31Z", "dismissed_at": None},
    "commit_oid": "d6e4c75c141dbacecc279b721b8b9393d5405795",
}
GITHUB_PING = {
    "zen": "Keep it logically awesome.",
    "hook_id": 1,
    "hook": {"updated_at": "2026-05-04T09:12:31Z"},
}
BITBUCKET_PUSH = {
    "push": {"changes": [{"new": {"name": "staging", "target": {"hash": "da15608"}}}]},
    "repository": {"full_name": "team_name/repo_name"},
}
GITLAB_PUSH = {"object_kind": "push", "ref": "refs/heads/main", "after": "da156088", "project": {"id": 15}}
BUILDKITE_BLOCKED = {
    "event": "cluster_token.registration_blocked",
    "blocked_ip": "203.0.113.7",
    "cluster_token": {"uuid": "c2110af8", "description": "Default agent token"},
    "sender": {"id": "8a7693f8", "name": "Some Person"},
}
BUILDKITE_RUNNING = {
    "event": "build.running",
    "build": {
        "id": "f62a1b4d",
        "state": "running",
        "started_at": "2026-05-09T21:05:59.874Z",
        "finished_at": None,
    },
}
BUILDKITE_FINISHED = {
    "event": "build.finished",
    "build": {"id": "f62a1b4d", "state": "passed", "finished_at": "2026-05-09T21:07:59.874Z"},
}
ADYEN_REPORT = {
    "notificationItems": [
        {
            "NotificationRequestItem": {
                "additionalData": {"hmacSignature": ""},
                "amount": {"currency": "EUR", "value": 0},
                "eventCode": "REPORT_AVAILABLE",
                "eventDate": "2026-05-06T17:15:34.121+02:00",
                "merchantAccountCode": "Shop1",
                "merchantReference": "",
                "pspReference": "settlement_detail_report_batch_1.csv",
                "success": "true",
            }
        }
    ]
}
LINEAR_UPDATE = {
    "action": "update",
    "type": "Issue",
    "createdAt": "2026-01-23T12:53:18.084Z",
    "data": {"id": "2174add1", "identifier": "ENG-1"},
    "webhookTimestamp": NOW * 1000,
    "webhookId": "000042e3",
}
LEMON = {
    "meta": {"event_name": "subscription_updated"},
    "data": {"type": "subscriptions", "id": "1", "attributes": {"updated_at": "2026-01-17T12:43:24.000000Z"}},
}
HUBSPOT = [
    {
        "eventId": 3816279340,
        "subscriptionId": 25,
        "portalId": 33,
        "occurredAt": 1462216307945,
        "subscriptionType": "object.propertyChange",
        "objectTypeId": "0-1",
        "attemptNumber": 0,
        "objectId": 1246965,
        "propertyName": "lifecyclestage",
        "propertyValue": "lead",
    }
]
META_REACTION = {
    "object": "page",
    "entry": [
        {
            "id": "682498302938465",
            "time": 1518479195594,
            "messaging": [
                {
                    "sender": {"id": "6789"},
                    "recipient": {"id": "682498302938465"},
                    "timestamp": 1518479195308,
                    "reaction": {"reaction": "love", "action": "react", "mid": "m_1"},
                }
            ],
        }
    ],
}
MAILGUN = {
    "signature": {"timestamp": str(NOW), "token": "", "signature": ""},
    "event-data": {"id": "Ase7i2zsRYeDXztHGENqRA", "event": "opened", "timestamp": 1521243339.873676},
}
MANDRILL = {"event": "open", "_id": "exampleaaa", "ts": NOW - 5, "ip": "203.0.113.1", "user_agent": "Mail"}
TEAMS = {"type": "message", "id": "1780668000123", "conversation": {"id": "19:one@thread.tacv2"}}
FIGMA = {
    "event_type": "FILE_UPDATE",
    "file_key": "CL06nJNn5eZLQKDoARMND5",
    "passcode": "s3cr3t-of-at-least-16-bytes",
    "timestamp": "2026-02-23T20:27:16Z",
    "webhook_id": "22",
}
ASANA = {
    "events": [
        {
            "user": {"gid": "1123"},
            "created_at": "2027-01-15T07:50:37.972Z",
            "action": "changed",
            "resource": {"gid": "1337", "resource_type": "task"},
            "change": {"field": "due_on", "action": "changed"},
        }
    ]
}
JIRA = {"timestamp": NOW * 1000 - 5000, "webhookEvent": "jira:issue_updated", "issue": {"key": "TP-1"}}
CALENDLY = {
    "event": "invitee.created",
    "created_at": "2026-06-05T14:00:00.000000Z",
    "payload": {"uri": "https://api.calendly.com/scheduled_events/1/invitees/2"},
}
DOCUSIGN = {
    "event": "template-modified",
    "retryCount": 0,
    "generatedDateTime": "2027-01-15T07:59:00.5730000Z",
    "data": {"accountId": "1", "templateId": "55555555"},
}


MERCADO_PAGO = {
    "action": "order.processed",
    "api_version": "v1",
    "application_id": "76506430185983",
    "data": {"id": "ORD01JQ4S4KY8HWQ6NA5PXB65B3D3", "status": "processed", "version": 2},
    "date_created": "2025-04-02T03:20:06Z",
    "type": "order",
    "user_id": "724484980",
}
REPEATS = [
    Repeat(
        "github",
        "an action of a check run clicked twice",
        GITHUB_CHECK,
        None,
        *delivery("X-GitHub-Delivery", "X-GitHub-Event", "check_run"),
        retry=3 * DAY,
    ),
    Repeat(
        "github",
        "a release edited back and forth",
        GITHUB_RELEASE,
        None,
        *delivery("X-GitHub-Delivery", "X-GitHub-Event", "release"),
        retry=3 * DAY,
    ),
    Repeat(
        "github",
        "an alert reopened twice",
        GITHUB_ALERT,
        None,
        *delivery("X-GitHub-Delivery", "X-GitHub-Event", "code_scanning_alert"),
        retry=3 * DAY,
    ),
    Repeat(
        "github",
        "two pings with one proverb",
        GITHUB_PING,
        None,
        *delivery("X-GitHub-Delivery", "X-GitHub-Event", "ping"),
        retry=3 * DAY,
    ),
    Repeat(
        "github",
        "an issue closed, opened and closed again",
        GITHUB_ISSUE,
        changed(GITHUB_ISSUE, updated_at="2026-05-04T09:15:02Z"),
        *delivery("X-GitHub-Delivery", "X-GitHub-Event", "issues"),
        retry=3 * DAY,
    ),
    Repeat(
        "bitbucket",
        "a branch moved back",
        BITBUCKET_PUSH,
        None,
        *delivery("X-Request-UUID", "X-Event-Key", "x"),
    ),
    Repeat("gitlab", "a branch moved back", GITLAB_PUSH, None, *delivery("Idempotency-Key")),
    Repeat("gitlab", "the same before 17.4", GITLAB_PUSH, None, *delivery("X-Gitlab-Event-UUID")),
    Repeat("buildkite", "an agent blocked twice", BUILDKITE_BLOCKED, retry=240),
    Repeat("buildkite", "a build that runs again after it was blocked", BUILDKITE_RUNNING, retry=240),
    Repeat(
        "buildkite",
        "a build that finishes twice",
        BUILDKITE_FINISHED,
        changed(BUILDKITE_FINISHED, finished_at="2026-05-09T21:09:59.874Z"),
        resigned=True,
    ),
    Repeat(
        "adyen",
        "a report of two merchant accounts",
        ADYEN_REPORT,
        changed(ADYEN_REPORT, merchantAccountCode="Shop2"),
        apart=1,
        retry=30 * DAY,
    ),
    Repeat(
        "linear",
        "a state changed and changed back",
        LINEAR_UPDATE,
        changed(LINEAR_UPDATE, createdAt="2026-01-23T12:54:19.100Z"),
        *delivery("Linear-Delivery"),
        retry=7 * HOUR + 60,
    ),
    Repeat(
        "lemon-squeezy",
        "a subscription updated and changed back",
        LEMON,
        changed(LEMON, updated_at="2026-01-17T12:44:25.000000Z"),
        retry=155,
    ),
    Repeat(
        "hubspot",
        "a property changed and changed back",
        HUBSPOT,
        changed(HUBSPOT, occurredAt=1462216309000, eventId=3816279999),
        retry=DAY,
        resigned=True,
        counted=changed(HUBSPOT, attemptNumber=9),
    ),
    Repeat(
        "hubspot",
        "the same id for two kinds of objects",
        HUBSPOT,
        changed(HUBSPOT, objectTypeId="0-2"),
        retry=DAY,
    ),
    Repeat(
        "meta",
        "a reaction taken back and given again",
        META_REACTION,
        changed(META_REACTION, timestamp=1518479199000, time=1518479199111),
        retry=36 * HOUR,
    ),
    Repeat(
        "mailgun",
        "a message opened twice",
        MAILGUN,
        changed(MAILGUN, id="Bse7i2zsRYeDXztHGENqRB", token="b" * 50, timestamp=1521243400.1),
        retry=8 * HOUR,
    ),
    Repeat(
        "mandrill",
        "two readers in one second",
        [MANDRILL],
        [changed(MANDRILL, ip="203.0.113.2")],
        apart=1,
        form="mandrill_events",
    ),
    Repeat(
        "ms-teams",
        "the same number in two conversations",
        TEAMS,
        changed(TEAMS, conversation={"id": "19:two"}),
        apart=1,
    ),
    Repeat(
        "figma",
        "a file updated twice",
        FIGMA,
        changed(FIGMA, timestamp="2026-02-23T20:57:16Z"),
        retry=3.5 * HOUR,
    ),
    Repeat(
        "asana",
        "a date changed and changed back",
        ASANA,
        changed(ASANA, created_at="2027-01-15T07:55:00.001Z"),
        retry=DAY,
    ),
    Repeat(
        "jira",
        "an issue moved and moved back",
        JIRA,
        changed(JIRA, timestamp=NOW * 1000),
        *delivery("X-Atlassian-Webhook-Identifier"),
        retry=1800,
    ),
    Repeat(
        "calendly",
        "another person at the same time",
        CALENDLY,
        changed(CALENDLY, uri="https://api.calendly.com/scheduled_events/1/invitees/3"),
        apart=1,
        retry=DAY,
    ),
    Repeat(
        "mercado-pago",
        "an order that changes twice",
        MERCADO_PAGO,
        changed(MERCADO_PAGO, data={"id": "ORD01JQ4S4KY8HWQ6NA5PXB65B3D3", "version": 3}),
        *delivery("x-request-id"),
        resigned=True,
    ),
    Repeat(
        "docusign",
        "a template changed twice",
        DOCUSIGN,
        changed(DOCUSIGN, generatedDateTime="2027-01-15T08:00:00.1230000Z"),
        retry=15 * DAY,
        counted=changed(DOCUSIGN, retryCount=7),
    ),
]


@pytest.mark.case("F-21")
@pytest.mark.parametrize("repeat", REPEATS, ids=[f"{one.preset}: {one.name}" for one in REPEATS])
def test_a_similar_event_is_new_and_a_retry_is_a_duplicate(repeat: Repeat) -> None:
    assert_two_events(repeat)
