"""The page's tables are what the benchmarks found."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_figure_of_the_search_tables_comes_from_the_results() -> None:
    script = ROOT / "benchmarks" / "search_tables.py"
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "search.md").read_text().splitlines()
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert len(rows) > 30
    assert [row for row in rows if row not in page] == []


def test_the_pages_examples_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "search.md").read_text()
    toml, code = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("toml", "python"))
    assert toml
    assert code
    (tmp_path / "space.toml").write_text(toml[1])
    asked = ["-m", "nastavnik", "fit", "wine", "--space", "space.toml", "--show-space"]
    done = subprocess.run([sys.executable, *asked], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seconds at most 10" in done.stdout
    (tmp_path / "example.py").write_text(code[1])
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "recipes were beyond the limit" in done.stdout
