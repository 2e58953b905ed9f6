"""Handshakes get the answers that providers expect, and only requests of the right form get them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.cli.secret_check import secret_problems
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import (
    ForbiddenError,
    MalformedRequestError,
    RequestRejectedError,
    UnavailableError,
)
from gatehouse.gateway.app import Gateway
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from gatehouse.verify.build import build_handshakes
from handshake_requests import (
    CONFIRM,
    CRC,
    EBAY,
    ECHO,
    ENVIRONMENT,
    HOOK_SECRET,
    HUB,
    SECRET,
    TOKEN,
    ZOOM,
    answered,
    get,
    handshakes,
    posted,
    request,
)


def test_a_challenge_is_echoed_as_plain_text_that_no_browser_renders() -> None:
    reply = answered(handshakes(ECHO).before_verification(get(c="<script>alert(1)</script>")))

    assert (reply.handshake, reply.status, reply.body) == ("echo", 200, b"<script>alert(1)</script>")
    assert reply.headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }


def test_a_query_value_is_decoded_once() -> None:
    reply = answered(handshakes(ECHO).before_verification(request("GET", query="c=Validation%3A+a%2520b")))

    assert reply.body == b"Validation: a%20b"


def test_a_json_answer_escapes_the_challenge() -> None:
    entry = """{name: c, when: {"{body:type}": c}, challenge: "{body:challenge}",
                answer: {json: {challenge: "{challenge}", type: 1}}}"""

    reply = answered(handshakes(entry).after_verification(posted(type="c", challenge='a"},{"b')))

    assert json.loads(reply.body) == {"challenge": 'a"},{"b', "type": 1}
    assert reply.headers["Content-Type"] == "application/json"


def test_a_header_is_echoed_without_a_body() -> None:
    sent = request(headers={"x-hook-secret": "b537207f20cbfa02357cf448134da559"})

    reply = answered(handshakes(HOOK_SECRET).before_verification(sent))

    assert reply.body == b""
    assert reply.headers == {"X-Hook-Secret": "b537207f20cbfa02357cf448134da559"}
    assert reply.shown == "b537207f20cbfa02357cf448134da559"


def test_an_answer_may_consist_of_its_status_only() -> None:
    probe = "{name: probe, method: HEAD, answer: {status: 204}}"

    reply = answered(handshakes(probe).before_verification(request("HEAD")))

    assert (reply.status, reply.body, reply.headers) == (204, b"", {})


def test_only_the_methods_of_handshakes_are_accepted_besides_post() -> None:
    options = '{name: o, method: OPTIONS, when: {"{header:Origin}": "*"}}'

    assert handshakes(ECHO, options, ZOOM, CRC).methods == ("GET", "OPTIONS")
    assert handshakes(ZOOM).methods == ()


def test_a_verified_handshake_is_not_answered_before_verification() -> None:
    sent = posted(event="endpoint.url_validation", payload={"plainToken": "abc"})

    assert handshakes(ZOOM).before_verification(sent.request) is None
    assert handshakes(ZOOM).after_verification(sent) is not None


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ('{"{body:type}": ping}', True),
        ('{"{body:type}": pin}', False),
        ('{"{body:type}": "*"}', True),
        ('{"{body:empty}": "*"}', False),
        ('{"{body:nothing}": "*"}', False),
        ('{"{body:type}": ping, "{body:nothing}": "*"}', False),
        ('{"{body:type}": ping, "{body:nothing?}": ""}', True),
        ('{"{body:type}": ping, "{body:number?}": ""}', False),
        ('{"{body:number}": "1"}', True),
        ('{"{body:0.type}": ping}', False),
        ('{"{header:X-Kind}": ping}', False),
    ],
)
def test_every_condition_must_match(when: str, fits: bool) -> None:
    built = handshakes(f"{{name: ping, when: {when}}}")

    assert (built.after_verification(posted(type="ping", number=1, empty="")) is not None) == fits


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"ping","type":"ping"}', b"\xff", b"null", b"[" * 9999])
def test_a_body_that_is_not_json_is_not_a_handshake(body: bytes) -> None:
    built = handshakes('{name: ping, when: {"{body:type}": "*"}, verified: false}')

    assert built.before_verification(request(body=body)) is None


@pytest.mark.parametrize(
    "challenge",
    ["", "x" * 1025, "a\nb", "a\r\nSet-Cookie: a=b", "a\x00", "\N{SNOWMAN}", "a\u2028b", "\udcff"],
    ids=repr,
)
def test_an_unverified_challenge_of_another_form_is_not_echoed(challenge: str) -> None:
    encoded = quote(challenge.encode("utf-8", "surrogateescape"))

    with pytest.raises(MalformedRequestError):
        handshakes(ECHO).before_verification(request("GET", query=f"c={encoded}"))


def test_a_request_that_only_resembles_an_unverified_handshake_goes_on_to_the_verifiers() -> None:
    """Example: a form field identifies a ping, and a text in a genuine JSON event contains its name."""
    ping = (
        """{name: ping, when: {"{form:id}": "*"}, verified: false, challenge: "{body}", form: "id=[0-9]+"}"""
    )

    built = handshakes(ping)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert built.before_verification(request(body=b"id=1", headers=form)) is not None
    assert built.before_verification(request(body=b'{"type":"sale","note":"&id=1"}', headers=form)) is None
    assert built.before_verification(request(body=b"id=1")) is None


def test_a_verified_challenge_of_another_form_is_refused() -> None:
    sent = posted(event="endpoint.url_validation", payload={"plainToken": "v0:1700000000:{}"})

    with pytest.raises(MalformedRequestError):
        handshakes(ZOOM).after_verification(sent)


@pytest.mark.parametrize("query", ["", "c=a&c=a", "c=", "d=a", "c=%ff"])
def test_a_get_that_is_not_a_handshake_is_refused(query: str) -> None:
    with pytest.raises(MalformedRequestError):
        handshakes(ECHO).before_verification(request("GET", query=query))


def test_a_verified_get_that_is_not_a_handshake_is_refused() -> None:
    built = handshakes('{name: a, method: GET, verified: true, when: {"{query:c}": "*"}}')

    assert built.before_verification(request("GET")) is None
    assert built.after_verification(VerifiedRequest(request("GET", query="c=1"))) is not None
    with pytest.raises(MalformedRequestError):
        built.after_verification(VerifiedRequest(request("GET")))


def hub(token: str) -> Request:
    return get(**{"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444"})


@pytest.mark.parametrize("token", [TOKEN, "an-older-token"])
def test_each_configured_token_is_accepted(token: str) -> None:
    built = handshakes(HUB, more="handshake_secrets: [env:TOKEN, env:OLD]")

    assert answered(built.before_verification(hub(token))).body == b"1158201444"


@pytest.mark.parametrize("token", ["", "a-verify-tokeN", "a-verify-token ", "\N{SNOWMAN}", SECRET])
def test_a_wrong_token_is_403_without_details(token: str) -> None:
    built = handshakes(HUB, more="handshake_secrets: env:TOKEN")

    with pytest.raises(ForbiddenError) as caught:
        built.before_verification(hub(token))

    assert caught.value.status == 403
    assert TOKEN not in str(caught.value)


def test_a_missing_token_is_403() -> None:
    built = handshakes(HUB, more="handshake_secrets: env:TOKEN")

    with pytest.raises(ForbiddenError):
        built.before_verification(get(**{"hub.mode": "subscribe", "hub.challenge": "1"}))


@pytest.mark.parametrize(
    ("more", "why"),
    [("", "handshake_secrets is not set"), ("handshake_secrets: env:OTHER", "env:OTHER is not set")],
)
def test_a_handshake_without_its_secret_is_not_ready(more: str, why: str) -> None:
    built = handshakes(HUB, ECHO, more=more)

    assert built.not_ready == f"handshake hub.challenge: {why}"
    with pytest.raises(UnavailableError) as caught:
        built.before_verification(hub(TOKEN))
    assert caught.value.reason == "not_ready"
    # The other handshakes are ready.
    assert answered(built.before_verification(get(c="abc"))).body == b"abc"


def test_a_missing_handshake_secret_is_reported_and_events_are_still_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.delenv("TOKEN", raising=False)
    text = """
