"""Servers that replace the outside world in tests. They are real, and their answers are scripted."""
