"""The store: a protocol in `base`, and a room for each backend. Nothing outside knows SQL.

`opening` chooses by the URL, `deciding` is what both do with a batch, `rows` how events look in either.
`describing`, `upkeep` and `copying` are for people who look after a store.
"""
