"""The config file as frozen models. Field comments (`#:`) become the reference and the editor's JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gatehouse.config.scalars import (
    Address,
    Duration,
    HttpUrl,
    ListenAddress,
    OneOrMany,
    Rate,
    SecretReference,
    Size,
    TemplateText,
    wrong,
)
from gatehouse.template import Template

#: Names of sources and destinations: they stand in paths, labels and log lines.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")]
PathText = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]{1,255}$")]
Count = Annotated[int, Field(ge=1, le=100_000)]


class Model(BaseModel):
    """Frozen, and strict about unknown keys and types."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


# --- verification (design: one language, and presets written in it) --------------------------------------------


class SignatureConfig(Model):
    """Where a request carries its signatures, and how they are written."""

    header: OneOrMany[HeaderName] = ()
    """The header that carries the signature, or several names of which the first present one counts."""
    body: str | None = None
    """A path into the JSON body that carries the signature."""
    form: str | None = None
    """A form field that carries the signature."""
    format: Literal["plain", "pairs", "list"] = "plain"
    """`plain` is the signature alone, `pairs` is `t=1,s=ab`, `list` is `v1,ab v1,cd`."""
    key: OneOrMany[str] = ()
    """For pairs and list: which entries are signatures. Several may match; any may pass."""
    prefix: str = ""
    """Text in front of each signature, as in `sha256=`."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """How the signature's bytes are written."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(map(bool, (self.header, self.body, self.form))) != 1:
            raise wrong("needs exactly one place", "header: NAME, body: path or form: name")
        if self.format != "plain" and not self.key:
            raise wrong(f"format {self.format} needs to know its entries", "key: v1")
        if self.format == "plain" and self.key:
            raise wrong("key is for pairs and list", "format: pairs, or leave key out")
        return self


class TimestampConfig(Model):
    """The signed timestamp: where it is, how it is written, how old it may be."""

    pair: str | None = None
    """The entry of a `pairs` signature that is the timestamp."""
    header: HeaderName | None = None
    """The header that carries the timestamp."""
    unit: Literal["s", "ms", "iso8601"] = "s"
    """How the timestamp is written."""
    tolerance: Duration = 300.0
    """How far it may be from now, in the past and in the future."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.pair is None) == (self.header is None):
            raise wrong("needs exactly one place", "pair: t or header: X-Webhook-Timestamp")
        return self


class VerifierConfig(Model):
    """What every verifier with a secret has."""

    secrets: OneOrMany[SecretReference] = ()
    """Secrets of this verifier alone; without any it uses those of the source. All of them are live."""
    min_secret: Annotated[int, Field(ge=1, le=256)] | None = None
    """The shortest secret in bytes, where the provider issues shorter ones than the source's `min_secret`."""


class HmacConfig(VerifierConfig):
    """`type: hmac`."""

    type: Literal["hmac"]
    """A keyed hash over the request."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    key: Literal["utf8", "hex", "base64", "whsec"] = "utf8"
    """How the secret becomes key bytes; `whsec` is base64 behind `whsec_`."""
    signature: SignatureConfig
    """Where the signature is and how it is written."""
    timestamp: TimestampConfig | None = None
    """The signed timestamp; absent when the scheme signs none."""
    signed: TemplateText = Field(default_factory=lambda: Template("{body}"))
    """What is signed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = {placeholder.name for placeholder in self.signed.placeholders}
        if "signed" in names:
            raise wrong("{signed} can't be part of what is signed", 'signed: "{timestamp}.{body}"')
        if "timestamp" in names and self.timestamp is None:
            raise wrong("{timestamp} is signed, but there is no timestamp", "timestamp: {header: NAME}")
        if self.timestamp is not None and self.timestamp.pair and self.signature.format != "pairs":
            raise wrong("a timestamp in a pair needs a signature of pairs", "signature: {format: pairs}")
        return self


