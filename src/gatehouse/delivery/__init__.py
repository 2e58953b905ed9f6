"""Delivery: one lane per destination, from the committed event to the outcome."""
