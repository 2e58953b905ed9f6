"""A body or an address that a proxy or a tool changed is found."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from refusals import BODY, COMPACT, PLAIN, URL, acme, explained, request

JSON = "if the JSON in the body is written"


@pytest.mark.parametrize(
    ("signed", "arrived", "told"),
    [
        (BODY, BODY + b"\n", "if the newline at the end of the body is removed. A tool added the newline"),
        (BODY, BODY + b"\r\n", "if the newline at the end of the body is removed. A tool added the newline"),
        (BODY, b"  " + BODY, "if the white space around the body is removed. A proxy"),
        (BODY + b"\n", BODY, "if the body ends with a newline. A proxy"),
        (b"a\nb", b"a\r\nb", "if the lines of the body end with LF instead of CRLF. A proxy"),
        (b"a\r\nb", b"a\nb", "if the lines of the body end with CRLF instead of LF. A proxy"),
        (BODY, b"\xef\xbb\xbf" + BODY, "if the byte order mark at the start of the body is removed. A proxy"),
        (COMPACT, BODY, f"{JSON} in compact form. A proxy"),
        (BODY, COMPACT, f"{JSON} with a space after : and ,. A proxy"),
        (b'{\n  "a": 1.50\n}', b'{"a":1.50}', f"{JSON} with 2 spaces of indentation. A proxy"),
        (b'{"a":"\\u00e9"}', '{"a": "é"}'.encode(), f"{JSON} in compact form, escaped to ASCII. A proxy"),
        ('{"a":"é"}'.encode(), b'{"a": "\\u00e9"}', f"{JSON} in compact form. A proxy"),
        (b'{"b": "\\u00e9", "a": 1}', '{"b":"é","a":1}'.encode(), f"{JSON} as Python writes it. A proxy"),
        (b'{"a":1,"b":2}', b'{"b": 2, "a": 1}', f"{JSON} in compact form with sorted keys. A proxy"),
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', 'with `signed: "{body_sorted}"`, not with'),
        (b'{"a":"x\\/y"}', b'{"a":"x/y"}', f"{JSON} in compact form, with \\/ as PHP writes it. A proxy"),
        (
            b'{"a":"\\u003cb\\u003e"}',
            b'{"a":"<b>"}',
            f"{JSON} in compact form, with \\u003c as Go writes it.",
        ),
    ],
)
def test_a_body_that_a_proxy_or_a_tool_changed_is_recognized(
    signed: bytes, arrived: bytes, told: str
) -> None:
    (found,) = explained(PLAIN, request(acme(signed), arrived)).findings

    assert found.startswith(f"The signature matches {told}")


@pytest.mark.parametrize(
    ("signed", "arrived", "told"),
    [(b"a=x+y&b=%C3%A9", b"a=x%20y&b=%c3%a9", "+ for a space"), (b"a=x%20y", b"a=x+y", "%20 for a space")],
)
def test_a_form_that_was_encoded_again_is_recognized(signed: bytes, arrived: bytes, told: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    (found,) = explained(PLAIN, request(acme(signed) | form, arrived)).findings

    assert found.startswith(f"The signature matches if the form in the body is encoded with {told}. A proxy")


def test_a_compressed_body_is_recognized() -> None:
    headers = acme(BODY) | {"Content-Encoding": "gzip"}

    assert explained(PLAIN, request(headers, gzip.compress(BODY))).findings == (
        (
            "The signature matches if the body is decompressed. The provider signs the data before it "
            "compresses it: set `decode: {verify: decoded}`."
        ),
        (
            "The header Content-Encoding says that the body is compressed. This source accepts only "
            "uncompressed bodies: turn compression off at the provider or in the proxy, or set `decode`."
        ),
    )


def test_a_compressed_body_is_unpacked_up_to_the_limit_only() -> None:
    unpacked = 200 * 1024 * 1024
    bomb = request(acme(b"") | {"Content-Encoding": "gzip"}, gzip.compress(bytes(unpacked)))
    tracemalloc.start()
    try:
        explained(PLAIN, bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < unpacked / 10


def test_a_body_that_contradicts_its_headers_is_explained() -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}

    found = explained(PLAIN, request(acme(b"x") | headers, b"&".join([b"a=b"] * 2000)))

    assert found.findings[0].startswith("The signature does not match the secret `env:S0`.")


@pytest.mark.parametrize(
    ("used", "headers"),
    [
        ("http://h.example", {}),
        ("https://h.example:443", {}),
        ("https://h.example:8080", {}),
        ("https://inner.example", {"Host": "inner.example"}),
        ("https://outer.example", {"X-Forwarded-Host": "outer.example"}),
        ("http://inner.example:9000", {"Host": "inner.example:9000"}),
    ],
)
def test_another_public_url_is_recognized(used: str, headers: dict[str, str]) -> None:
    signed = acme(f"{used}/webhooks/acme".encode() + BODY)

    found = explained(URL, request(signed | headers))

    assert found.findings == (
        (
            f"The signature matches if the provider sends to {used}. Set `server.public_url` to it; it is "
            "now https://h.example."
        ),
    )


@pytest.mark.parametrize(
    ("path", "query", "told"),
    [
        ("/webhooks/acme/", "", "the path ends with a slash. Enter the address at the provider as"),
        ("/webhooks/acme", "a=b", "the query string is left out. The provider does not sign it, or a proxy"),
    ],
)
def test_another_address_is_recognized(path: str, query: str, told: str) -> None:
    signed = acme(b"https://h.example" + path.encode() + BODY)

    (found,) = explained(URL, request(signed, query=query)).findings
    assert found.startswith(f"The signature matches if {told}")


def test_an_empty_body_is_reported() -> None:
    assert explained(PLAIN, request(acme(b"x"), b"")).findings[-1].startswith("The body is empty.")


@pytest.mark.parametrize("difference", [1, -2])
def test_a_body_that_differs_from_content_length_is_reported(difference: int) -> None:
    announced = len(BODY) - difference
    headers = acme(b"x") | {"Content-Length": str(announced)}

    told = f"The body has {len(BODY)} bytes, but Content-Length says {announced}. A proxy"
    assert explained(PLAIN, request(headers)).findings[-1].startswith(told)


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({}, b"not JSON", "The body is not JSON."),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", "The body is a form."),
        ({}, b'{"a": 1, "a": 2}', "The JSON in the body contains a name twice."),
    ],
)
def test_a_body_that_cannot_be_read_is_reported(headers: dict[str, str], body: bytes, told: str) -> None:
    found = explained(PLAIN | {"signed": "{body_sorted}"}, request(acme(BODY) | headers, body))

    assert found.reason == "malformed_body"
    assert found.findings[-1].startswith(told)
