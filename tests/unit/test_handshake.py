"""Handshakes are answered as providers want, and what is answered can't be used for anything else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.cli.secret_check import secret_problems
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import (
    ForbiddenError,
    MalformedRequestError,
    RequestRejectedError,
    UnavailableError,
    VerificationError,
)
from gatehouse.gateway.app import Gateway
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from gatehouse.verify.build import build_handshakes
from gatehouse.verify.handshake import Handshakes, Reply

SECRET = "a-secret-that-signs-events"
TOKEN = "a-verify-token"
ENVIRONMENT = {"SECRET": SECRET, "TOKEN": TOKEN, "OLD": "an-older-token"}
ECHO = '{name: echo, method: GET, challenge: "{query:c}", answer: {text: "{challenge}"}}'
CRC = """{name: CRC, method: GET, challenge: "{query:crc_token}", form: "[A-Za-z0-9_=-]{1,128}",
          proof: {type: hmac, encoding: base64}, answer: {json: {response_token: "sha256={proof}"}}}"""
ZOOM = """{name: endpoint.url_validation, when: {"{body:event}": endpoint.url_validation},
           challenge: "{body:payload.plainToken}", form: "[A-Za-z0-9_-]{1,128}", proof: {type: hmac},
           answer: {json: {plainToken: "{challenge}", encryptedToken: "{proof}"}}}"""
HUB = """{name: hub.challenge, method: GET, when: {"{query:hub.mode}": subscribe},
          token: "{query:hub.verify_token}", challenge: "{query:hub.challenge}",
          answer: {text: "{challenge}"}}"""
HOOK_SECRET = """{name: X-Hook-Secret, when: {"{header:X-Hook-Secret}": "*"}, verified: false,
                  show: "{header:X-Hook-Secret}", challenge: "{header:X-Hook-Secret}",
                  answer: {headers: {X-Hook-Secret: "{challenge}"}}}"""
CONFIRM = """{name: SubscriptionConfirmation, when: {"{body:Type}": SubscriptionConfirmation},
              confirm: "{body:SubscribeURL}",
              confirm_hosts: "sns[.][a-z0-9-]+[.]amazonaws[.]com([.]cn)?"}"""


def handshakes(
    *entries: str,
    verify: str = "{type: hmac, signature: {header: X-Signature}}",
    more: str = "",
    environment: dict[str, str] | None = None,
    public_url: str = "https://hooks.example.com",
) -> Handshakes:
    """Compile handshakes, as a source has them."""
    listed = "".join(f"\n      - {entry}" for entry in entries)
    text = f"""
server: {{public_url: "{public_url}"}}
sources:
  a:
    verify: {verify}
    secrets: env:SECRET
    event: {{type: "{{body:type}}"}}
    {more}
    handshakes:{listed}
