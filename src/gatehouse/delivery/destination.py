"""A destination, compiled once from the config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from yarl import URL

from gatehouse.config.outgoing import OAuth2AuthConfig
from gatehouse.config.secrets import SecretError
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.delivery.client_tls import ClientTls, TlsFileError, TlsFiles
from gatehouse.delivery.concurrency_limit import START
from gatehouse.delivery.credentials import ClientCredentials, auth_header, client_credentials, secret_path
from gatehouse.delivery.signing import signing_key
from gatehouse.network.forbidden_addresses import host_problem
from gatehouse.store.base import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.model import BatchConfig, Config, DestinationConfig, RetryConfig
    from gatehouse.config.outgoing import AuthType
    from gatehouse.config.quantities import StatusRange
    from gatehouse.config.secrets import Secrets
    from gatehouse.events.envelope import Format
    from gatehouse.store.base import Delivery

#: Seconds that a lease must have beyond the attempt's timeout when the attempt starts: time to record it.
MARGIN = 5.0
#: Seconds that a lease lasts beyond the timeout: the margin, and some time to wait for a worker.
_LEASE_EXTRA = 10.0
#: How many deliveries are leased at once, unless a batch is larger.
_LEASE_LIMIT = 100


class Fault(NamedTuple):
    """Why a destination is not ready."""

    #: The path of the key below the destination.
    path: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An internal URL, and how to deliver to it."""

    name: str
    url: URL
    format: Format
    #: Patterns in lower case for the provider's headers that the raw form includes.
    allowed: tuple[str, ...]
    timeout: float
    #: The maximum number of attempts at a time. If it adapts, where it starts.
    concurrency: int
    #: Events per second; None without a limit.
    rate: float | None
    retry: RetryConfig
    #: Statuses that are retried, or not, regardless of the default.
    retry_on: tuple[StatusRange, ...] = ()
    #: How many events share a POST; None if each event has its own.
    batch: BatchConfig | None = None
    #: Whether the store holds a delivery back until the previous one with its order key is finished.
    ordered: bool = False
    #: Whether the maximum number of attempts at a time adapts to the destination.
    is_adaptive: bool = False
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    #: Seconds after which a connection is no longer used, so that the name is resolved again.
    max_connection_age: float = 300.0
    #: How many bytes of a reply are kept.
    keep_replies: int = 1024
    #: The signing keys. They are secrets, so the repr omits them.
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    #: How the gateway authenticates: the `type` of `auth`; None if it does not.
    auth: AuthType | None = None
    #: What its access tokens are fetched with, for `auth: oauth2`.
    credentials: ClientCredentials | None = None
    #: Where the context for its connections comes from, if `tls` is configured.
    tls: ClientTls | None = None
    #: The proxy for its connections.
    proxy: URL | None = None
    #: Headers that each request gets. They may contain credentials, so the repr omits them.
    added_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: Headers of the provider (lower case, with `-` for `_`) that the raw form omits for the added ones.
    replaced: frozenset[str] = frozenset()
    #: Why nothing can be sent; None if the destination is ready.
    not_ready: str | None = None
    #: The same, with the path of each key below the destination.
    faults: tuple[Fault, ...] = ()

    @property
    def min_lease(self) -> float:
        """The time that a lease must have left when an attempt starts, in seconds."""
        return self.timeout + MARGIN

    @property
    def connects_with_tls(self) -> bool:
        """Whether its URL, or that of its token endpoint, is https."""
        of_tokens = self.credentials is not None and self.credentials.token_url.startswith("https:")
        return self.url.scheme == "https" or of_tokens

    def lease_covers_attempt(self, delivery: Delivery, now: float) -> bool:
        """Return whether the lease lasts for an attempt that starts now."""
        return delivery.leased_until - now >= self.min_lease

    def leases_cover_attempt(self, deliveries: Iterable[Delivery], now: float) -> bool:
        """Return whether all leases last for an attempt that starts now."""
        return all(self.lease_covers_attempt(one, now) for one in deliveries)

    @property
    def max_batch(self) -> int:
        """The most events in a POST. With a rate limit, no more than it allows in a second."""
        if self.batch is None:
            return 1
        return self.batch.events if self.rate is None else max(1, min(self.batch.events, int(self.rate)))

    @property
    def lease_limit(self) -> int:
        """The most deliveries to lease at once."""
        return max(_LEASE_LIMIT, self.max_batch)

    @property
    def lease_duration(self) -> float:
        """How long to lease deliveries, in seconds."""
        return max(LEASE, self.timeout + _LEASE_EXTRA)

    @property
    def accepts_from_memory(self) -> bool:
        """Whether the default lease of new deliveries is long enough for an attempt."""
        return self.min_lease < LEASE


