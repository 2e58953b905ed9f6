"""`serve --workers N`: several gateways on one machine, on one port and one store.

The process that is started becomes the supervisor: it starts the workers, each a whole gateway, keeps them
running, and is what operators talk to. Providers' requests never go through it: the kernel shares them out.

    supervisor ── starts, ends, starts again ──▶ worker 1, 2, …      keeper
        │         the config in use              ◀── reads ──        worker
        │ /metrics   every worker's, merged      ◀── asks ───        scraping, merging
        │ /api/v1    one worker, or all                              api, asking
        │ /-/reload  all of them, or none                            supervisor

A worker is a process of its own from its first instruction, and not a fork of the supervisor: one that has
to be started again hours later inherits no threads, no event loop and no locks that somebody held.
"""
