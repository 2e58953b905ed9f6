"""Gatehouse receives webhooks, verifies and deduplicates them, stores them durably, and forwards them.

How a request passes through the code:

    ingest/listener        accepts the connection
    ingest/connection      parses the requests of the connection, and writes their answers
    ingest/server          finds the source of a request, reads the body, and logs the answer
    ingest/pipeline        takes the request through these steps:
      verify/base          checks the raw bytes with the verifiers of the source (one module per scheme)
      events/reader        reads one or more events from the request, with ids and dedupe keys
      events/routing       selects the destinations of each event
      ingest/committer     commits the events of concurrent requests together
        store/sqlite/store runs the transaction: dedupe keys, events, deliveries, fsync
    delivery/dispatcher    runs one lane per destination
      delivery/lane        leases deliveries and starts attempts, within breaker and rate limits
      delivery/forwarder   makes one attempt: an HTTP request and its outcome
      delivery/recorder    stores the outcome: delivered, due again later, or dead

The packages, from the top down. A package imports only from itself and from packages below it:

    cli/          the commands
    demo/         `gatehouse demo`
    reference/    generates parts of docs/: the JSON Schema, config tables, provider pages, API reference
    workers/      `serve --workers N`: several gateways on one machine
    gateway/      builds the gateway from a config, starts, reloads and stops it
    operator/     the second listener: metrics, health checks, the API and the web page for operators
    samples/      sample requests, signed as each provider signs them
    ingest/       the listener for providers: from a connection to a committed event
    delivery/     lanes, attempts, retries, circuit breakers, dead letters
    store/        durable storage: the protocol, SQLite, PostgreSQL, retention, free disk space
    diagnosis/    why a request was refused
    events/       the event: its model, dedupe keys, routes, and HTTP envelope
    verify/       one module per signature scheme, handshakes, and published keys of providers
    telemetry/    log lines and metrics
    network/      host names, forbidden addresses, listening sockets, the event loop
    config/       reads the YAML file into checked models, or reports all its problems; secrets
    providers/    the presets: one YAML file per provider; samples of event types
    language/     the language of configs: templates, patterns, and the JSON and requests that they read

The module `errors` is below all packages. It defines every error that Gatehouse raises on purpose.
"""

__version__ = "0.1.0"
