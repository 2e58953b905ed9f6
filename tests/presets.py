"""Sources built from presets, and the vectors that test the presets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from multidict import CIMultiDict

from gatehouse.config.load import LoadedConfig, parse
from gatehouse.config.model import AnyConfig, JwtConfig, ProviderConfig, VerifierConfig, VerifyEntry
from gatehouse.config.presets import raw_preset, shipped_preset
from gatehouse.config.secrets import Secrets
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request

#: Schemes in which only the provider can sign.
ASYMMETRIC = ("ed25519", "ecdsa", "rsa", "paypal", "aws-sns", "ebay", "truelayer", "allowlist")

DEFAULT_URL = "https://gateway.example/webhooks/it"


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request, with the expected result."""

    name: str
    #: The origin: `published` by the provider, made with or checked by its `sdk`, or made by `hand`.
    proof: str
    source: str
    secrets: tuple[str, ...]
    now: float
    headers: dict[str, str] | list[tuple[str, str]]
    method: str = "POST"
    url: str = DEFAULT_URL
    client: str = ""
    values: dict[str, str] = {}
    #: Address → the answer from there: a certificate or a published key.
    keys: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    events: list[dict[str, Any]] | None = None
    refused: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return (
            base64.b64decode(self.body_base64) if self.body_base64 is not None else (self.body or "").encode()
        )

    def request(self) -> Request:
        """The request as it arrives."""
        scheme, _, rest = self.url.partition("://")
        host, _, target = rest.partition("/")
        path, _, query = target.partition("?")
        headers = CIMultiDict(self.headers)
        return Request(
            self.method, f"/{path}", query, headers, self.content, f"{scheme}://{host}", self.client
        )


class VectorFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All vectors of one preset."""

    preset: str
    vectors: list[Vector]


FOLDER = Path(__file__).parent / "vectors"
FILES = {
    file.stem: msgspec.json.decode(file.read_bytes(), type=VectorFile)
    for file in sorted(FOLDER.glob("*.json"))
}
VECTORS = [
    (name, number, vector) for name, file in FILES.items() for number, vector in enumerate(file.vectors)
]


def loaded(
    preset: str, secrets: Sequence[str], *, values: dict[str, str] | None = None, **extra: Any
) -> LoadedConfig:
    """Load a config with one source, `it`, as a user would write it."""
    settings = {
        "provider": preset,
        "secrets": [f"env:S{index}" for index, _ in enumerate(secrets)],
        "path": "/webhooks/it",
        # Published examples have secrets that are too short for real use.
        "min_secret": 1,
        "values": {name: value or "value-1" for name, value in blanks(preset).items()} | (values or {}),
        **extra,
    }
    kept = {name: value for name, value in settings.items() if value not in ([], {})}
    return parse(json.dumps({"server": {"public_url": "https://gateway.example"}, "sources": {"it": kept}}))


def blanks(preset: str) -> dict[str, str]:
    """Name the values that a preset leaves to the source."""
    return dict(raw_preset(preset).get("values", {}))


def source(preset: str, secrets: Sequence[str] | None = None, **extra: Any) -> Source:
    """Compile a source with a preset. Without `secrets`, it gets one in the form that the preset needs."""
    given = tuple(secrets) if secrets is not None else made_secrets(shipped_preset(preset))
    config = loaded(preset, given, **extra).config
    return Source("it", config.sources["it"], config, Secrets(Path(), environment(given)))


class Known:
    """Replaces the remote keys: returns the content that the vector gives for an address."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys

    def get(self, url: str) -> bytes | None:
        """Return the content of the address."""
        key = self._keys.get(url)
        return None if key is None else key.encode()


def built(preset: str, vector: Vector) -> Source:
    """Compile the source of a vector, with its secrets and its fetched keys."""
    of = source(preset, vector.secrets, values=vector.values)
    assert of.not_ready is None
    for verifier in getattr(of.verification, "remote", ()):
        verifier.keys = Known(vector.keys)
    return of


def environment(secrets: Sequence[str]) -> dict[str, str]:
    """Name secrets as `loaded` does."""
    return {f"S{index}": secret for index, secret in enumerate(secrets)}


def made_secrets(settings: ProviderConfig) -> tuple[str, ...]:
    """Make a secret in the form that the preset's scheme needs, or return no secret if it needs none."""
    forms = [_secret(entry) for entry in entries(settings) if isinstance(entry, VerifierConfig)]
    return tuple(forms[:1])


def entries(settings: ProviderConfig) -> list[VerifyEntry]:
    """List all verifiers, including those inside `any`."""
    return [
        one for entry in settings.verify for one in (entry.of if isinstance(entry, AnyConfig) else (entry,))
    ]


def is_symmetric(settings: ProviderConfig) -> bool:
    """Tell whether we can sign as the provider does."""
    return not any(
        entry.type in ASYMMETRIC or (isinstance(entry, JwtConfig) and entry.algorithm != "HS256")
        for entry in entries(settings)
    )


def _secret(entry: VerifyEntry) -> str:
    key = getattr(entry, "key", "utf8")
    key = key if isinstance(key, str) else key[0]
    raw = b"0123456789abcdefghijklmn"
    if entry.type == "basic" and not getattr(entry, "username", None):
        return "user:a-long-enough-password"
    return {
        "hex": raw.hex(),
        "base64": base64.b64encode(raw).decode(),
        "whsec": "whsec_" + base64.b64encode(raw).decode(),
    }.get(key, "s3cr3t-of-at-least-16-bytes")
