"""Durations, sizes, rates, numbers, addresses, URLs and paths: valid and invalid values."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from gatehouse.config.addresses import (
    Address,
    parse_address,
    parse_http_url,
    parse_network,
    parse_path,
    parse_public_url,
)
from gatehouse.config.base import format_template, parse_template, parse_text
from gatehouse.config.load import parse
from gatehouse.config.quantities import format_duration, format_size, parse_duration, parse_rate, parse_size
from gatehouse.config.secret_references import parse_secret_ref
from gatehouse.config.secrets import SecretRef
from gatehouse.config.store_url import parse_store_url
from gatehouse.errors import ConfigError

GOOD: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (parse_duration, "300ms", 0.3),
    (parse_duration, "30s", 30.0),
    (parse_duration, "1h30m", 5400.0),
    (parse_duration, "1.5h", 5400.0),
    (parse_duration, "3650d", 3650 * 86400.0),
    (parse_size, 1, 1),
    (parse_size, "65536B", 65536),
    (parse_size, "500KB", 500_000),
    (parse_size, "1MiB", 1_048_576),
    (parse_size, "64MiB", 67_108_864),
    (parse_rate, "100/s", 100.0),
    (parse_rate, "30/m", 0.5),
    (parse_rate, "0.5/h", 0.5 / 3600),
    (parse_address, "127.0.0.1:9090", Address("127.0.0.1", 9090)),
    (parse_address, ":8080", Address("", 8080)),
    (parse_address, "[::1]:0", Address("::1", 0)),
    (parse_address, "gate-1.internal:65535", Address("gate-1.internal", 65535)),
    (parse_http_url, "http://a", "http://a"),
    (parse_http_url, "https://a.b:8443/c?d=e", "https://a.b:8443/c?d=e"),
    (parse_http_url, "http://[::1]:8000/events", "http://[::1]:8000/events"),
    (parse_public_url, "https://hooks.example.com", "https://hooks.example.com"),
    (parse_public_url, "https://hooks.example.com/", "https://hooks.example.com"),
    (parse_public_url, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    (parse_path, "/in/shop", "/in/shop"),
    (parse_path, "/in/shop/", "/in/shop/"),
    (parse_path, "/~a/b.c_d-e/..f", "/~a/b.c_d-e/..f"),
    (parse_network, "10.0.0.0/8", "10.0.0.0/8"),
    (parse_network, "::1", "::1"),
    (parse_store_url, "sqlite:///gatehouse.db", "sqlite:///gatehouse.db"),
    (parse_store_url, "sqlite:////var/lib/gatehouse.db", "sqlite:////var/lib/gatehouse.db"),
    *(
        (parse_store_url, url, url)
        for url in (
            "postgresql://gatehouse@db.internal/gatehouse",
            "postgres://gate%20house@10.0.0.1:5432,[fd00::1]:5433/gatehouse?target_session_attrs=primary",
            "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem",
            "postgresql://u@/d?host=/run/postgresql",
            "postgresql://u@%2Frun%2Fpostgresql/d",
        )
    ),
    (parse_secret_ref, "env:A_b1", SecretRef("env", "A_b1")),
    (parse_secret_ref, "file:/run/secrets/a b", SecretRef("file", "/run/secrets/a b")),
    (parse_text, "invoice.*", "invoice.*"),
]

BAD: list[tuple[Callable[[Any], Any], list[Any]]] = [
    (
        parse_duration,
        ["", "0s", "10", 10, "-1s", "1e18s", "9999999999999s", "3651d", "1 s", "1S", "s", "٣s", "1s\n"],
    ),
    (
        parse_size,
        [0, -1, 10**18, True, 1.5, math.nan, "", "0B", "10", "-1B", "1XB", "65MiB", "1 MiB", "1GiB"],
    ),
    (parse_rate, [100, "100", "0/s", "-1/s", "1/d", "/s", "100001/s", "1e9/s", True, math.inf]),
    (
        parse_address,
        [8080, "8080", "a:", "a:b", "a:65536", "1.2.3:80", "300.0.0.1:80", "[::zz]:80", "::1:80"],
    ),
    (
        parse_http_url,
        [5, "", "a", "ftp://a", "http://", "http:///a", "http://a:0", "http://a:b", "http://u:p@a"],
    ),
    (parse_http_url, ["http://a#b", "http://a b", "http://a\n", "http://é", "http://[::1", "//a"]),
    (parse_public_url, ["http://a/b", "http://a?b", "http://a/?", "http://a//", "a", None]),
    (parse_path, [5, "", "/", "a", "/a//b", "//a", "/a/..", "/../a", "/a/./b", "/a?b", "/a#b", "/a b", "/é"]),
    (parse_path, ["/a\n", "/%2e%2e/a", "/" + "a" * 256]),
    (parse_network, [5, "", "a", "10.0.0.1/8", "10.0.0.0/33"]),
    (
        parse_store_url,
        [5, "", "sqlite://a", "sqlite:///", "sqlite:///a/", "sqlite:///:memory:", "sqlite:///a?b"],
    ),
    (
        parse_store_url,
        ["mysql://a", "sqlite:///a\0b", "postgresql://u:p@h/d", "postgres://h", "postgresql+asyncpg://h"],
    ),
    (
        parse_store_url,
        [
            *(
                "postgresql://h/d",
                "postgresql://u@h",
                "postgresql://u@h/",
                "postgresql://u@/d",
                "postgresql:///d",
            ),
            *(
                "postgresql://u@h:0/d",
                "postgresql://u@h:65536/d",
                "postgresql://u@h,/d",
                "postgresql://u@h/d/e",
            ),
            *("postgresql://u@h/d#f", "postgresql://u@h/d e", "postgresql://é@h/d", "postgresql://u@h/d?"),
            *("postgresql://u@h/d?sslmode=", "postgresql://u@h/d?password=p", "postgresql://u@h/d?fsync=off"),
        ],
    ),
    (
        parse_secret_ref,
        [5, None, "", "env:", "env:1A", "env:A B", "file:", "vault:x", "A", "ENV:A", "file:/a\0", {}],
    ),
    (parse_text, ["", 5, "a\n"]),
    (
        parse_template,
        ["", (), ("a", ""), 5, ("a", 5), "{", "}", "{nope}", "{header}", "{body:}", "{url:a}", "{ body }"],
    ),
]


@pytest.mark.parametrize(("parse_it", "written", "value"), GOOD)
def test_a_valid_value_is_parsed(parse_it: Callable[[Any], Any], written: Any, value: Any) -> None:
    assert parse_it(written) == value


@pytest.mark.parametrize(("parse_it", "written"), [(parse_it, one) for parse_it, many in BAD for one in many])
def test_an_invalid_value_is_refused(parse_it: Callable[[Any], Any], written: Any) -> None:
    with pytest.raises(PydanticCustomError):
        parse_it(written)


@given(st.integers(1, 3650 * 86_400_000))
@settings(deadline=None)  # other work on the machine is no failure
def test_formatting_and_parsing_a_duration_is_lossless(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(1, 64 * 2**20))
@settings(deadline=None)  # other work on the machine is no failure
def test_formatting_and_parsing_a_size_is_lossless(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["{timestamp}.{body}", "{{{body:a.b}}}", ("{header:X}", "a{body_sorted}")])
def test_formatting_and_parsing_a_template_is_lossless(text: str | tuple[str, ...]) -> None:
    written = format_template(parse_template(text))

    assert (tuple(written) if isinstance(written, list) else written) == text


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()))
@settings(deadline=None)  # other work on the machine is no failure
def test_any_value_is_parsed_or_refused(value: Any) -> None:
    for parse_it in {parse_it for parse_it, _ in BAD}:
        with contextlib.suppress(PydanticCustomError):
            parse_it(value)


HISAB = "sources: {a: {provider: hisab, secrets: env:A, %s}}"
TARGET = "sources: {}\ndestinations: {a: {url: http://a, %s}}"
#: Path → the text around its number.
NUMBERS = {
    "server.max_body": "sources: {}\nserver: {max_body: %s}",
    "server.request_deadline": "sources: {}\nserver: {request_deadline: %s}",
    "server.commit_deadline": "sources: {}\nserver: {commit_deadline: %s}",
    "server.idle_timeout": "sources: {}\nserver: {idle_timeout: %s}",
    "server.max_connections": "sources: {}\nserver: {max_connections: %s}",
    "store.keep_events": "sources: {}\nstore: {keep_events: %s}",
    "store.keep_dead": "sources: {}\nstore: {keep_dead: %s}",
    "sources.a.max_body": HISAB % "max_body: %s",
    "sources.a.min_secret": HISAB % "min_secret: %s",
    "sources.a.answer_deadline": HISAB % "answer_deadline: %s",
    "sources.a.retry_horizon": HISAB % "retry_horizon: %s",
    "sources.a.dedupe.window": HISAB % "dedupe: {window: %s}",
    "sources.a.dedupe.by.0.window": HISAB % "dedupe: {by: [{key: '{body:id}', window: %s}]}",
    "sources.a.verify.min_secret": HISAB % "verify: {min_secret: %s}",
    "sources.a.verify.timestamp.tolerance": HISAB % "verify: {timestamp: {tolerance: %s}}",
    "sources.a.answers.accepted": HISAB % "answers: {accepted: %s}",
    "sources.a.answers.duplicate": HISAB % "answers: {duplicate: %s}",
    "sources.a.answers.unauthorized": HISAB % "answers: {unauthorized: %s}",
    "destinations.a.timeout": TARGET % "timeout: %s",
    "destinations.a.max_connection_age": TARGET % "max_connection_age: %s",
    "destinations.a.concurrency": TARGET % "concurrency: %s",
    "destinations.a.batch.events": TARGET % "format: cloudevents-batch, batch: {events: %s}",
    "destinations.a.batch.bytes": TARGET % "format: cloudevents-batch, batch: {bytes: %s}",
    "destinations.a.batch.linger": TARGET % "format: cloudevents-batch, batch: {linger: %s}",
    "destinations.a.rate": TARGET % "rate: %s",
    "destinations.a.retry.first": TARGET % "retry: {first: %s}",
    "destinations.a.retry.factor": TARGET % "retry: {factor: %s}",
    "destinations.a.retry.max": TARGET % "retry: {max: %s}",
    "destinations.a.retry.give_up_after": TARGET % "retry: {give_up_after: %s}",
}


@pytest.mark.case("O-19")
@pytest.mark.parametrize(
    "value", ["0", "-1", "1e18", "1000000000000000000", '"10"', "true", ".nan", "NaN", ".inf"]
)
@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_out_of_bounds_is_reported_at_its_key(path: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(NUMBERS[path] % value)

    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.case("O-19")
@pytest.mark.parametrize(
    "value", ["-1", "1e18", "1000000000000000000", '"10"', "true", ".nan", "NaN", ".inf"]
)
@pytest.mark.parametrize("key", ["min_free", "keep_replies"])
def test_the_minimum_free_disk_space_and_kept_replies_may_be_zero_but_not_invalid(
    key: str, value: str
) -> None:
    text = f"sources: {{}}\nstore: {{{key}: %s}}"
    assert getattr(parse(text % "0").config.store, key) == 0
    with pytest.raises(ConfigError) as caught:
        parse(text % value)

    assert [problem.path for problem in caught.value.problems] == [f"store.{key}"]


def test_at_most_64_kib_of_a_reply_are_kept() -> None:
    text = "sources: {}\nstore: {keep_replies: %s}"
    assert parse("sources: {}").config.store.keep_replies == 1024
    assert parse(text % "64KiB").config.store.keep_replies == 65536
    with pytest.raises(ConfigError, match="at most 64KiB"):
        parse(text % "65KiB")
