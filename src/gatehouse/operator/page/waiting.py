"""Sends the beginning of a page while the rest of it takes time, so that a person sees what it waits for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from gatehouse.operator.page import arrival
from gatehouse.operator.page.asking import ApiError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from gatehouse.operator.page.site import Site

#: Seconds after the request arrived, when the beginning is sent. It may come later, so that the first screen
#: after a start has some time too.
PATIENCE: Final = 0.05
_LEAST_SHARE: Final = 0.2
#: Where the content of a page begins and ends.
_BEGIN, _END = '<main id="main" tabindex="-1">', "</main>"


async def with_beginning(
    site: Site,
    request: web.Request,
    menu: str,
    title: str,
    screen: Coroutine[object, object, web.Response],
    waits: str = "Counting …",
    *,
    patience: float | None = None,
) -> web.StreamResponse:
    """Answer with a screen. If it takes long, its beginning comes first, and says what it waits for.

    `menu` is the entry of the menu, and `title` that of the screen. `waits` is shown meanwhile. The beginning
    comes `patience` seconds after the request (`PATIENCE` by default). The status of such an answer is 200,
    whatever the screen then says.
    """
    if patience is None:
        patience = PATIENCE
    left = max(patience - arrival.seconds_ago(request), patience * _LEAST_SHARE)
    task = asyncio.ensure_future(screen)
    try:
        done, _ = await asyncio.wait({task}, timeout=left)
        if done or request.method != hdrs.METH_GET:
            return await task
        # The screen shows the notice, and this part only removes its cookie.
        beginning = site.render(request, "waiting.html", menu=menu, title=title, waits=waits, notice="")
        response = web.StreamResponse(headers=beginning.headers)
        response.headers.popall(hdrs.CONTENT_LENGTH, None)
        response.headers["X-Accel-Buffering"] = "no"  # nginx would wait for the rest
        response.cookies.update(beginning.cookies)
        with suppress(ConnectionError):  # whoever asked may be gone by now
            await response.prepare(request)
            await response.write((beginning.text or "").partition(_END)[0].encode())
            await response.write((await _text(site, request, task)).partition(_BEGIN)[2].encode())
            await response.write_eof()
    finally:
        task.cancel()
    return response


async def _text(site: Site, request: web.Request, screen: asyncio.Task[web.Response]) -> str:
    try:
        page = await screen
    except ApiError as error:
        page = site.error(request, error.status, str(error))
    return page.text or ""
