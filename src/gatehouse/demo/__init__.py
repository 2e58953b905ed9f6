"""Runs the real gateway on this machine with a sample app, and sends it good and bad requests.

run          starts everything, sends the requests, and stops at Ctrl-C
workspace    the temporary directory with a config and new secrets
app          the destination, which checks what it receives as a real app should
cases        the requests of each provider, the answers expected, and the comparison with what happened
screen       the output
"""
