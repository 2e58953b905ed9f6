"""Two similar genuine events, and the last retry of the first: files, code, alerts and tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from presets import source
from repeats import DAY, HOUR, NOW, Repeat, assert_two_events, changed, delivery

SOON = "2027-01-15T07:59:58.123Z"
LATER = "2027-01-15T08:10:00.456Z"
BOX = {
    "type": "webhook_event",
    "id": "eb0c4e06-751f-442c-86f8-fd5bb404dbec",
    "created_at": "2027-01-15T00:00:00-08:00",
    "trigger": "FILE.RENAMED",
    "source": {"id": "73835521473", "type": "file"},
}
BOX_AGAIN = BOX | {"id": "f2a4c9d1-8b7e-4a65-9c31-0d2e4f6a8b90"}
LINE = {
    "destination": "U0123456789abcdef0123456789abcdef",
    "events": [
        {
            "type": "message",
            "timestamp": NOW * 1000,
            "source": {"type": "user", "userId": "U206d25c2ea6bd87c17655609a1c37cb8"},
            "webhookEventId": "01J5M2QGXR3KZ8N4BVWYH6T9PA",
            "deliveryContext": {"isRedelivery": False},
            "message": {"id": "325708", "type": "text", "text": "yes"},
        }
    ],
}
REPOSITORY = {"id": 140, "full_name": "gitea/webhooks", "owner": {"id": 1, "login": "gitea"}}
GITEA_PUSH = {
    "ref": "refs/heads/main",
    "before": "28e1879d029cb852e4844d9c718537df08844e03",
    "after": "bffeb74224043ba2feb48d137756c8a9331c449a",
    "commits": [{"id": "bffeb74224043ba2feb48d137756c8a9331c449a"}],
    "repository": REPOSITORY | {"updated_at": "2027-01-15T07:59:50Z"},
}
GITEA_BRANCH = {"ref": "develop", "ref_type": "branch", "repository": REPOSITORY}
GRAFANA = {
    "status": "firing",
    "groupKey": '{}:{alertname="High memory usage"}',
    "orgId": 1,
    "alerts": [{"status": "firing", "fingerprint": "c6eadffa33fcdf37", "startsAt": "2027-01-15T07:00:00Z"}],
}
NYLAS = {
    "type": "event.updated",
    "id": "5f0c2a9e-8b1d-4c7a-9e3f-2d6b7a1c8e40",
    "time": NOW,
    "webhook_delivery_attempt": 1,
    "data": {"application_id": "app-1", "object": {"id": "calendar-event-1", "grant_id": "g1"}},
}
CLICKUP = {
    "event": "taskStatusUpdated",
    "history_items": [{"id": "2800787326392370170", "date": f"{NOW}000", "field": "status"}],
    "task_id": "1vj38vv",
    "webhook_id": "7fa3ec74-69a8-4530-a251-8a13730bd204",
}
CLICKUP_GOAL = {
    "event": "goalUpdated",
    "goal_id": "a23e5a3d-74b5-44c2-ab53-917ebe85045a",
    "webhook_id": "7fa3ec74-69a8-4530-a251-8a13730bd204",
}
TERRAFORM = {
    "payload_version": 1,
    "notification_configuration_id": "nc-AeUQ2zfKZzW9TiGZ",
    "run_id": "run-FwnENkvDnrpyFC7M",
    "notifications": [
        {"trigger": "run:needs_attention", "run_status": "policy_override", "run_updated_at": SOON}
    ],
}
TERRAFORM_OTHER = {"payload_version": "2", "trigger": "workspace:auto_destroy_reminder", "details": {}}
CAL = {
    "triggerEvent": "BOOKING_NO_SHOW_UPDATED",
    "createdAt": SOON,
    "payload": {"bookingUid": "5vQFqxDFMjdgKGMijqtqRw", "attendees": [{"noShow": True}]},
}
#: Only a booking that was made six weeks ago, without `payload` and without the time of the event.
CAL_MEETING = {
    "triggerEvent": "MEETING_STARTED",
    "uid": "5vQFqxDFMjdgKGMijqtqRw",
    "createdAt": "2026-12-01T09:45:00.000Z",
    "startTime": "2027-01-15T08:00:00.000Z",
}
TODOIST = {
    "event_name": "item:completed",
    "user_id": "2671355",
    "event_data": {"id": "6XR4GqQQCW6Gv9h4", "content": "Water the plants"},
    "triggered_at": SOON,
}
LAUNCHDARKLY = {
    "_id": "57c0a8e29969090743529965",
    "date": NOW * 1000,
    "accesses": [{"action": "updateOn", "resource": "proj/default:env/production:flag/new"}],
    "kind": "flag",
}
REPEATS = [
    Repeat("box", "a retry with the timestamp of the first request", BOX, BOX_AGAIN, retry=84 * HOUR),
    Repeat(
        "box",
        "a retry with a new signature",
        BOX,
        BOX_AGAIN,
        *delivery("BOX-DELIVERY-ID"),
        retry=84 * HOUR,
        resigned=True,
    ),
    Repeat(
        "line",
        "the same text sent twice",
        LINE,
        changed(LINE, webhookEventId="01J5M2QH1VJ2S7R0ECXN5D8KQF"),
        apart=1,
        counted=changed(LINE, isRedelivery=True),
    ),
    Repeat(
        "gitea",
        "a branch pushed back and forth",
        GITEA_PUSH,
        changed(GITEA_PUSH, updated_at="2027-01-15T08:09:50Z"),
        *delivery("X-Gitea-Delivery", "X-Gitea-Event", "push"),
    ),
    Repeat(
        "gitea",
        "a branch created, deleted and created again",
        GITEA_BRANCH,
        None,
        *delivery("X-Gitea-Delivery", "X-Gitea-Event", "create"),
    ),
    Repeat("grafana", "a reminder in the same bytes", GRAFANA, apart=300, retry=20),
    Repeat("grafana-timestamp", "a reminder in the same bytes", GRAFANA, apart=60, retry=240),
    Repeat(
        "nylas",
        "a calendar's event changed twice",
        NYLAS,
        changed(NYLAS, id="9b7e4c12-0a5d-4e83-b6f1-7c2d8e9f0a13"),
        retry=1200,
        counted=NYLAS | {"webhook_delivery_attempt": 3},
    ),
    Repeat(
        "clickup", "one change told as two events", CLICKUP, changed(CLICKUP, event="taskUpdated"), apart=1
    ),
    Repeat("hcp-terraform", "a run that waits twice", TERRAFORM, changed(TERRAFORM, run_updated_at=LATER)),
    Repeat("cal-com", "a person marked as absent twice", CAL, changed(CAL, createdAt=LATER)),
    Repeat(
        "cal-com",
        "a meeting of an old booking starts and ends",
        CAL_MEETING,
        changed(CAL_MEETING, triggerEvent="MEETING_ENDED"),
        retry=DAY,
    ),
    Repeat(
        "todoist",
        "a task that recurs is completed twice",
        TODOIST,
        changed(TODOIST, triggered_at=LATER),
        *delivery("X-Todoist-Delivery-ID"),
        retry=2700,
    ),
    Repeat(
        "launchdarkly",
        "a flag turned on twice",
        LAUNCHDARKLY,
        LAUNCHDARKLY | {"_id": "66c3a1f04b5d6e7f80912a3b"},
    ),
]


@pytest.mark.case("F-20", "F-21")
@pytest.mark.parametrize("repeat", REPEATS, ids=lambda repeat: f"{repeat.preset}: {repeat.name}")
def test_a_similar_event_is_new_and_a_retry_is_a_duplicate(repeat: Repeat) -> None:
    assert_two_events(repeat)


@pytest.mark.case("F-21")
@pytest.mark.parametrize(
    ("preset", "body"),
    [("clickup", CLICKUP_GOAL), ("hcp-terraform", TERRAFORM_OTHER)],
    ids=["goal", "workspace"],
)
def test_an_event_without_an_id_whose_bytes_repeat_is_always_new(preset: str, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    request = Request("POST", "/webhooks/it", "", CIMultiDict(), raw, "https://gateway.example", "")
    (read,) = source(preset).reader.read(VerifiedRequest(request, facts={"signed": raw}), NOW, ())

    assert read.event.type in ("goalUpdated", "workspace:auto_destroy_reminder")
    assert not any(read.keys)
    assert read.event.external_id == read.event.id
