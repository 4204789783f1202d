"""What is cited is listed in full, and nothing that a reader sees points at what a clone does not hold."""

import re
from pathlib import Path

from nastavnik.mentor import RULES
from nastavnik.vocabulary import KINDS

ROOT = Path(__file__).parents[1]
CITED = re.compile(
    r"([A-ZÄÖÜ][\w’'-]+)(?:(?:, [A-Z][\w'-]+)* & [A-Z][\w-]+(?: [A-Z]\w+)?| et al\.)?,? ((?:18|19|20)\d\d|1774)\b"
)


def cited(text: str) -> set[tuple[str, str]]:
    """Author and year of each citation."""
    return {(m[1], m[2]) for m in CITED.finditer(text)}


def test_every_source_is_listed() -> None:
    listed = cited((ROOT / "docs" / "sources.md").read_text(encoding="utf-8"))
    sources = [rule.source for rule in RULES.values()]
    sources += [entry.source for kind in KINDS.values() for entry in kind.table.values() if hasattr(entry, "source")]
    assert len(sources) > 150
    missing = {c for source in sources for c in cited(source)} - listed
    assert not missing


def test_nobody_is_sent_to_notes_that_a_clone_does_not_hold() -> None:
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.py")]
    assert [path.name for path in files if re.search(r"notes/\d", path.read_text(encoding="utf-8"))] == []
