"""The models of a source, and of the preset that it may start from."""

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
    OrTemplate,
    TemplateText,
    Text,
    wrong,
)
from gatehouse.config.handshakes import HandshakeConfig
from gatehouse.config.quantities import Between, Duration, Size
from gatehouse.config.secrets import SecretReference
from gatehouse.config.verifiers import SecretLength, VerifyEntry
from gatehouse.language.template import Template


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
    document: TemplateText | None = None
    """Where the JSON is that `{body:…}`, `data` and `split` read, when it is not the body: `{form:name}`, or
    `{form}` for all fields of a form."""
    data: TemplateText = Template("{body}")
    """What destinations get as `data`: `{body}` or a lone `{body:path}`, whose bytes stay as sent. For an
    item of a batch also a lone `{outer:path}`: what is around it, with all items in it."""
    split: TemplateText | None = None
    """For batch providers: a lone `{body:path}` to a list; templates then see one element of it. `*` on the
    way stands for each element, `a|b` for both; an element without the rest of the way is one itself."""

    @field_validator("data", "split")
    @classmethod
    def _is_a_part_of_the_body(cls, template: Template | None, info: ValidationInfo) -> Template | None:
        names = ("body", "outer") if info.field_name == "data" else ("body",)
        if template is not None and not all(_is_lone(parts, names) for parts in template.alternatives):
            raise wrong("has to be a part of the body as sent", 'a lone "{body:path}"')
        return template


def _is_lone(parts: tuple[object, ...], names: tuple[str, ...]) -> bool:
    return len(parts) == 1 and getattr(parts[0], "name", None) in names


class DedupeKeyConfig(Model):
    """One dedupe key. A template alone is short for a key that has the window of them all."""

    key: TemplateText
    """What it is made of."""
    window: Duration | None = None
    """For how long this key makes duplicates. Default: the `window` of `dedupe`."""


class DedupeConfig(Model):
    """What makes two requests the same event, and for how long."""

    by: tuple[Annotated[DedupeKeyConfig, OrTemplate("key")], ...] = ()
    """Dedupe keys: all that resolve are recorded, any known one makes a duplicate."""
    window: Duration = 7 * 86400.0
    """For how long a key makes duplicates that has no window of its own."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """What each key is made of."""
        return tuple(one.key for one in self.by)

    @property
    def windows(self) -> tuple[float, ...]:
        """For how long each key makes duplicates (seconds)."""
        return tuple(self.window if one.window is None else one.window for one in self.by)


class AnswersConfig(Model):
    """Statuses of the answers, where a provider demands others."""

    accepted: Annotated[int, Between(200, 299)] = 200
    """Committed."""
    duplicate: Annotated[int, Between(200, 299)] | None = None
    """Seen before. Default: as `accepted`."""
    unauthorized: Annotated[int, Between(400, 499)] = 401
    """Not verified."""
    body: str | None = None
    """The body of 2xx answers instead of ours: text, or a JSON object. An empty one leaves every answer
    without a body."""


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
    setup: tuple[Text, ...] = ()
    """How to set the provider up to send events, one step per item, in Markdown."""
    verify: AtLeastOne[VerifyEntry]
    """One verifier, or a list of which all must pass. In a list, `preset` stands for the preset's own."""
    min_secret: SecretLength = 16
    """The shortest secret in bytes that is accepted."""
    event: EventConfig
    """How events are read from verified requests."""
    dedupe: DedupeConfig = DedupeConfig()
    """What makes two requests the same event."""
    max_age: Duration | None = None
    """How old a verified request may be, by a time that is signed: the verifier's timestamp, or else
    `event.time`. Not longer than the dedupe window."""
    answers: AnswersConfig = AnswersConfig()
    """Answers, where the provider demands others."""
    handshakes: tuple[HandshakeConfig, ...] = ()
    """Requests with which the provider checks the address; they are answered and are no events."""
    values: Mapping[Name, str] = {}
    """Facts about the account that its texts need: `{value:name}` stands for one. Empty: to be set."""
    max_body: Size | None = None
    """The longest body. Default: the server's."""
    answer_deadline: Duration | None = None
    """How long the provider waits for an answer."""
    retry_horizon: Duration | None = None
    """How long after the first request the provider may still retry on its own."""
    retries: str = ""
    """The provider's retry schedule, in words."""
    retries_resigned: str = ""
    """Where the provider says that it signs each retry anew, with a fresh timestamp."""
    no_max_age: str = ""
    """Why nothing bounds the age of a captured request, where nothing does."""
    disables: str = ""
    """What makes the provider disable the registered address, in words."""
    types: tuple[str, ...] = ()
    """The documented event types."""
    unique_bodies: str = ""
    """Why no two events have equal bodies, where a dedupe key is made of the signed bytes alone."""
    unconfirmed: tuple[str, ...] = ()
    """What no primary source confirms."""
    samples: tuple[SampleConfig, ...] = ()
    """The provider's documented examples."""


class SourceConfig(ProviderConfig):
    """Our entry for one provider account."""

    provider: str = ""
    """The preset; empty when the source spells everything out."""
    secrets: OneOrMany[SecretReference] = ()
    """What the verifiers check with. A list means that all are live, as during a rotation."""
    handshake_secrets: OneOrMany[SecretReference] = ()
    """The tokens of handshakes that carry one, as with `hub.verify_token`."""
    path: PathText | None = None
    """Where it is served. Default: `/webhooks/` and the source's name."""
    respond: Literal["accept", "relay"] = "accept"
    """The answer to an event: that it is accepted, or with `relay` what the one destination of the routes
    replies (a 2xx, up to 64 KiB). Without such a reply nothing is stored, and the answer is 502 or 504."""
