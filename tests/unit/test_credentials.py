"""A secret that a header can't carry makes its destination not ready, and is never repeated."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.delivery.destination import Destination, build_destinations

CONFIG = """
sources: {{mando: {{provider: mando, secrets: env:A}}}}
destinations: {{app: {{url: "https://app.internal/", secret: env:SIGNING, auth: {auth}}}}}
routes: [{{from: mando, to: app}}]
"""
BEARER = "{type: bearer, token: env:S}"
BASIC = "{type: basic, username: gätehouse, password: env:S}"
OAUTH2 = '{type: oauth2, token_url: "https://login.internal/", client_id: "g h", client_secret: env:S}'
HEADER = "{type: header, name: X-Key, value: env:S}"


def compiled(auth: str, **environment: str) -> Destination:
    environment = {"SIGNING": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} | environment
    config = parse(CONFIG.format(auth=auth)).config
    return build_destinations(config, Secrets(Path(), environment))["app"]


@pytest.mark.case("S-62")
@pytest.mark.parametrize(
    ("auth", "secret", "key", "why"),
    [
        (BEARER, "", "token", "env:S is empty"),
        (BEARER, "Bearer S3cret", "token", "env:S begins with the word Bearer; it must be only the token"),
        (BEARER, "S3cret\r\nX: y", "token", "env:S has a character that a token can't have"),
        (BEARER, "S3cret y", "token", "env:S has a character that a token can't have"),
        (BEARER, "S3crét", "token", "env:S has a character that a token can't have"),
        (BASIC, "S3cret\0", "password", "env:S has a control character"),
        (OAUTH2, "S3cret\0", "client_secret", "env:S has a control character"),
        (HEADER, "S3cret\nX: y", "value", "env:S has a character that a header can't carry"),
        (HEADER, "S3crét", "value", "env:S has a character that a header can't carry"),
    ],
)
def test_an_unusable_secret_names_its_key_and_not_its_value(
    auth: str, secret: str, key: str, why: str
) -> None:
    found = compiled(auth, S=secret)

    (fault,) = found.faults
    assert fault.path == ("auth", key)
    assert fault.why.startswith(why)
    assert found.not_ready == fault.why
    assert found.added_headers == ()
    assert "S3cr" not in repr(found)


def test_all_faults_are_reported() -> None:
    found = compiled(BEARER, SIGNING="not a key")

    assert [fault.path for fault in found.faults] == [("secret",), ("auth", "token")]
    assert found.not_ready == "; ".join(fault.why for fault in found.faults)


def test_a_user_name_and_a_password_are_utf_8_and_hidden_in_the_repr() -> None:
    found = compiled(BASIC, S="pass:wörd")

    assert found.added_headers == (("Authorization", "Basic Z8OkdGVob3VzZTpwYXNzOnfDtnJk"),)
    assert found.not_ready is None
    assert "Z8Ok" not in repr(found)


def test_the_id_and_the_secret_for_a_token_endpoint_are_encoded_as_in_a_form_and_hidden_in_the_repr() -> None:
    """RFC 6749, section 2.3.1."""
    found = compiled(OAUTH2, S="p:ä +")

    assert found.credentials is not None
    sent = base64.b64decode(found.credentials.authorization.removeprefix("Basic "))
    assert sent == b"g+h:p%3A%C3%A4+%2B"
    assert found.credentials.authorization not in repr(found)


def test_a_token_endpoint_at_a_link_local_address_is_refused() -> None:
    found = compiled(OAUTH2.replace("login.internal", "169.254.169.254"), S="secret")

    (fault,) = found.faults
    assert fault.path == ("auth", "token_url")
