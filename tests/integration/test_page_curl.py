"""The curl command of the page sends what the provider sent: real shells run it against a real server."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from doubles.destination import ScriptedDestination
from gatehouse.operator.page.curl import LONGEST_INLINE, Command, curl_command, is_url
from machine import lacking

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = [
    ("content-type", 'application/json; x="it\'s"'),
    ("user-agent", "Acme-Webhooks/1.0 (+https://acme.test)"),
    ("x-text", "$(touch ran) `touch ran` \\ ! 'one' é 日本"),
    ("x-empty", ""),
    ("x-twice", "1"),
    ("x-twice", "2"),
]
INLINE = {
    "json": b'{"amount": 12345678901234567890.10, "name": "it\'s"}',
    "commands": b"'; touch ran; echo '$(touch ran)`touch ran`\n\\n !! \"$HOME\"",
    "at sign": b"@/etc/passwd",
    "dash": b"--upload-file /etc/passwd",
    "lines": "\n\nfirst\n  é 日本 😀\n\n".encode(),
    "empty": b"",
}
FROM_FILE = {
    "bytes": b"\xff\xfe\x00binary\r\n",
    "escapes": b"\x1b[201~\x03\nrm -rf /\n",
    "bidi": "\u202ereversed".encode(),
    "tab": b"a\tb",
    "long": b"x" * (LONGEST_INLINE + 1),
}


async def run(command: Command, shell: str, folder: Path) -> None:
    """Run a command as a person would who pastes it."""
    process = await asyncio.create_subprocess_exec(
        *(shell, "-c", command.text),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.parametrize("shell", ["sh", "bash"])
async def test_the_command_sends_the_same_body_and_headers(shell: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        lacking("no curl")
    folder = tmp_path / "empty"
    folder.mkdir()
    async with ScriptedDestination() as server:
        url = f"http://127.0.0.1:{server.port}/in?a=[1-2]&b='$(exit)"
        assert is_url(url)
        for body in (*INLINE.values(), *FROM_FILE.values()):
            command = curl_command(url, HEADERS, body, "event.bin")
            assert command.needs_file == (body in FROM_FILE.values())
            if command.needs_file:
                (folder / "event.bin").write_bytes(body)
            await run(command, shell, folder)
            (folder / "event.bin").unlink(missing_ok=True)
            received = server.requests[-1]
            assert (received.method, received.body) == ("POST", body)
            sent = [(name.lower(), value) for name, value in received.headers.items()]
            assert [one for one in sent if one[0] not in ("host", "content-length")] == HEADERS
        assert len(server.requests) == len(INLINE) + len(FROM_FILE)
    assert list(folder.iterdir()) == []


async def test_curl_adds_no_header_that_the_provider_did_not_send(tmp_path: Path) -> None:
    async with ScriptedDestination() as server:
        await run(curl_command(server.url, [], b"x", "event.bin"), "sh", tmp_path)
        assert {name.lower() for name in server.requests[0].headers} == {"host", "content-length"}


def test_only_an_http_address_is_put_into_a_command() -> None:
    refused = (
        "",
        "-K/etc/passwd",
        "file:///etc/passwd",
        "localhost:3000",
        "http://a b",
        "http://a\n-K",
        "http://é",
    )
    assert [url for url in refused if is_url(url)] == []
    assert all(
        map(
            is_url,
            ("http://localhost:3000/", "https://[::1]:8443/in?x=1&y='z'", "http://h"),
        )
    )
