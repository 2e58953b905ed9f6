"""For every preset: sign and verify, explain a refused request, and copy the preset into a source."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gatehouse import providers
from gatehouse.cli import main
from gatehouse.config.base import format_template
from gatehouse.config.load import LoadedConfig, parse
from gatehouse.config.model import Model
from gatehouse.config.presets import raw_preset
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.diagnose import diagnose
from gatehouse.diagnosis.known import known_source
from gatehouse.errors import ConfigError, Reason, VerificationError
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.language.template import Template
from gatehouse.samples.sample import documented_sample, sign_sample, with_time

NOW = 1_750_000_000.0
RAW = "0123456789abcdef0123456789abcdef"
#: A secret in each of the forms that symmetric schemes need: text, base64, whsec_, hex, user:password.
FORMS = (
    *(RAW, base64.b64encode(RAW.encode()).decode(), "whsec_" + base64.b64encode(RAW.encode()).decode()),
    *(RAW.encode().hex(), f"user:{RAW}"),
)
SERVER = {"public_url": "https://hooks.example.com"}
#: What only a private key can sign.
ASYMMETRIC = {
    name
    for name in providers.names()
    if re.search(
        r"type: (ed25519|ecdsa|rsa|paypal|aws-sns|ebay|truelayer)\b|algorithm: [RE]S256", providers.text(name)
    )
}
SYMMETRIC = [name for name in providers.names() if name not in ASYMMETRIC]


def loaded(settings: dict[str, Any]) -> LoadedConfig:
    """Load a source, with as many of the usual secrets as its preset uses."""
    for names in (("secrets", "handshake_secrets"), ("secrets",), ("handshake_secrets",), ()):
        source = settings | dict.fromkeys(names, "env:S")
        try:
            return parse(json.dumps({"server": SERVER, "sources": {"s": source}}))
        except ConfigError as error:
            last = error
    raise last


def by_name(name: str) -> dict[str, Any]:
    return {"provider": name, "values": dict.fromkeys(unset(name), "x")}


def unset(name: str) -> list[str]:
    """Return the values that a source must set."""
    return [value for value, given in (raw_preset(name).get("values") or {}).items() if not given]


def ready(config: LoadedConfig) -> tuple[Source, Secrets]:
    """Compile the source with a secret in the form that it needs."""
    for secret in FORMS:
        secrets = Secrets(Path(), {"S": secret})
        source = Source("s", config.config.sources["s"], config.config, secrets)
        if source.not_ready is None:
            return source, secrets
    raise AssertionError(source.not_ready)


def sent(source: Source) -> Request:
    sample = documented_sample(source.settings)
    assert sample is not None
    return sign_sample(source, with_time(sample, source.settings, NOW), NOW)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_every_preset_verifies_what_it_signs(name: str) -> None:
    source, _ = ready(loaded(by_name(name)))

    verified = source.verification.verify(sent(source), NOW)

    events = [one.event for one in source.reader.read(verified, NOW, ())]
    assert events
    assert "gatehouse.unreadable" not in {event.type for event in events}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_truncated_request_of_every_preset_is_explained(name: str) -> None:
    source, secrets = ready(loaded(by_name(name)))
    request = sent(source)
    cut = msgspec.structs.replace(request, body=request.body[:-1])
    reason = refusal(source, cut)

    # Tokens, and schemes that do not sign the body, accept it.
    if reason is not None:
        known = known_source("s", source.settings, secrets, 1024 * 1024)
        assert diagnose(cut, known, [], NOW, reason).findings


def refusal(source: Source, request: Request) -> Reason | None:
    try:
        source.verification.verify(request, NOW)
    except VerificationError as error:
        return error.reason
    return None


@pytest.mark.parametrize("name", sorted(ASYMMETRIC & {"discord", "paypal", "aws-sns", "telnyx"}))
def test_sign_with_a_scheme_that_only_the_provider_can_sign_is_an_error(name: str, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(json.dumps({"server": SERVER, "sources": {"s": used(name)}}))

    result = CliRunner(env={"S": RAW.encode().hex() if name != "telnyx" else KEY}).invoke(
        main, ["sign", "s", "-c", str(config)]
    )

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: only the provider can sign")
    assert "\nTry: " in result.stderr


KEY = base64.b64encode(RAW.encode()).decode()


def used(name: str) -> dict[str, Any]:
    return by_name(name) | ({} if name in ("paypal", "aws-sns") else {"secrets": "env:S"})


@pytest.mark.parametrize("name", providers.names())
def test_a_printed_preset_can_be_copied_into_a_source(name: str) -> None:
    printed = CliRunner().invoke(main, ["providers", name])
    assert printed.exit_code == 0

    preset = loaded(by_name(name)).config.sources["s"]
    pasted = parse_pasted(filled(printed.stdout, name), preset).config.sources["s"]

    assert written(pasted) == written(preset.model_copy(update={"provider": ""}))


def filled(text: str, name: str) -> str:
    """Set the values that the preset leaves to the source."""
    for value in unset(name):
        text = re.sub(rf'(\b{value}: )""', r'\1"x"', text)
    return text


def parse_pasted(text: str, preset: Any) -> LoadedConfig:
    keys = [key for key in ("secrets", "handshake_secrets") if getattr(preset, key)]
    secrets = "".join(f"    {key}: env:S\n" for key in keys)
    return parse(f"server: {json.dumps(SERVER)}\nsources:\n  s:\n{secrets}{textwrap.indent(text, '    ')}\n")


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_copied_preset_verifies_what_the_preset_signs(name: str) -> None:
    config = loaded(by_name(name))
    pasted, _ = ready(parse_pasted(filled(providers.text(name), name), config.config.sources["s"]))
    request = sent(ready(config)[0])

    verified = pasted.verification.verify(request, NOW)

    assert pasted.reader.read(verified, NOW, ())


def written(model: Any) -> Any:
    """Return a model as plain data, with templates as in the config."""
    match model:
        case Model():
            return {name: written(getattr(model, name)) for name in type(model).model_fields}
        case Template():
            return format_template(model)
        case dict():
            return {str(written(key)): written(value) for key, value in model.items()}
        case tuple() | list():
            return [written(value) for value in model]
        case _:
            return model
