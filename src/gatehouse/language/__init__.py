"""The language of presets and configs: JSON documents, requests, templates and what they read."""
