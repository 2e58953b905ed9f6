"""The config file: `model` says what it may hold, `load` reads it."""
