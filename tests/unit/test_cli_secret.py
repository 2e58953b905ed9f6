"""The command `secret new`."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from click.testing import CliRunner
from standardwebhooks import Webhook

from gatehouse.cli import main


def test_a_new_secret_has_the_form_of_standard_webhooks_and_is_alone_on_stdout() -> None:
    result = CliRunner().invoke(main, ["secret", "new"])

    assert result.exit_code == 0
    (made,) = result.stdout.splitlines()
    assert made.startswith("whsec_")
    assert len(base64.b64decode(made.removeprefix("whsec_"), validate=True)) == 32
    assert Webhook(made).sign("msg_1", datetime.now(UTC), "{}").startswith("v1,")
    assert "file:/run/secrets/" in result.stderr
    assert made not in result.stderr
    assert CliRunner().invoke(main, ["secret", "new"]).stdout != result.stdout


def test_length_and_prefix_can_be_chosen() -> None:
    result = CliRunner().invoke(main, ["secret", "new", "--bytes", "24", "--prefix", "", "--json"])

    assert len(base64.b64decode(json.loads(result.stdout)["secret"], validate=True)) == 24
    assert CliRunner().invoke(main, ["secret", "new", "--bytes", "8"]).exit_code == 2
