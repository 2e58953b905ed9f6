"""Gatehouse: verifies, deduplicates, stores and forwards what providers send.

The way of a request, and the room each step is in:

    ingest/server      HTTP in: path, method, length, encoding, deadline
    ingest/pipeline    the story from here to the answer, in one screen
      verify/          raw bytes and the clock ─▶ VerifiedRequest      (remote_keys, key_cache, key_budget)
      verify/handshake a request that only wants an answer             (ingest/handshakes, ingest/confirm)
      event            ─▶ events with their identity and dedupe keys   (split, document, times, ids)
      routing          ─▶ destinations
    ingest/committer   requests that wait together share a commit      (batch)
      store/           dedupe keys, events and deliveries in one transaction, on disk before the answer
                       (sqlite/ for one process, postgres/ for several)
    ingest/answer      HTTP out
    delivery/          a lane per destination: lease, breaker, rate, attempt, retry or dead letter
      envelope         an event ─▶ CloudEvents

The language of verification and events is `template`, with its `placeholders` and the `scope` they read.

Around it: `config/` reads the file, `providers/` holds the presets, `secrets` looks secrets up, `source`
compiles what a source needs, `retention` removes what has expired. `compiled` is a config worked out,
`reload` replaces one by the next, and `changes` says how they differ. `operator/` serves metrics, health and
the API; `ingest/rejected` remembers what was refused, and `diagnosis/` says why. `metrics` and `log` name all
that is counted and logged, `errors` draws the tree of what can go wrong. `app` builds and runs it all, and
`workers/` runs several of it on one machine, on the event loop of `loop`, where `names` are looked up. `cli/`
and `demo/` are for people, with the requests that `sample` makes and the colours that `terminal` allows.
`failpoints` is for tests of crashes alone.
"""

__version__ = "0.1.0"
