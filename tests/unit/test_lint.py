"""Each warning appears on the right line, and not for a good config."""

from __future__ import annotations

import re

import pytest

from gatehouse.config.lint import CODES, lint
from gatehouse.config.load import parse

#: A config without any warning; each case replaces one line of it.
GOOD = """
server: {public_url: "https://in.example", trusted_proxies: [10.0.0.1]}
sources:
  acme:
    verify: {type: hmac, signature: {header: X-Sig}, timestamp: {header: X-At}, signed: "{timestamp}.{body}"}
    secrets: env:A
    event: {id: "{body:id}", type: "{body:type}"}
    dedupe: {by: ["{header:X-Id}", "{body:id}"]}
  shop: {provider: mando, secrets: env:B}
destinations:
  billing: {url: "http://billing.internal/events"}
  ledger: {url: "http://ledger.internal/events"}
routes:
  - {from: acme, types: "invoice.*", to: [billing]}
  - {from: acme, types: "credit.*", to: [billing, ledger]}
  - {from: shop, types: [sale.created], to: [billing]}
"""
VERIFY = re.search(r"    verify: .*\n", GOOD)[0]  # type: ignore[index]
DEDUPE = '    dedupe: {by: ["{header:X-Id}", "{body:id}"]}\n'
SHOP = "  shop: {provider: mando, secrets: env:B}\n"
LAST = "  - {from: shop, types: [sale.created], to: [billing]}\n"


def warnings(text: str) -> list[tuple[str, int]]:
    loaded = parse(text)
    return [(problem.code, problem.line) for problem in lint(loaded.config, loaded.document)]


def verify(text: str) -> tuple[str, str]:
    return VERIFY, f"    verify: {text}\n"


def store(url: str) -> tuple[str, str]:
    return "destinations:\n", f'store: {{url: "{url}"}}\ndestinations:\n'


CASES = {
    "a source without route": ((LAST, ""), [("GH01", 9)]),
    "a route for another source only": ((LAST, LAST.replace("shop", "acme")), [("GH01", 9)]),
    "nothing verified": (verify("{type: none, insecure: true}"), [("GH02", 5)]),
    "no dedupe keys": ((DEDUPE, ""), [("GH03", 4)]),
    "a window shorter than the horizon": (
        (SHOP, "  shop:\n    provider: mando\n    secrets: env:B\n    dedupe: {window: 1h}\n"),
        [("GH04", 12)],
    ),
    "dedupe by an unsigned header": ((DEDUPE, '    dedupe: {by: ["{header:X-Id}"]}\n'), [("GH05", 8)]),
    "dedupe by a key that is signed in part": (
        (DEDUPE, '    dedupe: {by: ["{header:X-Id}/{body:id}"]}\n'),
        [("GH05", 8)],
    ),
    "dedupe by what one alternative leaves unsigned": (
        (DEDUPE, '    dedupe: {by: [["{body:id}", "{header:X-Id}"]]}\n'),
        [("GH05", 8)],
    ),
    "a signature of a header alone": (
        verify('{type: hmac, signature: {header: X-Sig}, signed: "{header:X-Id}"}'),
        [("GH06", 5)],
    ),
    "a timestamp beside the signature": (
        verify("{type: hmac, signature: {header: X-Sig}, timestamp: {header: X-Time}}"),
        [("GH07", 5)],
    ),
    "secrets that can be guessed": (
        verify("{type: hmac, signature: {header: X-Sig}}\n    min_secret: 4"),
        [("GH08", 6)],
    ),
    "a route that an earlier one includes": (
        (LAST, LAST + '  - {from: "acme", types: ["invoice.paid"], to: [billing]}\n'),
        [("GH09", 17)],
    ),
    "a misspelt type": ((LAST, LAST.replace("sale.created", "sale.creatd")), [("GH10", 16)]),
    "a condition that accepts nothing": (
        (LAST, LAST.replace("to:", 'when: {"{body:a}": [eur, "!e*"]}, to:')),
        [("GH21", 16)],
    ),
    "credentials over an open line": (
        ('ledger.internal/events"', 'ledger.internal/events", auth: {type: bearer, token: env:T}'),
        [("GH22", 12)],
    ),
    "a destination without route": (
        ("routes:\n", '  lost: {url: "http://lost.internal/"}\nroutes:\n'),
        [("GH11", 13)],
    ),
    "an impatient provider": (
        (SHOP, "  shop:\n    provider: mando\n    secrets: env:B\n    answer_deadline: 500ms\n"),
        [("GH13", 12)],
    ),
    "a handshake without its secret": (
        (
            DEDUPE,
            DEDUPE + '    handshakes: [{name: hello, method: GET, token: "{query:token}"}]\n',
        ),
        [("GH14", 4)],
    ),
    "a token in the URL": (
        verify("{type: token, query: token}"),
        [("GH15", 5)],
    ),
    "an age limit shorter than the horizon": (
        (DEDUPE, DEDUPE + "    retry_horizon: 1d\n    max_age: 23h\n"),
        [("GH17", 10)],
    ),
    "an age limit without a signed time": (
        (
            VERIFY + "    secrets: env:A\n",
            "    verify: {type: hmac, signature: {header: X-Sig}}\n    secrets: env:A\n    max_age: 1d\n",
        ),
        [("GH18", 7)],
    ),
    "a signed key that lasts less long than captured requests": (
        (
            DEDUPE,
            '    dedupe: {by: ["{header:X-Id}", {key: "{body:id}", window: 6h}]}\n    max_age: 3d\n',
        ),
        [("GH19", 8)],
    ),
    "an unencrypted connection to the database": (store("postgresql://u@db.internal/d"), [("GH16", 10)]),
}


