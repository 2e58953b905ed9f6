"""Copies a SQLite store to PostgreSQL: `run` does it, step by step."""
