"""Published keys (RFC 7517, JSON Web Key Set), as far as RS256 and ES256 need them."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from gatehouse.language.sent import as_sent
from gatehouse.verify.asymmetric import decoded
from gatehouse.verify.jws import Algorithm, Check, es256, rs256
from gatehouse.verify.rsa import strong

#: More keys than any provider has live.
_MOST_KEYS = 50
_COORDINATE = 32


class _Key(msgspec.Struct, frozen=True):
    kty: str = ""
    kid: str | None = None
    use: str = "sig"
    alg: str | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


@lru_cache(maxsize=16)
def published(document: bytes, algorithm: Algorithm) -> tuple[tuple[str | None, Check], ...]:
    """Return the keys of a set that can check this algorithm, each with its id.

    Keys of other kinds, and those that can't be read, are left out: a provider may publish more than we know.
    """
    try:
        entries = msgspec.json.decode(document, type=_KeySet).keys[:_MOST_KEYS]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    found = (_check(bytes(entry), algorithm) for entry in entries)
    return tuple(key for key in found if key is not None)


class _Answer(msgspec.Struct, frozen=True):
    key: msgspec.Raw = msgspec.Raw()


def own_key(secret: bytes, algorithm: Algorithm) -> Check:
    """Read one key that the config gives as a JWK.

    It may stand inside what a provider answered, as Plaid's `{"key": {…}}`. Raises `ValueError`.
    """
    try:
        entry = bytes(msgspec.json.decode(secret, type=_Answer).key)
    except msgspec.MsgspecError as error:
        raise ValueError("not a JWK") from error
    found = _check(entry or secret, algorithm)
    if found is None:
        raise ValueError(f"not a public key for {algorithm}")
    return found[1]


def _check(entry: bytes, algorithm: Algorithm) -> tuple[str | None, Check] | None:
    try:
        key = msgspec.json.decode(entry, type=_Key)
        if key.use != "sig" or key.alg not in (None, algorithm):
            return None
        if algorithm == "RS256" and key.kty == "RSA":
            return key.kid, _rsa(key)
        if algorithm == "ES256" and (key.kty, key.crv) == ("EC", "P-256"):
            return key.kid, _ec(key)
    except (msgspec.MsgspecError, ValueError, UnsupportedAlgorithm, RecursionError):
        pass
    return None


def _rsa(key: _Key) -> Check:
    return rs256(strong(RSAPublicNumbers(_number(key.e), _number(key.n)).public_key()))


def _ec(key: _Key) -> Check:
    x, y = (_number(text, _COORDINATE) for text in (key.x, key.y))
    return es256(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())


def _number(text: str, length: int | None = None) -> int:
    """Read a big-endian number in base64url. Raises `ValueError`."""
    raw = decoded(as_sent(text), "base64url")
    if not raw or (length is not None and len(raw) != length):
        raise ValueError("not a number of a key")
    return int.from_bytes(raw)
