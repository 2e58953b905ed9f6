"""The config file as frozen models. Their attribute docstrings become the reference and the JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from gatehouse.config.addresses import (
    Address,
    HttpUrl,
    ListenAddress,
    ListenPlaces,
    Listens,
    PublicUrl,
    TrustedProxy,
)
from gatehouse.config.base import AtLeastOne, Model, Name, OneOrMany, Pattern, TemplateText, Text
from gatehouse.config.handshakes import HandshakeConfig
from gatehouse.config.quantities import Between, Duration, Rate, Size, Space, StatusExpression
from gatehouse.config.secrets import SecretReference
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
from gatehouse.config.verifiers import (
    AllowlistConfig,
    AnyConfig,
    AwsSnsConfig,
    BasicConfig,
    EbayConfig,
    EcdsaConfig,
    Ed25519Config,
    HmacConfig,
    JwtConfig,
    NoneConfig,
    PaypalConfig,
    RsaConfig,
    SignatureConfig,
    SigningConfig,
    TimestampConfig,
    TokenConfig,
    TwilioConfig,
    VerifierConfig,
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
    "TwilioConfig",
    "VerifierConfig",
    "VerifyEntry",
]


class ServerConfig(Model):
    """The listener for providers."""

    listen: ListenPlaces = Listens((Address("0.0.0.0", 8080),))  # noqa: S104 - providers are outside
    """Where providers reach the gateway: `host:port`, `:8080` for every address in IPv4 and IPv6, or
    `unix:/path` for a socket that a proxy on this machine opens; or a list of these."""
    public_url: PublicUrl | None = None
    """Scheme and host that providers use, for schemes that sign the URL."""
    max_body: Size = 1024 * 1024
    """The longest body that is read."""
    trusted_proxies: tuple[TrustedProxy, ...] = ()
    """Networks of the proxies in front, whose X-Forwarded-For is believed: in logs and by allowlists. `unix`
    stands for those that come through a Unix socket of `listen`."""
    request_deadline: Duration = 10.0
    """How long a request may take to arrive."""
    commit_deadline: Duration = 0.8
    """How long a verified request may wait for its commit before it gets 503."""
    idle_timeout: Duration = 15.0
    """How long a connection may be idle, take to send a request's head, or leave an answer unread."""
    max_connections: Annotated[int, Between(1, 1_000_000)] = 4096
    """How many connections there are at the most; the one idle longest makes room for a new one, else
    the one that has been sending longest."""


class OperatorConfig(Model):
    """The listener for operators."""

    listen: ListenAddress = Address("127.0.0.1", 9090)
    """Where metrics and health are served."""
    token: SecretReference | None = None
    """Bearer token for everything but health; needed when the listener is not on loopback."""


class StoreConfig(Model):
    """Where events are kept, and for how long."""

    url: StoreUrl = "sqlite:///gatehouse.db"
    """`sqlite:///` and a path, three slashes beside this file, four absolute; or `postgresql://`."""
    password: SecretReference | None = None
    """The password for PostgreSQL, which is never part of the URL."""
    connections: Annotated[int, Between(2, 100)] = 10
    """How many connections to PostgreSQL a process has for events and deliveries, at the most."""
    allow_unsynced: bool = False
    """Whether to use a PostgreSQL that answers before a commit is on its disk."""
    keep_events: Duration = 7 * 86400.0
    """How long delivered events are kept."""
    keep_dead: Duration = 30 * 86400.0
    """How long events with dead letters are kept."""
    min_free: Space = 256 * 1024 * 1024
    """With less room than this on the disk of SQLite new requests get 503, and deliveries go on; 0: never."""


class RetryConfig(Model):
    """When a delivery is tried again: full jitter under a growing limit."""

    first: Duration = 1.0
    """The longest delay before the second attempt; the delay itself is drawn from zero to it."""
    factor: Annotated[float, Between(1, 10)] = 2.0
    """By how much the longest delay grows with each attempt."""
    max: Duration = 3600.0
    """Where it stops growing."""
    give_up_after: Duration = 72 * 3600.0
    """After this, counted from when the event was received, a failed attempt makes a dead letter."""


class BreakerConfig(Model):
    """When a destination that is down is spared, and how it is found again."""

    failures: Annotated[int, Between(1, 1000)] = 5
    """After failures of so many different events, without a success between them, attempts stop."""
    open: Duration = 30.0
    """How long until the first probe: one event, to find out whether the destination is back."""
    max_open: Duration = 60.0
    """The time until the next probe doubles up to this; at most 1h. A recovery is noticed within it."""


class BatchConfig(Model):
    """How many events share a POST."""

    events: Annotated[int, Between(1, 1000)] = 100
    """How many events a POST holds at the most."""
    bytes: Size = 1024 * 1024
    """How long its body is at the most; an event that is longer alone is posted alone."""
    linger: Duration = 0.005
    """How long to wait for more while events are coming in; at most 1s. One that comes alone goes at once."""


class DestinationConfig(Model):
    """An internal URL, with how to talk to it."""

    url: HttpUrl
    """Where events are posted."""
    secret: OneOrMany[SecretReference] = ()
    """`whsec_<base64>`: signs what we send, as Standard Webhooks does. A list signs with each."""
    format: Literal["cloudevents", "cloudevents-binary", "cloudevents-batch", "raw"] = "cloudevents"
    """What is posted: CloudEvents structured, binary or several in one POST, or the provider's bytes."""
    batch: BatchConfig = BatchConfig()
    """What a POST holds with `format: cloudevents-batch`."""
    headers: tuple[Pattern, ...] = ()
    """Provider headers that go along with `format: raw`; `*` matches any text."""
    timeout: Duration = 10.0
    """How long one attempt may take."""
    max_connection_age: Duration = 300.0
    """After how long a connection is replaced by a new one, so that the name is looked up again: 1s to 1d."""
    concurrency: Annotated[int, Between(1, 10_000)] = 16
    """How many attempts run at once; of a batch, how many POSTs."""
    rate: Rate | None = None
    """How many events are sent per second, minute or hour at the most, with retries. Default: no limit."""
    order_by: TemplateText | None = None
    """Events for which this is the same are delivered one after the other, in the order accepted."""
    retry: RetryConfig = RetryConfig()
    """When to try again, and when to give up."""
    breaker: BreakerConfig = BreakerConfig()
    """When attempts stop because the destination is down, and how often it is probed then."""
    retry_on: OneOrMany[StatusExpression] = ()
    """Statuses that are tried again whatever the default: `"429"`, `"500-599"`; `"!501"` is final at once."""


class RouteConfig(Model):
    """Which events of which sources go to which destinations."""

    sources: Annotated[AtLeastOne[Pattern], Field(alias="from")]
    """A source, a list of them, or a pattern: `*` is every source."""
    types: AtLeastOne[Pattern] = ("*",)
    """Event types, with `*` for any text: `invoice.*` matches invoice.paid."""
    to: AtLeastOne[Text]
    """The destinations."""


class Config(Model):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    """The listener for providers."""
    operator: OperatorConfig = OperatorConfig()
    """The listener for operators."""
    store: StoreConfig = StoreConfig()
    """Where events are kept."""
    sources: Mapping[Name, SourceConfig]
    """Who may send, by name."""
    destinations: Mapping[Name, DestinationConfig] = {}
    """Where events go, by name."""
    routes: tuple[RouteConfig, ...] = ()
    """Every route that matches applies; each destination gets an event once."""
