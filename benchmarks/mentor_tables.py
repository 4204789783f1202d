"""The tables of docs/mentor.md, from benchmarks/results/: ``python benchmarks/mentor_tables.py --write``.

Without ``--write`` they are printed; a test holds the page against them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "mentor.md"


def _results(name: str) -> dict[str, Any]:
    return json.loads((HERE / "results" / name).read_text(encoding="utf-8"))


def overhead() -> str:
    """Ratios of watched to bare loops."""
    lines = ["| network | given | ratio | looks in steps | the loop, s | the first answer, s |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for r in _results("mentor-overhead.json")["rows"]:
        lines.append(f"| {r['net']} | {r['kind']} | {r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f}) "
                     f"| {r['looks']} in {r['steps']:,} | {r['loop']:.3g} | {r['answering']:.2g} |")  # fmt: skip
    return "\n".join(lines)


def patients() -> str:
    """Trainings from reports by architecture, and the healthy ones."""
    found = _results("mentor-patients.json")["summary"]
    names = {"default": "three lines", "parts": "with rows of both parts"}
    lines = [f"| architecture | {' | '.join(names[mode] for mode in found)} |", "| --- |" + " --- |" * len(found)]
    for name in next(iter(found.values()))["found"]:
        cells = [f"{own['found'][name][0]} of {own['found'][name][1]}" for own in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = [[sum(x[i] for x in own["found"].values()) for i in (0, 1)] for own in found.values()]
    lines.append(f"| **named** | {' | '.join(f'**{a} of {b}**' for a, b in totals)} |")
    accused = [f"{own['accused'][0]} of {own['accused'][1]}" for own in found.values()]
    lines.append(f"| mended or healthy, accused of an error | {' | '.join(accused)} |")
    return "\n".join(lines)


def bench() -> str:
    """The fault bench's headline figures."""
    found = _results("mentor.json")["summary"]
    lines = ["| trainings | how many | named | raised at all |", "| --- | --- | --- | --- |"]
    for name in ("held-out tasks", "both held out", "held-out faults", "neither"):
        words = {
            "held-out tasks": "**faulty, on held-out tasks**", "both held out": "of these, by held-out faults",
            "held-out faults": "by held-out faults, on all tasks", "neither": "tasks and faults thresholds were set by",
        }[name]  # fmt: skip
        r = found[name]
        lines.append(f"| {words} | {r['trainings']} | {r['named']:.1%} | {r['seen']:.1%} |")
    healthy = found["healthy"]
    lines += [
        "",
        f"Of {healthy['trainings']} healthy trainings on the held-out tasks **{healthy['without error']:.1%}** raise "
        f"no error, {healthy['without warning']:.1%} no error or warning.",
    ]
    return "\n".join(lines)


def faults() -> str:
    """Each fault on each held-out task."""
    found = _results("mentor.json")
    tasks = list(dict.fromkeys(c["task"] for c in found["cells"] if c["held_out_task"]))
    lines = [f"| fault | {' | '.join(tasks)} | first causes |", "| --- |" + " --- |" * (len(tasks) + 1)]
    for fault in dict.fromkeys(c["fault"] for c in found["cells"]):
        own = {c["task"]: c for c in found["cells"] if c["fault"] == fault}
        shares = [f"{own[t]['named']:.0%}" if t in own and own[t]["faulty"] else "–" for t in tasks]
        roots = [r for t in tasks if t in own and own[t]["faulty"] for r in own[t]["roots"]]
        first = sorted(set(roots), key=lambda r: (-roots.count(r), r))[:3]
        mark = ", *held out*" if next(iter(own.values()))["held_out_fault"] else ""
        lines.append(f"| {fault}{mark} | {' | '.join(shares)} | {', '.join(first)} |")
    return "\n".join(lines)


def cure() -> str:
    """What the advice did."""
    found = _results("mentor-cure.json")
    s = found["summary"]
    lines = [
        f"**{s['mended']:.0%}** of {s['faulty cells']} faults (held-out tasks, where they did harm) were mended.",
        "",
        "| task | fault | harm, nats a row | advice taken | then, beside the healthy (upper bound; margin) | mended |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for c in (c for c in found["cells"] if c["faulty"]):
        after = "–" if c["difference"] is None else f"{c['difference']:+.3f} ({c['upper']:+.3f}; {c['margin']:.3f})"
        lines.append(f"| {c['task']} | {c['fault']} | {c['harm']:.3g} | {c.get('words') or 'none helped'} | {after} "
                     f"| {'yes' if c['mended'] else 'no'} |")  # fmt: skip
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables renewed."""
    for make in (overhead, bench, faults, patients, cure):
        begin, end = f"<!-- {make.__name__} -->", f"<!-- /{make.__name__} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{make()}\n{end}{after}"
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(make() for make in (overhead, bench, faults, patients, cure)))


if __name__ == "__main__":
    main()
