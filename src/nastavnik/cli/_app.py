"""The commands and their options; whatever is heavy is imported inside a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nastavnik import __version__
from nastavnik.cli._fit import fit
from nastavnik.cli._streams import print_csv, print_json
from nastavnik.entry import doc_of
from nastavnik.errors import UserError


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
    from nastavnik.runs import parse_numbers

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
    budget: Annotated[str | None, typer.Option(help="A span of time to stay within: 40s, 2m, 1h.")] = None,
    network: Annotated[int | None, typer.Option(help="Another network than the chosen one (networks.csv).")] = None,
    suppress: Annotated[str, typer.Option(help="Rules whose findings are left out, with commas between.")] = "",
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
            budget=budget,
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


def try_settings(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    settings: Annotated[
        str, typer.Argument(help="NAME=VALUE[,NAME=VALUE …], such as optimizer.name=sgd, or a TOML file of them.")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Other settings to hold it against, or another value of the same; several times for more."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Trainings of each, from common seeds.")] = 10,
    network: Annotated[int | None, typer.Option(help="Another network than the chosen one (networks.csv).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print try.json on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a run's recipe with some settings against others, pair by pair, and say which is better."""
    from nastavnik.cli._display import make_watcher, tried
    from nastavnik.jobs import try_settings as run_try

    with make_watcher(quiet) as watcher:
        found = run_try(run, settings, against=against or (), network=network, pairs=pairs, watcher=watcher)
    if as_json:
        print_json((run / "try.json").read_text(encoding="utf-8"))
    else:
        print(tried(found.to_json(), run))


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds them.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print a record for each run.")] = False,
) -> None:
    """Show the runs in a folder: how far they are, how good they came out, and what they cost."""
    import json

    from nastavnik.cli._display import run_table
    from nastavnik.runs import runs_in

    found = runs_in(folder)
    print_json(json.dumps(found, indent=1, ensure_ascii=False) + "\n" if as_json else run_table(found, folder))


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
    "try": try_settings,
    "runs": runs,
    "list": list_vocabulary,
}
