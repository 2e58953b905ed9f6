"""Who may see the page, and who may change something."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser.deployment import ALICE, ENVIRONMENT, OPERATOR, Deployment
from browser.watching import Visitor
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.operator.page.sessions import LIFETIME, issue
from gatehouse.operator.page.site import SESSION
from gatehouse.operator.tokens import OperatorTokens


async def test_a_token_opens_the_screen_that_was_asked_for_until_the_operator_logs_out(
    visitor: Visitor,
) -> None:
    visitor.expected.append("status of 401")
    page = await visitor.open("/events?source=shop")
    assert urlsplit(page.url).path == "/login"

    await page.locator("input[name=token]").fill("a-token-that-nobody-has")
    await page.keyboard.press("Enter")
    await page.locator("[role=alert]").wait_for()
    assert "not an operator token" in await page.locator("[role=alert]").inner_text()
    assert await page.context.cookies() == []

    await page.locator("input[name=token]").fill(f" {ALICE} ")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/events?source=shop")
    assert "alice" in await page.locator("header").inner_text()
    await page.goto("/login?next=/dead")
    assert urlsplit(page.url).path == "/dead"
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    assert ALICE not in cookie["value"]
    assert await page.evaluate("document.cookie") == ""

    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url("**/login")
    assert await page.context.cookies() == []
    await page.goto("/events")
    assert urlsplit(page.url).path == "/login"


@pytest.mark.parametrize("token", [OPERATOR, "another-value-of-the-token"])
async def test_a_session_ends_with_its_time_and_with_its_token(
    visitor: Visitor, deployment: Deployment, token: str
) -> None:
    config = parse(f"operator: {{token: env:OPERATOR_TOKEN}}\n{_SOURCE}").config.operator
    tokens = OperatorTokens(config, Secrets(Path(), ENVIRONMENT | {"OPERATOR_TOKEN": token}))
    identity = tokens.identity("operator")
    assert identity is not None
    started = time.time() - (LIFETIME + 60 if token == OPERATOR else 0)
    page = await visitor.open("/login")
    cookie = {"name": SESSION, "value": issue(tokens, identity, started), "url": deployment.operator}
    await page.context.add_cookies([cookie])  # type: ignore[list-item]
    await page.goto("/events")
    assert urlsplit(page.url).path == "/login"
    assert "session has ended" in await page.locator("main").inner_text()


_SOURCE = "sources: {it: {verify: {type: hmac, signature: {header: X}}, secrets: env:S, event: {type: x}}}"
