"""Says how a request was verified, as it is stored with its events: `HMAC-SHA256 with env:SHOP_SECRET`.

The names of secrets say where each is kept, never what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_WITH: Final = " with "
#: What `VerifiedBy` says of a source that verifies nothing.
NOTHING: Final = "nothing"


class VerifiedBy:
    """The texts of one source. They are made at load time, or when a combination first occurs."""

    def __init__(self, schemes: Sequence[Sequence[str]], secrets: Sequence[str]) -> None:
        """`schemes` has the scheme of each verifier, or those of its alternatives. `secrets` are in order."""
        self._schemes = schemes
        self._secrets = secrets
        #: By combination of alternatives and secrets. The config limits their number.
        self._known: dict[tuple[tuple[int, int], ...], str] = {}
        #: By the position of the secret, from 1; 0 is for no secret. Empty unless there is just one scheme.
        self.by_secret: tuple[str, ...] = ()
        if [len(each) for each in schemes] == [1]:
            self.by_secret = tuple(self.of(((0, secret),)) for secret in range(len(secrets) + 1))

    def of(self, found: tuple[tuple[int, int], ...]) -> str:
        """Return the text for the result of each verifier: its alternative from 0, and its secret from 1."""
        text = self._known.get(found)
        if text is None:
            text = self._known[found] = self._make(found)
        return text

    def _make(self, found: tuple[tuple[int, int], ...]) -> str:
        schemes = (each[number] for each, (number, _) in zip(self._schemes, found, strict=True))
        secrets = (self._secrets[secret - 1] for _, secret in found if secret)
        by, named = " and ".join(dict.fromkeys(schemes)) or NOTHING, ", ".join(dict.fromkeys(secrets))
        return f"{by}{_WITH}{named}" if named else by


def scheme_and_secret(text: str) -> tuple[str, str | None]:
    """Split a text of `VerifiedBy` into the scheme and the name of the secret, if there is one."""
    scheme, _, secret = text.partition(_WITH)
    return scheme, secret or None
