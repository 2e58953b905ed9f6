"""Verification: one module per scheme, each behind the `Verifier` protocol of `base`."""
