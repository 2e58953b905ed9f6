"""`python -m gatehouse`."""

from gatehouse.cli import main

main()
