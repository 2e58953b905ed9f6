"""Forbidden addresses are never connected to, whether the config or a name contains them."""

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
#: Spellings that some program accepts for the address.
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
    """Stands in for DNS: each look-up gets the next answer, and the last answer repeats."""

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
    """The addresses that were checked and those that were connected to."""

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
    """Make attempts, each on a new connection and with a new look-up of the name."""
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
def test_a_destination_with_a_forbidden_address_in_any_spelling_is_not_ready(
    host: str, tmp_path: Path
) -> None:
    config = parse(CONFIG.format(host=host)).config.destinations["app"]
    destination = compile_destination("app", config, Secrets(tmp_path, {}))

    assert destination.not_ready is not None
    assert destination.not_ready.startswith("its url: ")


@pytest.mark.case("S-40")
@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_forbidden_address_in_any_spelling_is_not_connected_to(
    host: str, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if an earlier check missed the URL, no socket is created."""
    look_up = socket.getaddrinfo
    # Numeric addresses in any spelling are parsed without a look-up.
    numeric = partial(look_up, flags=socket.AI_NUMERICHOST)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: numeric(host, port))
    (outcome,) = await attempts(f"http://{host}/latest/meta-data")

    assert outcome.reason in ("connect", "dns", "unsendable")
    assert connected.connected == []


@pytest.mark.case("S-40")
def test_a_config_with_a_forbidden_address_fails_its_check(
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
def test_an_internal_host_is_allowed(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.case("S-40")
@pytest.mark.parametrize("found", [METADATA, "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"])
async def test_a_name_with_a_forbidden_address_is_not_connected_to(
    found: str, resolve: Callable[..., Names], connected: Connected
) -> None:
    names = resolve([found])
    (outcome,) = await attempts("http://metadata.example/")

    assert outcome.reason == "connect"
    assert names.asked == 1
    assert connected.checked == [found]
    assert connected.connected == []


@pytest.mark.case("S-41")
async def test_a_changed_address_of_a_name_is_checked_again(
    resolve: Callable[..., Names], connected: Connected
) -> None:
    async with ScriptedDestination() as destination:
        # Each connection closes after its answer, so the next attempt needs a new one.
        destination.always(status(200, connection="close"))
        names = resolve(["127.0.0.1"], [METADATA], ["127.0.0.1"])
        outcomes = await attempts(f"http://app.example:{destination.port}/", 3)

    assert [outcome.reason for outcome in outcomes] == ["ok", "connect", "ok"]
    assert connected.checked == ["127.0.0.1", METADATA, "127.0.0.1"]
    assert connected.connected == ["127.0.0.1", "127.0.0.1"]
    # There is one look-up per connection, and the checked address is the connected one.
    assert names.asked == 3


@pytest.mark.case("S-41")
async def test_only_the_allowed_ones_of_several_addresses_are_connected_to(
    resolve: Callable[..., Names], connected: Connected
) -> None:
    async with ScriptedDestination() as destination:
        resolve([METADATA, "127.0.0.1"])
        (outcome,) = await attempts(f"http://app.example:{destination.port}/")

    assert outcome.reason == "ok"
    assert connected.connected == ["127.0.0.1"]
