"""Delivery: one lane per destination, from the committed event to the outcome.

    dispatcher        owns the lanes and what they share
      lane            one destination: its workers, and how it starts, pauses and stops
        concurrency_limit  how many attempts may run at a time, adapted to the destination (pure)
        leasing       leases due deliveries from the store
        backlog       keeps the deliveries that wait in memory
        throttle      decides whether an attempt may start: breaker, rate limit, pause
          breaker     the circuit breaker (pure)
        intake        gives a worker the deliveries for its next POST
        attempts      attempts them, tells the throttle the outcomes, and has them recorded
        relaying      attempts within a provider's request, to relay the destination's reply
      forwarder       makes one attempt: from events to outcomes
        signing       signs it (pure)
        http_client   sends one POST over a connection pool
          connection  one connection: sends a request and reads its reply
          reply_head  the status line and the end of the head (pure)
        faults        explains the error of a POST
      recorder        decides what an outcome means for the delivery, stores it, counts it and logs it
        retry         delivered, due later or dead (pure)
    testing           makes the test event that an operator sends to a destination (pure)
    operations        runs replays and retries of many events, step by step
      pacing          keeps their steps to a rate (pure)
    destination       a destination, compiled from the config
    outcome           the outcome of an attempt
    state             the state of a destination, as operators see it
    gauges, pauses    the numbers of pending and dead deliveries; paused destinations

A delivery in memory is leased: until the lease expires, no other process attempts it. If the process loses
the delivery, another one can lease it afterwards. A worker starts no attempt that could outlast the lease,
and it keeps its slot until the result is stored. So a crash repeats at most as many events per destination as
attempts may run at a time.
"""
