"""A batch is split into one item per element, and no element is lost."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.language.document import MalformedDocumentError, is_json
from gatehouse.language.split import MAX_ITEMS, Split


def split(path: str, body: Any) -> list[Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [json.loads(item.raw) for item in Split(tuple(filter(None, path.split(".")))).items(raw)]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("events", {"events": [1, 2]}, [1, 2]),
        ("events", {"events": []}, []),
        ("a.b", {"a": {"b": [1]}}, [1]),
        ("entry.*.changes", {"entry": [{"changes": [1, 2]}, {"changes": [3]}]}, [1, 2, 3]),
        ("entry.*.changes|messaging", {"entry": [{"changes": [1]}, {"messaging": [2]}]}, [1, 2]),
        ("entry.*.changes|messaging", {"entry": [{"messaging": [2], "changes": [1]}]}, [1, 2]),
        ("a.*.v.m|s", {"a": [{"v": {"m": [1], "s": [2]}}, {"v": {"s": [3]}}]}, [1, 2, 3]),
        ("", [1, 2], [1, 2]),
        ("", {"a": 1}, [{"a": 1}]),
        ("", b'{"a":1}\n{"a":2}\r\n\n{"a":3}\n', [{"a": 1}, {"a": 2}, {"a": 3}]),
    ],
)
def test_each_element_is_an_item(path: str, body: Any, expected: list[Any]) -> None:
    assert split(path, body) == expected


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("entry.*.changes", {"entry": [{"changes": [1]}, {"new": 2}]}, [1, {"new": 2}]),
        ("entry.*.changes", {"entry": [{"changes": {"no": "list"}}]}, [{"changes": {"no": "list"}}]),
        ("entry.*.changes", {"other": 1}, [{"other": 1}]),
        ("entry.*.changes", {"entry": [3]}, [3]),
    ],
)
def test_an_element_without_a_list_at_the_path_is_an_item(path: str, body: Any, expected: list[Any]) -> None:
    assert split(path, body) == expected


@pytest.mark.parametrize("body", [b" ", b"not JSON", b'{"a":1}\nnot JSON', b'{"events": [1, 2', b"\xff[1]"])
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    for path in ("", "events"):
        with pytest.raises(MalformedDocumentError):
            split(path, body)


@pytest.mark.case("S-22")
def test_too_many_lines_are_refused_before_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Mock(side_effect=is_json)
    monkeypatch.setattr("gatehouse.language.split.is_json", reads)

    assert len(split("", b"1\n" * MAX_ITEMS)) == MAX_ITEMS
    assert reads.call_count == MAX_ITEMS + 1
    with pytest.raises(MalformedDocumentError):
        split("", b"1\n" * (MAX_ITEMS + 1))
    assert reads.call_count == MAX_ITEMS + 2  # the whole, and no line


def test_too_many_items_are_refused() -> None:
    assert len(split("", [0] * MAX_ITEMS)) == MAX_ITEMS
    for path, body in (("", [0] * (MAX_ITEMS + 1)), ("e", {"e": [0] * (MAX_ITEMS + 1)})):
        with pytest.raises(MalformedDocumentError):
            split(path, body)


def test_an_item_has_the_documents_around_it_nearest_first() -> None:
    body = {"object": "page", "entry": [{"id": 7, "changes": [{"field": "feed"}]}]}
    (item,) = Split(("entry", "*", "changes")).items(json.dumps(body).encode())

    assert [document.text(("id",)) for document in item.outer] == ["7", None]
    assert item.outer[-1].text(("object",)) == "page"


def test_an_item_is_its_exact_bytes() -> None:
    (item,) = Split(("events",)).items(b'{"events": [ {"n": 1.50,  "u": "\\u00e9"} ]}')

    assert item.raw == b'{"n": 1.50,  "u": "\\u00e9"}'


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["entry", "changes", "m", "x"]), inner)
    ),
    max_leaves=20,
)


def count(body: Any, path: list[str]) -> int:
    """Count the items independently: recursively, in the data that Python's json module returns."""
    if not path:
        return 1
    members = body if isinstance(body, dict) else {}
    found = members.get(path[0])
    return sum(count(element, path[1:]) for element in found) if isinstance(found, list) else 1


@given(JSON)
def test_no_element_is_lost_in_any_body(body: Any) -> None:
    assert len(split("entry.*.changes.*.m", body)) == count(body, ["entry", "changes", "m"])
