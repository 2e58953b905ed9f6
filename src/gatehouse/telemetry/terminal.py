"""Decides whether output is colored, from the environment and the stream."""

from __future__ import annotations

import os
from collections.abc import Mapping


def wants_color(environment: Mapping[str, str]) -> bool | None:
    """Return whether the environment asks for color; None when it does not say.

    Reads NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, TERM and CLICOLOR, in this order.

    As in https://no-color.org and https://bixense.com/clicolors: an empty variable counts as unset.
    """
    if environment.get("NO_COLOR"):
        return False
    if any(
        environment.get(name, "0") not in ("", "0", "false") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")
    ):
        return True
    if environment.get("TERM") == "dumb" or environment.get("CLICOLOR") == "0":
        return False
    return None


def is_colored(*, is_terminal: bool, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether to color the output to a stream."""
    wanted = wants_color(os.environ if environment is None else environment)
    return is_terminal if wanted is None else wanted
