"""Defines the config file as frozen models.

The docstrings of the attributes become the tables of docs/configuration.md and the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from gatehouse.config.addresses import (
    Address,
    BindAddresses,
    HttpUrl,
    ListenAddress,
    ListenAddresses,
    PathPrefix,
    ProxyUrl,
    PublicUrl,
    TrustedProxy,
)
from gatehouse.config.base import (
    AtLeastOne,
    ConditionText,
    Model,
    Name,
    OneOrMany,
    Pattern,
    TemplateText,
    Text,
    TokenName,
)
from gatehouse.config.handshakes import HandshakeConfig
from gatehouse.config.outgoing import AddedHeaderName, AuthConfig, DestinationTlsConfig, HeaderValue
from gatehouse.config.quantities import (
    Between,
    Concurrency,
    DiskSpace,
    Duration,
    Rate,
    ReplySize,
    Size,
    StatusExpression,
)
from gatehouse.config.secret_references import SecretReference
from gatehouse.config.signatures import SignatureConfig, SigningConfig, TimestampConfig, VerifierConfig
from gatehouse.config.sources import (
    AnswersConfig,
    DedupeConfig,
    DedupeKeyConfig,
    EventConfig,
    ProviderConfig,
    SampleConfig,
    SourceConfig,
)
from gatehouse.config.store_url import StoreUrl
from gatehouse.config.tokens import CertificatesConfig, JwtConfig
from gatehouse.config.verifiers import (
    AllowlistConfig,
    AnyConfig,
    AwsSnsConfig,
    BasicConfig,
    EbayConfig,
    EcdsaConfig,
    Ed25519Config,
    HmacConfig,
    NoneConfig,
    PaypalConfig,
    RsaConfig,
    TokenConfig,
    TruelayerConfig,
    TwilioConfig,
    VerifyEntry,
)

__all__ = [
    "AllowlistConfig",
    "AnswersConfig",
    "AnyConfig",
    "AwsSnsConfig",
    "BasicConfig",
    "BatchConfig",
    "BreakerConfig",
    "CertificatesConfig",
    "Config",
    "DedupeConfig",
    "DedupeKeyConfig",
    "DestinationConfig",
    "EbayConfig",
    "EcdsaConfig",
    "Ed25519Config",
    "EventConfig",
    "HandshakeConfig",
    "HmacConfig",
    "JwtConfig",
    "Model",
    "NoneConfig",
    "OperatorConfig",
    "PaypalConfig",
    "ProviderConfig",
    "RetryConfig",
    "RouteConfig",
    "RsaConfig",
    "SampleConfig",
    "ServerConfig",
    "SignatureConfig",
    "SigningConfig",
    "SourceConfig",
    "StoreConfig",
    "TimestampConfig",
    "TokenConfig",
    "TruelayerConfig",
    "TwilioConfig",
    "VerifierConfig",
    "VerifyEntry",
]


class ServerConfig(Model):
    """The listener for providers."""

    listen: ListenAddresses = BindAddresses((Address("0.0.0.0", 8080),))  # noqa: S104 - providers are outside
    """The address for providers: `host:port`, `:8080` for every IPv4 and IPv6 address, `unix:/path` for a
    Unix socket that a proxy on the same machine connects to, or a list of these."""
    public_url: PublicUrl | None = None
    """The scheme and host that providers use. Required by verifiers that sign the URL."""
    max_body: Size = 1024 * 1024
    """The maximum size of a request body."""
    trusted_proxies: tuple[TrustedProxy, ...] = ()
    """The networks of the proxies in front of the gateway. Their X-Forwarded-For headers are used in logs and
    by allowlists. `unix` stands for proxies that connect through a Unix socket of `listen`."""
    request_deadline: Duration = 10.0
    """The maximum time in which a request has to arrive."""
    commit_deadline: Duration = 0.8
    """The maximum time that a verified request waits for its commit. After that, the answer is 503."""
    idle_timeout: Duration = 15.0
    """The maximum time that a connection may be idle, may take to send the headers of a request, or may leave
    an answer unread."""
    max_connections: Annotated[int, Between(1, 1_000_000)] = 4096
    """The maximum number of connections. At the limit, a new connection replaces the connection that has been
    idle longest. If no connection is idle, it replaces the one that has been sending longest."""


class OperatorTokenConfig(Model):
    """A token of one person or tool."""

    name: TokenName
    """The name that audit entries and the log show. `operator` is the name of `operator.token`."""
    token: SecretReference
    """The bearer token, at least 16 bytes. Each token has a value of its own."""
    role: Literal["read", "operate"]
    """`read` may look at everything and change nothing. `operate` may also change things."""


class OperatorConfig(Model):
    """The listener for operators."""

    listen: ListenAddress = Address("127.0.0.1", 9090)
    """The address for metrics, health checks, the API and the web page."""
    path: PathPrefix = ""
    """The path under which a proxy in front serves this listener, as in `/gatehouse`. All links of the web
    page start with it. The listener accepts requests with this path and without it."""
    token: SecretReference | None = None
    """A bearer token with the role `operate`. Every request except health checks needs a token if the config
    has one. If `listen` is not a loopback address, the config needs one, here or in `tokens`."""
    tokens: tuple[OperatorTokenConfig, ...] = ()
    """More tokens, each with a name and a role."""


class StoreConfig(Model):
    """Where events are stored, and for how long."""

    url: StoreUrl = "sqlite:///gatehouse.db"
    """`sqlite:///` and a path, or a `postgresql://` URL. With three slashes, the path is relative to the
    config file. With four slashes, it is absolute."""
    password: SecretReference | None = None
    """The password for PostgreSQL. It must not be part of the URL."""
    connections: Annotated[int, Between(2, 100)] = 10
    """The maximum number of connections to PostgreSQL that one process opens for events and deliveries."""
    allow_unsynced: bool = False
    """Whether to accept a PostgreSQL server that confirms a commit before it is on disk."""
    keep_events: Duration = 7 * 86400.0
    """How long to keep delivered events."""
    keep_dead: Duration = 30 * 86400.0
    """How long to keep events with dead letters."""
    keep_audit: Duration = 90 * 86400.0
    """How long to keep audit entries, which say who changed what."""
    keep_replies: ReplySize = 1024
    """How much of a destination's reply to keep with each attempt, at most 64KiB. `0` keeps none. Gatehouse
    keeps nothing of the reply to a delivery that succeeds at the first attempt."""
    min_free: DiskSpace = 256 * 1024 * 1024
    """The minimum free disk space for SQLite. Below it, new requests get 503 and deliveries continue. `0`
    turns the check off."""


class RetryConfig(Model):
    """When a failed delivery is retried: exponential backoff with full jitter."""

    first: Duration = 1.0
    """The maximum delay before the second attempt. The actual delay is random, between zero and this
    value."""
    factor: Annotated[float, Between(1, 10)] = 2.0
    """The factor by which the maximum delay grows with each attempt."""
    max: Duration = 3600.0
    """The upper limit of the maximum delay."""
    give_up_after: Duration = 72 * 3600.0
    """How long to retry, counted from the time the event was received. After that, the next failed attempt
    makes the delivery a dead letter."""


class BreakerConfig(Model):
    """When the circuit breaker of a destination opens, and how often the destination is probed then."""

    failures: Annotated[int, Between(1, 1000)] = 5
    """The circuit breaker opens after failed attempts of this many different events without a success in
    between."""
    open: Duration = 30.0
    """The time until the first probe. A probe is an attempt with one event."""
    max_open: Duration = 60.0
    """The time between probes doubles up to this value, at most 1h. The gateway notices a recovery within
    this time."""


class BatchConfig(Model):
    """How many events one request to the destination contains."""

    events: Annotated[int, Between(1, 1000)] = 100
    """The maximum number of events in one request."""
    bytes: Size = 1024 * 1024
    """The maximum size of the body. A larger event is sent in a request of its own."""
    linger: Duration = 0.005
    """How long to wait for more events while events are arriving, at most 1s. A single event is sent
    immediately."""


class DestinationConfig(Model):
    """An internal URL, and how to send events to it."""

    url: HttpUrl
    """The URL that events are posted to."""
    secret: OneOrMany[SecretReference] = ()
    """A secret in the form `whsec_<base64>`. The gateway signs its requests with it as Standard Webhooks
    specifies. With a list, each request has one signature per secret."""
    format: Literal["cloudevents", "cloudevents-binary", "cloudevents-batch", "raw"] = "cloudevents"
    """The format of the requests: CloudEvents in structured mode, in binary mode or in batches, or with `raw`
    the bytes that the provider sent."""
    batch: BatchConfig = BatchConfig()
    """The limits of a batch, for `format: cloudevents-batch`."""
    headers: tuple[Pattern, ...] = ()
    """The provider's headers that are forwarded with `format: raw`. `*` matches any text."""
    auth: AuthConfig | None = None
    """How the gateway authenticates to the destination."""
    tls: DestinationTlsConfig | None = None
    """Certificates for the connections to the destination. The gateway reads changed files by itself."""
    proxy: ProxyUrl | None = None
    """The URL of an HTTP proxy for the connections to the destination, and to its token endpoint unless
    that is on loopback."""
    add_headers: Mapping[AddedHeaderName, HeaderValue] = {}
    """Headers with fixed values that each request gets. Secrets belong in `auth`."""
    timeout: Duration = 10.0
    """The maximum time of one attempt."""
    max_connection_age: Duration = 300.0
    """The maximum age of a connection, 1s to 1d. A new connection looks up the host name again."""
    concurrency: Concurrency = "auto"
    """The maximum number of concurrent attempts, or of concurrent requests with batches. `auto` starts at 16
    and adapts to the destination, from 4 to 64; with batches it is 16."""
    rate: Rate | None = None
    """The maximum number of events per second, minute or hour, including retries. Default: no limit."""
    order_by: TemplateText | None = None
    """Events for which this template has the same value are delivered one after the other, in the order in
    which they were accepted."""
    retry: RetryConfig = RetryConfig()
    """When to retry, and when to give up."""
    breaker: BreakerConfig = BreakerConfig()
    """When to stop attempts because the destination is down, and how often to probe it."""
    retry_on: OneOrMany[StatusExpression] = ()
    """Response statuses to retry in addition to the defaults: `"429"`, `"500-599"`. `"!501"` makes a status
    final."""


class RouteConfig(Model):
    """Which events of which sources go to which destinations."""

    sources: Annotated[AtLeastOne[Pattern], Field(alias="from")]
    """A source, a pattern, or a list of them. `*` matches every source."""
    types: AtLeastOne[Pattern] = ("*",)
    """Event types. `*` matches any text: `invoice.*` matches `invoice.paid`."""
    when: Mapping[TemplateText, ConditionText] = {}
    """Conditions for the content of an event: templates, and what each must resolve to. All must hold. A
    condition is a pattern (`eur`, `in_*`), `!` and a pattern that must not match, `<`, `<=`, `>` or `>=` and
    a number, or a list of these. See [routes by content](#routes-by-content)."""
    to: AtLeastOne[Text]
    """One or more destinations."""


class Config(Model):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    """The listener for providers."""
    operator: OperatorConfig = OperatorConfig()
    """The listener for operators."""
    store: StoreConfig = StoreConfig()
    """Where events are stored."""
    sources: Mapping[Name, SourceConfig]
    """The sources, by name."""
    destinations: Mapping[Name, DestinationConfig] = {}
    """The destinations, by name."""
    routes: tuple[RouteConfig, ...] = ()
    """All matching routes apply. Each destination gets an event once."""
