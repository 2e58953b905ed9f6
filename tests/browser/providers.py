"""Signs requests as the providers of a config do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from gatehouse.config.load import LoadedConfig
from gatehouse.config.secrets import Secrets
from gatehouse.ingest.source import build_sources
from gatehouse.language.request import Request
from gatehouse.samples.sample import Sample, sign_sample
from gatehouse.samples.typed import Samples


class Providers:
    """The providers of all sources."""

    def __init__(
        self, loaded: LoadedConfig, environment: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        self._loaded = loaded
        self._environment = dict(environment)
        self.clock = clock
        self._sources = build_sources(loaded.config, Secrets(loaded.directory, environment))

    def with_secrets(self, **secrets: str) -> Providers:
        """Return providers that use other secrets."""
        return Providers(self._loaded, self._environment | secrets, self.clock)

    def request(self, source: str, event_type: str, *, age: float = 0.0) -> Request:
        """Make a new event of a provider with samples, signed `age` seconds ago."""
        moment = self.clock() - age
        sample = Samples(self._sources[source].settings).make(event_type, moment)
        assert sample is not None
        return sign_sample(self._sources[source], sample, moment)

    def partner(self, body: bytes, headers: Mapping[str, str] | None = None, *, query: str = "") -> Request:
        """Make a request of the partner, who may send any bytes."""
        sample = Sample({"Content-Type": "application/json"} | dict(headers or {}), body)
        return sign_sample(self._sources["partner"], sample, self.clock(), query=query)
