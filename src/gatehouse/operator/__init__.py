"""The operator server: metrics and health, on the second listener."""
