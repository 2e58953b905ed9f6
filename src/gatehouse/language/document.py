"""JSON bodies, read without losing a digit: values stay the bytes that were sent.

Stricter than most readers on purpose: a name that occurs twice in an object on the way to a value is an
error, because the gateway and the app behind it could read different values out of the same bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from gatehouse.language import tolerant
from gatehouse.language.tolerant import Unchecked, without_halves

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class MalformedDocumentError(ValueError):
    """The bytes are not JSON, or not JSON with one meaning."""


class NoTextError(MalformedDocumentError):
    """A string is there and can't be read: half a character, bytes that are not UTF-8, control characters."""


class _TooManyMembersError(Exception):
    """An object has more members than any provider gives one. No `ValueError`: msgspec would hide it."""


class _Member(str):
    """A member's name that equals only itself, so that a repeated one is not swallowed by the dict."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


#: More members than any provider gives one object. Each costs time, in which everybody else waits.
MAX_MEMBERS = 50_000
#: What a member takes at least: `"":1,`.
_MEMBER_BYTES = 5
MARK = b"\xef\xbb\xbf"
#: No array in memory has more elements than have numbers of so many digits.
_INDEX_DIGITS = 9

# The hook gets the type and the name, as `__new__` does: one of Python's own would cost a call per member.
_read_few = msgspec.json.Decoder(dict[_Member, Raw], dec_hook=str.__new__).decode
_read_array = msgspec.json.Decoder(list[Raw]).decode
_read_string = msgspec.json.Decoder(str).decode
_read_any = msgspec.json.Decoder(Raw).decode

Path = tuple[str, ...]


class _Elements:
    """The elements of an array, by number as a path has it."""

    __slots__ = ("_elements",)

    def __init__(self, elements: list[Raw] | list[Unchecked]) -> None:
        self._elements = elements

    def get(self, number: str) -> Raw | Unchecked | None:
        # Not a dict of all numbers: half a million elements fit into a body of a megabyte.
        is_index = number.isdecimal() and len(number) <= _INDEX_DIGITS and int(number) < len(self._elements)
        return self._elements[int(number)] if is_index else None


_Members: TypeAlias = dict[str, Raw] | dict[str, Unchecked] | _Elements


class Document(msgspec.Struct, gc=False, eq=False):
    """One JSON text; each level is read when first asked for, and once, also when it can't be read."""

    _raw: bytes
    #: What was read so far, by the path to it; None where that failed.
    _levels: dict[Path, _Members | None] = {}

    def raw(self, path: Path) -> bytes | None:
        """Return the exact bytes of the value at `path`, or None when there is none.

        Raises `MalformedDocumentError` for what is not JSON on the way there.
        """
        if not path:
            return _valid(without_mark(self._raw).strip())
        value = (self._levels.get(path[:-1]) or self._members(path[:-1])).get(path[-1])
        if value.__class__ is Unchecked:
            return _valid(bytes(value))
        return None if value is None else bytes(value)

    def found(self, path: Path) -> bytes | None:
        """Return what stands at `path`, or None when nothing does. Inside it may not be JSON."""
        if not path:
            return without_mark(self._raw).strip()
        value = (self._levels.get(path[:-1]) or self._members(path[:-1])).get(path[-1])
        return None if value is None else bytes(value)

    def text(self, path: Path) -> str | None:
        """Return the value as text: a string without its quotes, anything else as sent; None for null."""
        value = (self._levels.get(path[:-1]) or self._members(path[:-1])).get(path[-1])
        if value is None:
            return None
        raw = bytes(value)
        if raw == b"null":
            return None
        if not raw.startswith(b'"'):
            return (_valid(raw) if value.__class__ is Unchecked else raw).decode()
        try:
            return _read_string(raw)
        except (msgspec.MsgspecError, ValueError) as error:
            raise NoTextError("a string that is no text") from error

    def items(self, path: Path) -> list[bytes]:
        """Return the exact bytes of each element of the array at `path`. Inside they may not be JSON."""
        raw = self.found(path)
        if raw is None or not raw.startswith(b"["):
            raise MalformedDocumentError("no array to split")
        return [bytes(item) for item in _read_list(raw)]

    def _members(self, path: Path) -> _Members:
        if path in self._levels:
            members = self._levels[path]
            if members is None:
                raise MalformedDocumentError("found before")
            return members
        self._levels[path] = None
        members = self._levels[path] = self._read_members(path)
        return members

    def _read_members(self, path: Path) -> _Members:
        if path:
            value: bytes | Raw | None = self._members(path[:-1]).get(path[-1])
        elif not self._raw:
            return {}  # no body at all has no values; that is not the same as a body with no meaning
        else:
            value = without_mark(self._raw) if self._raw.startswith(MARK) else self._raw
        start = b"" if value is None else bytes(value).lstrip()[:1]
        if value is not None and start == b"{":
            return _read_object(value)
        if value is not None and start == b"[":
            return _Elements(_read_list(value))
        if not path:
            self.raw(())
        return {}


