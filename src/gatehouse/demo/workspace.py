"""The directory of a demo: a config, its secrets, and later the store and the log."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from pathlib import Path

#: The providers that the demo plays.
PROVIDERS = ("e-invoice-be", "getpeppr", "hisab", "mandato", "mando")
#: The one destination.
APP = "app"
HOST = "127.0.0.1"

_CONFIG = """\
# Made by `gatehouse demo`, with fresh secrets in secrets/. Everything here goes when the demo ends.
server: {{listen: "{host}:{server_port}"}}
operator: {{listen: "{host}:{operator_port}"}}
store: {{url: "sqlite:///gatehouse.db"}}
sources:
{sources}
destinations:
  {app}:
    url: {app_url}
    secret: file:secrets/{app}
routes:
  - {{from: "*", to: [{app}]}}
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a demo keeps its files."""

    directory: Path

    @property
    def config(self) -> Path:
        """The gateway's config."""
        return self.directory / "gateway.yaml"

    @property
    def log(self) -> Path:
        """Where the gateway logs to."""
        return self.directory / "gatehouse.log"

    def write(self, *, server_port: int, operator_port: int, app_url: str, app_secret: str) -> None:
        """Write the config and a fresh secret for each source."""
        for provider in PROVIDERS:
            self._write_secret(provider, secrets.token_hex(32))
        self._write_secret(APP, app_secret)
        sources = [f"  {name}: {{provider: {name}, secrets: file:secrets/{name}}}" for name in PROVIDERS]
        text = _CONFIG.format(
            host=HOST,
            server_port=server_port,
            operator_port=operator_port,
            sources="\n".join(sources),
            app=APP,
            app_url=app_url,
        )
        self.config.write_text(text, encoding="utf-8")

    def _write_secret(self, name: str, secret: str) -> None:
        folder = self.directory / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secret}\n")


def new_app_secret() -> str:
    """Make a Standard Webhooks secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def choose_port(asked: int | None, usual: int) -> int:
    """Choose a port: the one asked for, else the usual one, else any free one. 0 asks for any.

    Raises `GatewayError` when the one asked for is taken.
    """
    if asked is None:
        return usual if _bound(usual) else _bound(0)
    port = _bound(asked)
    if not port:
        hint = "another port, or none: the demo then finds one"
        raise GatewayError(f"port {asked} on {HOST} is taken", hint=hint)
    return port


def _bound(port: int) -> int:
    """Try to bind a port, as the gateway will; return it, or 0 when that can't be."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return 0
        return int(trial.getsockname()[1])
