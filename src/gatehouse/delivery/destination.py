"""A configured destination, compiled once when the config is loaded, with its Standard Webhooks signature.

The signature scheme is that of github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yarl import URL

from gatehouse.config.secrets import SecretError
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.network.forbidden_addresses import host_problem
from gatehouse.store.base import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.model import BatchConfig, Config, DestinationConfig, RetryConfig
    from gatehouse.config.quantities import StatusRange
    from gatehouse.config.secrets import Secrets
    from gatehouse.events.envelope import Format
    from gatehouse.store.base import Delivery

#: What a lease must have left beyond the attempt's timeout when the attempt starts: time to record it.
MARGIN = 5.0
#: How much longer than an attempt a lease is asked for: the margin, and some time to wait for a worker.
_LEASE_EXTRA = 10.0
#: How many deliveries are leased at once, unless more go into one POST.
_LEASE_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An internal URL, with how to talk to it."""

    name: str
    url: URL
    format: Format
    #: Patterns (lower case) of the provider's headers that go along with the raw form.
    allowed: tuple[str, ...]
    timeout: float
    concurrency: int
    #: Events per second; None without a limit.
    rate: float | None
    retry: RetryConfig
    #: Statuses that are tried again, or not, whatever the default.
    retry_on: tuple[StatusRange, ...] = ()
    #: How many events share a POST; None when each has its own.
    batch: BatchConfig | None = None
    #: Whether the store holds deliveries back until the one before them has come to its end.
    ordered: bool = False
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    #: Seconds after which a connection is not used again, so that the name is looked up again.
    max_connection_age: float = 300.0
    #: What to sign with. Kept out of the repr, as secrets are.
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    #: Why nothing can be sent; None when it can.
    not_ready: str | None = None

    @property
    def min_lease(self) -> float:
        """What a lease must have left for an attempt to start."""
        return self.timeout + MARGIN

    def lease_covers_attempt(self, delivery: Delivery, now: float) -> bool:
        """Tell whether a lease lasts for an attempt that starts now."""
        return delivery.leased_until - now >= self.min_lease

    def leases_cover_attempt(self, deliveries: Iterable[Delivery], now: float) -> bool:
        """Tell whether the leases last for an attempt that starts now."""
        return all(self.lease_covers_attempt(one, now) for one in deliveries)

    @property
    def max_batch(self) -> int:
        """How many events a POST holds at the most: with a rate, no more than it lets through in a second."""
        if self.batch is None:
            return 1
        return self.batch.events if self.rate is None else max(1, min(self.batch.events, int(self.rate)))

    @property
    def lease_limit(self) -> int:
        """How many deliveries are leased at once."""
        return max(_LEASE_LIMIT, self.max_batch)

    @property
    def lease_duration(self) -> float:
        """How long to lease deliveries for."""
        return max(LEASE, self.timeout + _LEASE_EXTRA)

    @property
    def accepts_from_memory(self) -> bool:
        """Whether a lease of the usual length, as new deliveries have, is long enough for an attempt."""
        return self.min_lease < LEASE


def redact_url(url: URL) -> str:
    """Return a destination's URL without what may be a credential: before the host, and behind the path."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def compile_destination(name: str, config: DestinationConfig, secrets: Secrets) -> Destination:
    """Compile a destination. Without its secret it is not ready: nothing is sent unsigned by accident.

    Neither is it with an address that is never connected to: what waits is there when the URL is put right.
    """
    keys: tuple[bytes, ...] = ()
    url = URL(config.url)
    fault = host_problem(url.raw_host or "")
    not_ready = fault and f"its url: {fault}"
    try:
        keys = _keys(config, secrets)
    except SecretError as error:
        not_ready = str(error)
    return Destination(
        name=name,
        url=url,
        format=config.format,
        allowed=tuple(pattern.lower() for pattern in config.headers),
        timeout=config.timeout,
        concurrency=config.concurrency,
        rate=config.rate,
        retry=config.retry,
        retry_on=config.retry_on,
        batch=config.batch if config.format == "cloudevents-batch" else None,
        ordered=config.order_by is not None,
        max_connection_age=config.max_connection_age,
        breaker=BreakerSettings(config.breaker.failures, config.breaker.open, config.breaker.max_open),
        keys=keys,
        not_ready=not_ready,
    )


def build_destinations(config: Config, secrets: Secrets) -> dict[str, Destination]:
    """Compile every destination, by name."""
    return {
        name: compile_destination(name, settings, secrets) for name, settings in config.destinations.items()
    }


def _keys(config: DestinationConfig, secrets: Secrets) -> tuple[bytes, ...]:
    found = []
    for reference in config.secret:
        text = secrets.resolve(reference).decode("utf-8", "replace").strip()
        try:
            found.append(signing_key(text))
        except ValueError as error:
            raise SecretError(f"{reference}: {error}") from error
    return tuple(found)


PREFIX = "whsec_"
#: The bounds that the specification sets.
_MIN_KEY, _MAX_KEY = 24, 64


def signing_key(secret: str) -> bytes:
    """Read `whsec_<base64>`. Raises `ValueError`, whose message does not repeat the secret."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"a signing secret starts with {PREFIX}")
    text = secret.removeprefix(PREFIX)
    try:
        # Some tools leave the padding out.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {PREFIX} is not base64") from None
    if not _MIN_KEY <= len(key) <= _MAX_KEY:
        raise ValueError(f"a signing secret has {_MIN_KEY} to {_MAX_KEY} bytes, this one has {len(key)}")
    return key


def signature(keys: Iterable[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """Sign with every key: during a rotation the receiver may know either."""
    signed = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    return " ".join(["v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys])
