"""The commands and their options; whatever is heavy is imported inside a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nastavnik import __version__
from nastavnik.cli._streams import print_csv, print_json
from nastavnik.entry import doc_of
from nastavnik.errors import UserError

if TYPE_CHECKING:
    from nastavnik.clock import Clock
    from nastavnik.request import FitRequest
    from nastavnik.run_folder import RunFolder

_LONGEST = 60  # characters of a folder that is named after its table
_FAMILY_HELP = "Families of networks to search, with commas between; all by default."


def make_app() -> tuple[Any, type[Exception], type[BaseException]]:
    """The command, and the exceptions by which it says that its words were wrong or that it was broken off."""
    app = typer.Typer(
        help="Trains populations of neural networks and says which one to trust, and why.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, function in _COMMANDS.items():
        app.command(name, help=doc_of(function))(function)
    command = typer.main.get_command(app)
    return command, _usage_error(), typer.Abort


def _usage_error() -> type[Exception]:
    """The base of every complaint about options: typer shows only its leaves."""
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Trains populations of neural networks and says which one to trust, and why."""


def fit(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="A table (text, Parquet, Excel, JSON …, packed or not), an IDX folder, or digits, iris, wine …"
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The column to be predicted; several with commas between are learned together.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<source>-<n> by default.")] = None,
    budget: Annotated[str | None, typer.Option(help="A span of time: 40s, 2m, 1h. 2m by default.")] = None,
    networks: Annotated[
        int | None, typer.Option(help="How many networks to train; makes the result repeatable byte by byte.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random, the split included.")] = 0,
    family: Annotated[str | None, typer.Option(help=_FAMILY_HELP)] = None,
    criterion: Annotated[
        str, typer.Option(help="What networks are chosen by: validation, evidence or description_length.")
    ] = "validation",
    space: Annotated[
        Path | None, typer.Option(help="A space in TOML, in place of the families' own; see docs/search.md.")
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="How recipes are drawn: tpe, random, grid, genetic …; see 'nastavnik list samplers'.")
    ] = "tpe",
    halving: Annotated[str, typer.Option(help="How brackets are thinned out: halving, hyperband or none.")] = "halving",
    forecasts: Annotated[bool, typer.Option(help="Stop networks that are forecast to miss the best one.")] = True,
    pareto: Annotated[
        str | None, typer.Option(help="Criteria of a front, with commas: nll, error, parameters, seconds, evidence.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="What a recipe may take: parameters=10000, seconds=5, megabytes=100")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Trainings of each candidate, on other folds or seeds.")] = 1,
    stop: Annotated[
        str,
        typer.Option(help="gain: end when nothing that rows can show is to be gained; budget; or auto."),
    ] = "auto",
    ladder: Annotated[
        str, typer.Option(help="Look for a first signal on a small part of hard data: on, off, or auto.")
    ] = "auto",
    advice: Annotated[
        float, typer.Option(help="Share of the budget for a check of the result, its advice tried; see 'check'.")
    ] = 0.0,
    show_space: Annotated[bool, typer.Option("--show-space", help="Print the tree of choices; train nothing.")] = False,
    deliver: Annotated[
        str,
        typer.Option(help="One network (single), several (ensemble), with boosted trees (blend), or best."),
    ] = "single",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Processor threads; all by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Pin a part of the recipe: optimizer.learning_rate=0.1")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="How networks run: auto, sequential, batched or compiled (needs a C compiler).")
    ] = "auto",
    checkpoint: Annotated[float, typer.Option(help="Seconds between two savings of the state.")] = 30.0,
    task: Annotated[
        str | None,
        typer.Option(
            help="labels, grades, classification, regression, count or votes, or price=count,…; found by default."
        ),
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="A column's kind: zipcode=category")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out.")] = None,
    group: Annotated[str | None, typer.Option(help="Rows of one value of this column stay in one part.")] = None,
    time: Annotated[str | None, typer.Option(help="Split by this column: the latest rows are the test part.")] = None,
    split_column: Annotated[str | None, typer.Option(help="A column that says train, validation or test.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds of cross-validation; 0 for a hold-out. 5 under 2,000 rows by default.")
    ] = None,
    test: Annotated[float, typer.Option(help="The test part's share.")] = 0.1,
    class_weights: Annotated[
        str, typer.Option(help="none, or balanced: rare classes weigh more in training.")
    ] = "none",
    delimiter: Annotated[str | None, typer.Option(help="Between the fields of a text table; found by default.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text table; found by default.")] = None,
    decimal: Annotated[str | None, typer.Option(help="The decimal mark, . or , ; found by default.")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first row names the columns; found.")
    ] = None,
    date_format: Annotated[
        list[str] | None, typer.Option(help="How dates are written, of all columns or one: day=%d/%m/%Y")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="What stands for a missing cell, in all columns or one: age=999")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A column of numbers: how much each row counts, in training and scores.")
    ] = None,
    target_weight: Annotated[
        list[str] | None, typer.Option(help="What one of several targets counts in training: price=2. 1 by default.")
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Predict the rows that have no target, into filled.csv in the run's folder.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Pictures and arrays beyond this size lie in a file: 2GB. No limit by default.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a population of networks on a table, choose one, test it once, and write a report."""
    from nastavnik.clock import Clock
    from nastavnik.recipe import parse_settings
    from nastavnik.request import FitRequest, parse_budget, parse_limits, parse_memory, parse_pairs
    from nastavnik.run_folder import RunFolder, lasting_source
    from nastavnik.schemas import RESULT

    clock: Clock = context.obj or Clock()
    limits: dict[str, Any] = {"budget": parse_budget(budget), "networks": networks}
    if resume is not None:
        _refuse_beside_resume(context)
        folder = RunFolder.resume(resume)
        if folder.status == "finished" and all(v is None for v in limits.values()):
            folder.read("result.json", RESULT)  # shown only if it is as it was written
            _say(f"{resume} is finished; give --budget or --networks to go on", quiet)
            _show(resume, as_json)
            return
        request = FitRequest.from_json(folder.record["asked"]).extended(**limits)
        clock.budget = request.budget_or_default
        clock.refuse_too_short()
        folder.claim()
    else:
        if source is None:
            raise UserError("name a table to fit, such as: nastavnik fit houses.csv --target price")
        request = FitRequest(
            source=lasting_source(source),
            target=target,
            seed=seed,
            families=tuple(family.split(",")) if family else (),
            criterion=criterion,
            deliver=deliver,
            device=device,
            threads=threads,
            engine=engine,
            checkpoint=checkpoint,
            space=None if space is None else _space_text(space),
            sampler=sampler,
            halving=halving,
            forecasts=forecasts,
            pareto=tuple(word.strip() for word in pareto.split(",")) if pareto else (),
            limits=parse_limits(tuple(limit or ())),
            repeats=repeats,
            stop=stop,
            ladder=ladder,
            advice=advice,
            task=task,
            settings=parse_settings(settings or ()),
            kinds=parse_pairs("--kind", tuple(kind or ())),
            drop=tuple(drop or ()),
            group=group,
            time=time,
            split=split_column,
            folds=folds,
            test=test,
            class_weights=class_weights,
            delimiter=delimiter,
            encoding=encoding,
            decimal=decimal,
            header=header,
            date_formats=tuple(date_format or ()),
            missing=tuple(missing or ()),
            weights=weights,
            target_weights=parse_limits(tuple(target_weight or ()), "--target-weight", "price=2"),
            fill=fill,
            memory=parse_memory(memory),
            **limits,
        )
        if show_space:
            from nastavnik.jobs import show_space as run_show_space

            print(run_show_space(request))
            return
        clock.budget = request.budget_or_default
        clock.refuse_too_short()
        stem = Path(source).resolve().stem[:_LONGEST] or "run"
        folder = RunFolder.create(out, request.to_json(), force=force, name=stem)
    _run(request, folder, clock, quiet)
    assert folder.path is not None
    _show(folder.path, as_json)


def _space_text(path: Path) -> str:
    """A space's text, read and checked."""
    from nastavnik.space import parse_space, read_space_text

    text = read_space_text(path)
    parse_space(text, str(path))
    return text


def _refuse_beside_resume(context: typer.Context) -> None:
    """A resumed run goes on with what was asked: any other option would be ignored, so it is refused."""
    allowed = {"resume", "budget", "networks", "as_json", "quiet"}
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [n for n, s in sources.items() if s is not None and s.name == "COMMANDLINE" and n not in allowed]
    if given:
        raise UserError(
            f"--resume goes on with what was asked; only --budget or --networks may be given beside it, not {given[0]}"
        )


def _run(request: FitRequest, folder: RunFolder, clock: Clock, quiet: bool) -> None:
    """The fit itself, watched; everything heavy is imported here."""
    from nastavnik.cli._display import make_watcher, summary
    from nastavnik.jobs import fit_request

    with make_watcher(quiet) as watcher:
        run = fit_request(request, folder, clock=clock, watcher=watcher)
    if not quiet:
        assert run.folder is not None
        print(summary(run.result, run.folder), file=sys.stderr)


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    source: Annotated[str, typer.Argument(help="A table with the columns the run was trained on.")],
    out: Annotated[Path | None, typer.Option(help="A .csv or .parquet file; stdout by default.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between the fields of a text table; found by default.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text table; found by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file in --out.")] = False,
    passes: Annotated[int, typer.Option(help="Passes with dropout left on, averaged (Monte-Carlo dropout).")] = 0,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first row names the columns; found.")
    ] = None,
    level: Annotated[float, typer.Option(help="The share of the mass between low and high.")] = 0.95,
    quantiles: Annotated[str | None, typer.Option(help="Quantiles beside it, with commas: 0.1,0.5,0.9")] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the table to stand before the predictions: --keep id")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write names that a spreadsheet would run, such as =SUM, as they are.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the predictions as JSON records.")] = False,
) -> None:
    """Predict a table's rows, in its order."""
    from nastavnik.jobs import predict as run_predict
    from nastavnik.request import parse_numbers

    table = run_predict(
        run,
        source,
        out=out,
        force=force,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        passes=passes,
        level=level,
        quantiles=parse_numbers("--quantiles", quantiles),
        keep=tuple(keep or ()),
        raw=raw,
    )
    if as_json:
        print(table.to_json(orient="records", indent=1))
    elif out is None:
        print_csv(table, raw)
    else:
        print(f"{len(table)} predictions in {out}", file=sys.stderr)


