"""Runs `gatehouse` with a purge that removes PURGE_ROWS rows per step from the start.

A purge that has fallen behind removes twice as many rows per step after 15 minutes, and three times as many
after another 15 (retention.py). Turns of a few seconds would never reach that.
"""

from __future__ import annotations

import os

from gatehouse.cli import main
from gatehouse.store import retention

if rows := os.environ.get("PURGE_ROWS"):
    vars(retention)["ROWS_PER_STEP"] = int(rows)

if __name__ == "__main__":
    main()
