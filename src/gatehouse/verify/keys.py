"""Keys that providers publish: how a verifier says which it needs, and where it finds what was fetched.

Verifiers do no I/O. `remote_keys.py` asks them for the address before they verify, fetches what is there, and
lets them look it up. A verifier may ask for pinned addresses only: whoever can choose the address of the key
can sign whatever they like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from gatehouse.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import UnavailableError
    from gatehouse.language.request import Request


class KnownKeys(Protocol):
    """What addresses answered, as far as they were asked."""

    def get(self, url: str) -> bytes | None:
        """Return what the address holds: a certificate in PEM, a JSON Web Key Set. None: not known."""


class RemoteVerifier(Protocol):
    """A verifier that needs a key from an address."""

    #: Where it looks keys up; whoever fetches them sets it.
    keys: KnownKeys

    def key_url(self, request: Request) -> str | None:
        """Name the address of the key for this request; None when the request carries no such signature.

        Raises `VerificationError` when the request can't pass whatever the key, above all when it names an
        address that the provider does not publish keys at.
        """

    def is_outdated(self, request: Request, key: bytes) -> bool:
        """Tell whether what the address held lacks the key of this request: it is worth asking again."""


class Prepared(NamedTuple):
    """What came of getting the keys that a request needs."""

    #: The addresses of the keys.
    addresses: tuple[str, ...]
    #: Why one of them can't be asked now, if one can't.
    missing: UnavailableError | None = None


class NoKeys:
    """Knows nothing: the keys of a verifier for which nothing was fetched."""

    def get(self, url: str) -> bytes | None:  # noqa: ARG002
        """Return None."""
        return None


def remote_of(verifiers: Iterable[object]) -> tuple[RemoteVerifier, ...]:
    """List those that need keys from an address: what the verifiers name in `remote`, mostly themselves."""
    return tuple(remote for verifier in verifiers for remote in getattr(verifier, "remote", ()))


def fetched(verifier: RemoteVerifier, request: Request) -> bytes:
    """Return the key for a request. Raises `VerificationError` when there is none at its address."""
    url = verifier.key_url(request)
    if url is None:
        raise VerificationError("missing_signature")
    key = verifier.keys.get(url)
    if key is None:
        raise VerificationError("wrong_signature")
    return key