class TokenConfig(VerifierConfig):
    """`type: token`."""

    type: Literal["token"]
    """A shared token, sent as it is."""
    header: HeaderName | None = None
    """The header that carries it."""
    query: str | None = None
    """The query parameter that carries it."""
    prefix: str = ""
    """Text in front of the token, as in `Bearer `."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise wrong("needs exactly one place", "header: NAME or query: name")
        return self


class BasicConfig(VerifierConfig):
    """`type: basic`."""

    type: Literal["basic"]
    """HTTP Basic credentials."""
    username: str | None = None
    """The user name; the secret is then the password. Without it the secret is `username:password`."""


class NoneConfig(Model):
    """`type: none`."""

    type: Literal["none"]
    """No verification: anyone who can reach the path can send."""
    insecure: Literal[True]
    """Says that you mean it."""


VerifyEntry = Annotated[HmacConfig | TokenConfig | BasicConfig | NoneConfig, Field(discriminator="type")]


# --- events ----------------------------------------------------------------------------------------------------


class EventConfig(Model):
    """How an event is read from a verified request."""

    id: TemplateText | None = None
    """The provider's id of the event. Absent: the gateway's own."""
    type: TemplateText
    """The event type, which routes match."""
    time: TemplateText | None = None
    """When it happened: ISO 8601 or unix s/ms. Absent: when received."""
    subject: TemplateText | None = None
    """What it is about, as in an invoice's id."""
    account: TemplateText | None = None
    """The provider-side tenant, when there is one."""
    data: TemplateText = Field(default_factory=lambda: Template("{body}"))
    """What destinations get as `data`: `{body}` or a lone `{body:path}`, whose bytes stay as sent."""
    split: TemplateText | None = None
    """For batch providers: a lone `{body:path}` to a list, one event per element; templates resolve inside it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, template in (("data", self.data), ("split", self.split)):
            if template is not None and not _lone_body(template):
                raise wrong(f"{name} must be a part of the body as sent", 'a lone "{body:path}"')
        return self


def _lone_body(template: Template) -> bool:
    return all(
        len(parts) == 1 and not isinstance(parts[0], bytes) and parts[0].name == "body"
        for parts in template.alternatives
    )


class DedupeConfig(Model):
    """What makes two requests the same event, and for how long."""

    by: tuple[TemplateText, ...] = ()
    """Dedupe keys: all that resolve are recorded, any known one makes a duplicate."""
    window: Duration = 7 * 86400.0
    """For how long; not shorter than the provider's retry horizon."""


class AnswersConfig(Model):
    """Statuses of the answers, where a provider demands others."""

    accepted: Annotated[int, Field(ge=200, le=299)] = 200
    """Committed."""
    duplicate: Annotated[int, Field(ge=200, le=299)] | None = None
    """Seen before. Default: as `accepted`."""
    unauthorized: Annotated[int, Field(ge=400, le=499)] = 401
    """Not verified."""


class SampleConfig(Model):
    """A request as the provider documents it, for `send`, `sign` and `demo`. Signatures are made fresh."""

    headers: Mapping[HeaderName, str] = {}
    """Headers besides the signature's."""
    body: str
    """The body, byte for byte."""


class ProviderConfig(Model):
    """What a preset says about a provider; a source may override any of it, or say all of it itself."""

    title: str = ""
    """The provider's name as people write it."""
    docs: str = ""
    """Where the provider documents its requests."""
    verify: OneOrMany[VerifyEntry]
    """One verifier, or a list of which all must pass. In a list the word `preset` stands for the preset's own."""
    min_secret: Annotated[int, Field(ge=1, le=256)] = 16
    """The shortest secret in bytes that is accepted."""
    event: EventConfig
    """How events are read from verified requests."""
    dedupe: DedupeConfig = DedupeConfig()
    """What makes two requests the same event."""
    answers: AnswersConfig = AnswersConfig()
    """Answer statuses, where the provider demands others."""
    answer_deadline: Duration | None = None
    """How long the provider waits for an answer."""
    retry_horizon: Duration | None = None
    """How long after the first request the provider may still retry on its own."""
    retries: str = ""
    """The provider's retry schedule, in words."""
    disables: str = ""
    """What makes the provider disable the registered address, in words."""
    types: tuple[str, ...] = ()
    """The documented event types."""
    unconfirmed: tuple[str, ...] = ()
    """What no primary source confirms."""
    samples: tuple[SampleConfig, ...] = ()
    """The provider's documented examples."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.verify:
            raise wrong("verify needs at least one verifier", "type: hmac, token or basic")
        if not any(isinstance(verifier, HmacConfig) for verifier in self.verify):
            for template in self.dedupe.by:
                if any(placeholder.name == "signed" for placeholder in template.placeholders):
                    raise wrong("{signed} needs a verifier that signs", 'dedupe: {by: ["{body:id}"]}')
        return self


class SourceConfig(ProviderConfig):
    """Our entry for one provider account."""

    provider: str = ""
    """The preset; empty when the source spells everything out."""
    secrets: OneOrMany[SecretReference] = ()
    """What the verifiers check with. A list means that all are live, as during a rotation."""
    path: PathText | None = None
    """Where it is served. Default: /webhooks/<name>."""
    max_body: Size | None = None
    """The longest body. Default: the server's."""


