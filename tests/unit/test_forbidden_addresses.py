"""Which addresses are never connected to: as written in the config, as a name, and when the name changes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from doubles.delivery import make_destination, make_event
from doubles.destination import ScriptedDestination, status
from gatehouse.cli import main
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.delivery.destination import compile_destination
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.outcome import Outcome
from gatehouse.network import forbidden_addresses
from gatehouse.network.forbidden_addresses import host_problem, is_forbidden

METADATA = "169.254.169.254"
#: What each spelling of the address means to one program or another.
SPELLINGS = [
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xA9.0xFE.0xA9.0xFE"),
    *("169.254.43518", "169.16689662", "169.254.169.254.", "169.254.169.254%2e", "%31%36%39.254.169.254"),
    *("[::ffff:a9fe:a9fe]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::169.254.169.254]"),
    *("[fe80::1]", "[fe80::1%25eth0]", "[febf::1]", "[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]"),
]
CONFIG = """
sources: {{mando: {{provider: mando, secrets: env:SECRET}}}}
destinations: {{app: {{url: "http://{host}/latest/meta-data"}}}}
routes: [{{from: mando, to: app}}]
"""


class Names:
    """Stands for DNS: every look-up of a name gets the next of these answers, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [self._entry(one, port) for one in addresses]

    @staticmethod
    def _entry(text: str, port: int) -> tuple[Any, ...]:
        if ":" in text:
            return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port, 0, 0))
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port))


class Connected:
    """What was checked, and what was connected to."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.connected: list[str] = []


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Connected:
    seen = Connected()
    loop_class = asyncio.SelectorEventLoop
    connect = loop_class.sock_connect

    def check(host: str) -> bool:
        seen.checked.append(host)
        return is_forbidden(host)

    async def sock_connect(self: asyncio.SelectorEventLoop, sock: socket.socket, target: Any) -> None:
        seen.connected.append(target[0])
        await connect(self, sock, target)

    monkeypatch.setattr(forbidden_addresses, "is_forbidden", check)
    monkeypatch.setattr(loop_class, "sock_connect", sock_connect)
    return seen


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Names]:
    def use(*answers: Sequence[str]) -> Names:
        names = Names(*answers)
        monkeypatch.setattr(socket, "getaddrinfo", names)
        return names

    return use


async def attempts(url: str, number: int = 1) -> list[Outcome]:
    """Attempt so often, each time on a new connection and with a new look-up of the name."""
    outcomes = []
    async with open_session() as session:
        for attempt in range(1, number + 1):
            forwarder = Forwarder(make_destination(url), session, clock=time.time)
            outcomes.append(await forwarder.attempt(make_event(), attempt))
            assert session.connector is not None
            session.connector._cached_hosts.clear()  # type: ignore[attr-defined]
    return outcomes


@pytest.mark.case("S-40")
@pytest.mark.parametrize("host", SPELLINGS)
def test_a_url_with_such_an_address_is_not_ready_however_it_is_written(host: str, tmp_path: Path) -> None:
    config = parse(CONFIG.format(host=host)).config.destinations["app"]
    destination = compile_destination("app", config, Secrets(tmp_path, {}))

    assert destination.not_ready is not None
    assert destination.not_ready.startswith("its url: ")


@pytest.mark.case("S-40")
@pytest.mark.parametrize("host", SPELLINGS)
async def test_such_an_address_is_not_connected_to_however_it_is_written(
    host: str, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when something let the URL through: the socket is never made."""
    look_up = socket.getaddrinfo
    # Numbers in any spelling are read, as ever; nobody is asked for a name.
    numeric = partial(look_up, flags=socket.AI_NUMERICHOST)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: numeric(host, port))
    (outcome,) = await attempts(f"http://{host}/latest/meta-data")

    assert outcome.reason in ("connect", "dns", "unsendable")
    assert connected.connected == []


@pytest.mark.case("S-40")
def test_a_config_with_such_an_address_fails_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "a-provider-secret-of-some-length")
    file = tmp_path / "gateway.yaml"
    for host, code in ((METADATA, 1), ("2852039166", 1), ("10.0.0.1", 0), ("billing.internal", 0)):
        file.write_text(CONFIG.format(host=host))
        assert CliRunner().invoke(main, ["check", "-c", str(file)]).exit_code == code, host


@pytest.mark.parametrize(
    "host", ["billing.internal", "a1.b2", "app-1", "10.0.0.1", "127.0.0.1", "::1", "0x.example", "7.example."]
)
def test_an_internal_host_is_no_fault(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.case("S-40")
@pytest.mark.parametrize("found", [METADATA, "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"])
async def test_a_name_that_leads_there_is_not_connected_to(
    found: str, resolve: Callable[..., Names], connected: Connected
) -> None:
    names = resolve([found])
    (outcome,) = await attempts("http://metadata.example/")

    assert outcome.reason == "connect"
    assert names.asked == 1
    assert connected.checked == [found]
    assert connected.connected == []


@pytest.mark.case("S-41")
async def test_a_name_that_leads_elsewhere_the_second_time_is_checked_the_second_time(
    resolve: Callable[..., Names], connected: Connected
) -> None:
    async with ScriptedDestination() as destination:
        # A connection that is closed with its answer: the next attempt needs another one.
        destination.always(status(200, connection="close"))
        names = resolve(["127.0.0.1"], [METADATA], ["127.0.0.1"])
        outcomes = await attempts(f"http://app.example:{destination.port}/", 3)

    assert [outcome.reason for outcome in outcomes] == ["ok", "connect", "ok"]
    assert connected.checked == ["127.0.0.1", METADATA, "127.0.0.1"]
    assert connected.connected == ["127.0.0.1", "127.0.0.1"]
    # One look-up a connection: what was checked is what is connected to, and nothing is asked in between.
    assert names.asked == 3


@pytest.mark.case("S-41")
async def test_of_several_addresses_only_those_that_pass_are_connected_to(
    resolve: Callable[..., Names], connected: Connected
) -> None:
    async with ScriptedDestination() as destination:
        resolve([METADATA, "127.0.0.1"])
        (outcome,) = await attempts(f"http://app.example:{destination.port}/")

    assert outcome.reason == "ok"
    assert connected.connected == ["127.0.0.1"]
