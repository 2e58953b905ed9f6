"""A command whose request gets no answer reports the reason and a hint."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from doubles.keys import tls_server
from gatehouse.cli.connection_errors import connection_error

CONFIG = """\
operator: {listen: "127.0.0.1:19090"}
sources:
  mandato: {provider: mandato, secrets: env:S}
"""
Said = Callable[[str], str]


@pytest.fixture(params=["send", "events", "reload", "status"])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Said:
    """Return a function that runs a command against a URL and returns its stderr."""
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    command = {"send": ["send", "mandato", "--url"]}.get(request.param, [request.param, "--operator"])

    def run(url: str, **environment: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "gatehouse", *command, url],
            cwd=tmp_path,
            env=os.environ | {"S": "s3cr3t-of-at-least-16-bytes"} | environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"Error: no answer from {url}")
        assert "\nTry: " in ended.stderr
        return ended.stderr

    return run


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections, one after the other, and pass each to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def shake_hands(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)
        except OSError:
            pass

    return answer


def answer_in_part(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"a":'
    )


def speak_http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.case("F-55")
def test_an_untrusted_certificate_is_reported_with_the_way_to_trust_it(said: Said, tmp_path: Path) -> None:
    context, _ = tls_server(tmp_path, "localhost")
    with listening(shake_hands(context)) as port:
        stderr = said(f"https://localhost:{port}")

    assert "TLS: its certificate is not accepted: " in stderr
    assert "certificate" in stderr
    assert "SSL_CERT_FILE=" in stderr
    assert "Operation not permitted" not in stderr
    assert "gatehouse serve" not in stderr


@pytest.mark.case("F-55")
def test_each_connection_failure_has_its_own_message_and_hint(said: Said) -> None:
    with listening(speak_http) as port:
        stderr = said(f"https://127.0.0.1:{port}")
        assert "TLS: the server does not speak TLS" in stderr
        assert "Try: use http:// instead of https://" in stderr
    with listening(lambda connection: None) as port:
        assert "closed the connection without an answer" in said(f"http://127.0.0.1:{port}")
    assert "DNS: " in said("http://nowhere.invalid:1")
    assert "Connection refused" in said(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("said", ["events", "reload", "status"], indirect=True)
def test_a_gateway_that_goes_away_in_the_middle_is_reported(said: Said) -> None:
    with listening(answer_in_part) as port:
        stderr = said(f"http://127.0.0.1:{port}")
    assert "closed the connection in the middle of its answer" in stderr
    assert "Try: run the command again" in stderr


@pytest.mark.case("F-55")
@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (10, "certificate has expired", "renew the certificate"),
        (62, "Hostname mismatch, certificate is not valid for 'a'", "the name that the certificate is for"),
        (18, "self-signed certificate", "SSL_CERT_FILE="),
        (85, "Missing Authority Key Identifier", "openssl s_client"),
    ],
)
def test_each_certificate_error_has_its_own_hint(code: int, message: str, hint: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message

    found = connection_error(error, "https://a/", 15, "gatehouse serve")

    assert message in found.message
    assert hint in str(found.hint)


@pytest.mark.case("F-55")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "timed out after 15 s"),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure"),
            "DNS: the name server does not answer for a",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "DNS: the name a is unknown"),
        (OSError(113, "No route to host"), "the network is unreachable"),
        (OSError(104, "Connection reset by peer"), "closed the connection without an answer"),
        (ValueError("no"), "this is not a valid URL"),
    ],
)
def test_each_network_failure_has_its_own_message(error: Exception, words: str) -> None:
    assert words in connection_error(error, "https://a/", 15, "gatehouse serve").message
