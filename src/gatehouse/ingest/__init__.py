"""Ingest: the listener for providers, and the way of a request to its committed event."""
