"""Documents inside a body: templates can read the document and the body around it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.errors import ConfigError
from gatehouse.events.dedupe import SCOPE_LENGTH, DedupeKey
from gatehouse.events.event import ReadEvent
from gatehouse.events.reader import EventReader
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from presets import source as preset

FORM = "application/x-www-form-urlencoded"
INNER = {"type": "order.paid", "id": "inner-1"}


def config(event: Any, by: Any = (), verify: Any = None, **destination: Any) -> str:
    verify = verify or {"type": "hmac", "signature": {"header": "X-Sig"}}
    source = {"verify": verify, "secrets": "env:S", "event": event, "dedupe": {"by": by}}
    app = {"url": "http://app.example/", "format": "raw"} | destination
    routes = [{"from": "it", "to": "app"}]
    return json.dumps({"sources": {"it": source}, "destinations": {"app": app}, "routes": routes})


def read(event: Any, body: bytes, by: Any = (), content_type: str = "application/json") -> list[ReadEvent]:
    loaded = parse(config(event, by)).config.sources["it"]
    reader = EventReader("it", "/", loaded, provider="it")
    request = Request("POST", "/", "", CIMultiDict({"Content-Type": content_type}), body)
    return reader.read(VerifiedRequest(request), 0.0, ())


def keys(one: ReadEvent) -> list[bytes]:
    return [key.scoped[SCOPE_LENGTH:] for key in one.keys if isinstance(key, DedupeKey)]


SNS = {"document": ("{body:Message}", "{body}"), "type": ("{body:type}", "{body:Type}"), "id": "{body:id}"}


@pytest.mark.case("F-30")
def test_the_body_around_a_document_can_be_named() -> None:
    body = json.dumps({"Type": "N", "MessageId": "m1", "Message": json.dumps(INNER)}).encode()
    (one,) = read(SNS, body, ("{outer:MessageId}", "{body:id}"))

    assert (one.event.type, one.event.external_id) == ("order.paid", "inner-1")
    assert keys(one) == [b"m1", b"inner-1"]
    assert one.event.body == body
    assert json.loads(one.event.data or b"") == INNER


@pytest.mark.case("F-30")
def test_items_of_a_document_see_the_body_around_it_last() -> None:
    inner = {"id": "batch", "items": [{"type": "a"}, {"type": "b"}]}
    body = json.dumps({"MessageId": "m1", "id": "outermost", "Message": json.dumps(inner)}).encode()
    event = {"document": "{body:Message}", "type": "{body:type}", "split": "{body:items}"}

    found = read(event, body, ("{outer:MessageId}/{outer:id}/{body:type}",))

    assert [keys(one) for one in found] == [[b"m1/batch/a"], [b"m1/batch/b"]]


@pytest.mark.case("F-30")
@pytest.mark.parametrize("text", ["plain text", "42", '"x"', "{broken", ""])
def test_a_document_that_is_not_json_falls_back_to_the_next_alternative(text: str) -> None:
    body = json.dumps({"Type": "Notification", "id": "e1", "Message": text}).encode()
    (one,) = read(SNS, body, ("{body:id}",))

    assert (one.event.type, one.event.external_id) == ("Notification", "e1")
    assert one.event.data == body
    assert keys(one) == [b"e1"]


@pytest.mark.case("F-30")
def test_a_document_without_a_readable_alternative_is_unreadable() -> None:
    (one,) = read(SNS | {"document": "{body:Message}"}, b'{"Message":"plain"}')

    assert one.event.type == "gatehouse.unreadable"


@pytest.mark.case("F-30")
@pytest.mark.parametrize("by", ["{outer:id}", "{outer:id}/{body:id}"])
def test_outer_without_split_or_document_is_refused(by: str) -> None:
    parse(config({"type": "x", "document": "{body:m}"}, (by,)))
    with pytest.raises(ConfigError, match=r"sources\.it\.dedupe\.by.*needs event\.split or event\.document"):
        parse(config({"type": "x"}, (by,)))


@pytest.mark.case("F-31")
@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        ("Straße €".encode("cp1252"), "", "Straße €"),
        ("Straße €".encode("cp1252"), "; charset=windows-1252", "Straße €"),
        ("Straße €".encode(), "", "Straße €"),
        ("Łódź".encode("iso8859-2"), "; charset=ISO-8859-2", "Łódź"),
        (bytes(range(0x80, 0x100)), "", bytes(range(0x80, 0x100)).decode("latin-1")),
        (b"caf\xe9", '; charset="utf-7"', "café"),
    ],
)
def test_no_byte_of_a_form_is_lost(raw: bytes, charset: str, text: str) -> None:
    body = b"name=" + quote_from_bytes(raw).encode()
    (one,) = read({"document": "{form}", "type": "x"}, body, content_type=FORM + charset)

    assert json.loads(one.event.data or b"") == {"name": text}


@pytest.mark.case("F-31")
@pytest.mark.parametrize(
    "verify",
    [
        {"type": "token", "body": "token"},
        {"type": "hmac", "signature": {"body": "sig"}},
        {"type": "hmac", "signature": {"header": "X"}, "timestamp": {"body": "t"}, "signed": "{timestamp}"},
        {"type": "any", "of": [{"type": "token", "body": "token"}]},
    ],
)
def test_credentials_in_a_json_body_are_refused_if_the_body_is_a_form(verify: Any) -> None:
    parse(config({"type": "x", "document": ["{form:payload}", "{body}"]}, (), verify))
    with pytest.raises(ConfigError, match="needs a JSON body"):
        parse(config({"type": "x", "document": "{form:payload}"}, (), verify))


@pytest.mark.case("F-31")
@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Sig", "X-Hub-Signature-256", "x-*-token"])
def test_a_credential_among_the_headers_of_a_destination_is_refused(name: str) -> None:
    parse(config({"type": "x"}, headers=["X-*", "X-Shop"]))
    with pytest.raises(ConfigError, match=r"destinations\.app\.headers\.0: .*carries credentials"):
        parse(config({"type": "x"}, headers=[name]))


@pytest.mark.case("F-31")
def test_the_connection_test_of_bitbucket_data_center_is_not_an_event() -> None:
    of = preset("bitbucket")
    headers = CIMultiDict({"X-Event-Key": "diagnostics:ping", "Content-Type": "application/json"})
    reply = (
        of.handshakes.before_verification(Request("POST", "/", "", headers, b'{"test": true}'))
        if of.handshakes
        else None
    )

    assert reply is not None
    assert (reply.handshake, reply.status) == ("diagnostics:ping", 200)
