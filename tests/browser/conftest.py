"""One browser and one gateway for all tests of a process: starting them takes longer than most tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from browser.chromium import running_chromium
from browser.deployment import OPERATOR, TOKENS, Deployment, running_deployment
from browser.hostile import send_hostile
from browser.traffic import send_a_day
from browser.watching import Visitor

if TYPE_CHECKING:
    from playwright.async_api import Browser, StorageState


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one event loop, that of the browser and the gateway."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """Run a browser."""
    async with running_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Run a gateway that has had the traffic of a day. Tests add to it, and remove nothing."""
    async with running_deployment(tmp_path_factory.mktemp("deployment")) as running:
        await send_a_day(running)
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hostile(deployment: Deployment) -> dict[str, str]:
    """Send hostile traffic. Returns the ids of the events by what is hostile about them."""
    return await send_hostile(deployment)


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(chromium: Browser, deployment: Deployment) -> AsyncIterator[Visitor]:
    """Visit pages. Afterwards the test fails if one of them reported an error."""
    visitor = Visitor(chromium, deployment.operator)
    yield visitor
    assert await visitor.close() == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sessions(chromium: Browser, deployment: Deployment) -> dict[str, StorageState]:
    """Log everybody in. Returns their cookies by their tokens."""
    visitor = Visitor(chromium, deployment.operator)
    states = {token: await visitor.sign_in(token) for token in TOKENS.values()}
    assert await visitor.close() == []
    return states


@pytest.fixture
def operator(sessions: dict[str, StorageState]) -> StorageState:
    """The cookies of an operator who may change things."""
    return sessions[OPERATOR]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ids(deployment: Deployment) -> dict[str, str]:
    """Return ids of the traffic of the day, for addresses."""
    refused = (await deployment.read("rejected?source=payments"))["rejected"]
    dead = (await deployment.read("deliveries?status=dead"))["deliveries"]
    by_reason = {one["last_reason"]: one["event_id"] for one in dead}
    return by_reason | {"old": next(one["id"] for one in refused if one["reason"] == "stale_timestamp")}
