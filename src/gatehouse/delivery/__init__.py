"""Delivery: one lane per destination, from the committed event to the outcome.

    dispatcher    owns the lanes, what they share, and the gauges
      lane        one destination: what waits in memory, and the workers that attempt it
        supply    when to look into the store for more, and what goes back to it
        breaker   lets a destination that is down be (pure)
        pace      keeps attempts under the configured rate (pure)
      forwarder   one attempt over HTTP, from event to outcome
        signing   Standard Webhooks signatures (pure)
        address   which addresses are never connected to
      recorder    what an outcome means for the delivery: decided, stored, counted, logged
        retry     delivered, due later or dead (pure)
    destination   a configured destination, compiled
    outcome       what an attempt came to

A delivery in memory is leased: while the lease lasts no one else attempts it, and what is lost from memory
comes back when the lease ends. A worker starts no attempt that the lease would not outlive, and keeps its
slot until the result is in the store: after a crash at most `concurrency` events per destination are sent
twice.
"""
