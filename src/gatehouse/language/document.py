"""Reads values from JSON documents. The values stay the bytes that were sent, so numbers keep all digits.

A name that occurs twice in an object on the path to a value is an error. Otherwise the gateway and the
application behind it could read different values from the same bytes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from gatehouse.language import tolerant
from gatehouse.language.tolerant import Unchecked, without_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class MalformedDocumentError(ValueError):
    """The bytes are not JSON, or their meaning is ambiguous."""


class UnreadableTextError(MalformedDocumentError):
    """A string that is present but unreadable, such as one with lone surrogates."""


class _TooManyMembersError(Exception):
    """An object has too many members. Not a `ValueError`, because msgspec would convert that."""


class _Member(str):
    """The name of a member. It equals only itself, so that a dict keeps repeated names."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


#: The maximum number of members of an object. Parsing blocks all other requests.
MAX_MEMBERS = 50_000
#: The minimum size of a member: `"":1,`.
_MEMBER_BYTES = 5
BOM = b"\xef\xbb\xbf"
#: The maximum number of digits of an array index. No array in memory is longer.
_INDEX_DIGITS = 9

# `str.__new__` takes the arguments of the hook directly. A Python function would cost one more call per
# member.
_read_few = msgspec.json.Decoder(dict[_Member, Raw], dec_hook=str.__new__).decode
_read_distinct = msgspec.json.Decoder(dict[str, Raw]).decode
_read_array = msgspec.json.Decoder(list[Raw]).decode
_read_string = msgspec.json.Decoder(str).decode
_read_scalar = msgspec.json.Decoder(str | int | float | bool | None).decode
_read_any = msgspec.json.Decoder(Raw).decode

#: The start of an object without spaces, as most providers write them.
_begins_compact = re.compile(rb'\{"[^"\\]*":[^ \t\r\n]').match
#: The bytes of a compact object other than names and values: `"":,` of each member, and one for the object
#: (two braces, but no comma after the last member).
_AROUND_MEMBER, _AROUND_OBJECT = 4, 1

Path = tuple[str, ...]


class _Elements:
    """The elements of an array, by the index in a path."""

    __slots__ = ("_elements",)

    def __init__(self, elements: list[Raw] | list[Unchecked]) -> None:
        self._elements = elements

    def get(self, number: str) -> Raw | Unchecked | None:
        # A dict of all indexes would be too large: a body of 1 MB can have half a million elements.
        is_index = number.isdecimal() and len(number) <= _INDEX_DIGITS and int(number) < len(self._elements)
        return self._elements[int(number)] if is_index else None


_Members: TypeAlias = dict[str, Raw] | dict[str, Unchecked] | _Elements


class Document(msgspec.Struct, gc=False, eq=False):
    """A JSON text. Each level is parsed once, when a value of it is needed. A failure is remembered too."""

    _raw: bytes
    #: The levels parsed so far, by path. None for a level that is not JSON.
    _levels: dict[Path, _Members | None] = {}

    def raw(self, path: Path) -> bytes | None:
        """Return the exact bytes of the value at `path`, or None.

        Raises `MalformedDocumentError` if anything on the path is not JSON.
        """
        if not path:
            return _valid(without_bom(self._raw).strip())
        value = (self._levels.get(path[:-1]) or self._members(path[:-1])).get(path[-1])
        if value.__class__ is Unchecked:
            return _valid(bytes(value))
        return None if value is None else bytes(value)

    def raw_unchecked(self, path: Path) -> bytes | None:
        """Return the bytes at `path` without checking that they are JSON, or None."""
        if not path:
            return without_bom(self._raw).strip()
        value = (self._levels.get(path[:-1]) or self._members(path[:-1])).get(path[-1])
        return None if value is None else bytes(value)

    def text(self, path: Path) -> str | None:
        """Return the value as text: a string without quotes, any other value as sent, and None for null."""
        return self.text_of(path[:-1], path[-1])

    def text_of(self, parent: Path, name: str) -> str | None:
        """Return the value `name` of the object or array at `parent` as text: see `text`."""
        value = (self._levels.get(parent) or self._members(parent)).get(name)
        if value is None:
            return None
        if value.__class__ is Raw:
            try:
                scalar = _read_scalar(value)
            except (msgspec.MsgspecError, ValueError):
                return _unusual_text(value)
            if scalar.__class__ is str:
                return scalar
            return None if scalar is None else bytes(value).decode()
        return _unusual_text(value)

    def items(self, path: Path) -> list[bytes]:
        """Return the exact, unchecked bytes of each element of the array at `path`."""
        raw = self.raw_unchecked(path)
        if raw is None or not raw.startswith(b"["):
            raise MalformedDocumentError("no array to split")
        return [bytes(item) for item in _read_list(raw)]

    def _members(self, path: Path) -> _Members:
        if path in self._levels:
            members = self._levels[path]
            if members is None:
                raise MalformedDocumentError("not JSON, as found before")
            return members
        self._levels[path] = None
        members = self._levels[path] = self._read_members(path)
        return members

    def _read_members(self, path: Path) -> _Members:
        if path:
            value: bytes | Raw | None = self._members(path[:-1]).get(path[-1])
        elif not self._raw:
            return {}  # an empty body has no values, and is not an error
        else:
            value = without_bom(self._raw) if self._raw.startswith(BOM) else self._raw
        start = b"" if value is None else bytes(value).lstrip()[:1]
        if value is not None and start == b"{":
            return _read_object(value)
        if value is not None and start == b"[":
            return _Elements(_read_list(value))
        if not path:
            self.raw(())
        return {}


