"""The operator tokens of a config: who has which token, and what they may do. Pure."""

from __future__ import annotations

import hmac
from itertools import combinations
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, TypeAlias, get_args

from gatehouse.config.secrets import SecretError
from gatehouse.verify.base import ct_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.document import KeyPath
    from gatehouse.config.model import OperatorConfig
    from gatehouse.config.secrets import SecretRef, Secrets

#: `read` may look at everything and change nothing. `operate` may do everything.
Role: TypeAlias = Literal["read", "operate"]

#: The name of `operator.token`.
OPERATOR: Final = "operator"
#: Shorter tokens could be guessed.
MIN_TOKEN_LENGTH: Final = 16


class Identity(NamedTuple):
    """Who sends a request to the operator server, and what they may do."""

    #: The name of a token, or one of the identities below.
    name: str
    role: Role

    @classmethod
    def from_header(cls, text: str) -> Self:
        """Parse what `header` returns. Raises `ValueError`."""
        role, _, name = text.partition(" ")
        for known in get_args(Role):
            if role == known and name:
                return cls(name, known)
        raise ValueError("not an identity")

    @property
    def header(self) -> str:
        """The identity as the value of a header."""
        return f"{self.role} {self.name}"


#: Everyone, when the config has no token. The listener is then on loopback.
LOCAL: Final = Identity("local", "operate")
#: Whoever sends the process SIGHUP.
HANGUP: Final = Identity("SIGHUP", "operate")
#: The supervisor of several workers, on its own behalf.
SUPERVISOR: Final = Identity("supervisor", "operate")


class ConfiguredToken(NamedTuple):
    """A token as the config names it."""

    #: Where it is in the config.
    path: KeyPath
    identity: Identity
    reference: SecretRef


def configured_tokens(config: OperatorConfig) -> list[ConfiguredToken]:
    """Return every token that the config names."""
    found = []
    if config.token is not None:
        found.append(ConfiguredToken(("operator", "token"), Identity(OPERATOR, "operate"), config.token))
    for index, one in enumerate(config.tokens):
        path: KeyPath = ("operator", "tokens", index, "token")
        found.append(ConfiguredToken(path, Identity(one.name, one.role), one.token))
    return found


class OperatorTokens:
    """The tokens of a config with their values, which nothing shows.

    A token whose secret is unusable grants nothing. If no token is usable, every request is refused.
    """

    def __init__(self, config: OperatorConfig, secrets: Secrets) -> None:
        #: Why tokens cannot be used, by their path in the config.
        self.not_ready: dict[KeyPath, str] = {}
        self._usable: list[tuple[ConfiguredToken, bytes]] = []
        configured = configured_tokens(config)
        #: Whether the config has a token, so that every request needs one.
        self.required = bool(configured)
        for token in configured:
            try:
                secret = secrets.resolve(token.reference, minimum=MIN_TOKEN_LENGTH)
            except SecretError as error:
                self.not_ready[token.path] = str(error)
            else:
                self._usable.append((token, b"Bearer " + secret))

    def find(self, authorization: Sequence[bytes]) -> Identity | None:
        """Return whose token these `Authorization` headers carry, or None.

        Every token is compared, so the time does not depend on which one matches.
        """
        if len(authorization) != 1:
            return None
        found = None
        for token, expected in self._usable:
            if ct_equal(authorization[0], expected):
                found = token.identity
        return found

    def identity(self, name: str) -> Identity | None:
        """Return the identity with this name, if its token can be used."""
        return next((token.identity for token, _ in self._usable if token.identity.name == name), None)

    def fingerprint(self, identity: Identity) -> bytes | None:
        """Return what changes with the token of an identity; None if it has none with its role."""
        if self.identity(identity.name) != identity:
            return None
        return self.sign(identity.name, b"gatehouse fingerprint")

    def sign(self, name: str, message: bytes) -> bytes:
        """Sign a message with the token of this name: HMAC-SHA256. Raises `KeyError` if no token has it.

        Another value of the token makes the signature invalid.
        """
        for token, expected in self._usable:
            if token.identity.name == name:
                return hmac.digest(expected, message, "sha256")
        raise KeyError(name)

    def duplicates(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield the path of each token with the value of an earlier one, and the name of that one."""
        for (first, one), (second, other) in combinations(self._usable, 2):
            if ct_equal(one, other):
                yield second.path, first.identity.name


def duplicate_message(name: str) -> str:
    """Say that a token has the same value as another one."""
    return f"has the same value as the token of {name}"


#: What to do about it.
DUPLICATE_HINT: Final = "give each token a value of its own; it tells who made a change"
