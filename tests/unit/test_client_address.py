"""The client is the peer, unless the peer is a trusted proxy."""

from __future__ import annotations

import pytest

from gatehouse.ingest.client_address import client_address

TRUSTED = ("10.0.0.0/8", "127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.2", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["nonsense"], "nonsense"),
        ("10.0.0.2", [], "10.0.0.2"),
        (None, ["198.51.100.1"], None),
        # With a port, as Azure's gateways write it, and in brackets.
        ("10.0.0.2", ["203.0.113.7:51234"], "203.0.113.7"),
        ("10.0.0.2", ["[2001:db8::1]:443, 10.0.0.3:80"], "2001:db8::1"),
        ("10.0.0.2", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.2", ["2001:DB8:0::1"], "2001:db8::1"),
        # Empty items are skipped (RFC 9110, 5.6.1).
        ("10.0.0.2", ["203.0.113.7, ,", " , 10.0.0.3,"], "203.0.113.7"),
        # A header without any item hides the client: the hops before it do not count.
        ("10.0.0.2", ["203.0.113.7", ""], ""),
        ("10.0.0.2", [","], ""),
        # A hop that is not an address ends the search: the hops before it do not count, and no allowlist
        # contains it.
        ("10.0.0.2", ["203.0.113.7, unknown"], "unknown"),
        ("10.0.0.2", ["203.0.113.7, 10.0.0.3:port"], "10.0.0.3:port"),
        ("10.0.0.2", ["203.0.113.7, [10.0.0.3"], "[10.0.0.3"),
        ("10.0.0.2", ["203.0.113.7, 10.0.0.3:99999999"], "10.0.0.3:99999999"),
        ("10.0.0.2", ["203.0.113.7, unix"], "unix"),
        # A peer on a Unix socket is trusted by this name.
        ("unix", ["203.0.113.7"], "unix"),
    ],
)
@pytest.mark.case("S-55", "F-25")
def test_the_client_is_the_rightmost_untrusted_hop(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert client_address(TRUSTED)(peer, forwarded) == expected


@pytest.mark.case("S-55")
def test_without_trusted_proxies_the_client_is_the_peer() -> None:
    assert client_address(())("10.0.0.2", ["198.51.100.1"]) == "10.0.0.2"


def test_a_peer_on_a_unix_socket_is_trusted_when_configured() -> None:
    assert client_address(("unix",))("unix", ["203.0.113.7"]) == "203.0.113.7"
    assert client_address(("unix",))("10.0.0.2", ["203.0.113.7"]) == "10.0.0.2"
    # A hop with this name is not a Unix socket.
    assert client_address(("unix", "10.0.0.2"))("10.0.0.2", ["203.0.113.7, unix"]) == "unix"
