"""Sources as a diagnosis sees them: each verifier's config beside its secrets, to be tried with changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.coverage import effective_max_age
from gatehouse.config.model import AnyConfig, NoneConfig, SigningConfig, VerifierConfig
from gatehouse.config.secrets import SecretError
from gatehouse.errors import VerificationError
from gatehouse.verify.base import remote_verifiers
from gatehouse.verify.build import build_verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.config.secrets import SecretRef, Secrets
    from gatehouse.errors import Reason
    from gatehouse.language.request import Request
    from gatehouse.verify.base import KnownKeys, Verifier

#: As many secrets as one diagnosis tries for each verifier.
_MOST_SECRETS = 10


class Lock(NamedTuple):
    """One verifier's config and its secrets."""

    entry: VerifyEntry
    secrets: tuple[bytes, ...]
    #: What is known of published keys: a diagnosis fetches nothing.
    keys: KnownKeys | None = None

    def __repr__(self) -> str:
        return f"<{self.entry.type}>"

    def refusal(self, request: Request, now: float) -> Reason | None:
        """Return why it refuses the request; None when it lets it in.

        Raises `ValueError` when the config, perhaps a changed one, can't use these secrets.
        """
        verifier = self._verifier()
        try:
            verifier.verify(request, now)
        except VerificationError as error:
            return error.reason
        return None

    def _verifier(self) -> Verifier:
        verifier = build_verifier(self.entry, self.secrets)
        if self.keys is not None:
            for remote in remote_verifiers((verifier,)):
                remote.keys = self.keys
        return verifier

    def opens(self, request: Request, now: float) -> bool:
        """Tell whether it lets the request in. Changed configs may not even be built: these do not."""
        try:
            return self.can_be_tried and self.refusal(request, now) is None
        except Exception:  # noqa: BLE001 - tried with configs that nobody checked
            return False

    def tries(self, now: float) -> Callable[[Request], bool]:
        """Return what tells whether a request would be let in: for many requests, with one verifier."""
        if not self.can_be_tried:
            return lambda _: False
        verifier = self._verifier()

        def opens(request: Request) -> bool:
            try:
                verifier.verify(request, now)
            except Exception:  # noqa: BLE001 - as in `opens`
                return False
            return True

        return opens

    def ageless(self) -> Lock:
        """Return the same lock for which no request is too old or too new."""
        entry = self.entry
        if not isinstance(entry, SigningConfig) or entry.timestamp is None:
            return self
        timestamp = entry.timestamp.model_copy(update={"tolerance": math.inf})
        return self._replace(entry=entry.model_copy(update={"timestamp": timestamp}))

    @property
    def can_be_tried(self) -> bool:
        """Whether what it decides from is at hand: the request, and keys that are known."""
        is_remote = self.entry.type in ("paypal", "aws-sns") or getattr(self.entry, "jwks", None)
        return self.keys is not None or not is_remote

    @property
    def needs_secrets(self) -> bool:
        """Whether it can't even be built without a secret."""
        return isinstance(self.entry, VerifierConfig) and not getattr(self.entry, "jwks", None)


@dataclass(frozen=True, slots=True, repr=False)
class KnownSource:
    """A source with the secrets that can be read now."""

    name: str
    max_body: int
    #: All have to open; of each, one has to (`type: any`).
    locks: tuple[tuple[Lock, ...], ...]
    #: How old a request may be by a time that is signed; None when the verifiers' own limits are all.
    max_age: float | None = None

    def lets_in(self, request: Request, now: float) -> bool:
        """Tell whether the request would verify here, whatever its age. Without a lock nothing is proved."""
        return bool(self.locks) and all(
            any(lock.ageless().opens(request, now) for lock in group) for group in self.locks
        )

    def each_lock(self) -> Iterator[Lock]:
        """Give every verifier in turn."""
        for group in self.locks:
            yield from group


def known_source(
    name: str, settings: SourceConfig, secrets: Secrets, max_body: int, keys: KnownKeys | None = None
) -> KnownSource:
    """Collect the verifiers of a source with those of their secrets that can be read."""
    entries = (entry for entry in settings.verify if not isinstance(entry, NoneConfig))
    groups = (entry.of if isinstance(entry, AnyConfig) else (entry,) for entry in entries)
    locks = tuple(tuple(_lock(entry, settings, secrets, keys) for entry in group) for group in groups)
    return KnownSource(name, max_body, locks, effective_max_age(settings))


def known_sources(
    sources: Mapping[str, SourceConfig], secrets: Secrets, max_body: int, keys: KnownKeys | None = None
) -> list[KnownSource]:
    """Collect all sources of a config. `max_body` is the server's."""
    return [
        known_source(name, settings, secrets, settings.max_body or max_body, keys)
        for name, settings in sources.items()
    ]


def _lock(entry: VerifyEntry, settings: SourceConfig, secrets: Secrets, keys: KnownKeys | None) -> Lock:
    own = entry.secrets if isinstance(entry, VerifierConfig) else ()
    return Lock(entry, tuple(_readable(own or settings.secrets, secrets)), keys)


def _readable(references: Sequence[SecretRef], secrets: Secrets) -> Iterator[bytes]:
    for reference in references[:_MOST_SECRETS]:
        try:
            yield secrets.resolve(reference)
        except SecretError:
            continue