"""
    given_environment = ENVIRONMENT if environment is None else environment
    built = build_handshakes(parse(text).config.sources["a"], Secrets(Path(), given_environment))
    assert built is not None
    return built


def request(
    method: str = "POST",
    *,
    query: str = "",
    body: bytes = b"",
    public_url: str = "https://hooks.example.com",
    headers: dict[str, str] | None = None,
) -> Request:
    return Request(method, "/webhooks/a", query, CIMultiDict(headers or {}), body, public_url)


def get(**query: str) -> Request:
    return request("GET", query="&".join(f"{name}={quote(value)}" for name, value in query.items()))


def posted(**fields: object) -> VerifiedRequest:
    body = json.dumps(fields).encode()
    return VerifiedRequest(request(body=body), {"signed": b"v0:1700000000:" + body})


def answered(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


def mac(text: str, digest: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text.encode(), digest).digest()


def test_a_text_is_echoed_as_text_that_no_browser_takes_for_a_page() -> None:
    reply = answered(handshakes(ECHO).before_verification(get(c="<script>alert(1)</script>")))

    assert (reply.handshake, reply.status, reply.body) == ("echo", 200, b"<script>alert(1)</script>")
    assert reply.headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }


def test_a_query_value_is_decoded_once() -> None:
    reply = answered(handshakes(ECHO).before_verification(request("GET", query="c=Validation%3A+a%2520b")))

    assert reply.body == b"Validation: a%20b"


def test_json_is_written_as_json_whatever_the_challenge() -> None:
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


def test_an_answer_may_be_nothing_but_its_status() -> None:
    probe = "{name: probe, method: HEAD, answer: {status: 204}}"

    reply = answered(handshakes(probe).before_verification(request("HEAD")))

    assert (reply.status, reply.body, reply.headers) == (204, b"", {})


def test_only_what_handshakes_need_is_served_besides_post() -> None:
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
def test_every_condition_has_to_hold(when: str, fits: bool) -> None:
    built = handshakes(f"{{name: ping, when: {when}}}")

    assert (built.after_verification(posted(type="ping", number=1, empty="")) is not None) == fits


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"ping","type":"ping"}', b"\xff", b"null", b"[" * 9999])
def test_a_body_that_is_not_json_is_no_handshake(body: bytes) -> None:
    built = handshakes('{name: ping, when: {"{body:type}": "*"}, verified: false}')

    assert built.before_verification(request(body=body)) is None


@pytest.mark.parametrize(
    "challenge",
    ["", "x" * 1025, "a\nb", "a\r\nSet-Cookie: a=b", "a\x00", "\N{SNOWMAN}", "a\u2028b", "\udcff"],
    ids=repr,
)
def test_an_unverified_challenge_of_another_form_is_never_echoed(challenge: str) -> None:
    encoded = quote(challenge.encode("utf-8", "surrogateescape"))

    with pytest.raises(MalformedRequestError):
        handshakes(ECHO).before_verification(request("GET", query=f"c={encoded}"))


def test_what_only_looks_like_an_unverified_handshake_goes_on_to_the_verifiers() -> None:
    """As with a ping that is known by a form field, and a genuine JSON event that has its name in a text."""
    ping = (
        """{name: ping, when: {"{form:id}": "*"}, verified: false, challenge: "{body}", form: "id=[0-9]+"}"""
    )

    built = handshakes(ping)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert built.before_verification(request(body=b"id=1", headers=form)) is not None
    assert built.before_verification(request(body=b'{"type":"sale","note":"&id=1"}', headers=form)) is None
    assert built.before_verification(request(body=b"id=1")) is None


def test_a_verified_challenge_of_another_form_is_refused_and_no_event() -> None:
    sent = posted(event="endpoint.url_validation", payload={"plainToken": "v0:1700000000:{}"})

    with pytest.raises(MalformedRequestError):
        handshakes(ZOOM).after_verification(sent)


@pytest.mark.parametrize("query", ["", "c=a&c=a", "c=", "d=a", "c=%ff"])
def test_a_get_that_is_no_handshake_is_refused(query: str) -> None:
    with pytest.raises(MalformedRequestError):
        handshakes(ECHO).before_verification(request("GET", query=query))


def test_a_verified_get_that_is_no_handshake_is_refused() -> None:
    built = handshakes('{name: a, method: GET, verified: true, when: {"{query:c}": "*"}}')

    assert built.before_verification(request("GET")) is None
    assert built.after_verification(VerifiedRequest(request("GET", query="c=1"))) is not None
    with pytest.raises(MalformedRequestError):
        built.after_verification(VerifiedRequest(request("GET")))


def hub(token: str) -> Request:
    return get(**{"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444"})


@pytest.mark.parametrize("token", [TOKEN, "an-older-token"])
def test_any_of_the_tokens_will_do(token: str) -> None:
    built = handshakes(HUB, more="handshake_secrets: [env:TOKEN, env:OLD]")

    assert answered(built.before_verification(hub(token))).body == b"1158201444"


@pytest.mark.parametrize("token", ["", "a-verify-tokeN", "a-verify-token ", "\N{SNOWMAN}", SECRET])
def test_a_wrong_token_is_403_and_says_nothing(token: str) -> None:
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
def test_without_its_secret_a_handshake_is_not_ready(more: str, why: str) -> None:
    built = handshakes(HUB, ECHO, more=more)

    assert built.not_ready == f"handshake hub.challenge: {why}"
    with pytest.raises(UnavailableError) as caught:
        built.before_verification(hub(TOKEN))
    assert caught.value.reason == "not_ready"
    # The others are.
    assert answered(built.before_verification(get(c="abc"))).body == b"abc"


def test_a_missing_handshake_secret_is_told_and_stops_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_source_without_handshakes_has_none_to_look_through() -> None:
    source = parse("sources: {a: {provider: stripe, secrets: env:SECRET}}").config.sources["a"]

    assert build_handshakes(source, Secrets(Path(), ENVIRONMENT)) is None


@pytest.mark.parametrize("entry", [HOOK_SECRET, ECHO])
def test_a_handshake_without_a_secret_needs_none_of_its_source(entry: str) -> None:
    built = handshakes(entry, environment={})

    assert built.not_ready is None
    sent = get(c="a") if entry == ECHO else request(headers={"X-Hook-Secret": "abc"})
    assert built.before_verification(sent) is not None


def test_a_proof_is_made_with_the_first_secret() -> None:
    built = handshakes(CRC)

    reply = answered(built.before_verification(get(crc_token="9b4507b3-9040-4669-9ca3-6b94edb50553")))

    expected = base64.b64encode(mac("9b4507b3-9040-4669-9ca3-6b94edb50553")).decode()
    assert json.loads(reply.body) == {"response_token": f"sha256={expected}"}


def test_zoom_gets_its_token_back_in_plain_and_hashed() -> None:
    sent = posted(event="endpoint.url_validation", payload={"plainToken": "qgg8vlvZRS6UYooatFL8Aw"})

    reply = answered(handshakes(ZOOM).after_verification(sent))

    hashed = mac("qgg8vlvZRS6UYooatFL8Aw").hex()
    assert json.loads(reply.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": hashed}


def test_a_key_may_be_the_hash_of_the_secret() -> None:
    """As Braintree's is."""
    entry = """{name: bt, method: GET, challenge: "{query:c}", form: "[a-f0-9]{20,32}",
                proof: {type: hmac, digest: sha1, key: sha1, prefix: "p="}, answer: {text: "{proof}"}}"""

    reply = answered(handshakes(entry).before_verification(get(c="20f9f8ed05f77439fe955c977e4c8a53")))

    key = hashlib.new("sha1", SECRET.encode(), usedforsecurity=False).digest()
    expected = hmac.new(key, b"20f9f8ed05f77439fe955c977e4c8a53", "sha1").hexdigest()
    assert reply.body == f"p={expected}".encode()