def _read_object(raw: bytes | Raw) -> dict[str, Raw] | dict[str, Unchecked]:
    """Return the members of an object. Raises `MalformedDocumentError`, also for a repeated name."""
    try:
        if raw.__class__ is not Raw:
            _utf8(raw)  # a `Raw` was checked as part of the document around it
        if len(raw) > MAX_MEMBERS * _MEMBER_BYTES:
            pairs = _read_many(raw)
        elif _begins_compact(raw) and (distinct := _read_compact(raw)) is not None:
            return distinct
        else:
            pairs = _read_few(raw)
    except _TooManyMembersError as error:
        raise MalformedDocumentError("too many members in one object") from error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_around(bytes(raw))
    members = {str(name): value for name, value in pairs.items()}
    if len(members) != len(pairs):
        raise MalformedDocumentError("a name occurs twice in one object")
    return members


def _read_compact(raw: bytes | Raw) -> dict[str, Raw] | None:
    """Return the members of an object without spaces, whose names are distinct and ASCII without escapes.

    Return None for any other object. This takes a third less time than `_read_few`: an event reads about two
    objects, so it saves 4 % of ingest.
    """
    # A repeated name, a space, or an escape in a name would make the text longer than the members need.
    members = _read_distinct(raw)
    length = sum(map(len, members)) + sum(map(len, members.values()))
    length += _AROUND_MEMBER * len(members) + _AROUND_OBJECT
    return members if length == len(raw) else None


def _read_around(raw: bytes) -> dict[str, Unchecked]:
    """Return the members of an object with unreadable parts."""
    try:
        pairs = tolerant.members(raw)
    except ValueError as error:
        raise MalformedDocumentError("not JSON") from error
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedDocumentError("a name occurs twice in one object")
    return members


def _read_list(raw: bytes | Raw) -> list[Raw] | list[Unchecked]:
    try:
        if raw.__class__ is not Raw:
            _utf8(raw)
        return _read_array(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        return tolerant.elements(bytes(raw))
    except ValueError as error:
        raise MalformedDocumentError("not JSON") from error


def _unusual_text(value: Raw | Unchecked) -> str | None:
    """Return a value as text (see `Document.text`) that is no scalar, or that may not be JSON."""
    raw = bytes(value)
    if raw == b"null":
        return None
    if not raw.startswith(b'"'):
        return (_valid(raw) if value.__class__ is Unchecked else raw).decode()
    try:
        return _read_string(raw)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableTextError("an unreadable string") from error


def _valid(raw: bytes) -> bytes:
    """Return the bytes if they are JSON. Lone surrogates are allowed. Raises `MalformedDocumentError`."""
    if not is_json(raw):
        raise MalformedDocumentError("not JSON")
    return raw


def without_bom(raw: bytes) -> bytes:
    """Remove the byte order mark that some senders put before JSON (RFC 8259, 8.1)."""
    return raw.removeprefix(BOM)


def _read_many(raw: bytes | Raw) -> dict[_Member, Raw]:
    names = iter(range(MAX_MEMBERS))

    def counted(_: type, name: str) -> _Member:
        if next(names, None) is None:
            raise _TooManyMembersError
        return _Member(name)

    return msgspec.json.Decoder(dict[_Member, Raw], dec_hook=counted).decode(raw)


def _utf8(raw: bytes) -> bytes:
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedDocumentError("not UTF-8") from error
    return raw


def _checked(read: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    try:
        return read(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedDocumentError("not JSON") from error


def with_value(raw: bytes, path: Path, value: bytes) -> bytes:
    """Return the JSON with a new or replaced value at `path`.

    All values that are not on the path keep their bytes.
    Raises `MalformedDocumentError` if the path leads through a value that is neither an object nor a list.
    """
    if not path:
        return value
    is_list = raw.lstrip().startswith(b"[")
    if is_list:
        members: dict[str, bytes] = {str(i): item for i, item in enumerate(Document(raw).items(()))}
    else:
        members = {name: bytes(item) for name, item in _read_object(raw).items()}
    if is_list and path[0] not in members:
        raise MalformedDocumentError("no such element")
    members[path[0]] = with_value(members.get(path[0], b"{}"), path[1:], value)
    if is_list:
        return b"[" + b", ".join(members.values()) + b"]"
    return b"{" + b", ".join(msgspec.json.encode(n) + b": " + v for n, v in members.items()) + b"}"


def is_json(raw: bytes) -> bool:
    """Return whether the bytes are one JSON text in UTF-8. Lone surrogate escapes are allowed."""
    try:
        _utf8(raw)
        try:
            _checked(_read_any, raw)
        except MalformedDocumentError:
            _checked(_read_any, without_lone_surrogates(raw))
    except MalformedDocumentError:
        return False
    return True


def check_structure(raw: bytes) -> None:
    """Raise `MalformedDocumentError` if the bytes are not JSON. Single values may be unreadable."""
    if not raw:
        raise MalformedDocumentError("not JSON")
    Document(raw).text(("",))


def check_values(raw: bytes) -> None:
    """Raise `MalformedDocumentError` if the bytes are neither an object nor a list."""
    check_structure(raw)
    if not without_bom(raw).lstrip().startswith((b"{", b"[")):
        raise MalformedDocumentError("neither an object nor a list")


def sorted_json(raw: bytes) -> bytes:
    """Serialize JSON again as Python's `json.dumps(obj, sort_keys=True)` does: `", "`, `": "`, ASCII escapes.

    Raises `MalformedDocumentError`, also for a repeated name. Serializing would drop it, and a forged body
    could get the signature of another one.
    """
    try:
        value = json.loads(
            without_bom(raw).decode(), object_pairs_hook=_unique_pairs, parse_constant=_no_constant
        )
        return json.dumps(value, sort_keys=True, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedDocumentError("not JSON, or ambiguous") from error


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedDocumentError("a name occurs twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise MalformedDocumentError(f"{name} is not JSON")
