"""Sample requests, signed as each provider signs them: for commands, the operator API, the demo and tests.

sample       a provider's documented example, changed and signed
typed        samples for each event type of the most used providers
event_type   gives a sample another event type
editing      changes values of a sample
"""
