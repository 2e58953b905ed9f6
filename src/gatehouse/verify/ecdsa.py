"""`type: ecdsa`: ECDSA signatures (FIPS 186-5), as SendGrid and Plaid have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gatehouse.verify.asymmetric import HASHES, AsymmetricScheme, public_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import EcdsaConfig


class EcdsaScheme(AsymmetricScheme[ec.EllipticCurvePublicKey]):
    """Checks signatures written in DER, or as two numbers of the curve's length (`form: raw`)."""

    def __init__(self, config: EcdsaConfig, secrets: Sequence[bytes]) -> None:
        keys = [ec_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)
        self._algorithm = ec.ECDSA(HASHES[config.digest])
        self._is_raw = config.form == "raw"

    def has_form(self, signature: bytes) -> bool:
        if self._is_raw:
            return any(len(signature) == 2 * number_length(key) for key in self._keys)
        try:
            decode_dss_signature(signature)
        except ValueError:
            return False
        return True

    def check(self, key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        der = der_of(key, signature) if self._is_raw else signature
        key.verify(der, signed, self._algorithm)


def ec_key(secret: bytes, encoding: Literal["pem", "base64"]) -> ec.EllipticCurvePublicKey:
    """Read a public key on any named curve. Raises `ValueError`."""
    key = public_key(secret, encoding)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise ValueError("not a key for ECDSA")


def number_length(key: ec.EllipticCurvePublicKey) -> int:
    """Return how many bytes each number of a raw signature takes."""
    return (key.key_size + 7) // 8


def der_of(key: ec.EllipticCurvePublicKey, raw: bytes) -> bytes:
    """Write a raw signature in DER. Raises `ValueError` when it is not of the curve's length."""
    length = number_length(key)
    if len(raw) != 2 * length:
        raise ValueError("not two numbers of the curve's length")
    return encode_dss_signature(int.from_bytes(raw[:length]), int.from_bytes(raw[length:]))
