"""A token that may only read changes nothing, and neither does the page of another site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from browser.deployment import GRAFANA, OPERATOR, Deployment
from browser.forms import Form, forms_of
from browser.watching import Visitor
from doubles.destination import status

if TYPE_CHECKING:
    from playwright.async_api import Browser, StorageState

#: Screens with everything that an operator can do. `{name}` stands for an id that `ids` has.
SCREENS = (
    "/events/{gone}",
    "/dead/discard?destination=ledger",
    "/dead/retry?destination=ledger",
    "/events/replay?source=repos",
    "/destinations/crm",
    "/destinations/warehouse",
    "/sources/shop",
    "/system/reload",
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def forms(
    chromium: Browser, deployment: Deployment, sessions: dict[str, StorageState], ids: dict[str, str]
) -> dict[str, Form]:
    """Collect what an operator can send, by its address."""
    visitor = Visitor(chromium, deployment.operator)
    page = await visitor.open("/", state=sessions[OPERATOR])
    found: dict[str, Form] = {}
    for path in SCREENS:
        await page.goto(path.format(**ids))
        found |= {form.action: form for form in await forms_of(page)}
    assert await visitor.close() == []
    ends = {action.split("?")[0].rsplit("/", 1)[-1] for action in found}
    assert ends == {"replay", "retry", "discard", "pause", "resume", "probe", "test", "sample", "reload"}
    return found


async def _changes(deployment: Deployment) -> list[object]:
    """Return what would differ if something was changed."""
    audit = (await deployment.read("audit"))["audit"]
    paused = [one["paused"] for one in (await deployment.read("destinations"))["destinations"]]
    newest = (await deployment.read("events?limit=1"))["events"]
    return [audit, paused, newest, len(deployment.app.server.requests)]


async def test_who_may_only_read_sees_no_button_and_can_send_no_form(
    visitor: Visitor,
    sessions: dict[str, StorageState],
    ids: dict[str, str],
    deployment: Deployment,
    forms: dict[str, Form],
) -> None:
    before = await _changes(deployment)
    page = await visitor.open("/", state=sessions[GRAFANA])
    for path in ("/", "/events", "/dead", "/destinations", "/sources", "/refused", "/system", *SCREENS):
        await page.goto(path.format(**ids))
        assert await page.locator("h1").count() == 1, path
        # A plan can be counted, and has no button that starts it. The route tester changes nothing.
        buttons = 'main form[method=post]:not([action*="/system/routes"]) button'
        assert await page.locator(buttons).count() == 0, path
    own = await page.locator("header input[name=form_token]").get_attribute("value")
    for token in (own or "", next(iter(forms.values())).fields["form_token"], ""):
        for form in forms.values():
            fields = form.fields | {"form_token": token}
            answer = await page.context.request.post(form.action, form=fields, max_redirects=0)
            assert answer.status == 403, (form.action, token)
    assert await _changes(deployment) == before


async def test_the_page_of_another_site_can_send_no_form(
    visitor: Visitor, operator: StorageState, deployment: Deployment, forms: dict[str, Form]
) -> None:
    """Not even with a form token that it has stolen, and with a browser that sends the cookie."""
    visitor.expected += ["status of 403", "status of 401", "localhost"]
    page = await visitor.open("/", state=operator)
    before = await _changes(deployment)
    for origin in ("https://other.example", "null", deployment.app.url):
        for form in forms.values():
            answer = await page.context.request.post(
                form.action, form=form.fields, headers={"Origin": origin}, max_redirects=0
            )
            assert answer.status == 403, (form.action, origin)
    assert await _changes(deployment) == before

    pause = forms["/destinations/crm/pause"]
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in pause.fields.items())
    script = "<script>document.forms[0].submit()</script>"
    html = f'<form method="post" action="{deployment.operator}{pause.action}">{inputs}</form>{script}'
    with deployment.app.answering("/site", status(200, body=html.encode(), content_type="text/html")):
        # The browser sends the form to 127.0.0.1 from localhost, which is another site.
        await page.goto(f"{deployment.app.url}/site".replace("127.0.0.1", "localhost"))
        await page.wait_for_url("**/destinations/crm/pause")
    assert not (await deployment.destination("crm"))["paused"]
    # A link from another site only asks to log in: the cookie is not sent.
    assert "breaker open" not in await page.locator("body").inner_text()


async def test_a_form_with_an_old_token_says_so(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    visitor.expected.append("status of 403")
    page = await visitor.open("/destinations/archive", state=operator)
    await page.locator("form[action$='/pause'] input[name=form_token]").evaluate("it => it.value = 'old'")
    await page.get_by_role("button", name="Pause").click()
    assert "form has expired" in await page.locator("[role=alert]").inner_text()
    assert not (await deployment.destination("archive"))["paused"]


@pytest.mark.parametrize("path", ["/", "/events", "/destinations/crm", "/events/export", "/live/stream"])
async def test_nothing_is_shown_without_a_session(
    visitor: Visitor, deployment: Deployment, path: str
) -> None:
    page = await visitor.open("/login")
    answer = await page.context.request.get(path, max_redirects=0)
    assert answer.status in (303, 401), path
    assert "orders" not in await answer.text()
