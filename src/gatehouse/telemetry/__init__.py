"""Log lines, metrics, and the history of the last 24 hours."""
