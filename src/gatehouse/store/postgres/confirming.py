"""What can be seen in a database may not be where a commit is to be before it counts.

A commit that waits for a standby has happened on the primary. When its wait ends for another reason, by our
deadline or a restart, all can see it, and a fail-over would lose it. So what is told of an event that is
there already goes out behind a commit of its own: it waits as any does, and comes after all that was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatehouse.store.postgres.connecting import Connection

#: Writes to the log alone, and nothing where no commit waits for a standby.
_CONFIRM: Final = """
SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
  THEN pg_logical_emit_message(true, 'gatehouse', ''::text) END
"""


async def confirm(connection: Connection) -> None:
    """Return when what was seen is where commits are to be, or when the transaction has ended that runs."""
    await connection.execute(_CONFIRM)
