"""JSON documents return the exact bytes of their values, or are refused."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.language import document
from gatehouse.language.document import (
    MAX_MEMBERS,
    Document,
    MalformedDocumentError,
    is_json,
    sorted_json,
    with_value,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_a_value_is_the_bytes_that_were_sent() -> None:
    read = Document(b'{"data": {"big": 12345678901234567890123,"price" : 45.50, "e":1E+2 } }')

    assert read.raw(("data",)) == b'{"big": 12345678901234567890123,"price" : 45.50, "e":1E+2 }'
    assert read.raw(("data", "big")) == b"12345678901234567890123"
    assert read.text(("data", "price")) == "45.50"


def test_text_is_a_string_without_quotes_and_escapes() -> None:
    assert Document(rb'{"a": "x\"\u00e9\n"}').text(("a",)) == 'x"é\n'


def test_lists_are_indexed_by_number() -> None:
    assert Document(b'{"a": [10, {"b": "x"}]}').text(("a", "1", "b")) == "x"


@pytest.mark.parametrize("number", ["", "x", "-1", "2", "1.0", "9" * 5000, "\N{SUPERSCRIPT ONE}"])
def test_an_invalid_index_has_no_value(number: str) -> None:
    assert Document(b"[10, 20]").text((number,)) is None


@pytest.mark.case("S-22")
def test_an_object_with_more_members_than_any_provider_sends_is_not_read() -> None:
    def of(members: int) -> Document:
        return Document(b"{" + b",".join(b'"%06x":1' % number for number in range(members)) + b"}")

    assert of(MAX_MEMBERS).text(("000000",)) == "1"
    with pytest.raises(MalformedDocumentError):
        of(MAX_MEMBERS + 1).text(("000000",))


@pytest.mark.case("S-21")
@pytest.mark.parametrize("between", [0, MAX_MEMBERS - 2])
def test_a_repeated_name_is_found_at_any_distance(between: int) -> None:
    members = [b'"id":1', *(b'"%06x":1' % number for number in range(between)), b'"id":2']

    for path in (("id",), ("none",)):
        with pytest.raises(MalformedDocumentError, match="twice"):
            Document(b"{" + b",".join(members) + b"}").text(path)


@pytest.mark.case("S-22")
def test_an_unreadable_level_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Mock(side_effect=document._read_object)
    monkeypatch.setattr(document, "_read_object", reads)
    read = Document(b'{"data":{"id":1,"id":2},"type":"x"}')

    for _ in range(3):
        with pytest.raises(MalformedDocumentError):
            read.text(("data", "id"))
        assert read.text(("type",)) == "x"
    assert reads.call_count == 2  # the whole and its data


_NAMES = st.sampled_from(["", "a", "b", "id", "data", "é", 'a"b', "a\\\\", ":", "\N{GRINNING FACE}"])


@pytest.mark.case("S-21")
@given(
    st.lists(st.tuples(_NAMES, JSON), max_size=6),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :"), (",", ": "), (",\n ", ":")]),
    st.booleans(),
    st.sampled_from(["", " ", "\n"]),
)
def test_an_object_is_read_alike_in_every_layout(
    members: list[tuple[str, object]], separators: tuple[str, str], ascii_only: bool, around: str
) -> None:
    def of(value: object) -> str:
        return json.dumps(value, separators=separators, ensure_ascii=ascii_only)

    between, after_name = separators
    written = between.join(f"{of(name)}{after_name}{of(value)}" for name, value in members)
    read = Document(f"{{{around}{written}{around}}}".encode())

    if len(dict(members)) < len(members):
        with pytest.raises(MalformedDocumentError, match="twice"):
            read.text(("a",))
    else:
        assert {name: read.raw((name,)) for name, _ in members} == {
            name: of(value).encode() for name, value in members
        }


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_a_scalar_as_text_is_as_it_was_sent(value: object) -> None:
    sent = json.dumps(value)
    as_text = None if value is None else value if isinstance(value, str) else sent
    read = Document(b'{"a":%b,"b":[%b]}' % (sent.encode(), sent.encode()))

    if sent in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(MalformedDocumentError):
            read.text(("a",))
    else:
        assert read.text(("a",)) == read.text(("b", "0")) == as_text


@pytest.mark.parametrize("sent", [b"1e999", b"-0", b"1E+2", b"9" * 5000, b"0.10", b'{"x": 1}', b"[ ]"])
def test_any_other_value_as_text_is_as_it_was_sent(sent: bytes) -> None:
    assert Document(b'{"a":%b}' % sent).text(("a",)) == sent.decode()


def test_an_empty_body_has_no_values() -> None:
    assert Document(b"").text(("a",)) is None


@pytest.mark.parametrize("path", [("b",), ("a", "b"), ("a", "b", "c"), ("l", "7"), ("l", "-1"), ("n",)])
def test_a_missing_value_is_none(path: tuple[str, ...]) -> None:
    assert Document(b'{"a": 1, "l": [1], "n": null}').text(path) is None


@pytest.mark.case("S-20", "S-22", "S-23")
@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"{",
        b"nope",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":1}{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":01}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        Document(body).text(("a",))


#: An unreadable member beside readable ones.
BESIDE = {
    "half a character": rb'"\ud83d"',
    "half a character after a backslash": rb'"\\\\\ud83d"',
    "the second half alone": rb'"\uDE00 \u00e9"',
    "half a character far inside": rb'[{"a":[1,{"b":"\ud83d]}"}]}]',
    "not UTF-8": b'"\xff"',
    "NaN": b"NaN",
    "NaN inside": b'{"n":[-Infinity]}',
    "a number with a zero in front": b"01",
    "NUL": b'"\x00"',
    "deep": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.case("F-22")
@pytest.mark.parametrize("other", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize(
    "layout", [b'{"x":%b,"a":"y","d":{"n":1.50}}', b' { "a":"y" ,\n"x" : %b , "d":{"n":1.50} }\n']
)
def test_an_unreadable_member_does_not_affect_the_others(layout: bytes, other: bytes) -> None:
    read = Document(layout % other)

    assert read.text(("a",)) == "y"
    assert read.raw(("d",)) == b'{"n":1.50}'
    assert read.text(("d", "n")) == "1.50"
    assert read.text(("none",)) is None
    assert read.raw_unchecked(("x",)) == other


@pytest.mark.case("F-22")
@pytest.mark.parametrize(
    ("other", "is_json_all_the_same"),
    [(value, "half" in name) for name, value in BESIDE.items() if name != "the second half alone"],
)
def test_only_the_value_that_is_needed_must_be_json(other: bytes, is_json_all_the_same: bool) -> None:
    read = Document(b'{"x":%b}' % other)

    if is_json_all_the_same:
        assert read.raw(("x",)) == other
        assert json.loads(other)
    else:
        with pytest.raises(MalformedDocumentError):
            read.raw(("x",))
    if other.startswith(b'"'):
        with pytest.raises(MalformedDocumentError):
            read.text(("x",))


@pytest.mark.case("F-22", "S-21")
@pytest.mark.parametrize(
    "body",
    [
        rb'{"x":"\ud83d","a":1,"a":2}',
        rb'{"x":"\ud83d","a":1,"\u0061":2}',
        rb'{"\ud83d":1,"a":1,"\ud83D":2}',
        rb'{"x":"\ud83d","a":1,}',
        rb'{"x":"\ud83d","a":1]',
        rb'{"x":"\ud83d" "a":1}',
        rb'{"x":"\ud83d","a":1} {}',
        rb'{"x":["\ud83d","a":1}',
        rb'{"x":"\ud83d","a"}',
        rb'{"x":"\ud83d","a":}',
        b'{"x":NaN,' + b",".join(b'"%x":1' % n for n in range(20_000)) + b',"a":1}',
    ],
)
def test_the_tolerant_parser_still_refuses_a_broken_structure(body: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        Document(body).text(("a",))


@pytest.mark.case("F-22")
def test_an_unreadable_element_does_not_affect_the_others() -> None:
    body = rb'{"e": [ {"a":"\ud83d"}, NaN , [[1]], "x" ] }'

    assert Document(body).items(("e",)) == [rb'{"a":"\ud83d"}', b"NaN", b"[[1]]", b'"x"']
    assert Document(body).text(("e", "2", "0", "0")) == "1"


@pytest.mark.case("F-23")
def test_a_byte_order_mark_is_not_part_of_the_document() -> None:
    body = b'\xef\xbb\xbf{"a":[1]}'

    assert Document(body).text(("a", "0")) == "1"
    assert Document(body).raw(()) == b'{"a":[1]}'
    assert sorted_json(body) == b'{"a": [1]}'


HALVES = st.recursive(
    st.none()
    | st.integers()
    | st.text()
    | st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), max_size=2),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("\ud800"), inner),
    max_leaves=20,
)


@pytest.mark.case("F-22")
@given(st.dictionaries(st.text() | st.just("\udfff"), HALVES, min_size=1))
def test_members_next_to_lone_surrogates_are_read(members: dict[str, object]) -> None:
    body = json.dumps(members).encode()
    read = Document(body)

    assert is_json(body)
    for name, value in json.loads(body).items():
        raw = read.raw((name,))
        assert raw is not None
        assert json.loads(raw) == value


@pytest.mark.case("S-21")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"id":"a","id":"b"}', ("id",)),
        (b'{"id":"a","\\u0069d":"b"}', ("id",)),
        (b'{"x":1,"data":{"id":1,"id":1}}', ("data", "id")),
    ],
)
def test_a_name_that_occurs_twice_is_refused(body: bytes, path: tuple[str, ...]) -> None:
    with pytest.raises(MalformedDocumentError):
        Document(body).text(path)


def test_the_same_name_on_two_levels_is_fine() -> None:
    assert Document(b'{"id":"a","data":{"id":"b"}}').text(("id",)) == "a"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b"true"])
def test_a_body_that_is_not_an_object_has_no_values(body: bytes) -> None:
    assert Document(body).text(("id",)) is None


def test_items_are_the_bytes_of_each_element() -> None:
    assert Document(b'{"e": [ {"a":1.0} , 2 ]}').items(("e",)) == [b'{"a":1.0}', b"2"]


def test_items_of_a_value_that_is_not_a_list_are_refused() -> None:
    with pytest.raises(MalformedDocumentError):
        Document(b'{"e": {}}').items(("e",))


@given(JSON)
def test_is_json_accepts_the_output_of_the_json_module(value: object) -> None:
    assert is_json(json.dumps(value).encode())


@given(st.dictionaries(st.text(), JSON, min_size=1))
def test_each_member_reads_back_as_it_was_written(members: dict[str, object]) -> None:
    read = Document(json.dumps(members).encode())

    for name, value in members.items():
        raw = read.raw((name,))
        assert raw is not None
        assert json.loads(raw) == value


def test_sorted_json_is_pythons_own_with_sorted_keys() -> None:
    assert sorted_json('{"b": [1, "é"], "a": {"d": 2, "c": null}}'.encode()) == (
        b'{"a": {"c": null, "d": 2}, "b": [1, "\\u00e9"]}'
    )


@given(JSON)
def test_sorted_json_does_not_depend_on_the_order_of_keys(value: object) -> None:
    expected = json.dumps(value, sort_keys=True).encode()

    assert sorted_json(json.dumps(value).encode()) == expected
    assert sorted_json(expected) == expected


@pytest.mark.case("S-21", "S-22")
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"x":[{"a":1,"a":2}]}',
        b"NaN",
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b"\xff",
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_sorted_json_refuses_ambiguous_json(body: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        sorted_json(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (lambda: Document(body).text(("a", "0")), lambda: sorted_json(body)):
        try:
            read()
        except MalformedDocumentError:
            continue


@pytest.mark.parametrize(
    ("raw", "path", "expected"),
    [
        (b'{"a": 1.50}', ("b",), b'{"a": 1.50, "b": "x"}'),
        (b'{"a": {"n": 1.50, "b": 2}}', ("a", "b"), b'{"a": {"n": 1.50, "b": "x"}}'),
        (b"{}", ("a", "b"), b'{"a": {"b": "x"}}'),
        (b'[{"n": 1e2}, 2]', ("0", "b"), b'[{"n": 1e2, "b": "x"}, 2]'),
    ],
)
def test_setting_a_value_keeps_the_bytes_of_all_others(
    raw: bytes, path: tuple[str, ...], expected: bytes
) -> None:
    assert with_value(raw, path, b'"x"') == expected


@pytest.mark.parametrize(("raw", "path"), [(b"[1]", ("3",)), (b"3", ("a",)), (b'{"a": 1}', ("a", "b"))])
def test_a_value_cannot_be_set_inside_a_scalar(raw: bytes, path: tuple[str, ...]) -> None:
    with pytest.raises(MalformedDocumentError):
        with_value(raw, path, b"1")
