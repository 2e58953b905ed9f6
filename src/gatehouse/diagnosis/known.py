"""The sources as a diagnosis uses them: each verifier with its config and its secrets."""

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

#: How many secrets of one verifier a diagnosis tries.
_MAX_SECRETS = 10


class KnownVerifier(NamedTuple):
    """One verifier of a source: its config and its secrets."""

    entry: VerifyEntry
    secrets: tuple[bytes, ...]
    #: Where each secret is kept, such as `env:SHOP_SECRET`.
    references: tuple[str, ...]
    #: The path of the verifier in the config, such as `sources.shop.verify`.
    path: str
    #: The published keys that the gateway has fetched. A diagnosis fetches nothing.
    keys: KnownKeys | None = None

    def __repr__(self) -> str:
        return f"<{self.entry.type}>"

    def refusal(self, request: Request, now: float) -> Reason | None:
        """Return the reason for which the verifier refuses the request, or None if it accepts it.

        Raises `ValueError` if no verifier can be built from this config and these secrets. A config that a
        diagnosis has changed may be such a config.
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

    def accepts(self, request: Request, now: float) -> bool:
        """Return whether the verifier accepts the request. False if no verifier can be built."""
        try:
            return self.can_run and self.refusal(request, now) is None
        except Exception:  # noqa: BLE001 - nothing has checked a changed config
            return False

    def acceptance_check(self, now: float) -> Callable[[Request], bool]:
        """Return a function like `accepts` that builds the verifier once, for many requests."""
        if not self.can_run:
            return lambda _: False
        verifier = self._verifier()

        def accepts(request: Request) -> bool:
            try:
                verifier.verify(request, now)
            except Exception:  # noqa: BLE001 - as in the method
                return False
            return True

        return accepts

    def without_age_limit(self) -> KnownVerifier:
        """Return the same verifier with no limit for the age of a timestamp."""
        entry = self.entry
        if not isinstance(entry, SigningConfig) or entry.timestamp is None:
            return self
        timestamp = entry.timestamp.model_copy(update={"tolerance": math.inf})
        return self._replace(entry=entry.model_copy(update={"timestamp": timestamp}))

    @property
    def can_run(self) -> bool:
        """Whether the verifier has what it needs: published keys are known, or it uses none."""
        is_remote = self.entry.type in ("paypal", "aws-sns") or getattr(self.entry, "jwks", None)
        return self.keys is not None or not is_remote

    @property
    def needs_secrets(self) -> bool:
        """Whether the verifier can't be built without a secret."""
        return isinstance(self.entry, VerifierConfig) and self.entry.needs_secret


@dataclass(frozen=True, slots=True, repr=False)
class KnownSource:
    """A source with the secrets that can be read now."""

    name: str
    #: The length limit of a body, in bytes.
    max_body: int
    #: Each group must accept a request. A group accepts it if one of its verifiers does (`type: any`).
    verifiers: tuple[tuple[KnownVerifier, ...], ...]
    #: The maximum age of a request by its signed time, in seconds. None if only the verifiers limit it.
    max_age: float | None = None
    #: Whether the source accepts compressed bodies (`decode`).
    decodes: bool = False

    def accepts(self, request: Request, now: float) -> bool:
        """Return whether the request verifies here, whatever its age. False if nothing is verified here."""
        return bool(self.verifiers) and all(
            any(one.without_age_limit().accepts(request, now) for one in group) for group in self.verifiers
        )

    def each_verifier(self) -> Iterator[KnownVerifier]:
        """Iterate over the verifiers of all groups."""
        for group in self.verifiers:
            yield from group


def known_source(
    name: str, settings: SourceConfig, secrets: Secrets, max_body: int, keys: KnownKeys | None = None
) -> KnownSource:
    """Collect the verifiers of a source, with those of their secrets that can be read."""
    top = f"sources.{name}.verify"
    groups: list[tuple[KnownVerifier, ...]] = []
    for index, entry in enumerate(settings.verify):
        if isinstance(entry, NoneConfig):
            continue
        path = top if len(settings.verify) == 1 else f"{top}.{index}"
        places = (
            [(one, f"{path}.of.{position}") for position, one in enumerate(entry.of)]
            if isinstance(entry, AnyConfig)
            else [(entry, path)]
        )
        groups.append(tuple(_verifier(one, place, settings, secrets, keys) for one, place in places))
    return KnownSource(
        name, max_body, tuple(groups), effective_max_age(settings), settings.decode is not None
    )


def known_sources(
    sources: Mapping[str, SourceConfig], secrets: Secrets, max_body: int, keys: KnownKeys | None = None
) -> list[KnownSource]:
    """Collect all sources of a config. `max_body` is the limit of the server, in bytes."""
    return [
        known_source(name, settings, secrets, settings.max_body or max_body, keys)
        for name, settings in sources.items()
    ]


def _verifier(
    entry: VerifyEntry, path: str, settings: SourceConfig, secrets: Secrets, keys: KnownKeys | None
) -> KnownVerifier:
    own = entry.secrets if isinstance(entry, VerifierConfig) else ()
    readable = dict(_readable(own or settings.secrets, secrets))
    return KnownVerifier(entry, tuple(readable.values()), tuple(map(str, readable)), path, keys)


def _readable(references: Sequence[SecretRef], secrets: Secrets) -> Iterator[tuple[SecretRef, bytes]]:
    for reference in references[:_MAX_SECRETS]:
        try:
            yield reference, secrets.resolve(reference)
        except SecretError:
            continue
