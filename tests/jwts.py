"""Creates tokens, requests that carry them, and verifications with `type: jwt`."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import ec

from doubles.keys import Known, ec_key, pem, rsa_key
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from verifying import request, verification

SECRET = "a-secret-of-at-least-thirty-two-bytes"
BEARER: dict[str, Any] = {
    "type": "jwt",
    "algorithm": "HS256",
    "header": "Authorization",
    "prefix": "Bearer ",
}
BODY: dict[str, Any] = {"type": "jwt", "algorithm": "RS256", "body": True, "key": "pem"}
JWKS_URL = "https://provider.example/.well-known/jwks.json"
A2_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-y"
    "RT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS"
    "-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2et"
    "hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
#: RFC 7515, appendices A.1, A.2 and A.3: the same claims with three signatures.
CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
EXPIRES = 1300819380
A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A1_SIGNATURE = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
A2_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
    "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
    "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
    "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
A3_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"


def encode_part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def decode_part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def private_key(algorithm: str) -> Any:
    return {"HS256": SECRET, "RS256": rsa_key(), "ES256": ec_key()}[algorithm]


def signed_token(claims: Any, algorithm: str = "HS256", key: Any = None, **headers: Any) -> str:
    """Sign with PyJWT."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return pyjwt.PyJWS().encode(payload, key or private_key(algorithm), algorithm, headers)


def bearer_request(token: str, body: bytes = b"{}") -> Request:
    return request(body, {"Authorization": f"Bearer {token}"})


def hs256(**settings: Any) -> Verification:
    return verification(BEARER | settings, secrets=(SECRET,))


def asymmetric(algorithm: str, **settings: Any) -> Verification:
    scheme = BEARER | {"algorithm": algorithm, "key": "pem"} | settings
    return verification(scheme, secrets=(pem(private_key(algorithm).public_key()),))


def with_published_keys(
    keys: list[dict[str, Any]] | bytes, algorithm: str = "RS256", **settings: Any
) -> Verification:
    """Build a verification with published keys that have been fetched already."""
    checked = verification(BEARER | {"algorithm": algorithm, "jwks": JWKS_URL} | settings)
    document = keys if isinstance(keys, bytes) else json.dumps({"keys": keys}).encode()
    for remote in checked.remote:
        remote.keys = Known({JWKS_URL: document})
    return checked


def jwk(key: Any, **members: str) -> dict[str, Any]:
    maker = (
        pyjwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePublicKey)
        else pyjwt.algorithms.RSAAlgorithm
    )
    return {**maker.to_jwk(key, as_dict=True), **members}
