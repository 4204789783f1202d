"""The page's tables are what the benchmarks found."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_figure_of_the_tables_comes_from_the_results() -> None:
    script = ROOT / "benchmarks" / "evidence_tables.py"
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "evidence.md").read_text().splitlines()
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert len(rows) > 50
    assert [row for row in rows if row not in page] == []
