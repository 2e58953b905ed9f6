"""The demo: the real gateway on this machine, an app behind it, and each provider's requests, good and bad.

workspace    a directory with a gateway.yaml and fresh secrets
app          the destination: it checks what arrives as a real app should
cases        what each provider sends, and what the gateway should answer
play         sends it, and looks at what came of it
scrape       the gateway's metrics, before and after
screen       all of it, for people
run          the order of things, from start to Ctrl-C
"""
