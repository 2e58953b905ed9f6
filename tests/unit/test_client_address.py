"""The client's address is the peer's, unless the peer is trusted to know better."""

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
        # Empty items are none (RFC 9110, 5.6.1).
        ("10.0.0.2", ["203.0.113.7, ,", " , 10.0.0.3,"], "203.0.113.7"),
        # A header without any item hides who it was: nobody in front of it is believed.
        ("10.0.0.2", ["203.0.113.7", ""], ""),
        ("10.0.0.2", [","], ""),
        # What is no address ends the walk: nobody in front of it is believed, and no allowlist has it.
        ("10.0.0.2", ["203.0.113.7, unknown"], "unknown"),
        ("10.0.0.2", ["203.0.113.7, 10.0.0.3:port"], "10.0.0.3:port"),
        ("10.0.0.2", ["203.0.113.7, [10.0.0.3"], "[10.0.0.3"),
        ("10.0.0.2", ["203.0.113.7, 10.0.0.3:99999999"], "10.0.0.3:99999999"),
        ("10.0.0.2", ["203.0.113.7, unix"], "unix"),
        # A peer on a Unix socket is trusted by name.
        ("unix", ["203.0.113.7"], "unix"),
    ],
)
@pytest.mark.case("S-55", "F-25")
def test_the_right_most_hop_that_is_not_trusted_counts(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert client_address(TRUSTED)(peer, forwarded) == expected


@pytest.mark.case("S-55")
def test_without_trusted_proxies_the_peer_counts() -> None:
    assert client_address(())("10.0.0.2", ["198.51.100.1"]) == "10.0.0.2"


def test_a_peer_on_a_unix_socket_is_believed_when_the_config_says_so() -> None:
    assert client_address(("unix",))("unix", ["203.0.113.7"]) == "203.0.113.7"
    assert client_address(("unix",))("10.0.0.2", ["203.0.113.7"]) == "10.0.0.2"
    # A hop with that name is none.
    assert client_address(("unix", "10.0.0.2"))("10.0.0.2", ["203.0.113.7, unix"]) == "unix"
