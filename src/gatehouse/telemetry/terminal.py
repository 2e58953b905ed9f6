"""Whether output is coloured: what the environment asks for, and what the stream is."""

from __future__ import annotations

import os
from collections.abc import Mapping


def wants_color(environment: Mapping[str, str]) -> bool | None:
    """Read NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, TERM and CLICOLOR, in this order; None: as the stream is.

    https://no-color.org and https://bixense.com/clicolors: a variable that is empty is not set.
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
    """Tell whether to colour what goes to a stream."""
    wanted = wants_color(os.environ if environment is None else environment)
    return is_terminal if wanted is None else wanted
