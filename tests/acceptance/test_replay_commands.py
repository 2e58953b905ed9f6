"""`gatehouse replay` and `gatehouse retry` for many events, as processes, against a running gateway."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.builders import accept, arrival, event
from doubles.destination import ScriptedDestination
from doubles.providers import SECRET
from gatehouse.store.base import Reply
from gatehouse.store.sqlite import SqliteStore
from gateways import CONFIG, SIGNING_SECRET
from processes import serving

EVENTS = 60
SECRETS = {"SECRET": SECRET, "EINVOICE": "secret", "SIGNING": SIGNING_SECRET}
CHOSEN = ("--source", "mando", "--since", "2h", "--to", "app")
PLAN = f"""\
{EVENTS} events, {EVENTS} deliveries
  source              {EVENTS}  mando
  type                {EVENTS}  sale.created
  destination         {EVENTS}  app
"""
WITHIN = 40.0


class Shell:
    """Runs commands against one gateway."""

    def __init__(self, url: str, config: Path, destination: ScriptedDestination) -> None:
        self._where = ("--operator", url, "-c", str(config))
        self.destination = destination

    async def start(self, *arguments: str, **streams: Any) -> Process:
        command = (sys.executable, "-m", "gatehouse", *arguments, *self._where)
        return await asyncio.create_subprocess_exec(*command, **streams)

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        """Run a command in a pipe. Returns its exit code and what it wrote."""
        process = await self.start(*arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(WITHIN):
            out, error = await process.communicate()
        return process.returncode, out.decode(), error.decode()


class Terminal:
    """A terminal that a command runs on."""

    def __init__(self) -> None:
        self._leader, self.follower = pty.openpty()
        os.set_blocking(self._leader, False)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    async def until(self, text: str) -> None:
        """Read until the command has written this."""
        async with asyncio.timeout(WITHIN):
            while text not in self.text:
                try:
                    self.text += os.read(self._leader, 65536).decode(errors="replace")
                except BlockingIOError:
                    await asyncio.sleep(0.02)

    def close(self) -> None:
        os.close(self._leader)
        os.close(self.follower)


@asynccontextmanager
async def on_a_terminal(shell: Shell, *arguments: str) -> AsyncIterator[tuple[Terminal, Process]]:
    terminal = Terminal()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.follower)
    process = await shell.start(*arguments, **streams, start_new_session=True)
    try:
        yield terminal, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        terminal.close()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    received = time.time() - 3600
    made = [
        event(source="mando", event_type="sale.created", received=received + number)
        for number in range(EVENTS)
    ]
    await accept(store, *(arrival(of=each, to=["app"], reply=Reply(200, None, b"")) for each in made))
    await store.close()
    config = tmp_path / "gateway.yaml"
    async with ScriptedDestination() as destination:
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, **SECRETS) as gateway:
            yield Shell(gateway.operator_url, config, destination)


async def test_a_pipe_gets_the_plan_and_nothing_is_replayed(shell: Shell) -> None:
    code, out, error = await shell.run("replay", *CHOSEN)
    assert (code, out) == (2, PLAN)
    assert "nothing was replayed. Add --yes to replay these events" in error
    code, out, _ = await shell.run("replay", *CHOSEN, "--dry-run")
    assert (code, out) == (0, PLAN)
    code, out, _ = await shell.run("replay", *CHOSEN, "--dry-run", "--json")
    assert json.loads(out)["by"]["destination"] == {"app": EVENTS}
    assert shell.destination.requests == []


async def test_a_pipe_with_yes_waits_until_the_replay_is_done(shell: Shell) -> None:
    code, out, error = await shell.run("replay", *CHOSEN, "--yes", "--rate", "200/s", "--json")
    shown = json.loads(out)
    assert (code, error) == (0, "")
    assert (shown["state"], shown["done"], shown["rate"]) == ("done", EVENTS, "200/s")
    await shell.destination.wait_for(EVENTS)
    code, out, _ = await shell.run("replay", "--watch", shown["id"])
    assert code == 0
    assert out.startswith(
        f"replay {shown['id']} is done: {EVENTS} of {EVENTS} events\nrate      at most 200/s\n"
    )
    assert "by local, ended" in out
    code, out, _ = await shell.run("replay", "--list")
    heading, row = out.splitlines()
    assert (code, heading.split()) == (0, ["id", "started", "by", "state", "events", "rate", "filter"])
    assert row.split()[::2][:4] == [shown["id"], "local", str(EVENTS), str(EVENTS)]
    assert row.split()[3] == "done"
    assert row.split()[7] == "200/s"
    assert row.endswith(" to=app")
    assert (await shell.run("retry", "--list"))[:2] == (0, "no retries\n")


async def test_a_terminal_is_asked_and_shows_the_progress(shell: Shell) -> None:
    async with on_a_terminal(shell, "replay", *CHOSEN, "--rate", "30/s") as (terminal, process):
        await terminal.until(f"Replay {EVENTS} events? [y/N]: ")
        assert shell.destination.requests == []
        terminal.type("y\n")
        await terminal.until("replay [#")
        await terminal.until(f"of {EVENTS}, at most 30/s")
        await terminal.until(f"is done: {EVENTS} of {EVENTS} events")
        assert await process.wait() == 0


async def test_no_is_an_answer(shell: Shell) -> None:
    async with on_a_terminal(shell, "replay", *CHOSEN) as (terminal, process):
        await terminal.until("[y/N]: ")
        terminal.type("n\n")
        assert await process.wait() == 1
    code, out, _ = await shell.run("replay", *CHOSEN, "--dry-run")
    assert (code, out) == (0, PLAN)
    assert shell.destination.requests == []


async def test_ctrl_c_leaves_the_replay_running(shell: Shell) -> None:
    async with on_a_terminal(shell, "replay", *CHOSEN, "--rate", "10/s", "--yes") as (terminal, process):
        await terminal.until("replay [#")
        process.send_signal(signal.SIGINT)
        await terminal.until("The replay goes on. Watch it: gatehouse replay --watch ")
        assert await process.wait() == 130
        operation = terminal.text.rpartition("--watch ")[2].split()[0]
    code, out, _ = await shell.run("replay", "--watch", operation, "--json")
    assert (code, json.loads(out)["state"]) == (0, "running")
    code, out, _ = await shell.run("replay", "--list", "--json")
    assert (code, [(one["id"], one["state"]) for one in json.loads(out)["replays"]]) == (
        0,
        [(operation, "running")],
    )
    code, out, _ = await shell.run("replay", "--stop", operation)
    assert code == 0
    assert out.startswith(f"replay {operation} was stopped: ")
    code, _, error = await shell.run("retry", "--stop", operation)
    assert code == 1
    assert "no operation has this id" in error


async def test_nothing_to_replay_is_no_error(shell: Shell) -> None:
    assert await shell.run("replay", "--source", "hisab", "--since", "2h") == (0, "no events match\n", "")
    assert await shell.run("retry", "--all", "--rate", "5/s") == (0, "no dead letters match\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name IDs or filters, or use --all to replay every event"),
        (("01JD0000000000000000000000", "--since", "1h"), "IDs can't be combined with filters"),
        (("--all", "--since", "1h"), "--all can't be combined with filters"),
    ],
)
async def test_a_wrong_command_line_exits_2(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    code, out, error = await shell.run("replay", *arguments)
    assert (code, out) == (2, "")
    assert message in error


async def test_a_rate_that_is_none_is_refused(shell: Shell) -> None:
    code, _, error = await shell.run("replay", *CHOSEN, "--rate", "fast", "--yes")
    assert code == 1
    assert "rate must be a number per s, m or h" in error
