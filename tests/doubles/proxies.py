"""nginx, Caddy and HAProxy in front of a gateway, on loopback, with the configs of deploy/."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from doubles.keys import tls_server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
#: The host name in the files of deploy/.
HOST = "gatehouse.example.com"
_FETCHED = ROOT / ".tools/proxies/usr"
_PROGRAMS = {
    "nginx": _FETCHED / "sbin/nginx",
    "caddy": _FETCHED / "bin/caddy",
    "haproxy": _FETCHED / "sbin/haproxy",
}
#: Seconds until a proxy accepts connections.
_STARTS_WITHIN = 10.0

_NGINX = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {}
}}
"""
_CADDY_GLOBALS = """{
	admin off
	auto_https disable_redirects
	default_bind 127.0.0.1
	storage file_system storage
"""


class Front(NamedTuple):
    """A running proxy: its port, and what its clients need for TLS."""

    port: int
    tls: ssl.SSLContext

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as a provider does, for HTTP/1.1."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname=HOST)


def find(name: str) -> Path | None:
    """Return the proxy's program: the one named by GATEHOUSE_TEST_…, the machine's, or the fetched one."""
    program, _, _ = name.partition(",")
    found = os.environ.get(f"GATEHOUSE_TEST_{program.upper()}") or shutil.which(program)
    if found is not None:
        return Path(found)
    return fetched if (fetched := _PROGRAMS[program]).is_file() else None


def nginx_config(port: int, upstream: int, certificate: Path) -> str:
    """Return deploy/nginx.conf with other addresses and files."""
    return _NGINX.format(
        _replaced(
            (DEPLOY / "nginx.conf").read_text(),
            {
                "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream};",
                "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
                "listen [::]:443 ssl;": "",
                "/etc/nginx/tls/fullchain.pem": str(certificate),
                "/etc/nginx/tls/privkey.pem": str(certificate),
                "/var/log/nginx/gatehouse.log": "access.log",
            },
        )
    )


def caddy_config(port: int, upstream: int, certificate: Path) -> str:
    """Return deploy/Caddyfile with other addresses and another certificate."""
    return _replaced(
        (DEPLOY / "Caddyfile").read_text(),
        {
            "{\n\tservers {": _CADDY_GLOBALS + "\tservers {",
            f"{HOST} {{": f"https://{HOST}:{port} {{\n\ttls {certificate} {certificate}",
            "reverse_proxy 127.0.0.1:8080": f"reverse_proxy 127.0.0.1:{upstream}",
        },
    )


def haproxy_config(port: int, upstream: int, certificate: Path) -> str:
    """Return deploy/haproxy.cfg with other addresses and another certificate."""
    return _replaced(
        (DEPLOY / "haproxy.cfg").read_text(),
        {
            "bind :443": f"bind 127.0.0.1:{port}",
            "/etc/haproxy/gatehouse.pem": str(certificate),
            "server gateway 127.0.0.1:8080": f"server gateway 127.0.0.1:{upstream}",
        },
    )


def haproxy_config_that_shares(port: int, upstream: int, certificate: Path) -> str:
    """Allow each request to use any connection to the gateway, even one that another client has used."""
    config = haproxy_config(port, upstream, certificate)
    return _replaced(config, {"\nbackend gatehouse\n": "\nbackend gatehouse\n    http-reuse always\n"})


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        # The comments contain addresses too. Without the comments, each replaced text occurs once.
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


Configure = Callable[[int, int, Path], str]
_CONFIGS: Mapping[str, tuple[str, Configure, list[str]]] = {
    "nginx": ("nginx.conf", nginx_config, ["-p", ".", "-c", "nginx.conf", "-e", "error.log"]),
    "haproxy": ("haproxy.cfg", haproxy_config, ["-db", "-f", "haproxy.cfg"]),
    "haproxy, http-reuse always": (
        "haproxy.cfg",
        haproxy_config_that_shares,
        ["-db", "-f", "haproxy.cfg"],
    ),
    "caddy": ("Caddyfile", caddy_config, ["run", "--config", "Caddyfile", "--adapter", "caddyfile"]),
}


def nginx_host(port: int, certificate: Path, inside: str) -> str:
    """Return a config of nginx with one host, and this inside its block."""
    return _NGINX.format(
        f"server {{ listen 127.0.0.1:{port} ssl; server_name {HOST}; ssl_certificate {certificate}; "
        f"ssl_certificate_key {certificate}; access_log off;\n{inside} }}"
    )


def caddy_host(port: int, certificate: Path, inside: str) -> str:
    """Return a config of Caddy with one host, and this inside its block."""
    return f"{_CADDY_GLOBALS}}}\nhttps://{HOST}:{port} {{\n\ttls {certificate} {certificate}\n{inside}\n}}\n"


@asynccontextmanager
async def proxying(
    name: str, upstream: int, folder: Path, configure: Configure | None = None
) -> AsyncIterator[Front]:
    """Run a proxy in front of a gateway's port. It ends with the block.

    `configure` makes its config from the port, that of the gateway and a certificate; without it, the config
    is that of deploy/.
    """
    program = find(name)
    assert program is not None
    file, configure_as_deployed, arguments = _CONFIGS[name]
    configure = configure or configure_as_deployed
    _, client_tls = tls_server(folder, HOST)
    port = _free_port()
    (folder / file).write_text(configure(port, upstream, folder / "server.pem"))
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, cwd=folder, env=_environment(program), stdout=output, stderr=output
        )
    try:
        await _until_listening(process, port, folder)
        yield Front(port, client_tls)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment(program: Path) -> dict[str, str]:
    """Return an environment in which a fetched program finds its libraries and writes to no home folder."""
    environment = dict(os.environ) | {"HOME": ".", "XDG_DATA_HOME": ".", "XDG_CONFIG_HOME": "."}
    if program.is_relative_to(_FETCHED):
        folders = [str(folder) for folder in (_FETCHED / "lib").glob("*-linux-gnu*")]
        environment["LD_LIBRARY_PATH"] = ":".join(folders)
    return environment


def _free_port() -> int:
    """Return a port that is free now, because no proxy reports which port it got for port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_listening(process: asyncio.subprocess.Process, port: int, folder: Path) -> None:
    async with asyncio.timeout(_STARTS_WITHIN):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)  # the proxy does not report when it listens
            else:
                writer.close()
                await writer.wait_closed()
                return
    sys.stderr.write((folder / "output").read_text(errors="replace"))
    raise AssertionError("the proxy did not start")