EBAY = """{name: challenge_code, method: GET, challenge: "{query:challenge_code}",
           proof: {type: hash, of: "{challenge}{token}{url}"},
           answer: {json: {challengeResponse: "{proof}"}}}"""


def test_a_hash_is_of_the_challenge_the_token_and_the_address_without_its_query() -> None:
    built = handshakes(EBAY, more="handshake_secrets: [env:TOKEN, env:OLD]")

    reply = answered(built.before_verification(get(challenge_code="71745723-d031-455c-bfa5-f90d11b4f20a")))

    hashed = f"71745723-d031-455c-bfa5-f90d11b4f20a{TOKEN}https://hooks.example.com/webhooks/a"
    assert json.loads(reply.body) == {"challengeResponse": hashlib.sha256(hashed.encode()).hexdigest()}


def test_a_hash_with_a_token_needs_one() -> None:
    assert handshakes(EBAY).not_ready == "handshake challenge_code: handshake_secrets is not set"


def test_a_proof_of_what_is_not_there_is_not_made() -> None:
    entry = EBAY.replace("{url}", "{body:a}")
    built = handshakes(entry, more="handshake_secrets: env:TOKEN")

    for body in (b"{}", b"{"):
        with pytest.raises(UnavailableError):
            built.before_verification(request("GET", query="challenge_code=a", body=body))


