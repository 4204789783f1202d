"""What a person sees while a fit runs: a live line in a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastavnik.runs import Clock, Progress, Watcher

if TYPE_CHECKING:
    from nastavnik.jobs import Checkup


_WIDEST = 48  # characters of a cell in a table


@contextmanager
def make_watcher(quiet: bool) -> Iterator[Watcher]:
    """The watcher that suits stderr."""
    if quiet:
        yield Watcher()
    elif sys.stderr.isatty():
        live = _LiveWatcher()
        try:
            yield live
        finally:
            live.end()
    else:
        yield _PlainWatcher()


class _PlainWatcher(Watcher):
    """A line for each stage and note, with the seconds so far."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._last = ""

    def begin(self, clock: Clock) -> None:
        self.clock = clock

    def doing(self, what: str) -> None:
        if what != self._last:
            self._last = what
            self._print(what)

    def note(self, text: str) -> None:
        self._print(text)

    def progress(self, progress: Progress) -> None:
        self._print(in_words(progress))

    def _print(self, text: str) -> None:
        print(f"{self.clock.elapsed:6.1f} s  {text}", file=sys.stderr, flush=True)


class _LiveWatcher(Watcher):
    """One live block: time left, networks alive and dropped, the best so far, and what is being done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.clock = Clock()
        self._doing, self._progress = "starting", Progress()
        self._console = Console(stderr=True)
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def begin(self, clock: Clock) -> None:
        self.clock = clock

    def doing(self, what: str) -> None:
        self._doing = what

    def note(self, text: str) -> None:
        self._console.print(text, style="dim", highlight=False)

    def progress(self, progress: Progress) -> None:
        self._progress = progress

    def end(self) -> None:
        self._live.stop()

    def _render(self) -> Any:
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        grid.add_row("now", self._doing + ("  (ending, as you asked)" if self.clock.stop_requested else ""))
        grid.add_row("networks", in_words(self._progress))
        if self.clock.budget is None:
            grid.add_row("time", f"{self.clock.elapsed:.0f} s so far")
        else:
            bar = ProgressBar(total=self.clock.budget, completed=min(self.clock.elapsed, self.clock.budget), width=40)
            grid.add_row("time left", f"{max(0.0, self.clock.left):.0f} s")
            grid.add_row("", bar)
        return Panel(grid, title="nastavnik fit", subtitle="Ctrl-C: finish with the best so far", width=90)


def in_words(progress: Progress) -> str:
    """Counts and the best score."""
    best = "" if math.isinf(progress.best) else f", best validation loss {progress.best:.4f} nats"
    if progress.interval is not None:
        best += f" (95 % interval {progress.interval[0]:.4f} to {progress.interval[1]:.4f})"
    return f"{progress.trained} trained, {progress.alive} alive, {progress.dropped} dropped{best}"


def summary(result: dict[str, Any], folder: Path) -> str:
    """The last lines a person reads: how good, against what, and where to look."""
    from nastavnik.metrics import headline
    from nastavnik.report import (
        baseline_words,
        best_baseline,
        blended,
        by_target,
        hardly_trained,
        not_done,
        of_one_fold,
    )

    head = headline(result["validation"])
    lines = []
    for part in ("validation", "test"):
        if result[part]:
            first = f"{head} {interval(result[part][head])}, " if head != "nll" else ""
            lines.append(f"{part:>10}: {first}nll {interval(result[part]['nll'])}")
    for one in by_target(result):
        part = "test" if one["test"] else "validation"
        shared = f"; learning them together: {one['sharing']}" if "gain_of_sharing" in one else ""
        lines.append(f"{'target':>10}: {one['name']}, {part}: {one['head']} {interval(one['score'])}{shared}")
    trained = " ".join(filter(None, (hardly_trained(result), of_one_fold(result))))
    if trained:
        lines.append(f"{'but':>10}: {trained}")
    if blended(result):
        lines.append(f"{'blend':>10}: {blended(result)}")
    best = best_baseline(result)
    if best is not None:
        name, record, standing = best
        value = record["test"][head]["value"]
        lines.append(f"{'baseline':>10}: the best is {baseline_words(name, record)}, {head} {value:.4f} ({standing})")
    if not_done(result):
        lines.append(f"{'baseline':>10}: {not_done(result)}")
    found = result["optimism"]
    name = head if head in found else "nll"
    if found and found["delivered"] and found["candidates"] > 1:
        score = {"value": found[name]["corrected"], "low": found[name]["low"], "high": found[name]["high"]}
        lucky = f"without what the best of {found['candidates']} owes to luck"
        lines.append(f"{'corrected':>10}: {name} {interval(score)} {lucky}")
    if result["front"]:
        names = ", ".join(result["search"]["objectives"])
        lines.append(f"{'front':>10}: {len(result['front'])} candidates that none beats in {names}")
    if result["search"]["rejected"]:
        lines.append(f"{'limits':>10}: {result['search']['rejected']} recipes were beyond them and not trained")
    cost = result["cost"]
    lines.append(
        f"{'cost':>10}: {cost['networks']} networks in {cost['seconds']:.0f} s, "
        f"{cost['wasted_seconds']:.0f} s of it on networks that were dropped"
    )
    if (folder / "report.html").exists():
        lines.append(f"{'report':>10}: {folder / 'report.html'}")
    lines.append(f"{'predict':>10}: nastavnik predict {folder} TABLE --out predictions.csv")
    return "\n".join(lines)


def interval(score: dict[str, float | None]) -> str:
    """A value with its interval; a dash for what these rows do not define, and that they are too few to bound it."""
    value, low, high = (None if v is None else f"{v:.4f}" for v in (score["value"], score["low"], score["high"]))
    return f"{value or '–'} ({'interval unknown' if low is None or high is None else f'{low} to {high}'})"


def comparison(found: Mapping[str, Any]) -> str:
    """A table of criteria: which network each would choose, what it cost, and whether the test score agrees."""
    lines = [f"{'criterion':20} {'network':>7} {'seconds':>8}  rank correlation with the test score"]
    for record in found["criteria"]:
        chosen = "-" if record["chooses"] is None else str(record["chooses"])
        interval = ""
        if record.get("correlation") is not None:
            interval = f"{record['correlation']:+.2f} ({record['low']:+.2f} to {record['high']:+.2f}): "
        lines.append(f"{record['criterion']:20} {chosen:>7} {record['seconds']:8.2f}  {interval}{record['says']}")
    lines.append("")
    count, times = len(found["networks"]), found["test_touches"]
    touched = f"{times} time{'s' * (times != 1)}"
    lines.append(f"{count} network{'s' * (count != 1)}; the test rows have been touched {touched}")
    return "\n".join(lines)


def tried(found: dict[str, Any], run: Path) -> str:
    """What was trained with its mean score and cost, the differences, and where the page is."""
    from nastavnik.report import tryout

    lines = [f"{'nats a row':>10} {'steps':>6} {'parameters':>10}  choice"]
    for arm in (found["arm"], *found["rivals"]):
        mean = "–" if arm["mean"] is None else f"{arm['mean']:.4f}"
        besides = f" ({arm['diverged']} of {found['pairs']} diverged)" if arm["diverged"] else ""
        lines.append(f"{mean:>10} {arm['steps']:5.2f}x {arm['parameters']:10,}  {arm['words']}{besides}")
    return "\n".join([*lines, *tryout(found), f"page: {run / 'try.html'}"])


def checkup(found: Checkup) -> str:
    """Findings in words, what was wrong with other networks, and advice against advice."""
    from nastavnik.mentor import in_words as findings_in_words
    from nastavnik.mentor import stage as stage_of

    about = "" if found.network is None else f"network {found.network}: "
    seen = found.findings or found.network is not None or found.history.facts.get("steps")
    lines = [about + findings_in_words(found.findings, found.known) if seen else "nothing was looked at"]
    lines += [f"the mentor's own fault: {fault}" for fault in found.faults]
    stage = stage_of(found.history)
    if stage is not None:
        lately = f" (the last doubling of the steps brought {stage.lately:.0%} of the fall of the training rows' loss)"
        of_it = lately if stage.name != "start" else " (the training rows' loss has hardly fallen)"
        lines.append(f"stage, as a hypothesis: {stage.name} since step {stage.since}{of_it}")
    if found.known:
        lines.append(f"known by the baseline: {', '.join(sorted(found.known))}")
    if found.together:
        best, t = " and ".join(found.together["best"]) or "leave it as it is", found.together
        lines.append(f"together: {best}: {t['effect']:+.4g} nats a row ({t['low']:+.4g} to {t['high']:+.4g})")
    for other in found.others:
        causes = "; ".join(cause["title"] for cause in other["causes"]) or "nothing is found to be wrong"
        lines.append(f"network {other['network']} ({other['status']}): {causes}")
    return "\n".join(lines)


def run_table(runs: list[dict[str, Any]], place: Path) -> str:
    """A line for each run, the latest last."""
    if not runs:
        return f"there is no run in {place}"
    known = ("run", "started", "status", "target", "family")
    head = (*known, "test score (95 % interval)", "baseline", "networks", "time")
    rows = [head, *map(_run_cells, runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *(r["problem"] for r in runs if r["problem"])])


def _run_cells(run: dict[str, Any]) -> tuple[str, ...]:
    started = (run["started"] or "")[:16].replace("T", " ")
    score = "" if run["score"] is None else f"{run['score']} {interval(run)}" + " validation" * (run["part"] != "test")
    best = "" if run["best_baseline"] is None else f"{run['best_baseline']:.4f}"
    cost = ("", "") if run["networks"] is None else (str(run["networks"]), f"{run['seconds']:.0f} s")
    told = (started, run["status"], run["target"] or "", run["family"] or "", score, best, *cost)
    return (run["run"], *(word if len(word) <= _WIDEST else word[: _WIDEST - 1] + "…" for word in told))
