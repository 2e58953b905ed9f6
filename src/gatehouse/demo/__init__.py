"""Runs the real gateway on this machine with a sample app, and sends it good and bad requests.

run          starts everything, sends the requests, and stops at Ctrl-C
workspace    the temporary directory with a config and new secrets
app          the destination, which checks what it receives as a real app should, and three that fail
cases        the requests of each provider, the answers expected, and the comparison with what happened
trouble      makes a dead letter, an open circuit breaker and a pending delivery for the operator page
screen       the output
"""
