"""Routes at the prefix of the page, for a proxy in front."""

from __future__ import annotations

from aiohttp import web


def with_prefix(prefix: str, route: web.RouteDef) -> web.RouteDef:
    """Return the route at the prefix. A proxy may pass on the whole path, or remove the prefix."""
    return web.RouteDef(route.method, f"{prefix}{route.path}", route.handler, route.kwargs)
