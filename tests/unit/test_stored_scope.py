"""Conditions read the same values from a stored event as from its request."""

from __future__ import annotations

import gzip
import time

import pytest
from multidict import CIMultiDict

from gatehouse import providers
from gatehouse.config.presets import raw_preset
from gatehouse.events.reader import with_body_as_sent
from gatehouse.language.request import Request
from gatehouse.language.template import Template
from gatehouse.samples.sample import documented_sample
from gatehouse.verify.base import VerifiedRequest
from presets import source

#: Placeholders that conditions may read, and whose values are stored.
KEPT = ("body", "body_name", "form", "header")
#: Presets whose events are not simply the body of the request.
PRESETS = [name for name in providers.names() if {"document", "split"} & raw_preset(name)["event"].keys()]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("preset", [*PRESETS, "github", "twilio", "mando"])
def test_a_stored_event_has_the_values_of_its_request(preset: str, *, compressed: bool) -> None:
    compiled = source(preset)
    sample = documented_sample(compiled.settings)
    assert sample is not None
    headers = CIMultiDict(sample.headers)
    request = Request("POST", compiled.path, "", headers, sample.body)
    read = compiled.reader.read(VerifiedRequest(request), time.time(), compiled.kept_headers(headers))
    if compressed:
        sent = Request(
            "POST", compiled.path, "", CIMultiDict({"Content-Encoding": "gzip"}), gzip.compress(sample.body)
        )
        read = [with_body_as_sent(one, sent) for one in read]
    attributes = compiled.settings.event
    used = {
        str(part)
        for template in (attributes.type, attributes.id, attributes.subject, attributes.account)
        if template is not None
        for part in template.placeholders
        if part.name in KEPT
    }
    for event, _, scope in read:
        stored = compiled.reader.stored_scope(event)
        for text in ("{body}", "{path}", "{header:Content-Type}", *used):
            template = Template(text)
            assert template.render(stored) == template.render(scope), text
