"""Verification: one module per scheme. Every scheme implements the `Verifier` protocol of `base`."""
