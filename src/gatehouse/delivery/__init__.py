"""Delivery: one lane per destination, from the committed event to the outcome.

    dispatcher    owns the lanes, what they share, and the gauges
      lane        one destination: its workers, and what starts and stops them
        supply    when to look into the store for more, and what goes back to it
        waiting   what waits in memory
        gate      whether an attempt may start now
          breaker lets a destination that is down be (pure)
          pace    keeps events under the configured rate (pure)
        intake    what a worker takes, and when
        attempts  what it does with it: attempt, learn, have it recorded
          batch_attempts   several events in a POST, halved when it is refused
      forwarder   one attempt, from events to outcomes
        item_statuses      what a destination says of each event of a batch (pure)
        exchange  one POST over HTTP, and what errors mean
          pool    connections that are free, and used again
          wire    one connection: a request, and its answer
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