# --- the rest of the file --------------------------------------------------------------------------------------


class ServerConfig(Model):
    """The listener for providers."""

    listen: ListenAddress = Address("0.0.0.0", 8080)  # noqa: S104 - providers are outside
    """Where providers reach the gateway."""
    public_url: HttpUrl | None = None
    """Scheme and host that providers use, for schemes that sign the URL."""
    max_body: Size = 1024 * 1024
    """The longest body that is read."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-For is believed."""
    request_deadline: Duration = 10.0
    """How long a request may take to arrive."""
    commit_deadline: Duration = 0.8
    """How long a verified request may wait for its commit before it gets 503."""


class OperatorConfig(Model):
    """The listener for operators."""

    listen: ListenAddress = Address("127.0.0.1", 9090)
    """Where metrics and health are served."""
    token: SecretReference | None = None
    """Bearer token for everything but health; needed when the listener is not on loopback."""


class StoreConfig(Model):
    """Where events are kept, and for how long."""

    url: Annotated[str, Field(pattern=r"^sqlite:///.+$")] = "sqlite:///gatehouse.db"
    """sqlite:/// and a path: three slashes beside this file, four absolute."""
    keep_events: Duration = 7 * 86400.0
    """How long delivered events are kept."""
    keep_dead: Duration = 30 * 86400.0
    """How long events with dead letters are kept."""


class RetryConfig(Model):
    """When a delivery is tried again: full jitter under a growing limit."""

    first: Duration = 1.0
    """The longest delay before the second attempt; the delay itself is drawn from zero to it."""
    factor: Annotated[float, Field(ge=1, le=10, strict=False)] = 2.0
    """By how much the longest delay grows with each attempt."""
    max: Duration = 3600.0
    """Where it stops growing."""
    give_up_after: Duration = 72 * 3600.0
    """When a delivery becomes a dead letter, counted from when the event was received."""


class DestinationConfig(Model):
    """An internal URL, with how to talk to it."""

    url: HttpUrl
    """Where events are posted."""
    secret: OneOrMany[SecretReference] = ()
    """whsec_<base64>: signs what we send, as Standard Webhooks does. A list signs with each."""
    format: Literal["cloudevents", "cloudevents-binary", "raw"] = "cloudevents"
    """What is posted: CloudEvents structured or binary, or the provider's bytes."""
    headers: tuple[str, ...] = ()
    """Provider headers that go along with `format: raw`; `*` matches any text."""
    timeout: Duration = 10.0
    """How long one attempt may take."""
    concurrency: Count = 16
    """How many attempts run at once."""
    rate: Rate | None = None
    """How many attempts start per second, minute or hour at the most."""
    retry: RetryConfig = RetryConfig()
    """When to try again, and when to give up."""


class RouteConfig(Model):
    """Which events of which sources go to which destinations."""

    sources: Annotated[OneOrMany[str], Field(alias="from")]
    """A source, a list of them, or a pattern: `*` is every source."""
    types: OneOrMany[str] = ("*",)
    """Event types, with `*` for any text: `invoice.*` matches invoice.paid."""
    to: OneOrMany[Name]
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
