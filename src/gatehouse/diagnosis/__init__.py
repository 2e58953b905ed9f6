"""Why a request was refused. Nothing here runs while a request is served.

`diagnose` combines the others: `clues` finds what is missing, malformed or stale and whose headers these
are, `variants` tries other settings and secrets, `rewritten` tries other bodies and addresses (`json_forms`
writes the bodies), and `items` finds the refused elements of a batch. All work on a `known` source: its
config and secrets.
"""