@pytest.mark.parametrize("secret", ["not base64, and S3cret", "", "whsec_", "whsec_" + "=" * 12])
def test_a_secret_of_another_form_is_named_and_never_said(secret: str) -> None:
    entry = CRC.replace("type: hmac", "type: hmac, key: whsec")

    why = handshakes(entry, more="min_secret: 1", environment={"SECRET": secret}).not_ready

    assert why is not None
    assert "env:SECRET" in why
    assert "S3cret" not in why


@pytest.mark.parametrize(
    "wanted",
    ['{"for_user_id":"1","tweet_create_events":[]}', "[]", "v0:1700000000:{}", "1700000000.{}", "a" * 129],
)
def test_nobody_gets_an_event_signed(wanted: str) -> None:
    with pytest.raises(MalformedRequestError):
        handshakes(CRC).before_verification(get(crc_token=wanted))


def test_a_proof_is_no_signature() -> None:
    """Anyone may have `abc` signed: a request that says `abc` proves nothing, however well it is signed."""
    built = handshakes(CRC)

    for body in (b"abc", b"123", b"null", b"true"):
        with pytest.raises(VerificationError) as caught:
            built.after_verification(VerifiedRequest(request(body=body), {"signed": body}))
        assert caught.value.reason == "wrong_signature"


@pytest.mark.parametrize("body", [b'{"id":1}', b"abc\n", b"\xff\xfe", b"a" * 5000, b'"abc"'])
def test_what_is_no_challenge_may_be_signed(body: bytes) -> None:
    assert handshakes(CRC).after_verification(VerifiedRequest(request(body=body), {"signed": body})) is None


@pytest.mark.parametrize(
    ("verify", "guarded"),
    [
        ("{type: hmac, signature: {header: X-Signature}}", True),
        ("{type: hmac, digest: sha1, signature: {header: X-Signature}}", False),
        ("{type: any, of: [{type: hmac, signature: {header: X-Signature}}]}", True),
        ("{type: jwt, algorithm: HS256, header: X-Token}", True),
        ("{type: token, header: X-Token}", False),
        ("{type: twilio}", False),
    ],
)
def test_only_the_hash_that_signs_events_is_guarded(verify: str, guarded: bool) -> None:
    built = handshakes(CRC, verify=verify)
    sent = VerifiedRequest(request(body=b"abc"), {"signed": b"abc"})

    if guarded:
        with pytest.raises(VerificationError):
            built.after_verification(sent)
    else:
        assert built.after_verification(sent) is None


def test_a_hash_without_the_secret_guards_nothing() -> None:
    built = handshakes(EBAY, more="handshake_secrets: env:TOKEN")

    assert built.after_verification(VerifiedRequest(request(body=b"abc"), {"signed": b"abc"})) is None


@pytest.mark.parametrize(
    "value", ["a\r\nSet-Cookie: a=b", "a\nb", "a\x00b", "\N{SNOWMAN}", "a\x7f"], ids=repr
)
def test_a_header_never_gets_what_it_cannot_carry(value: str) -> None:
    """Even where the form lets everything through."""
    entry = """{name: h, when: {"{body:c}": "*"}, challenge: "{body:c}", form: '[\\s\\S]+',
                answer: {headers: {X-Echo: "{challenge}"}}}"""

    with pytest.raises(MalformedRequestError):
        handshakes(entry).after_verification(posted(c=value))


def test_whatever_the_form_nothing_long_is_echoed() -> None:
    entry = '{name: h, when: {"{body:c}": "*"}, challenge: "{body:c}", form: "a+"}'

    assert handshakes(entry).after_verification(posted(c="a" * 4096)) is not None
    with pytest.raises(MalformedRequestError):
        handshakes(entry).after_verification(posted(c="a" * 4097))


@pytest.mark.parametrize("secret", ["", "a" * 1025, "a\nb"])
def test_what_can_be_no_secret_is_not_shown(secret: str) -> None:
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
def test_an_address_of_the_provider_is_to_be_confirmed(url: str) -> None:
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
def test_no_other_address_is(url: object) -> None:
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
def test_nothing_but_a_refusal_is_raised_and_no_line_is_broken(
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