def _read_object(raw: bytes | Raw) -> dict[str, Raw] | dict[str, Unchecked]:
    """Read the members of an object. Raises `MalformedDocumentError`, also for a name that occurs twice."""
    try:
        if raw.__class__ is not Raw:
            _utf8(raw)  # what is inside a `Raw` was looked at with what it is inside of
        pairs = _read_few(raw) if len(bytes(raw)) <= MAX_MEMBERS * _MEMBER_BYTES else _read_many(raw)
    except _TooManyMembersError as error:
        raise MalformedDocumentError("too many members in one object") from error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_around(bytes(raw))
    members = {str(name): value for name, value in pairs.items()}
    if len(members) != len(pairs):
        raise MalformedDocumentError("a name occurs twice in one object")
    return members


def _read_around(raw: bytes) -> dict[str, Unchecked]:
    """Read the members of an object that holds something that can't be read."""
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


def _valid(raw: bytes) -> bytes:
    """Return what is JSON, with or without halves of characters. Raises `MalformedDocumentError`."""
    if not is_json(raw):
        raise MalformedDocumentError("not JSON")
    return raw


def without_mark(raw: bytes) -> bytes:
    """Leave out the byte order mark that some senders put in front of JSON (RFC 8259, 8.1)."""
    return raw.removeprefix(MARK)


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
    """Return the JSON with another value at `path`, added when there is none.

    Every value that is not on the way there stays the bytes it was.
    Raises `MalformedDocumentError` when the way leads through what is neither object nor list.
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
    """Tell whether these bytes are one JSON text in UTF-8. Half a character in a text is no fault of form."""
    try:
        _utf8(raw)
        try:
            _checked(_read_any, raw)
        except MalformedDocumentError:
            _checked(_read_any, without_halves(raw))
    except MalformedDocumentError:
        return False
    return True


def check_structure(raw: bytes) -> None:
    """Raise `MalformedDocumentError` for what has no values to ask for. Some of them may be unreadable."""
    if not raw:
        raise MalformedDocumentError("not JSON")
    Document(raw).text(("",))


def check_values(raw: bytes) -> None:
    """Raise `MalformedDocumentError` for what is neither an object nor a list."""
    check_structure(raw)
    if not without_mark(raw).lstrip().startswith((b"{", b"[")):
        raise MalformedDocumentError("a value and no structure")


def sorted_json(raw: bytes) -> bytes:
    """Re-serialise as Python's `json.dumps(obj, sort_keys=True)` does: `", "`, `": "`, ASCII escapes.

    Raises `MalformedDocumentError`, also for a repeated name: it would re-serialise away, and with it what
    distinguishes a forged body from the signed one.
    """
    try:
        value = json.loads(
            without_mark(raw).decode(), object_pairs_hook=_unique_pairs, parse_constant=_no_constant
        )
        return json.dumps(value, sort_keys=True, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedDocumentError("not JSON with one meaning") from error


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedDocumentError("a name occurs twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise MalformedDocumentError(f"{name} is not JSON")
