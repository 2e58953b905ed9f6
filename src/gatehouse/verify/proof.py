"""What proves to a provider that an address is ours: a hash of its challenge, keyed or with a token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.scope import Scope
from gatehouse.language.sent import as_sent
from gatehouse.verify.hmac import key_bytes
from gatehouse.verify.signature import WRITE

if TYPE_CHECKING:
    from gatehouse.config.handshakes import HashProof, HmacProof
    from gatehouse.language.request import Request

#: From the request and its challenge to the proof as written; None when the request has not all of it.
Prove = Callable[["Request", bytes], bytes | None]


def hmac_proof(config: HmacProof, secret: bytes) -> Prove:
    """Prove with a secret of the source. Raises `ValueError` when it is not of the form that `key` says."""
    key, prefix, write = key_bytes(secret, config.key), as_sent(config.prefix), WRITE[config.encoding]
    if not key:
        raise ValueError("a secret without key bytes")
    return lambda _, challenge: prefix + write(hmac.digest(key, challenge, config.digest))


def hash_proof(config: HashProof, token: bytes) -> Prove:
    """Prove with a token that is hashed together with the challenge; `{token}` stands for it."""
    write = WRITE[config.encoding]

    def prove(request: Request, challenge: bytes) -> bytes | None:
        # The address as it was registered: the challenge itself came in the query.
        registered = msgspec.structs.replace(request, query="")
        scope = Scope(registered, facts={"challenge": challenge, "token": token})
        try:
            hashed = config.of.render(scope)
        except MalformedDocumentError:
            return None
        return None if hashed is None else write(hashlib.new(config.digest, hashed).digest())

    return prove
