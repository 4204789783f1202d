"""fit: which network for this data, and how good is it really?"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pandas as pd
from torch import nn

from nastavnik.arguments import checked
from nastavnik.data import Table, read_source, with_weights, write_csv
from nastavnik.dataset import FEWEST_ROWS, Dataset
from nastavnik.errors import InterruptedEarly, UserError
from nastavnik.files import write_atomically, write_json
from nastavnik.jobs._checkpoint import Checkpoints, read_checkpoint, read_trace, restore
from nastavnik.jobs._record import network_table, result_record
from nastavnik.jobs._setup import (
    check_device,
    check_threads,
    dataset_of,
    prepare,
    read_table,
    settle_likelihood,
    use_threads,
)
from nastavnik.jobs._surroundings import a_job
from nastavnik.jobs._time import (
    BASELINE_SHARE,
    CLOSING_SECONDS,
    MOST_FINAL,
    REPORT_SECONDS,
    calm,
    refuse_too_short,
    reserved,
)
from nastavnik.model import Model
from nastavnik.nets import Factory, Family
from nastavnik.recipe import Value
from nastavnik.rooms import limited
from nastavnik.runs import (
    Clock,
    Deadline,
    FitRequest,
    RunFolder,
    Watcher,
    lasting_source,
    parse_budget,
    parse_memory,
    target_words,
)
from nastavnik.schemas import RESULT
from nastavnik.selection import (
    BaselineProcess,
    Delivery,
    Search,
    Strategy,
    Workbench,
    climb,
    deliver,
    families_for,
    has_signal,
    networks_for_sharing,
)
from nastavnik.space import Space, read_space_text, space_in_toml


@dataclass(frozen=True)
class Run:
    """A finished fit: ``result`` (DESIGN's ``result.json``), ``model``, ``trace`` (tidy), ``networks`` (a row each).

    ``filled`` are the predictions of the rows that had no target, where that was asked for.
    """

    model: Model
    result: dict[str, Any]
    trace: pd.DataFrame
    networks: pd.DataFrame
    dataset: Dataset
    folder: Path | None
    filled: pd.DataFrame | None = None


@checked(but=("source", "y", "sample_weight", "family", "space"))
@a_job()
def fit(
    source: Any = None,
    y: Any = None,
    *,
    sample_weight: Any = None,
    target: str | int | Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    budget: float | str | None = None,
    networks: int | None = None,
    family: str | list[str] | Callable[[int, int], nn.Module] | Family | None = None,
    force: bool = False,
    watcher: Watcher | None = None,
    settings: Mapping[str, Value] | None = None,
    space: str | Path | Space | None = None,
    **options: Any,
) -> Run:
    """Train a population of networks on a table, choose among them, and say how good the choice is.

    Args:
        source: a DataFrame, a path, a folder of IDX files, the name of a built-in set, or an array of inputs.
        y: the target's values where ``source`` is an array or a frame of inputs.
        sample_weight: how much each row counts, in training and scores, where no column of the table says it.
        target: the column to be predicted, or several that are learned together.
        out: the run's folder; without it nothing is written.
        resume: a run's folder to go on with; ``source`` is then needed only if it was no file.
        budget: a span of time (``"5m"``, seconds), counted from this call.
        networks: how many networks to train; makes the result repeatable byte by byte.
        family: names of families, or your own ``make(inputs, outputs) -> nn.Module`` (to be given again on resume).
        force: replace an earlier run in ``out``.
        watcher: hears what the fit does.
        settings: parts of the recipe that are given and not searched, by dotted name.
        space: a ``nastavnik.space.Space`` or a TOML file, in place of what the families have under the same names.
        **options: the other fields of ``FitRequest``, as on the command line.

    Returns:
        The finished run.

    Raises:
        UserError: anything the caller can mend, in one sentence; nothing is left half written.

    Example:
        >>> run = nastavnik.fit(frame, target="price", networks=32)  # doctest: +SKIP
        >>> run.model.predict(frame)  # doctest: +SKIP
    """
    if sample_weight is not None:
        if "weights" in options:
            raise UserError("sample_weight and weights both say what rows weigh; give one")
        reading = {name: options.get(name) for name in ("delimiter", "encoding", "header")}
        source, name = with_weights(read_source(source, **reading, y=y), sample_weight)
        y, options = None, options if resume is not None else {**options, "weights": name}
    asked: dict[str, Any] = {**options, "budget": parse_budget(budget), "networks": networks}
    if "memory" in options:
        asked["memory"] = parse_memory(options["memory"])
    if resume is not None:
        if target is not None or options or settings or out is not None or space is not None:
            raise UserError("resume goes on with what was asked; only budget and networks may be given beside it")
        folder = RunFolder.resume(resume)
        folder.claim()
        request = FitRequest.from_json(folder.record["asked"]).extended(budget=parse_budget(budget), networks=networks)
    else:
        names, own = families_of(family)
        asked["space"] = _space_text(space)
        known = set(FitRequest.__dataclass_fields__)
        for name in asked:
            if name not in known:
                raise TypeError(f"fit() got an unexpected keyword argument {name!r}")
        path = lasting_source(source) if isinstance(source, (str, Path)) else None
        wanted = None if target is None else target_words(target)
        request = FitRequest(**asked, source=path, target=wanted, families=names, settings=dict(settings or {}))
        folder = RunFolder.create(out, request.to_json(), force=force)
        return fit_request(request, folder, source=source, y=y, family=own, watcher=watcher)
    _, own = families_of(family)
    return fit_request(request, folder, source=source, y=y, family=own, watcher=watcher)


def _space_text(space: str | Path | Space | None) -> str | None:
    """A space as the request keeps it."""
    if isinstance(space, Space):
        return space_in_toml(space)
    if not isinstance(space, (str, Path, NoneType)):
        raise UserError(f"space must be a nastavnik.space.Space or a TOML file, but got {type(space).__name__}")
    return None if space is None else read_space_text(space)


@a_job()
def fit_request(
    request: FitRequest,
    folder: RunFolder,
    *,
    source: Any = None,
    y: Any = None,
    family: Family | None = None,
    watcher: Watcher | None = None,
    clock: Clock | None = None,
    extras: bool = True,
    fewest_rows: int = FEWEST_ROWS,
) -> Run:
    """The job itself: read, split, try baselines, search, choose, test once, deliver.

    ``extras=False`` leaves out baselines, importance and report (the estimators do).
    """
    clock, watcher = clock or Clock(), watcher or Watcher()
    if request.advice and (folder.path is None or request.source is None):
        folder.abandon()
        raise UserError(
            "--advice trains again from a run's folder: give out, and a source that can be read again, a file"
        )
    try:
        with limited(request.memory):
            run = _fit(request, folder, source, y, family, watcher, clock, extras, fewest_rows)
    finally:
        folder.release()
    if request.advice and run.folder is not None and folder.status == "finished":
        from nastavnik.jobs._check import ALL, check  # brings all rules

        check(run.folder, try_rule=ALL, family=family, watcher=watcher, clock=clock)
    return run


def _fit(
    request: FitRequest,
    folder: RunFolder,
    source: Any,
    y: Any,
    family: Family | None,
    watcher: Watcher,
    clock: Clock,
    extras: bool,
    fewest_rows: int,
) -> Run:
    clock.budget = request.budget_or_default
    watcher.begin(clock)
    threads = max(1, (request.threads or os.cpu_count() or 1) // 2)
    here = clock.budget is None and "sklearn.ensemble" in sys.modules  # a process would only import it once more
    with BaselineProcess(threads, here=here) if extras else nullcontext() as beside:
        return _fit_beside(request, folder, source, y, family, watcher, clock, beside, fewest_rows)


def _fit_beside(
    request: FitRequest,
    folder: RunFolder,
    source: Any,
    y: Any,
    family: Family | None,
    watcher: Watcher,
    clock: Clock,
    beside: BaselineProcess | None,
    fewest_rows: int,
) -> Run:
    """The fit, with baselines in a process beside it; without one there are no extras."""
    try:
        check_device(request.device)
        check_threads(request.threads)
        watcher.doing("reading the table")
        table = read_table(request, folder, source, y)
        dataset = dataset_of(table, request, fewest_rows=fewest_rows)
        families = [family] if family is not None else families_for(request.families, dataset.columns)
        request = settle_likelihood(dataset, families, request, clock)
        bench, space, strategy = prepare(dataset, families, request)
        refuse_too_short(clock, dataset, bench, space)
        folder.touches()  # says at once if result.json cannot be believed
        origin, kept = table.origin, table if request.fill else None
        del table  # pictures are held once, as the dataset's
    except BaseException:  # also a Ctrl-C: the place is left as it was found
        folder.abandon()
        raise
    threads = use_threads(request, folder)
    request = request.settled(
        folds=len(dataset.split.folds or ()) // dataset.split.repeats
    )  # a resumed run keeps them, whatever its budget
    folder.write(asked=request.to_json(), source=origin, threads=threads, status="running")
    folder.write_json("dataset.json", dataset.to_json())
    for note in [f"{dataset.task.name}: {dataset.task.kind} ({dataset.task.why})", *dataset.notes]:
        watcher.note(note)
    with _interruptible(clock), folder.kept_once_measured():
        _give(beside, dataset, request, clock)
        search = _search(dataset, bench, space, strategy, request, folder, clock, watcher)
        watcher.doing("choosing and testing")
        finish = Deadline(clock, reserved(clock, dataset, request))
        baselines = beside.collect(finish.passed) if beside is not None else []
        delivery = deliver(
            search,
            dataset,
            request,
            baselines,
            touch=folder.touch,
            expired=lambda: clock.left < (REPORT_SECONDS + CLOSING_SECONDS) * clock.slowness,
            deadline=None if clock.budget is None else finish,
        )
    from nastavnik.report import hardly_trained, of_one_fold  # takes a while

    result = result_record(delivery, search, request)
    for sentence in (hardly_trained(result), of_one_fold(result)):
        if sentence:
            watcher.note(sentence)
    reported = beside is not None and clock.left > REPORT_SECONDS * clock.slowness
    if beside is not None and not reported and folder.path is not None:
        watcher.note("no time was left for the report")
    way = {"asked": request.engine, "chosen_by": "measurement" if request.networks is None else "fixed rule"}
    with folder.publish(
        status="interrupted" if clock.stop_requested else "finished",
        way={**way, "networks": dict(search.ways)},
        timings={"seconds": search.seconds, "peak_megabytes": _peak_megabytes()},
    ) as stage:
        _write(stage, delivery, search, result, dataset, folder.record if reported else None)
        filled = None if kept is None else _filled(delivery.model, kept, dataset)
        if filled is not None and stage is not None:
            write_atomically(stage / "filled.csv", lambda part: write_csv(filled, part))
    networks = network_table(search, delivery)
    return Run(delivery.model, result, search.trace.frame(), networks, dataset, folder.path, filled)


def _filled(model: Model, table: Table, dataset: Dataset) -> pd.DataFrame:
    """The rows without a target: their number in the table, from 1, and what is predicted for them."""
    frame = table.frame.iloc[dataset.unlabelled]
    predicted = model.predict(frame) if len(frame) else pd.DataFrame({"prediction": []})
    return predicted.reset_index(drop=True).assign(row=dataset.unlabelled + 1)[["row", *predicted.columns]]


def _give(beside: BaselineProcess | None, dataset: Dataset, request: FitRequest, clock: Clock) -> None:
    """Set the baselines to work."""
    if beside is None:
        return
    rows = dataset.split.development if dataset.split.folds else dataset.split.train
    seconds = float("inf") if clock.budget is None else BASELINE_SHARE * clock.budget
    held = [] if request.deliver in ("single", "ensemble") else [own for _, own in dataset.split.parts]
    beside.give(
        dataset.columns,
        dataset.task,
        rows,
        dataset.split.test,
        seed=request.seed,
        seconds=min(seconds, clock.left),
        held=held[: len(held) // dataset.split.repeats],
    )


def _search(
    dataset: Dataset,
    bench: Workbench,
    space: Space,
    strategy: Strategy,
    request: FitRequest,
    folder: RunFolder,
    clock: Clock,
    watcher: Watcher,
) -> Search:
    """Search until the budget is used, from the last checkpoint where there is one."""
    checkpoint = read_checkpoint(folder) if not folder.replaces else None
    search = Search(
        bench,
        space,
        seed=request.seed,
        deadline=Deadline(clock, reserved(clock, dataset, request)),
        networks=None if request.networks is None else _search_networks(request, bench),
        trace=read_trace(folder, checkpoint),
        watcher=watcher,
        engine=request.engine,
        strategy=strategy,
    )
    if checkpoint is not None:
        restore(search, folder, checkpoint)

    if request.ladder == "on" and checkpoint is None:
        climb(search, watcher)
    with Checkpoints(search, folder, request.checkpoint) as checkpoints:
        looked = bool(search.ladder) or not search.simple_so_far

        def reserve() -> None:
            """What the finish takes, as this machine is now."""
            if clock.budget is not None:
                final = search.final_seconds() if _finals(request) else 0.0
                final = min(final + search.alone_seconds(), MOST_FINAL * clock.budget)
                search.deadline.reserve = reserved(clock, dataset, request) + final
                calm(clock, request)

        def after_bracket() -> None:
            nonlocal looked
            reserve()
            if request.ladder == "auto" and not looked and not (search.simple_so_far and clock.budget is not None):
                looked = True
                if not has_signal(search):
                    watcher.note("nothing beats a constant yet: looking for a first signal on a part of the data")
                    climb(search, watcher)
            checkpoints.save()

        def pause() -> None:
            reserve()
            checkpoints.when_due()

        search.run(after_bracket, pause)
        checkpoints.wait()
    if not search.ranking:
        _leave_unscored(search, folder)
        raise InterruptedEarly(_nothing_scored(search, clock, folder))
    return search


def families_of(family: Any) -> tuple[tuple[str, ...], Family | None]:
    """Names, or the user's own factory as a family."""
    if family is None:
        return (), None
    if isinstance(family, str):
        return tuple(family.split(",")), None
    if isinstance(family, (list, tuple)):
        return tuple(family), None
    if hasattr(family, "build") and hasattr(family, "space"):
        return (), family
    if callable(family):
        return (), Factory(family)
    raise UserError(f"family must be a name or a module factory, but got {family!r}")


def _peak_megabytes() -> float | None:
    """The largest memory this process ever held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _finals(request: FitRequest) -> int:
    """Networks that are trained anew after cross-validation: a single one; of several those of the folds are taken."""
    return 1 if request.deliver in ("single", "best") else 0


def _search_networks(request: FitRequest, bench: Workbench) -> int:
    """Networks left for the search when the final training, after folds, takes its own."""
    assert request.networks is not None
    final = 0 if bench.split.folds is None else _finals(request)
    final += networks_for_sharing(bench.task.target, bench.folds, request.networks)
    return max(bench.folds, request.networks - final)


def _leave_unscored(search: Search, folder: RunFolder) -> None:
    """What is left of a fit without a score: if it diverged, what ``check`` needs to name the cause."""
    if not _diverged(search):
        folder.write(status="interrupted")
        return
    with folder.publish(status="failed") as stage:
        if stage is not None:
            search.trace.append(search.trace.take(), stage / "trace")
            table = network_table(search, None)
            write_atomically(stage / "networks.csv", lambda part: table.to_csv(part, index=False))


def _diverged(search: Search) -> bool:
    return any(c.status == "diverged" for c in search.history)  # others were cut before they could


def _nothing_scored(search: Search, clock: Clock, folder: RunFolder) -> str:
    if _diverged(search):
        cause = f"'nastavnik check {folder.path}' looks for the cause, and a new fit may take its place; " * bool(
            folder.path
        )
        return (
            f"none of {len(search.history)} recipes reached a finite loss; {cause}look at the audit in dataset.json, "
            "or try --set optimizer.learning_rate=0.001"
        )
    again = f"; go on with 'nastavnik fit --resume {folder.path} --budget 5m'" if folder.path else ""
    if folder.replaces:
        again = f"; the run in {folder.path} was left as it is"
    why = "interrupted" if clock.stop_requested else "out of time"
    return f"{why} before the first network was scored{again}"


def _write(
    stage: Path | None,
    delivery: Delivery,
    search: Search,
    result: dict[str, Any],
    dataset: Dataset,
    run: dict[str, Any] | None,
) -> None:
    """All files of a delivery; with ``run``, what run.json says, also the report."""
    if stage is None:
        return
    from nastavnik.report import model_card, write_report

    search.trace.append(search.trace.take(), stage / "trace")
    table = network_table(search, delivery)
    write_atomically(stage / "networks.csv", lambda part: write_csv(table, part))
    delivery.model.save(stage / "model", model_card(result, delivery, dataset))
    if run is not None:
        write_report(stage / "report.html", result, delivery, search, dataset, run)
    write_json(stage / "result.json", result, RESULT)


@contextmanager
def _interruptible(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C asks for a clean end, the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if clock.stop_requested:
            raise KeyboardInterrupt
        clock.stop_requested = True

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
