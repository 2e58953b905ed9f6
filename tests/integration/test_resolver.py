"""Slow look-ups delay only their own name, and changed addresses are used."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from doubles import providers, shim
from doubles.delivery import make_destination, make_event
from doubles.destination import ScriptedDestination
from doubles.peer import OK, Peer
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.network import resolver
from gatehouse.network.event_loop import EventLoop
from gatehouse.network.resolver import AiohttpResolver, Query, SystemResolver
from processes import GatewayProcess, serving

NAMED = Path(__file__).parents[1] / "doubles" / "names.c"
HANGING = 8
WEB = Query("app.test", 80)
ADDRESS: resolver.Addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  healthy: {{url: "http://healthy.test:{port}/events", max_connection_age: 1s}}
{hanging}
routes:
  - {{from: mando, to: [healthy, {list}]}}
"""


class Book:
    """The addresses of names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: dict[str, str] = {}

    def set(self, name: str, address: str) -> None:
        self._lines[name] = address
        written = self._file.with_suffix(".new")
        written.write_text("".join(f"{name} {address}\n" for name, address in self._lines.items()))
        written.rename(self._file)


@asynccontextmanager
async def gateway(folder: Path, port: int, *, store: str = "") -> AsyncIterator[tuple[GatewayProcess, Book]]:
    """Run a gateway with test names: one destination works, and the look-ups of the others hang."""
    book = Book(folder / "names")
    book.set("healthy.test", "127.0.0.1")
    hanging = [f"hanging{number}" for number in range(HANGING)]
    for name in hanging:
        book.set(f"{name}.test", "-")
    lines = [f'  {name}: {{url: "http://{name}.test/", timeout: 30s}}' for name in hanging]
    config = folder / "gateway.yaml"
    config.write_text(CONFIG.format(port=port, hanging="\n".join(lines), list=", ".join(hanging)) + store)
    environment = {
        "SECRET": providers.SECRET,
        "LD_PRELOAD": str(shim.build(NAMED, folder)),
        "GATEHOUSE_TEST_NAMES": str(folder / "names"),
    }
    async with serving(config, **environment) as process:
        yield process, book


async def send(client: aiohttp.ClientSession, process: GatewayProcess, number: int) -> None:
    sent = providers.body(id=f"evt_{number}")
    url = f"{process.url}/webhooks/mando"
    async with client.post(url, data=sent, headers=providers.mando(sent)) as answer:
        assert answer.status == 200


@pytest.mark.alone
@pytest.mark.case("F-05")
async def test_slow_look_ups_delay_neither_other_names_nor_the_stop(tmp_path: Path) -> None:
    async with (
        ScriptedDestination() as healthy,
        aiohttp.ClientSession() as client,
        gateway(tmp_path, healthy.port) as (process, _),
    ):
        for number in range(30):
            began = time.monotonic()
            await send(client, process, number)
            await healthy.wait_for(number + 1)
            # Well below the timeout of a look-up.
            assert time.monotonic() - began < 2
            # So that connections close now and then, and the name is looked up again.
            await asyncio.sleep(0.1)

        began = time.monotonic()
        process.terminate()
        assert await process.wait() == 0
        assert time.monotonic() - began < 10


@pytest.mark.case("F-40")
async def test_a_changed_address_is_used_while_the_connection_is_busy(tmp_path: Path) -> None:
    async with (
        ScriptedDestination() as old,
        Peer([OK], host="127.0.0.2", port=old.port) as new,
        aiohttp.ClientSession() as client,
        gateway(tmp_path, old.port) as (process, book),
    ):
        await send(client, process, 0)
        await old.wait_for(1)
        book.set("healthy.test", "127.0.0.2")
        async with asyncio.timeout(30):
            number = 0
            while not new.heads:
                number += 1
                await send(client, process, number)
                await asyncio.sleep(0.05)


class System:
    """A name service that answers when the test allows it."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[Any] = []
        self.goes_on = threading.Event()

    def __call__(self, *_: object) -> resolver.Addresses:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is None:
            self.goes_on.wait(30)
            return ADDRESS
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


