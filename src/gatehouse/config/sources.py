"""Defines the models of a source and of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ValidationInfo, field_validator

from gatehouse.config.addresses import PathText
from gatehouse.config.base import (
    AtLeastOne,
    HeaderName,
    Model,
    Name,
    OneOrMany,
    OrSwitch,
    OrTemplate,
    TemplateText,
    Text,
    invalid_value,
)
from gatehouse.config.handshakes import HandshakeConfig
from gatehouse.config.quantities import Between, Duration, Size
from gatehouse.config.secret_references import SecretReference
from gatehouse.config.signatures import SecretLength
from gatehouse.config.verifiers import VerifyEntry
from gatehouse.language.template import Template


class EventConfig(Model):
    """How an event is read from a verified request."""

    id: TemplateText | None = None
    """The provider's id of the event. Default: an id that the gateway generates."""
    type: TemplateText
    """The event type. Routes match it."""
    time: TemplateText | None = None
    """When the event happened: ISO 8601, or Unix seconds or milliseconds. Default: the time of receipt."""
    subject: TemplateText | None = None
    """The subject of the event, such as the id of an invoice."""
    account: TemplateText | None = None
    """The tenant or account at the provider."""
    document: TemplateText | None = None
    """The JSON document that `{body:…}`, `data` and `split` read, if it is not the body itself: `{form:name}`
    for a field of a form, or `{form}` for all fields."""
    data: TemplateText = Template("{body}")
    """What destinations get as `data`: `{body}` or a single `{body:path}`. The bytes stay as the provider
    sent them. For an item of a batch, a single `{outer:path}` is also possible. It includes all items."""
    split: TemplateText | None = None
    """For requests with several events: a single `{body:path}` to the list of events. Templates then read one
    element. `*` in the path stands for each element of a list, and `a|b` for both members. An element without
    the rest of the path is an event itself."""

    @field_validator("data", "split")
    @classmethod
    def _is_a_part_of_the_body(cls, template: Template | None, info: ValidationInfo) -> Template | None:
        names = ("body", "outer") if info.field_name == "data" else ("body",)
        if template is not None and not all(_is_lone(parts, names) for parts in template.alternatives):
            raise invalid_value(
                "must be a part of the body as sent", 'use a single placeholder, as in "{body:path}"'
            )
        return template


def _is_lone(parts: tuple[object, ...], names: tuple[str, ...]) -> bool:
    return len(parts) == 1 and getattr(parts[0], "name", None) in names


class DedupeKeyConfig(Model):
    """One dedupe key. A template alone is short for a key with the common window."""

    key: TemplateText
    """The template of the key."""
    window: Duration | None = None
    """The dedupe window of this key. Default: the `window` of `dedupe`."""


