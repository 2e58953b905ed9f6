"""Delivery: one lane per destination, from the committed event to the outcome.

    dispatcher        owns the lanes, and what they share
      lane            one destination: its workers, and what starts and stops them
        leasing       leases due deliveries from the store
        backlog       the deliveries that wait in memory
        throttle      whether an attempt may start now: breaker, rate limit, pause
          breaker     the circuit breaker (pure)
        intake        the next deliveries for a worker, as many as one POST may carry
        attempts      attempts them, learns from the outcomes, and has them recorded
        relaying      attempts within a provider's request, for the destination's reply
      forwarder       one attempt, from events to outcomes
        http_client   one POST over a pool of connections
          connection  one connection: a request, and its reply
          reply_head  the status line and the end of the head (pure)
        faults        what an error of a POST means
      recorder        what an outcome means for the delivery: decided, stored, counted, logged
        retry         delivered, due later or dead (pure)
    destination       a configured destination, compiled
    outcome           the outcome of an attempt
    gauges, pauses    counts of pending and dead deliveries; paused destinations

A delivery in memory is leased: until the lease expires, no other process attempts it. A delivery that is
lost from memory becomes available afterwards. A worker starts no attempt that could outlast the lease, and
keeps its slot until the result is stored, so a crash repeats at most `concurrency` events per destination.
"""