def compare(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    criteria: Annotated[str, typer.Option(help="all, or names with commas between; see docs/evidence.md.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Rank a run's networks by every criterion, and say which criterion may be believed here."""
    from nastavnik.cli._display import comparison, make_watcher
    from nastavnik.jobs import compare as run_compare

    with make_watcher(quiet) as watcher:
        found = run_compare(run, criteria=criteria, watcher=watcher)
    if as_json:
        print_json((run / "compare.json").read_text(encoding="utf-8"))
    else:
        print(comparison(found.to_json()))


def check(
    run: Annotated[Path, typer.Argument(help="A finished run's folder, or one that Mentor.save wrote.")],
    try_rule: Annotated[
        str | None,
        typer.Option("--try", help="Try the advice of a rule, with and without, seed by seed; 'all' for every cause."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Trainings with and without a change.")] = 10,
    network: Annotated[int | None, typer.Option(help="Another network than the chosen one (networks.csv).")] = None,
    suppress: Annotated[str, typer.Option(help="Rules that are not asked, with commas between.")] = "",
    baseline: Annotated[Path | None, typer.Option(help="An earlier findings.json; what it holds is known.")] = None,
    fail_level: Annotated[
        str | None, typer.Option(help="Exit with 3 if a finding that is not known is as grave: info, warning, error.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings.json on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Say what is wrong with a training, why, and what to do; try it."""
    from nastavnik.cli._display import checkup, make_watcher

    levels = ("info", "warning", "error")
    if fail_level is not None and fail_level not in levels:
        raise UserError(f"--fail-level must be one of {', '.join(levels)}, but got {fail_level!r}")
    from nastavnik.jobs import check as run_check

    with make_watcher(quiet) as watcher:
        found = run_check(
            run,
            try_rule=try_rule,
            network=network,
            pairs=pairs,
            suppress=suppress.split(","),
            baseline=baseline,
            watcher=watcher,
        )
    if as_json:
        print_json((run / "findings.json").read_text(encoding="utf-8"))
    else:
        print(checkup(found))
    if fail_level is not None and found.reaches(fail_level):
        raise typer.Exit(3)


def list_vocabulary(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="activations, initializers, normalizations, dropouts, likelihoods, losses, optimizers, wrappers, "
            "schedules, regularizers, samplers, families or rules; all but rules by default."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print records; of all kinds, by kind.")] = False,
) -> None:
    """List the vocabulary of training: what a recipe may name, with formulas, defaults and sources."""
    import json

    if kind == "rules":
        from nastavnik.mentor import rule_records

        rules = rule_records()
        text = "\n".join(f"  {r['name']:{27}} {r['severity']:8} {r['purpose']}" for r in rules)
        print(json.dumps(rules, indent=1) if as_json else text)
        return
    from nastavnik.vocabulary import KINDS, option, records

    kinds = list(KINDS) if kind is None else [kind]
    found = {name: records(name) for name in kinds}
    if as_json:
        print(json.dumps(found if kind is None else found[kind], indent=1))
        return
    for name, entries in found.items():
        print(f"{name} ({option(KINDS[name].setting)})")
        width = max(len(entry["name"]) for entry in entries)
        for entry in entries:
            print(f"  {entry['name']:{width}}  {entry['purpose']}")


_COMMANDS: dict[str, Callable[..., None]] = {
    "fit": fit,
    "predict": predict,
    "compare": compare,
    "check": check,
    "list": list_vocabulary,
}


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr)


def _show(folder: Path, as_json: bool) -> None:
    """result.json on stdout, as it stands."""
    if as_json:
        print_json((folder / "result.json").read_text(encoding="utf-8"))
