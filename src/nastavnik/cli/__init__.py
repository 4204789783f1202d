"""The command line: shows and takes orders, decides nothing."""

from nastavnik.cli._main import main as main
