"""The gateway: built from a config, started, reloaded and stopped."""