def test_a_good_config_has_no_warnings() -> None:
    assert warnings(GOOD) == []


@pytest.mark.case("O-17")
@pytest.mark.parametrize("name", CASES)
def test_each_warning_has_its_code_and_its_line(name: str) -> None:
    (old, new), expected = CASES[name]
    assert GOOD.count(old) == 1

    assert warnings(GOOD.replace(old, new)) == expected


ALLOWLIST = verify("[{type: allowlist, networks: [192.0.2.0/24]}, {type: hmac, signature: {header: X-Sig}}]")


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [("[10.0.0.1]", []), ("[]", [("GH12", 5)]), ("[0.0.0.0/0]", [("GH12", 5)])],
)
def test_an_allowlist_behind_an_unnamed_proxy_is_a_warning(
    proxies: str, expected: list[tuple[str, int]]
) -> None:
    text = GOOD.replace(*ALLOWLIST).replace("[10.0.0.1]", proxies)

    assert warnings(text) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@db/d?sslmode=prefer", [("GH16", 10)]),
        ("postgresql://u@db/d?sslmode=disable", [("GH16", 10)]),
        ("postgresql://u@127.0.0.1,db/d", [("GH16", 10)]),
        ("postgresql://u@db/d?sslmode=require", []),
        ("postgresql://u@db/d?sslmode=verify-full&sslrootcert=/db.pem", []),
        ("postgresql://u@localhost:5433,127.0.0.1,[::1]:1/d", []),
        ("postgresql://u@/d?host=/run/postgresql", []),
        ("postgresql://u@%2Frun%2Fpostgresql/d", []),
    ],
)
def test_an_unencrypted_connection_to_another_machine_is_a_warning(
    url: str, expected: list[tuple[str, int]]
) -> None:
    assert warnings(GOOD.replace(*store(url))) == expected


def test_the_verifiers_of_a_preset_cause_no_warning() -> None:
    """Mailgun does not sign the body, and its users cannot change that."""
    text = GOOD.replace(SHOP, "  shop: {provider: mailgun, secrets: env:B}\n").replace(
        "types: [sale.created], ", ""
    )

    assert warnings(text) == []


def test_every_code_has_a_case() -> None:
    shown = {code for _, expected in CASES.values() for code, _ in expected} | {"GH12", "GH20"}

    assert shown == set(CODES)


def test_a_warning_shows_its_code_at_the_end() -> None:
    loaded = parse(GOOD.replace(LAST, ""))
    (problem,) = lint(loaded.config, loaded.document)

    assert str(problem).endswith("(add a route: {from: shop, to: […]}) [GH01]")
