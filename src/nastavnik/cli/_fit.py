"""``nastavnik fit``: its options, each a row of a table that fills one field of a request, and the command."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nastavnik.cli._streams import print_json
from nastavnik.errors import UserError
from nastavnik.recipe import parse_settings
from nastavnik.runs import FitRequest, parse_budget, parse_limits, parse_memory, parse_pairs

if TYPE_CHECKING:
    from nastavnik.runs import Clock, RunFolder

_LONGEST = 60  # characters of a folder that is named after its table


@dataclass(frozen=True)
class Option:
    """An option of ``fit``: the request's field that it fills, what it is told as, and how that is read.

    Without ``read`` the word is the field's value. ``names``: as it is called where that is not the field's name. Its
    default is the field's.
    """

    field: str
    kind: Any
    help: str
    names: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None

    @property
    def told(self) -> Any:
        """What typer takes for the default: a list of words is none."""
        own = FitRequest.__dataclass_fields__[self.field]
        return None if self.read is not None or own.default is MISSING else own.default

    def value(self, told: Any) -> Any:
        """The field's value."""
        return told if self.read is None else self.read(told)


def _listed(told: list[str] | None) -> tuple[str, ...]:
    return tuple(told or ())


def _divided(told: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in told.split(",")) if told else ()


def _space_text(path: Path | None) -> str | None:
    """A space's text, read and checked."""
    if path is None:
        return None
    from nastavnik.space import parse_space, read_space_text

    text = read_space_text(path)
    parse_space(text, str(path))
    return text


OPTIONS = (
    Option("target", str | None, "The column to be predicted; several with commas between are learned together."),
    Option("budget", str | None, "A span of time: 40s, 2m, 1h. 2m by default.", read=parse_budget),
    Option("networks", int | None, "How many networks to train; makes the result repeatable byte by byte."),
    Option("seed", int, "Decides everything random, the split included."),
    Option(
        "families", str | None, "Families of networks to search, with commas between; all by default.",
        ("--family",), _divided,
    ),
    Option("criterion", str, "What networks are chosen by: validation, evidence or description_length."),
    Option(
        "space", Path | None, "A space in TOML, in place of the families' own; see docs/search.md.",
        read=_space_text,
    ),
    Option("sampler", str, "How recipes are drawn: tpe, random, grid, genetic …; see 'nastavnik list samplers'."),
    Option("halving", str, "How brackets are thinned out: halving, hyperband or none."),
    Option("forecasts", bool, "Stop networks that are forecast to miss the best one."),
    Option(
        "pareto", str | None, "Criteria of a front, with commas: nll, error, parameters, seconds, evidence.",
        (), _divided,
    ),
    Option(
        "limits", list[str] | None, "What a recipe may take: parameters=10000, seconds=5, megabytes=100",
        ("--limit",), lambda told: parse_limits(_listed(told)),
    ),
    Option("repeats", int, "Trainings of each candidate, on other folds or seeds."),
    Option("stop", str, "gain: end when nothing that rows can show is to be gained; budget; or auto."),
    Option("ladder", str, "Look for a first signal on a small part of hard data: on, off, or auto."),
    Option("advice", float, "Share of the budget for a check of the result, its advice tried; see 'check'."),
    Option("deliver", str, "One network (single), several (ensemble), with boosted trees (blend), or best."),
    Option("device", str, "cpu, cuda or mps."),
    Option("threads", int | None, "Processor threads; all by default."),
    Option(
        "settings", list[str] | None, "Pin a part of the recipe: optimizer.learning_rate=0.1",
        ("--set",), lambda told: parse_settings(told or ()),
    ),
    Option("engine", str, "How networks run: auto, sequential, batched or compiled (needs a C compiler)."),
    Option("checkpoint", float, "Seconds between two savings of the state."),
    Option(
        "task", str | None,
        "labels, grades, classification, regression, count or votes, or price=count,…; found by default.",
    ),
    Option(
        "kinds", list[str] | None, "A column's kind: zipcode=category",
        ("--kind",), lambda told: parse_pairs("--kind", _listed(told)),
    ),
    Option("drop", list[str] | None, "A column to leave out.", read=_listed),
    Option("group", str | None, "Rows of one value of this column stay in one part."),
    Option("time", str | None, "Split by this column: the latest rows are the test part."),
    Option("split", str | None, "A column that says train, validation or test.", ("--split-column",)),
    Option(
        "folds", int | None, "Folds of cross-validation; 0 for a hold-out. 5 under 2,000 rows by default."
    ),
    Option("test", float, "The test part's share."),
    Option("class_weights", str, "none, or balanced: rare classes weigh more in training."),
    Option("delimiter", str | None, "Between the fields of a text table; found by default."),
    Option("encoding", str | None, "Of a text table; found by default."),
    Option("decimal", str | None, "The decimal mark, . or , ; found by default."),
    Option("header", bool | None, "Whether the first row names the columns; found.", ("--header/--no-header",)),
    Option(
        "date_formats", list[str] | None, "How dates are written, of all columns or one: day=%d/%m/%Y",
        ("--date-format",), _listed,
    ),
    Option("missing", list[str] | None, "What stands for a missing cell, in all columns or one: age=999", (), _listed),
    Option("weights", str | None, "A column of numbers: how much each row counts, in training and scores."),
    Option(
        "target_weights", list[str] | None, "What one of several targets counts in training: price=2. 1 by default.",
        ("--target-weight",), lambda told: parse_limits(_listed(told), "--target-weight", "price=2"),
    ),
    Option("fill", bool, "Predict the rows that have no target, into filled.csv in the run's folder.", ("--fill",)),
    Option("picture_size", int | None, "The most pixels of a side that pictures are brought to; 64 by default."),
    Option(
        "memory", str | None, "Pictures and arrays beyond this size lie in a file: 2GB. No limit by default.",
        (), parse_memory,
    ),
)  # fmt: skip


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the table's options between its own: what typer reads is the signature."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    rows = [
        inspect.Parameter(
            option.field, inspect.Parameter.KEYWORD_ONLY, default=option.told,
            annotation=Annotated[option.kind, typer.Option(*option.names, help=option.help)],
        )
        for option in OPTIONS
    ]  # fmt: skip
    first = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    parameters = [*first, *rows, *own[len(first) :]]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return command


