"""The OpenAPI document is valid, current and complete, and matches what the API accepts."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

import gatehouse.operator
from gatehouse.cli import main
from gatehouse.operator import route_docs
from gatehouse.operator.queries import BadQueryError, delivery_query, event_query, page_limit, retry_request
from gatehouse.operator.request_types import DeliveryFilters, EventFilters
from gatehouse.reference import api, openapi
from gatehouse.store.records import DeliveryQuery, EventQuery

ROOT = Path(__file__).parents[2]
DOCUMENT = openapi.document()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_the_shipped_document_and_page_are_up_to_date() -> None:
    """If not: `make api`."""
    assert (ROOT / "docs" / "openapi.json").read_text() == openapi.text()
    assert (ROOT / "docs" / "api.md").read_text() == api.page()


def test_the_schema_command_prints_the_document() -> None:
    result = CliRunner().invoke(main, ["schema", "--openapi"])

    assert (result.exit_code, result.stdout) == (0, openapi.text())


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_route_has_a_short_summary_and_a_chapter(route: str) -> None:
    operation = OPERATIONS[route]
    assert operation["summary"].endswith(".")
    assert len(operation["summary"]) <= 100
    assert set(operation["tags"]) <= set(openapi.GROUPS)


def test_every_route_has_a_unique_id() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(ids) == len(set(ids))


def handlers() -> Iterator[tuple[str, route_docs.RouteDescription]]:
    """Find every described handler, whether it has a route or not."""
    for module in pkgutil.walk_packages(gatehouse.operator.__path__, "gatehouse.operator."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and kind.__module__ == module.name:
                for handler in vars(kind).values():
                    if about := route_docs.route_description(handler):
                        yield about.name, about


def test_every_described_handler_serves_a_route() -> None:
    assert {name for name, _ in handlers()} == {about.name for _, _, about in openapi.described_routes()}


def test_a_route_without_a_description_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler() -> None: ...

    monkeypatch.setattr(openapi, "served", lambda _: iter([("GET", "/new", handler)]))

    with pytest.raises(LookupError, match="GET /new has no description"):
        openapi.document()


def test_the_filters_are_those_of_the_store() -> None:
    assert EventFilters.__annotations__.keys() == set(EventQuery.__struct_fields__)
    assert DeliveryFilters.__annotations__.keys() == set(DeliveryQuery.__struct_fields__)


GOOD = {"limit": "50", "since": "1h", "until": "today", "status": "dead", "reason": "timeout"} | {
    "http_status": "503"
}


@pytest.mark.parametrize(
    ("path", "read"), [("/api/v1/events", event_query), ("/api/v1/deliveries", delivery_query)]
)
def test_a_list_takes_the_described_parameters_and_no_others(path: str, read: Any) -> None:
    names = [parameter["name"] for parameter in DOCUMENT["paths"][path]["get"]["parameters"]]

    read({name: GOOD.get(name, "x") for name in names}, 1e9)
    with pytest.raises(BadQueryError):
        read({"other": "x"}, 1e9)


def test_a_retry_takes_the_described_members_and_no_others() -> None:
    members = DOCUMENT["components"]["schemas"]["RetryBody"]["properties"]
    good = GOOD | {"all": True, "dry_run": True, "as_of": 1e9}

    retry_request({name: good.get(name, "x") for name in members}, 1e9)
    with pytest.raises(BadQueryError):
        retry_request({"all": True, "limit": 3}, 1e9)


def test_the_described_bounds_of_a_limit_are_those_of_the_code() -> None:
    (limit,) = (
        parameter["schema"]
        for parameter in DOCUMENT["paths"]["/api/v1/events"]["get"]["parameters"]
        if parameter["name"] == "limit"
    )

    assert page_limit({}) == limit["default"]
    for number in (limit["minimum"], limit["maximum"]):
        assert page_limit({"limit": str(number)}) == number
    for number in (limit["minimum"] - 1, limit["maximum"] + 1):
        with pytest.raises(BadQueryError):
            page_limit({"limit": str(number)})


def schemas(part: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Find each content with an example: its schema, and the example."""
    if isinstance(part, dict):
        if "schema" in part and "example" in part:
            yield part["schema"], part["example"]
        if "schema" in part and "examples" in part:
            yield from ((part["schema"], one["value"]) for one in part["examples"].values())
        for inner in part.values():
            yield from schemas(inner)
    if isinstance(part, list):
        for inner in part:
            yield from schemas(inner)


def test_every_example_matches_its_schema() -> None:
    found = list(schemas({"paths": DOCUMENT["paths"], "responses": DOCUMENT["components"]["responses"]}))

    assert len(found) > len(OPERATIONS)
    for schema, example in found:
        whole = schema | {"components": DOCUMENT["components"]}
        assert [error.message for error in Draft202012Validator(whole).iter_errors(example)] == []


def test_every_member_of_every_type_is_described() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"].endswith("."), name
        for member, about in schema["properties"].items():
            assert about.get("description"), f"{name}.{member}"


def test_the_examples_of_errors_are_errors() -> None:
    for status, kind in openapi.ERRORS.items():
        assert 400 <= status < 600
        response = DOCUMENT["components"]["responses"][kind.name]
        assert set(response["content"]["application/json"]["examples"]) == set(kind.codes)


def test_the_page_shows_every_route_and_links_to_every_type() -> None:
    page = api.page()

    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`\n" in page
    anchors = [line[4:].lower() for line in page.splitlines() if line.startswith("### ")]
    chapters = [line[3:].lower() for line in page.splitlines() if line.startswith("## ")]
    assert len(set(anchors + chapters)) == len(anchors + chapters)
    for link in {part.partition(")")[0] for part in page.split("](#")[1:]}:
        assert link in anchors + chapters


def test_the_bodies_in_the_curl_examples_are_json() -> None:
    bodies = [line.split("-d '")[1].partition("'")[0] for line in api.page().splitlines() if "-d '" in line]

    assert len(bodies) >= 2
    assert all(isinstance(json.loads(body), dict) for body in bodies)
