"""`GET /api/v1/stream`: requests, events and attempts as server-sent events, while they happen.

`api` answers a request: it lets the reader catch up with stored events (`catching_up`) and hands it over to
`readers`, which writes what the hub publishes (`telemetry/live`). Readers that want the same share a `view`,
which encodes each entry once (`entries`).
"""
