"""``python -m nastavnik`` is the command line."""

from nastavnik.cli import main

main()
