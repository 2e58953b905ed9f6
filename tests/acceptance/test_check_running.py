"""The command `check` while the gateway of the config runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from processes import serving

CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:{port}", token: env:TOKEN}}
sources:
  mando: {{provider: mando, secrets: env:SECRET}}
routes: [{{from: mando, to: app}}]
destinations:
  app: {{url: "http://127.0.0.1:1/"}}
"""
SECRETS = {"SECRET": providers.SECRET, "TOKEN": "operator-token-of-some-length"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


async def check(config: Path, *options: str, **environment: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatehouse", "check", str(config), *options),
        env=os.environ | SECRETS | environment,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.case("F-59")
async def test_check_notes_that_a_new_variable_needs_a_restart(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(port=port))
    async with serving(config, **SECRETS):
        code, _, err = await check(config)
        assert (code, "restart needed" in err) == (0, False)

        config.write_text(config.read_text().replace("env:SECRET", "[env:SECRET, env:NEW_SECRET]"))
        code, _, err = await check(config, NEW_SECRET="another-secret-of-16-bytes")
        assert code == 0
        assert "Note: restart needed: env:NEW_SECRET is set here, but not in the running gateway" in err
        assert "another-secret" not in err

        _, out, _ = await check(config, "--json", NEW_SECRET="another-secret-of-16-bytes")
        (note,) = json.loads(out)["notes"]
        assert note.startswith("restart needed: env:NEW_SECRET ")

        # Without the token the gateway reveals nothing, and the check of the file continues.
        code, _, err = await check(
            config, NEW_SECRET="another-secret-of-16-bytes", TOKEN="not-the-right-one!"
        )
        assert (code, "restart needed" in err) == (0, False)
    code, _, err = await check(config, NEW_SECRET="another-secret-of-16-bytes")
    assert (code, "restart needed" in err) == (0, False)


async def test_only_operators_see_the_environment_and_only_its_names(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(port=port))
    url = f"http://127.0.0.1:{port}/api/v1/environment"
    bearer = {"Authorization": f"Bearer {SECRETS['TOKEN']}"}
    async with serving(config, **SECRETS), aiohttp.ClientSession() as client:
        async with client.get(f"{url}?name=SECRET") as answer:
            assert answer.status == 401
        async with client.get(f"{url}?name=SECRET&name=NOWHERE", headers=bearer) as answer:
            assert await answer.json() == {"set": {"SECRET": True, "NOWHERE": False}}
        for query in ("", "?name=", "?name=A%20B", "?name=" + "A" * 200, "?" + "&".join(["name=A"] * 501)):
            async with client.get(url + query, headers=bearer) as answer:
                assert answer.status == 400
