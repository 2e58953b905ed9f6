"""Runs the README's quick start unchanged, except for the ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: The files of a fresh clone that the quick start uses. It makes a .venv of its own, as on a new machine.
USED = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "src", "deploy")
#: What the example app prints of the event.
PRINTED = "/webhooks/mando sale.created"


def block(language: str) -> str:
    """Return the quick start's block of a language."""
    section = README[README.index("## Quick start") : README.index("## What a 2xx means")]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return str(found)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(bound.getsockname()[1]) for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


@pytest.mark.timeout(180)
def test_the_quick_start_delivers_an_event_to_the_example_app(tmp_path: Path) -> None:
    for name in USED:
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    app, ingest, operator = free_ports(3)
    listeners = f'server: {{listen: "127.0.0.1:{ingest}"}}\noperator: {{listen: "127.0.0.1:{operator}"}}\n'
    (tmp_path / "quickstart.yaml").write_text(listeners + block("yaml").replace("8000", str(app)))
    script = block("bash")

    with (tmp_path / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-euc", script],
            cwd=tmp_path,
            env=os.environ | {"PORT": str(app), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,  # its background processes end with its process group
        )
        try:
            assert shell.wait(timeout=150) == 0, (tmp_path / "output").read_text()
            # If the app starts after the first attempt, the log of the attempt names the event too.
            deadline = time.monotonic() + 15
            while PRINTED not in (arrived := (tmp_path / "output").read_text()):
                assert time.monotonic() < deadline, arrived
                time.sleep(0.05)
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
