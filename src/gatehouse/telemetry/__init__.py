"""What the gateway tells its operator: log lines and metrics."""
