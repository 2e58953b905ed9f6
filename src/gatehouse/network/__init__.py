"""The network: host names, addresses that are never connected to, listening sockets, the event loop."""
