"""`serve --workers N`: several gateways on one machine, with one port and one store.

The process that the operator starts becomes the supervisor. It starts the workers, restarts a worker that
ends, and answers operators. Each worker is a whole gateway. The requests of providers never pass through
the supervisor: the kernel distributes the connections among the workers.

    supervisor ── starts, stops, restarts ────▶ worker 1, 2, …      process
        │         the config in use           ◀── reads ────        worker
        │ /metrics   the metrics of all workers, merged             metrics
        │ /api/v1    one worker, or all                             api
        │ /-/reload  all of them, or none                           api

A worker is a new process, not a fork of the supervisor. So a worker that is restarted hours later inherits
no threads, no event loop and no held locks.
"""
