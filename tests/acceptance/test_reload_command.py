"""SIGHUP and the command `reload`, with the gateway in a separate process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from doubles import providers
from gatehouse.cli.control import _is_same_file
from gatehouse.config.load import load
from processes import GatewayProcess, serving, spawn

CONFIG = """\
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0", token: env:TOKEN}
sources:
  mando: {provider: mando, secrets: env:SECRET}
"""
SECRETS = {"SECRET": providers.SECRET, "TOKEN": "operator-token-of-some-length"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a config file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    return file


async def logged(gateway: GatewayProcess, event: str) -> dict[str, Any]:
    """Wait for a line of the log."""
    async with asyncio.timeout(20):
        while not (found := [line for line in gateway.log if line["event"] == event]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found[-1]


async def reload(
    gateway: GatewayProcess, config: Path, *, options: Sequence[str] = (), **environment: str
) -> tuple[int | None, str, str]:
    """Run `gatehouse reload`. Returns its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatehouse", "reload", "-c", str(config), "--operator", gateway.operator_url),
        *options,
        env=os.environ | SECRETS | environment,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_sighup_reloads_the_file(config: Path) -> None:
    async with serving(config, **SECRETS) as gateway, aiohttp.ClientSession() as client:
        config.write_text(CONFIG + "  shop: {provider: mando, secrets: env:SECRET}\n")
        gateway.process.send_signal(signal.SIGHUP)
        assert (await logged(gateway, "config.reloaded"))["sources_added"] == ["shop"]
        body = providers.body(id="evt_1", type="sale.created")
        url = f"{gateway.url}/webhooks/shop"
        async with client.post(url, data=body, headers=providers.mando(body)) as answer:
            assert answer.status == 200

        config.write_text("sources: 7\n")
        gateway.process.send_signal(signal.SIGHUP)
        assert "gateway.yaml:1: sources" in (await logged(gateway, "config.reload_failed"))["problems"][0]
        gateway.terminate()
        assert await gateway.wait() == 0


async def test_reload_prints_the_changes_and_what_needs_a_restart(config: Path) -> None:
    async with serving(config, **SECRETS) as gateway:
        assert await reload(gateway, config) == (0, "reloaded: nothing changed\n", "")
        assert await reload(gateway, config, options=["--dry-run"]) == (
            0,
            "a reload would change nothing\n",
            "",
        )

        config.write_text(
            CONFIG.replace(
                'server: {listen: "127.0.0.1:0"}', 'server: {listen: "127.0.0.1:1", max_body: 1KB}'
            )
            + "  shop: {provider: mando, secrets: env:UNSET}\n"
            + 'destinations: {app: {url: "http://127.0.0.1:1/"}}\n'
            + "routes: [{from: shop, to: app}]\n"
        )
        changes = (
            "  sources: added shop\n"
            "  destinations: added app\n"
            "  routes: added from shop, types *, to app\n"
            "  settings: changed server.max_body\n"
        )
        warnings = (
            "Warning: server.listen changes only after a restart\n"
            "Warning: source shop: env:UNSET is not set\n"
        )
        checked = await reload(gateway, config, options=["--dry-run"])
        assert checked == (0, f"a reload would change:\n{changes}", warnings)
        assert await reload(gateway, config) == (0, f"reloaded\n{changes}", warnings)


@pytest.mark.case("F-53")
async def test_reload_of_a_file_that_the_gateway_does_not_use_is_an_error(
    config: Path, tmp_path: Path
) -> None:
    other, link = tmp_path / "other.yaml", tmp_path / "link.yaml"
    link.symlink_to(config)
    async with serving(config, **SECRETS) as gateway:
        other.write_text(CONFIG + "  shop: {provider: mando, secrets: env:SECRET}\n")
        code, _, err = await reload(gateway, other)
        assert code == 1
        assert err.startswith(f"Error: the gateway reads {config}, not {other}\nTry: ")

        assert await reload(gateway, link) == (0, "reloaded: nothing changed\n", "")

        code, out, _ = await reload(gateway, config, options=["--json"])
        answer = json.loads(out)
        assert (code, answer["status"], answer["file"]) == (0, "reloaded", str(config))
        assert answer["sha256"] == hashlib.sha256(config.read_bytes()).hexdigest()


@pytest.mark.case("F-53")
def test_a_file_with_another_path_on_the_gateways_machine_is_recognized_by_its_contents(config: Path) -> None:
    loaded = load(config)
    own = hashlib.sha256(config.read_bytes()).hexdigest()

    assert _is_same_file(loaded, {"file": "/etc/gatehouse/in-the-container.yaml", "sha256": own})
    assert not _is_same_file(loaded, {"file": "/etc/gatehouse/in-the-container.yaml", "sha256": "0" * 64})


async def test_reload_prints_the_problems_of_the_file(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG)
    async with serving(config, **SECRETS) as gateway:
        config.write_text(CONFIG.replace("env:SECRET", "env:UNSET"))
        code, out, err = await reload(gateway, other)
        assert (code, out) == (1, "")
        assert err.splitlines() == [
            (
                f"Error: {config}:4: sources.mando: env:UNSET is not set"
                " (restore the secret, or remove what needs it;"
                " the gateway keeps running with its previous config)"
            ),
            f"Try: fix it, then run gatehouse check -c {config}",
        ]

        code, _, err = await reload(gateway, other, TOKEN="not-the-token-of-the-gateway")
        assert code == 1
        assert "answered 401" in err
        assert "SIGHUP" in err


@pytest.mark.case("F-15")
async def test_sighup_while_the_gateway_starts_does_not_end_it(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text('server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\nsources: {}\n')
    gateway = await spawn(config)
    try:
        status = Path(f"/proc/{gateway.process.pid}/status")
        async with asyncio.timeout(20):
            # Before Python runs the command, the signal has its default effect.
            while not ignores_hangup(status.read_text()):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.001)
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.started()
    finally:
        gateway.terminate()
        assert await gateway.wait() == 0


def ignores_hangup(status: str) -> bool:
    """Tell from /proc/PID/status whether a process ignores or handles SIGHUP."""
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigIgn:", "SigCgt:"))]
    return any(int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in masks)