sources:
  a: {provider: meta, secrets: env:SECRET, handshake_secrets: env:TOKEN}
  b: {provider: meta, secrets: env:SECRET}
"""
    loaded = parse(text)

    (problem,) = secret_problems(loaded)
    gateway = Gateway(loaded)

    assert (problem.line, problem.path) == (3, "sources.a.handshake_secrets")
    assert problem.message == "env:TOKEN is not set"
    assert gateway.not_ready() == ["source a: handshake hub.challenge: env:TOKEN is not set"]
    assert all(source.not_ready is None for source in gateway.sources.values())


def test_a_source_without_handshakes_has_no_handshakes_object() -> None:
    source = parse("sources: {a: {provider: stripe, secrets: env:SECRET}}").config.sources["a"]

    assert build_handshakes(source, Secrets(Path(), ENVIRONMENT)) is None


@pytest.mark.parametrize("entry", [HOOK_SECRET, ECHO])
def test_a_handshake_without_a_proof_works_without_the_secrets_of_the_source(entry: str) -> None:
    built = handshakes(entry, environment={})

    assert built.not_ready is None
    sent = get(c="a") if entry == ECHO else request(headers={"X-Hook-Secret": "abc"})
    assert built.before_verification(sent) is not None


@pytest.mark.parametrize(
    "value", ["a\r\nSet-Cookie: a=b", "a\nb", "a\x00b", "\N{SNOWMAN}", "a\x7f"], ids=repr
)
def test_a_header_value_with_line_breaks_or_non_ascii_is_refused(value: str) -> None:
    """Even if `form` allows everything."""
    entry = """{name: h, when: {"{body:c}": "*"}, challenge: "{body:c}", form: '[\\s\\S]+',
                answer: {headers: {X-Echo: "{challenge}"}}}"""

    with pytest.raises(MalformedRequestError):
        handshakes(entry).after_verification(posted(c=value))


def test_a_long_challenge_is_refused_with_any_form() -> None:
    entry = '{name: h, when: {"{body:c}": "*"}, challenge: "{body:c}", form: "a+"}'

    assert handshakes(entry).after_verification(posted(c="a" * 4096)) is not None
    with pytest.raises(MalformedRequestError):
        handshakes(entry).after_verification(posted(c="a" * 4097))


@pytest.mark.parametrize("secret", ["", "a" * 1025, "a\nb"])
def test_a_malformed_secret_is_not_shown(secret: str) -> None:
    entry = '{name: token, when: {"{body:type}": v}, show: "{body:token}"}'

    with pytest.raises(MalformedRequestError):
        handshakes(entry).after_verification(posted(type="v", token=secret))


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=ab%2Fc",
        "https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription",
        "https://SNS.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com:443",
    ],
)
def test_a_url_of_the_provider_is_to_be_confirmed(url: str) -> None:
    reply = answered(
        handshakes(CONFIRM).after_verification(posted(Type="SubscriptionConfirmation", SubscribeURL=url))
    )

    assert (reply.confirm, reply.status, reply.body) == (url, 200, b"")


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com.evil.example/",
        "https://evil.example/sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com@evil.example/",
        "https://user:pw@sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com:8443/",
        "https://evil.example\\@sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com\\.evil.example/",
        "https://sns.eu-west-1.amazonaws.com#@evil.example/",
        "https://sns.eu-west-1.amazonaws.com/\r\nX: y",
        "https://sns.eu-west-1.amazonaws.com/ x",
        "https://snsxeu-west-1.amazonaws.com/",
        "https://127.0.0.1/",
        "https://sns.eu-west-1.amazonaws.com/" + "a" * 5000,
        "https:///",
        "",
        1,
        None,
    ],
)
def test_any_other_confirmation_url_is_refused(url: object) -> None:
    with pytest.raises(MalformedRequestError):
        handshakes(CONFIRM).after_verification(posted(Type="SubscriptionConfirmation", SubscribeURL=url))


EVERY = handshakes(
    *(ECHO, CRC, ZOOM, HUB, HOOK_SECRET, CONFIRM, EBAY), more="handshake_secrets: [env:TOKEN, env:OLD]"
)
NAMES = st.sampled_from(["c", "crc_token", "hub.mode", "hub.verify_token", "hub.challenge", "challenge_code"])
QUERIES = st.lists(st.tuples(NAMES, st.text(max_size=8).map(lambda text: quote(text, errors="replace"))))


@given(
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    query=st.one_of(
        st.text(max_size=20), QUERIES.map(lambda fields: "&".join(f"{name}={text}" for name, text in fields))
    ),
    header=st.text(max_size=8),
    body=st.one_of(
        st.binary(max_size=30),
        st.dictionaries(st.sampled_from(["event", "payload", "Type", "SubscribeURL"]), st.text()).map(
            lambda fields: json.dumps(fields).encode()
        ),
    ),
)
def test_random_requests_raise_only_rejections_and_headers_have_no_line_breaks(
    method: str, query: str, header: str, body: bytes
) -> None:
    sent = request(method, query=query, body=body, headers={"X-Hook-Secret": header})
    for ask in (
        EVERY.before_verification,
        lambda one: EVERY.after_verification(VerifiedRequest(one, {"signed": body})),
    ):
        try:
            reply = ask(sent)
        except RequestRejectedError:
            continue
        if reply is not None:
            assert all(value.isprintable() for value in reply.headers.values())
