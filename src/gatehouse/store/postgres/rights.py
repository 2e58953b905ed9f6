"""Checks that the role of a gateway may do what the statements of the store do.

Without this check, a gateway would start, and fail later: for example, it could store no failed outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.postgres.connection import Connection

_ADD_ONLY: Final = ("SELECT", "INSERT", "DELETE")
_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: What the statements need on each table.
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "events": _ADD_ONLY,
    "dedupe_keys": _ALL,
    "dedupe_places": _ADD_ONLY,
    "deliveries": _ALL,
    "attempts": _ADD_ONLY,
    "replies": _ADD_ONLY,
    "paused_destinations": _ADD_ONLY,
    "audit": _ADD_ONLY,
    "operations": _ALL,
}
_SEQUENCE: Final = "deliveries_order"
_MISSING: Final = """
SELECT name, wanted FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS needed (name, wanted, number)
WHERE has_table_privilege(to_regclass(name), wanted) IS NOT TRUE
ORDER BY number
"""
_MAY_COUNT: Final = "SELECT has_sequence_privilege(to_regclass($1::text), 'USAGE') IS TRUE"


async def check_rights(connection: Connection) -> None:
    """Raise `StoreError` if the role lacks a right. The hint grants all that it lacks."""
    pairs = [(table, right) for table, rights in NEEDED.items() for right in rights]
    missing: dict[str, list[str]] = {}
    for table, right in await connection.fetch(_MISSING, *map(list, zip(*pairs, strict=True))):
        missing.setdefault(table, []).append(right)
    if not await connection.fetchval(_MAY_COUNT, _SEQUENCE):
        missing[f"SEQUENCE {_SEQUENCE}"] = ["USAGE"]
    if not missing:
        return
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    lacking = "; ".join(f"{', '.join(rights)} on {name}" for name, rights in missing.items())
    grants = " ".join(f"GRANT {', '.join(rights)} ON {name} TO {role};" for name, rights in missing.items())
    raise StoreError(
        f"the role {role} lacks rights in the database: {lacking}",
        hint=f"as the owner of the tables, run: {grants}",
    )
