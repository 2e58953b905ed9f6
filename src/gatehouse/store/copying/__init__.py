"""Copies a SQLite store to PostgreSQL, and checks the copy.

`run` is the whole process. `source` reads the file, `rows` converts its rows, `target` writes them to the
database, and `comparison` compares both sides.
"""
