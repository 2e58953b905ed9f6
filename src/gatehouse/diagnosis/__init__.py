"""Why a request was refused: what can be seen in it, and what it would have verified with.

`diagnose` asks the others: `clues` sees what is missing or misshapen, `timing` reads the timestamp,
`variants` tries other settings and secrets, `rewritten` other bodies and addresses, `combined` bodies that
were rewritten in several ways (`json_forms` writes them), `traces` looks for other
providers' headers.
It all works on a `known` source: its config with its secrets. Nothing here is on the way of a request.
"""
