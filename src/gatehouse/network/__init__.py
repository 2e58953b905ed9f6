"""The network: host names, forbidden addresses, listening sockets and the event loop."""
