"""Random requests: the verifiers and handshakes of any preset accept or refuse, and raise nothing else."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from doubles.keys import certificate, ec_key, rsa_key
from gatehouse import providers
from gatehouse.errors import RequestRejectedError, VerificationError
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.samples.sample import documented_sample
from presets import FILES, built, source
from verifying import NOW

NAMES = providers.names()
#: Text as the HTTP parser returns it, and text that HTTP cannot contain.
ANY = st.text(max_size=40) | st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=3)
TEXTS = (
    ANY
    | st.sampled_from(
        ["t=1750000000,v1=\udcff", "v1,\udd00", "Basic \udd00", "Bearer a.b.c", "1750000000", "=", "\udcff"]
    )
    | st.builds("{}={},{}={}".format, ANY, ANY, ANY, ANY)
    | st.builds("Bearer {}.{}.{}".format, ANY, ANY, ANY)
)
BODIES = st.binary(max_size=60) | st.sampled_from(
    [b"", b"{}", b"[]", b"null", rb'{"a":"\ud83d"}', b"a=%ff&b=%zz", b'{"Type":"Notification","Signature":1}']
)


class AnyKey:
    """Replaces the keys that providers publish: every URL serves the same key."""

    def get(self, url: str) -> bytes | None:
        return None if "none" in url else _certificate()


@lru_cache
def _certificate() -> bytes:
    key = rsa_key().public_key()
    return certificate(
        key, "messageverificationcerts.paypal.com", issuer=ec_key("a"), since=NOW - 9, until=NOW + 9
    )


@lru_cache
def compiled(name: str) -> Source:
    of = built(name, FILES[name].vectors[0])
    for remote in of.verification.remote:
        remote.keys = AnyKey()
    return of


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Request]:
    name = draw(st.sampled_from(NAMES))
    of = compiled(name)
    sample = documented_sample(of.settings)
    known = {header for one in of.verification.verifiers for header in one.credential_headers()}
    names = sorted(known | ({*sample.headers} if sample else set()) | {"Content-Type", "Authorization"})
    headers = draw(st.lists(st.tuples(st.sampled_from(names[:20]), TEXTS), max_size=6))
    if sample and draw(st.booleans()):
        headers += [(key, value) for key, value in sample.headers.items() if draw(st.booleans())]
    body = draw(BODIES | st.just(sample.body if sample else b""))
    path, query = draw(TEXTS), draw(TEXTS)
    return name, Request(draw(ANY), path, query, CIMultiDict(headers), body, "https://h.example", draw(ANY))


@pytest.mark.case("F-60")
@given(requests())
@example(("monday", Request("\udd00", "\udd00", "\udd00", CIMultiDict({"Authorization": "\udd00"}), b"")))
def test_a_verifier_of_a_preset_raises_only_verification_errors(given: tuple[str, Request]) -> None:
    name, request = given
    of = compiled(name)
    for remote in of.verification.remote:
        for ask in (remote.key_url, lambda asked, one=remote: one.is_outdated(asked, _certificate())):
            try:
                ask(request)
            except VerificationError:
                continue
    try:
        verified = of.verification.verify(request, NOW)
    except VerificationError:
        return
    assert of.reader.read(verified, NOW, of.kept_headers(request.headers))


@pytest.mark.case("F-60")
@pytest.mark.parametrize("text", ["\udd00", "Basic \udd00", "\ud800\udcff", "Basic dTpw\udfff"])
@pytest.mark.parametrize("kind", ["basic", "token", "jwt", "hmac", "twilio", "paypal", "ebay"])
def test_a_header_that_http_cannot_contain_is_refused(kind: str, text: str) -> None:
    preset = {
        "basic": "e-invoice-be",
        "token": "gitlab",
        "jwt": "monday",
        "hmac": "stripe",
        "twilio": "twilio",
        "paypal": "paypal",
        "ebay": "ebay",
    }[kind]
    of = compiled(preset)
    if kind == "basic":
        of = source(preset, verify={"type": "basic", "username": "u"})
    headers = dict.fromkeys((h for v in of.verification.verifiers for h in v.credential_headers()), text)

    with pytest.raises(VerificationError):
        of.verification.verify(Request("POST", text, text, CIMultiDict(headers), b"{}", "https://h"), NOW)


@pytest.mark.case("F-60")
@given(requests())
def test_a_handshake_is_answered_or_refused(given: tuple[str, Request]) -> None:
    of = compiled(given[0])
    if of.handshakes is None:
        return
    try:
        of.handshakes.before_verification(given[1])
    except RequestRejectedError:
        return