class DedupeConfig(Model):
    """Which requests are duplicates of an event, and for how long."""

    by: tuple[Annotated[DedupeKeyConfig, OrTemplate("key")], ...] = ()
    """Dedupe keys. The gateway records every key that resolves. An event is a duplicate if any of its keys is
    known."""
    window: Duration = 7 * 86400.0
    """The dedupe window: how long the gateway remembers a key. Individual keys may have their own."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """The template of each key."""
        return tuple(one.key for one in self.by)

    @property
    def windows(self) -> tuple[float, ...]:
        """The dedupe window of each key (seconds)."""
        return tuple(self.window if one.window is None else one.window for one in self.by)


class DecodeConfig(Model):
    """How compressed bodies (`Content-Encoding`) are decoded. `true` stands for the defaults."""

    verify: Literal["sent", "decoded"] = "sent"
    """What the verifiers check: the bytes as they were sent, or the decoded bytes, for providers that sign
    the data before they compress it."""


class AnswersConfig(Model):
    """Statuses and bodies of the answers, for providers that require other ones."""

    accepted: Annotated[int, Between(200, 299)] = 200
    """The status of the answer when the event is committed."""
    duplicate: Annotated[int, Between(200, 299)] | None = None
    """The status of the answer to a duplicate. Default: the value of `accepted`."""
    unauthorized: Annotated[int, Between(400, 499)] = 401
    """The status of the answer when verification fails."""
    body: str | None = None
    """The body of 2xx answers: text, or a JSON object. If it is empty, no answer has a body."""


class SampleConfig(Model):
    """A sample request from the provider's documentation, for `send`, `sign` and `demo`.

    Gatehouse signs it.
    """

    headers: Mapping[HeaderName, str] = {}
    """Headers other than those of the signature."""
    body: str
    """The exact body."""


class ProviderConfig(Model):
    """What a preset contains. A source may override any key, or define all keys without a preset."""

    title: str = ""
    """The provider's name for display."""
    docs: str = ""
    """The URL of the provider's documentation."""
    setup: tuple[Text, ...] = ()
    """How to configure the provider, one step per item, in Markdown."""
    verify: AtLeastOne[VerifyEntry]
    """One verifier, or a list of verifiers that must all pass. In a list, `preset` stands for the preset's
    verifiers."""
    min_secret: SecretLength = 16
    """The minimum length of a secret in bytes."""
    event: EventConfig
    """How events are read from verified requests."""
    dedupe: DedupeConfig = DedupeConfig()
    """Which requests are duplicates of an event."""
    max_age: Duration | None = None
    """The maximum age of a verified request. It is measured by a signed time: the verifier's timestamp, or
    else `event.time`. It must not be longer than the dedupe window."""
    methods: AtLeastOne[Literal["POST", "PUT", "PATCH", "DELETE"]] = ("POST",)
    """The methods with which the provider sends events. Other methods get 405. Handshakes have their own."""
    decode: Annotated[DecodeConfig, OrSwitch()] | None = None
    """Whether to accept bodies in gzip, deflate and br. `true` decodes them. Default: they get 415."""
    answers: AnswersConfig = AnswersConfig()
    """Answers, if the provider requires other ones."""
    handshakes: tuple[HandshakeConfig, ...] = ()
    """Requests with which the provider checks the URL. The gateway answers them. They are not events."""
    values: Mapping[Name, str] = {}
    """Values of your account that the preset needs. `{value:name}` stands for one. You must set the empty
    ones."""
    max_body: Size | None = None
    """The maximum size of a request body. Default: `server.max_body`."""
    answer_deadline: Duration | None = None
    """How long the provider waits for an answer."""
    retry_horizon: Duration | None = None
    """How long after the first request the provider may still retry."""
    retries: str = ""
    """A description of the provider's retry schedule."""
    retries_resigned: str = ""
    """Where the provider documents that it signs each retry again, with a new timestamp."""
    no_max_age: str = ""
    """Why the age of a captured request has no limit, if it has none."""
    disables: str = ""
    """A description of what makes the provider disable the registered URL."""
    types: tuple[str, ...] = ()
    """The documented event types."""
    unique_bodies: str = ""
    """Why no two events have equal bodies, if the only dedupe key is made of the signed bytes."""
    unconfirmed: tuple[str, ...] = ()
    """Facts in this preset that no primary source confirms."""
    samples: tuple[SampleConfig, ...] = ()
    """Sample requests from the provider's documentation."""


class SourceConfig(ProviderConfig):
    """The config of one provider account."""

    provider: str = ""
    """The preset. Without one, the source defines everything itself."""
    secrets: OneOrMany[SecretReference] = ()
    """The secrets of the verifiers. All secrets of a list are valid, as during a rotation."""
    handshake_secrets: OneOrMany[SecretReference] = ()
    """The tokens of handshakes that carry one, such as `hub.verify_token`."""
    path: PathText | None = None
    """The URL path of the source. Default: `/webhooks/` and the name of the source."""
    respond: Literal["accept", "relay"] = "accept"
    """How the gateway answers an event. With `accept`, it answers that the event is accepted. With `relay`,
    it returns the 2xx reply of the only destination, up to 64 KiB. Without such a reply, it stores nothing
    and answers 502 or 504."""
