"""The store: a protocol, and one module per backend. Nothing outside knows SQL."""
