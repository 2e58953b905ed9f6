"""Templates and patterns of presets and configs, and the JSON documents and requests that they read."""
