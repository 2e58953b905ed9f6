"""What the operator page needs to show trouble: events that apps can't handle, and a changed request."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gatehouse.demo.cases import ACCEPTED, DELIVERY_TIMEOUT, REFUSED, parse_answer
from gatehouse.samples.event_type import with_type
from gatehouse.samples.sample import sign_sample
from gatehouse.samples.typed import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from gatehouse.demo.app import App
    from gatehouse.demo.cases import Answer
    from gatehouse.ingest.source import Source
    from gatehouse.samples.sample import Sample

#: Source and type of the events. The app gets all of them, and the apps that fail get one type each.
_VOIDED: Final = ("mando", "sale.voided")  # to ledger
_DOCUMENT: Final = ("e-invoice-be", "document.received")  # to archive
_PAID: Final = ("getpeppr", "invoice.paid")  # to mailer
#: So many failures open the circuit breaker of archive.
_DOCUMENTS: Final = 3
#: The source whose request has another layout than the one that was signed.
_CHANGED: Final = "mandato"
_POLL_INTERVAL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the operator page has to show."""

    #: What it is, and the path of the screen.
    places: list[tuple[str, str]]
    #: What differs from what is expected.
    differences: list[str]


class TroubleMaker:
    """Sends what leaves something to do for an operator."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        app: App,
        sources: Mapping[str, Source],
        server: str,
        operator: str,
    ) -> None:
        """`server` and `operator` are the addresses of the listeners."""
        self._session = session
        self._app = app
        self._sources = sources
        self._server = server
        self._operator = operator
        self._differences: list[str] = []

    async def run(self) -> Trouble:
        """Send everything, and wait for the results."""
        await self._send_changed()
        voided = await self._send_event(*_VOIDED)
        for _ in range(_DOCUMENTS):
            await self._send_event(*_DOCUMENT)
        paid = await self._send_event(*_PAID)
        places = [
            ("refused requests, and why", "/refused"),
            ("a dead letter, and what ledger replied", f"/events/{voided}"),
            ("the open circuit breaker of archive", "/destinations/archive"),
            ("when mailer gets the next attempt", f"/events/{paid}"),
        ]
        return Trouble(places, self._differences + await self._missing_results())

    async def _send_event(self, name: str, event_type: str) -> str:
        """Send a new event. Returns its id when the app has received it."""
        source = self._sources[name]
        request = sign_sample(source, _new_sample(source, event_type), time.time())
        answer = await self._send(source, request.headers, request.body)
        if not answer.matches(ACCEPTED):
            self._differences.append(f"{name}, {event_type}: {answer} instead of {ACCEPTED}")
        elif await self._app.wait_for(answer.event_id, DELIVERY_TIMEOUT) is None:
            self._differences.append(f"{name}, {event_type}: the app did not receive the event")
        return answer.event_id

    async def _send_changed(self) -> None:
        """Sign a compact body, and send it with line breaks, as a proxy does that formats JSON."""
        source = self._sources[_CHANGED]
        sample = _new_sample(source, None)
        compact = replace(sample, body=msgspec.json.format(sample.body, indent=-1))
        signed = sign_sample(source, compact, time.time())
        answer = await self._send(source, signed.headers, msgspec.json.format(sample.body, indent=2))
        if not answer.matches(REFUSED):
            self._differences.append(f"{_CHANGED}, formatted: {answer} instead of {REFUSED}")

    async def _send(self, source: Source, headers: Mapping[str, str], body: bytes) -> Answer:
        url = f"{self._server}{source.path}"
        async with self._session.post(url, data=body, headers=headers) as response:
            return parse_answer(response.status, await response.read())

    async def _missing_results(self) -> list[str]:
        """Wait until the store has the results. Returns those that are missing after `DELIVERY_TIMEOUT`."""
        deadline = time.monotonic() + DELIVERY_TIMEOUT
        while True:
            state = {one["name"]: one for one in (await self._ask("destinations"))["destinations"]}
            waiting = (await self._ask("deliveries?destination=mailer"))["deliveries"]
            results = {
                "ledger: no dead letter": state["ledger"]["dead"] == 1,
                "archive: the circuit breaker is not open": state["archive"]["breaker"] == "open",
                "mailer: no delivery waits for its next attempt": any(one["attempts"] for one in waiting),
            }
            missing = [difference for difference, is_there in results.items() if not is_there]
            if not missing or time.monotonic() > deadline:
                return missing
            await asyncio.sleep(_POLL_INTERVAL)

    async def _ask(self, path: str) -> Any:  # noqa: ANN401 - JSON
        async with self._session.get(f"{self._operator}/api/v1/{path}") as response:
            return await response.json()


def _new_sample(source: Source, event_type: str | None) -> Sample:
    """Make a new event of a type, or of the type of the documented example."""
    sample = Samples(source.settings).make(event_type, time.time())
    assert sample is not None  # noqa: S101 - each provider of the demo has an example
    return sample if event_type is None else with_type(sample, source.settings, event_type)