def redact_url(url: URL) -> str:
    """Return a destination's URL without the parts that may be credentials: user, query and fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def compile_destination(
    name: str, config: DestinationConfig, secrets: Secrets, *, keep_replies: int = 1024
) -> Destination:
    """Compile a destination. Without its secrets it is not ready, so no request lacks them by accident.

    It is also not ready if its address is forbidden. Its deliveries wait until the URL is corrected.
    """
    access = _access(name, config, secrets)
    batch = config.batch if config.format == "cloudevents-batch" else None
    return Destination(
        name=name,
        url=URL(config.url),
        format=config.format,
        allowed=tuple(pattern.lower() for pattern in config.headers),
        timeout=config.timeout,
        concurrency=START if config.concurrency == "auto" else config.concurrency,
        # How long a batch takes depends on its events, so its latency says too little.
        is_adaptive=config.concurrency == "auto" and batch is None,
        rate=config.rate,
        retry=config.retry,
        retry_on=config.retry_on,
        batch=batch,
        ordered=config.order_by is not None,
        max_connection_age=config.max_connection_age,
        breaker=BreakerSettings(config.breaker.failures, config.breaker.open, config.breaker.max_open),
        keep_replies=keep_replies,
        keys=access.keys,
        auth=None if config.auth is None else config.auth.type,
        credentials=access.credentials,
        tls=access.tls,
        proxy=None if config.proxy is None else URL(config.proxy),
        added_headers=access.headers,
        replaced=frozenset(header.lower().replace("_", "-") for header, _ in access.headers),
        not_ready="; ".join(fault.why for fault in access.faults) or None,
        faults=access.faults,
    )


def build_destinations(config: Config, secrets: Secrets) -> dict[str, Destination]:
    """Compile every destination, by name."""
    keep_replies = config.store.keep_replies
    return {
        name: compile_destination(name, settings, secrets, keep_replies=keep_replies)
        for name, settings in config.destinations.items()
    }


class _Access(NamedTuple):
    """What requests and connections to a destination need, and why some of it is missing."""

    keys: tuple[bytes, ...]
    headers: tuple[tuple[str, str], ...]
    credentials: ClientCredentials | None
    tls: ClientTls | None
    faults: tuple[Fault, ...]


def _access(name: str, config: DestinationConfig, secrets: Secrets) -> _Access:
    auth, headers, faults = config.auth, list(config.add_headers.items()), list[Fault]()
    keys: tuple[bytes, ...] = ()
    credentials = tls = None
    token_url = auth.token_url if isinstance(auth, OAuth2AuthConfig) else ""
    urls = {("url",): config.url, ("auth", "token_url"): token_url, ("proxy",): config.proxy or ""}
    for path, url in urls.items():
        if problem := host_problem(URL(url).raw_host or ""):
            faults.append(Fault(path, f"its {path[-1]}: {problem}"))
    try:
        keys = _keys(config, secrets)
    except SecretError as error:
        faults.append(Fault(("secret",), str(error)))
    if auth is not None:
        try:
            if isinstance(auth, OAuth2AuthConfig):
                credentials = client_credentials(auth, secrets)
            else:
                headers.append(auth_header(auth, secrets))
        except SecretError as error:
            faults.append(Fault(secret_path(auth), str(error)))
    try:
        tls = _tls(name, config, secrets)
    except TlsFileError as error:
        faults.append(Fault(("tls", error.key), str(error)))
    return _Access(keys, tuple(headers), credentials, tls, tuple(faults))


def _keys(config: DestinationConfig, secrets: Secrets) -> tuple[bytes, ...]:
    found = []
    for reference in config.secret:
        text = secrets.resolve(reference).decode("utf-8", "replace").strip()
        try:
            found.append(signing_key(text))
        except ValueError as error:
            raise SecretError(f"{reference}: {error}") from error
    return tuple(found)


def _tls(name: str, config: DestinationConfig, secrets: Secrets) -> ClientTls | None:
    if config.tls is None:
        return None
    named = config.tls.ca, config.tls.cert, config.tls.key and config.tls.key.name
    return ClientTls(name, TlsFiles(*(None if one is None else secrets.path(one) for one in named)))
