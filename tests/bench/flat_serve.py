"""`gatehouse`, whose purge takes PURGE_ROWS rows per step from the start, as one that fell behind does later.

A sweep that has lasted for 15 minutes takes twice as many, after another 15 three times (retention.py): what
turns of seconds would never see.
"""

from __future__ import annotations

import os

from gatehouse.cli import main
from gatehouse.store import retention

if rows := os.environ.get("PURGE_ROWS"):
    vars(retention)["ROWS_PER_STEP"] = int(rows)

if __name__ == "__main__":
    main()
