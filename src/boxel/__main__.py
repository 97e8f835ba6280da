"""`python -m boxel`."""

from boxel.cli import main

main()
