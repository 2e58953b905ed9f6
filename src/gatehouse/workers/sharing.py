"""A config for all workers, or for none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import Problem
from gatehouse.workers.asking import Answer, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.workers.keeper import Keeper
    from gatehouse.workers.worker import Shared

#: Seconds for a worker that starts to get ready for a reload, and for the reload. Whoever asked waits for 15.
_SETTLE_WITHIN, _RELOAD_WITHIN = 4.0, 8.0
_OK = 200


async def share(
    new: LoadedConfig, old: LoadedConfig, shared: Shared, keepers: Sequence[Keeper]
) -> Sequence[Problem]:
    """Have all workers take a config. What one of them has against it is returned; then all have the old one.

    The supervisor itself found nothing wrong with it; a secret in a file can have changed since.
    """
    if problems := await _hand_out(new, shared, keepers):
        await _hand_out(old, shared, keepers)
        return problems
    return []


async def _hand_out(loaded: LoadedConfig, shared: Shared, keepers: Sequence[Keeper]) -> Sequence[Problem]:
    # First for those that start meanwhile.
    shared.use(loaded)
    found = await asyncio.gather(*map(_reload, keepers))
    return next(filter(None, found), [])


async def _reload(keeper: Keeper) -> Sequence[Problem]:
    """Have a worker reload. One that is not there gets the config when it starts; one that hangs is ended."""
    await keeper.settled(_SETTLE_WITHIN)
    if not keeper.runs:
        return []
    try:
        answer = await keeper.asking.ask("/-/reload", method="POST", within=_RELOAD_WITHIN)
        return [] if answer.status == _OK else _problems(answer)
    except NoAnswerError:
        keeper.kill()
        return []


def _problems(answer: Answer) -> Sequence[Problem]:
    try:
        return msgspec.convert(answer.json()["error"]["problems"], list[Problem])
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise NoAnswerError("no answer to a reload") from error