@pytest.fixture
def system() -> AsyncIterator[System] | Any:
    made = System()
    yield made
    made.goes_on.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "TIMEOUT", 0.1)
    monkeypatch.setattr(resolver, "STALE_AFTER", 0.05)


def no_answer() -> socket.gaierror:
    return socket.gaierror(socket.EAI_AGAIN, "later")


def no_address() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "no such name")


@pytest.mark.case("F-05")
@pytest.mark.usefixtures("impatient")
async def test_a_name_has_at_most_two_look_up_threads(system: System) -> None:
    looked_up = SystemResolver(system=system)
    for _ in range(5):
        with pytest.raises(socket.gaierror, match="does not answer"):
            await looked_up.look_up(WEB)
    asked = await asyncio.gather(*[looked_up.look_up(WEB) for _ in range(50)], return_exceptions=True)

    assert all(isinstance(one, socket.gaierror) for one in asked)
    assert system.asked == 2
    system.goes_on.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await looked_up.look_up(WEB) == ADDRESS
                break
            except socket.gaierror:
                continue


@pytest.mark.case("F-05")
@pytest.mark.usefixtures("impatient")
async def test_the_threads_for_names_from_outsiders_are_limited(system: System) -> None:
    looked_up = SystemResolver(system=system, max_threads=3)
    asked = [looked_up.look_up(Query(f"{number}.test", 443)) for number in range(10)]
    for one in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(one, socket.gaierror)

    assert system.asked == 3


@pytest.mark.case("F-05")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [no_answer, lambda: None], ids=["fails", "hangs"])
async def test_the_last_address_is_used_while_the_name_service_is_down(
    system: System, fault: Callable[[], Any]
) -> None:
    looked_up = SystemResolver(system=system)
    system.answers = [ADDRESS, fault(), fault()]
    for _ in range(3):
        assert await looked_up.look_up(WEB) == ADDRESS


@pytest.mark.case("F-05")
async def test_a_name_without_an_address_is_not_connected_to(system: System) -> None:
    looked_up = SystemResolver(system=system)
    system.answers = [ADDRESS, no_address(), no_answer()]
    assert await looked_up.look_up(WEB) == ADDRESS
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await looked_up.look_up(WEB)


@pytest.mark.case("F-05")
@pytest.mark.usefixtures("impatient")
async def test_an_attempt_with_a_slow_look_up_fails_as_dns(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", system)
    async with open_session() as session:
        forwarder = Forwarder(make_destination("http://app.test/"), session, clock=time.time)
        outcome = await forwarder.attempt(make_event(), 1)

    assert outcome.reason == "dns"


@pytest.mark.alone
@pytest.mark.case("F-05")
def test_connections_of_the_event_loop_do_not_delay_the_stop(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the database driver does."""
    monkeypatch.setattr(socket, "getaddrinfo", system)

    async def connect() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.open_connection("db.test", 5432)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.get_running_loop().getaddrinfo("db.test", 5432)

    began = time.monotonic()
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(connect())
    assert time.monotonic() - began < 5


@pytest.mark.case("F-05")
def test_the_event_loop_connects_to_the_first_address_that_answers() -> None:
    async def connect() -> int:
        async with Peer() as peer:
            looked_up = asyncio.get_running_loop()._resolver  # type: ignore[attr-defined]
            looked_up._system = lambda *_: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, peer.port))
                for host in ("127.0.0.9", "127.0.0.1")
            ]
            _, writer = await asyncio.open_connection("db.test", 5432)
            writer.close()
            return int(writer.get_extra_info("peername")[1]) - peer.port

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(connect()) == 0


async def test_addresses_keep_their_zone() -> None:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 2))]
    (result,) = await AiohttpResolver(SystemResolver(system=lambda *_: found)).resolve(
        "app.test", 80, socket.AF_UNSPEC
    )

    assert result["host"] == "fe80::1%2"
