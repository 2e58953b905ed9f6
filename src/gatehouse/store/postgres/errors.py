"""The one place where the driver's errors become ours.

What the server says of its own state is passed on. What it says of a statement is not, and neither is the
driver's word on an argument or an address: those may hold what was sent, or a password.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from gatehouse.errors import StoreError, StoreUnavailableError

#: What a driver's call can raise when it is no defect of ours.
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
#: What is worth trying again at once: the others of it have ended.
COLLISIONS: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

READ_ONLY: Final = "25006"
#: Classes of SQLSTATE that pass, or that an operator puts right without a restart.
_PASSING: Final = {"08", "40", "53", "57", "58", "55", "3D", "28", "XX"}
_PASSING_CODES: Final = {READ_ONLY, "25P03", "42501"}
#: Classes whose text is about the server, and holds nothing of what was sent.
_TELLING: Final = {"08", "28", "3D", "53", "57", "58"}


def store_error(error: BaseException) -> StoreError:  # noqa: PLR0911 - one for each kind
    """Return what to raise instead of a driver's error."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, TimeoutError):
        return StoreUnavailableError("the database does not answer in time")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return read_only()
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error)
    if isinstance(error, OSError):
        return StoreUnavailableError(
            f"the database can't be reached ({error.strerror or type(error).__name__})"
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StoreError("the store's url can't be used", hint="write it as libpq does")
    return StoreUnavailableError(f"the connection to the database failed ({type(error).__name__})")


def read_only() -> StoreUnavailableError:
    """Return the error for a server that takes no writes: a standby, before it is promoted."""
    return StoreUnavailableError(
        "the database is read-only",
        hint="a standby takes over when it is promoted; list all hosts in the url",
    )


def _of_server(error: asyncpg.PostgresError) -> StoreError:
    code = error.sqlstate or ""
    if code == READ_ONLY:
        return read_only()
    said = f": {error.args[0]}" if code[:2] in _TELLING and error.args else ""
    text = f"the database refused ({code}){said}"
    if code[:2] in _PASSING or code in _PASSING_CODES:
        return StoreUnavailableError(text)
    return StoreError(text)


def took_too_long(error: StoreError) -> bool:
    """Tell whether it was a statement that was ended for its length, and not a fault of the server."""
    return isinstance(error.__cause__, TimeoutError | asyncpg.QueryCanceledError)


def breaks_connection(error: BaseException) -> bool:
    """Tell whether a connection is of no more use after this."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in {"08", "57", "58"} and error.sqlstate != "57014"
    if isinstance(error, TimeoutError):
        return False
    return isinstance(error, OSError | asyncpg.InternalClientError)
