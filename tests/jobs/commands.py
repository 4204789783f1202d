"""A command line run in this process."""

from __future__ import annotations

import pytest

from nastavnik.cli import main


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, and what was printed on stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    streams = capsys.readouterr()
    return int(ended.value.code or 0), streams.out, streams.err
