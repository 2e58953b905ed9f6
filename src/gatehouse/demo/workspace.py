"""The temporary directory of a demo: a config and its secrets, and later the store and the log."""

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

#: The providers in the demo.
PROVIDERS = ("e-invoice-be", "getpeppr", "hisab", "mandato", "mando")
#: The destination of every event.
APP = "app"
HOST = "127.0.0.1"

_CONFIG = """\
# Written by `gatehouse demo`, with new secrets in secrets/. This directory is removed when the demo ends.
server: {{listen: "{host}:{server_port}"}}
operator: {{listen: "{host}:{operator_port}"}}
store: {{url: "sqlite:///gatehouse.db"}}
sources:
{sources}
destinations:
  {app}: {{url: "{app_url}/events", secret: file:secrets/{app}}}
  # These fail, each in another way, so that the operator page has something to show.
  ledger: {{url: "{app_url}/ledger", secret: file:secrets/{app}, retry_on: "!422"}}
  archive:
    url: "{app_url}/archive"
    secret: file:secrets/{app}
    breaker: {{failures: 3, open: 10m, max_open: 10m}}
  mailer: {{url: "{app_url}/mailer", secret: file:secrets/{app}}}
routes:
  - {{from: "*", to: {app}}}
  - {{from: mando, types: [sale.voided], to: ledger}}
  - {{from: e-invoice-be, types: [document.received], to: archive}}
  - {{from: getpeppr, types: [invoice.paid], to: mailer}}
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of a demo."""

    directory: Path

    @property
    def config(self) -> Path:
        """The gateway's config."""
        return self.directory / "gateway.yaml"

    @property
    def log(self) -> Path:
        """The gateway's log."""
        return self.directory / "gatehouse.log"

    def write(self, *, server_port: int, operator_port: int, app_url: str, app_secret: str) -> None:
        """Write the config, and a new secret for each source. `app_url` has no path."""
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


def choose_port(requested: int | None, default: int) -> int:
    """Return the requested port. Without a request, return the default port, or any free one if it is taken.

    0 requests any free port. Raises `GatewayError` if the requested port is taken.
    """
    if requested is None:
        return default if _try_to_bind(default) else _try_to_bind(0)
    port = _try_to_bind(requested)
    if not port:
        hint = "choose another port, or leave the option out: the demo then finds a free one"
        raise GatewayError(f"port {requested} on {HOST} is taken", hint=hint)
    return port


def _try_to_bind(port: int) -> int:
    """Bind a port as the gateway will, and release it. Returns the port, or 0 if it can't be bound."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return 0
        return int(trial.getsockname()[1])