@_with_options
def fit(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="A table (text, Parquet, Excel, JSON …, packed or not), an IDX folder, or digits, iris, wine …"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<source>-<n> by default.")] = None,
    *,
    show_space: Annotated[bool, typer.Option("--show-space", help="Print the tree of choices; train nothing.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    **told: Any,
) -> None:
    """Train a population of networks on a table, choose one, test it once, and write a report."""
    from nastavnik.runs import Clock, RunFolder, lasting_source

    clock: Clock = context.obj or Clock()
    if resume is not None:
        _refuse_beside_resume(context)
        limits = {"budget": parse_budget(told["budget"]), "networks": told["networks"]}
        _resume(resume, clock, limits, as_json=as_json, quiet=quiet)
        return
    if source is None:
        raise UserError("name a table to fit, such as: nastavnik fit houses.csv --target price")
    request = FitRequest(source=lasting_source(source), **{o.field: o.value(told[o.field]) for o in OPTIONS})
    if show_space:
        from nastavnik.jobs import show_space as run_show_space

        print(run_show_space(request))
        return
    clock.budget = request.budget_or_default
    clock.refuse_too_short()
    stem = Path(source).resolve().stem[:_LONGEST] or "run"
    folder = RunFolder.create(out, request.to_json(), force=force, name=stem)
    _run(request, folder, clock, as_json=as_json, quiet=quiet)


def _resume(place: Path, clock: Clock, limits: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Go on with a run; a finished one is shown, unless more was asked for."""
    from nastavnik.runs import RunFolder
    from nastavnik.schemas import RESULT

    folder = RunFolder.resume(place)
    if folder.status == "finished" and all(v is None for v in limits.values()):
        folder.read("result.json", RESULT)  # shown only if it is as it was written
        if not quiet:
            print(f"{place} is finished; give --budget or --networks to go on", file=sys.stderr)
        _show(place, as_json)
        return
    request = FitRequest.from_json(folder.record["asked"]).extended(**limits)
    clock.budget = request.budget_or_default
    clock.refuse_too_short()
    folder.claim()
    _run(request, folder, clock, as_json=as_json, quiet=quiet)


def _refuse_beside_resume(context: typer.Context) -> None:
    """A resumed run goes on with what was asked: any other option would be ignored, so it is refused."""
    allowed = {"resume", "budget", "networks", "as_json", "quiet"}
    sources = {name: context.get_parameter_source(name) for name in context.params}
    called = {own.name: own.opts[0] for own in context.command.params}
    told = [n for n, s in sources.items() if s is not None and s.name == "COMMANDLINE" and n not in allowed]
    if told:
        raise UserError(
            "--resume goes on with what was asked; only --budget or --networks may be given beside it, "
            f"not {called[told[0]]}"
        )


def _run(request: FitRequest, folder: RunFolder, clock: Clock, *, as_json: bool, quiet: bool) -> None:
    """The fit itself, watched; everything heavy is imported here."""
    from nastavnik.cli._display import make_watcher, summary
    from nastavnik.jobs import fit_request

    with make_watcher(quiet) as watcher:
        run = fit_request(request, folder, clock=clock, watcher=watcher)
    assert run.folder is not None
    if not quiet:
        print(summary(run.result, run.folder), file=sys.stderr)
    _show(run.folder, as_json)


def _show(folder: Path, as_json: bool) -> None:
    """result.json on stdout, as it stands."""
    if as_json:
        print_json((folder / "result.json").read_text(encoding="utf-8"))
