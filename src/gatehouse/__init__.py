"""Gatehouse receives webhooks, verifies and deduplicates them, stores them durably, and forwards them.

The way of a request through the code:

    ingest/connection      bytes of a connection become HTTP requests
    ingest/server          path, method, length, encoding and deadline; later the answer and its log line
    ingest/pipeline        every step from the request to its answer, on one screen:
      verify/base          the source's verifiers check the raw bytes (one module per scheme)
      events/event         the verified request becomes one or more events, with ids and dedupe keys
      events/routing       each event gets its destinations
      ingest/committer     requests that arrive together share one commit
        store/sqlite/store the transaction: dedupe keys, events, deliveries, fsync
    delivery/dispatcher    one lane per destination
      delivery/lane        leases deliveries and starts attempts, within the breaker's and the rate's limits
      delivery/forwarder   one attempt: an HTTP request, and its outcome
      delivery/recorder    the outcome is stored: delivered, due again later, or dead

The rooms, from the top down. A room imports only from itself and from rooms below it:

    cli/          the commands
    demo/         `gatehouse demo`, and sample requests signed as each provider signs them
    reference/    what is generated for docs/: the JSON Schema, the config tables, the provider pages, the API
    workers/      `serve --workers N`: several gateways on one machine
    gateway/      builds the gateway from a config, starts, reloads and stops it
    operator/     the second listener: metrics, health, and the API for operators
    ingest/       the listener for providers: from a connection to a committed event
    delivery/     lanes, attempts, retries, circuit breakers, dead letters
    store/        what is durable: the protocol, SQLite, PostgreSQL, retention, the disk
    diagnosis/    why a request was refused
    events/       the event: its model, dedupe keys, routes, and its form as HTTP
    verify/       one module per signature scheme, handshakes, and keys that providers publish
    telemetry/    log lines and metrics
    network/      host names, forbidden addresses, listening sockets, the event loop
    config/       from the YAML file to checked models, or to every problem at once; secrets
    providers/    the presets, one YAML file per provider
    language/     what configs are written in: templates, patterns, and the JSON and requests that they read

`errors` is below all rooms: it holds every error that Gatehouse raises on purpose.
"""

__version__ = "0.1.0"
