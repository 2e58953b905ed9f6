"""Renders the templates. The engine is imported for the first page, and not at the start of the gateway."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from gatehouse.operator.page import series, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jinja2

_STATIC = files("gatehouse.operator.page") / "static"


class Templates:
    """The templates of the page. `url` returns a link to a screen."""

    def __init__(self, url: Callable[..., str]) -> None:
        self._url = url

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """Return a template as HTML."""
        return self._engine.get_template(name).render(values)

    def compile(self, *names: str) -> None:
        """Compile these templates, or all of them. They are kept. Any thread may do it."""
        for name in names or self._engine.list_templates():
            self._engine.get_template(name)

    @cached_property
    def _engine(self) -> jinja2.Environment:
        import jinja2  # noqa: PLC0415 - takes 30 ms, which a gateway that nobody looks at doesn't spend

        from gatehouse.operator.page import charts  # noqa: PLC0415 - needs the engine's Markup
        from gatehouse.operator.page.visible import marked, start, visible  # noqa: PLC0415 - likewise

        engine = jinja2.Environment(
            loader=jinja2.PackageLoader("gatehouse.operator.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        engine.globals.update(
            url=self._url, asset=asset_version, sparkline=charts.sparkline, draw=charts.chart
        )
        engine.filters.update(
            visible=visible,
            start=start,
            marked=marked,
            ago=wording.ago,
            precisely=wording.precisely,
            clock=wording.clock,
            number=wording.number,
            sentence=wording.sentence,
            size=wording.size,
            seconds=wording.seconds,
            total=series.total,
        )
        return engine


#: The files of the page, and their types.
ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def asset(name: str) -> bytes:
    """Return one of `ASSETS`."""
    return (_STATIC / name).read_bytes()


@cache
def asset_version(name: str) -> str:
    """Return what changes whenever the file changes, so that browsers may keep it."""
    return hashlib.sha256(asset(name)).hexdigest()[:12]
