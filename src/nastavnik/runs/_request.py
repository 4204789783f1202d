"""What is asked of a fit, checked before anything heavy is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from nastavnik.arguments import fitted_fields
from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Value

CRITERIA = ("validation", "evidence", "description_length")
DELIVERIES = ("best", "single", "ensemble", "blend")
CLASS_WEIGHTS = ("none", "balanced")
ENGINES = ("auto", "sequential", "batched", "compiled")
# the names of selection's tables, here so that a wrong word is told before anything heavy is imported
SAMPLERS = ("tpe", "random", "grid", "quasi_random", "hill_climbing", "annealing", "genetic", "cma_es", "nsga2")
HALVINGS = ("halving", "hyperband", "none")
OBJECTIVES = ("nll", "error", "parameters", "seconds", "evidence")
STOPS = ("auto", "gain", "budget")
LADDERS = ("auto", "on", "off")
DEFAULT_BUDGET = 120.0
_MOST_REPEATS = 100
_LARGEST_PICTURE = 1024  # pixels of a side
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How a table is read and split: see ``nastavnik fit --help``.

    ``test`` is the test part's share, 0 for none. ``folds`` is None for the default: 5 under 2,000 rows, else a
    hold-out; 0 forces a hold-out. ``repeats`` trains each candidate so many times: on folds divided anew, or from
    other seeds. ``picture_size`` is the most pixels of a side that pictures are brought to; None for 64.
    """

    target: str | None = None
    task: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    split: str | None = None
    folds: int | None = None
    repeats: int = 1
    test: float = 0.1
    class_weights: str = "none"
    seed: int = 0
    networks: int | None = None
    decimal: str | None = None
    date_formats: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    weights: str | None = None
    target_weights: Mapping[str, float] = field(default_factory=dict)
    picture_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class FitRequest(DatasetOptions):
    """One fit, in plain values; what ``run.json`` keeps under ``asked``.

    ``budget`` is in seconds, ``networks`` in trained networks (folds and final networks counted); without either
    the budget is two minutes. ``settings`` pins parts of the recipe by dotted name. ``engine`` is the way to run
    networks, ``checkpoint`` the seconds between two savings.

    ``space`` is the text of a space in TOML; ``limits`` what a recipe may take; ``pareto`` the criteria of a front;
    ``stop`` says whether the search may end before its budget, ``ladder`` whether it first looks for any signal.
    ``memory`` is how many bytes of pictures and arrays are kept in memory; beyond it they lie in a file.
    ``advice`` is the share of a budget of time that the mentor may spend on a check and on trying its advice; 0 for no
    check.
    """

    source: str | None = None
    budget: float | None = None
    families: tuple[str, ...] = ()
    criterion: str = "validation"
    deliver: str = "single"
    device: str = "cpu"
    threads: int | None = None
    engine: str = "auto"
    checkpoint: float = 30.0
    space: str | None = None
    sampler: str = "tpe"
    halving: str = "halving"
    forecasts: bool = True
    pareto: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    stop: str = "auto"
    ladder: str = "auto"
    advice: float = 0.0
    settings: Mapping[str, Value] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    fill: bool = False
    memory: int | None = None

    def __post_init__(self) -> None:
        fitted_fields(self, _option)
        for name in ("budget", "checkpoint", "advice", "test", "memory"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UserError(f"--{name} must be a finite number, but got {value}")
        _member("--criterion", self.criterion, CRITERIA)
        _member("--deliver", self.deliver, DELIVERIES)
        _member("--class-weights", self.class_weights, CLASS_WEIGHTS)
        _member("--engine", self.engine, ENGINES)
        _member("--sampler", self.sampler, SAMPLERS)
        _member("--halving", self.halving, HALVINGS)
        _member("--stop", self.stop, STOPS)
        _member("--ladder", self.ladder, LADDERS)
        self._check_pareto()
        if self.criterion != "validation" and self.deliver != "single":
            raise UserError(f"--criterion {self.criterion} chooses one network; an ensemble is built by validation")
        if self.criterion != "validation" and self.class_weights != "none":
            raise UserError(
                f"--criterion {self.criterion} needs a loss that is a density's negative log; leave --class-weights out"
            )
        if not self.checkpoint > 0:
            raise UserError(f"--checkpoint must be a positive number of seconds, but got {self.checkpoint}")
        for name, least in (("networks", 1), ("threads", 1), ("seed", 0), ("repeats", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} must be a whole number of at least {least}, but got {value!r}")
        if self.memory is not None and self.memory < 0:
            raise UserError(f"--memory must be 0 or more, but got {self.memory:g}")
        if not 0 <= self.advice <= 0.9:
            raise UserError(f"--advice must be a share from 0 to 0.9, but got {self.advice}")
        if self.picture_size is not None and not 2 <= self.picture_size <= _LARGEST_PICTURE:
            raise UserError(f"--picture-size must be from 2 to {_LARGEST_PICTURE} pixels, but got {self.picture_size}")
        if self.repeats > _MOST_REPEATS:
            raise UserError(f"--repeats must be at most {_MOST_REPEATS}, but got {self.repeats}")
        if self.decimal not in (None, ".", ","):
            raise UserError(f"--decimal must be . or , but got {self.decimal!r}")
        if self.folds is not None and (self.folds < 0 or self.folds == 1):
            raise UserError(f"--folds must be 0 (a hold-out) or at least 2, but got {self.folds}")
        if self.folds and self.time is not None:
            raise UserError("--folds would mix earlier and later rows; with --time a hold-out is used")
        if self.seed >= 2**31:
            raise UserError(f"--seed must be less than 2147483648, but got {self.seed}")
        if not 0 <= self.test <= 0.9:
            raise UserError(f"--test must be a share from 0 to 0.9, but got {self.test}")
        if sum(x is not None for x in (self.group, self.time, self.split)) > 1:
            raise UserError("--group, --time and --split-column exclude each other; give one")
        for name, share in self.target_weights.items():
            if not (math.isfinite(share) and share > 0):
                raise UserError(f"--target-weight {name} must be a positive number, but got {share:g}")
        self._check_columns()

    def _check_columns(self) -> None:
        """No column has two roles."""
        roles = {"--group": self.group, "--time": self.time, "--split-column": self.split, "--weights": self.weights}
        if self.weights is not None and self.criterion != "validation":
            raise UserError(f"--criterion {self.criterion} counts every row as one; --weights goes with validation")
        if self.weights is not None and self.weights == self.target:
            raise UserError(f"the target {self.target!r} cannot weigh its own rows; name another column with --weights")
        for option, name in roles.items():
            if name is not None and name in self.drop:
                raise UserError(f"{option} and --drop name the same column {name!r}; leave one of the two out")
        unused = {"--drop": self.drop, "--split-column": (self.split,), "--group": (self.group,)}
        for option, names in unused.items():
            for name in names:
                if name in self.kinds:
                    raise UserError(f"--kind says what {name!r} holds, but {option} takes it from the inputs; give one")
        if self.target is not None:
            check_target((self.target,), self.drop, self.group, self.split)

    def _check_pareto(self) -> None:
        for name in self.pareto:
            _member("--pareto", name, OBJECTIVES)
        if len(self.pareto) == 1 or len(set(self.pareto)) < len(self.pareto):
            raise UserError(f"--pareto needs at least two different criteria, but got {','.join(self.pareto)}")
        if self.sampler == "nsga2" and not self.pareto:
            raise UserError("--sampler nsga2 seeks a front; name its criteria: --pareto nll,parameters")
        if self.pareto and self.sampler not in ("tpe", "nsga2", "random", "grid", "quasi_random", "genetic"):
            raise UserError(f"--sampler {self.sampler} follows one criterion only; with --pareto take nsga2 or tpe")
        if "evidence" in self.pareto and self.class_weights != "none":
            raise UserError(
                "--pareto evidence needs a loss that is a density's negative log; leave --class-weights out"
            )
        if self.pareto and self.criterion != "validation":
            raise UserError("--pareto and --criterion exclude each other; evidence may be one of the front's criteria")

    @property
    def ends_on_gain(self) -> bool:
        """Whether the search may end before its budget: by default under a budget of time, for a single network."""
        own = self.networks is None and self.deliver == "single"
        return self.stop == "gain" or (self.stop == "auto" and own)

    @property
    def budget_or_default(self) -> float | None:
        """The budget in seconds; two minutes when neither budget nor networks is given."""
        return DEFAULT_BUDGET if self.budget is None and self.networks is None else self.budget

    def extended(self, *, budget: float | None, networks: int | None) -> FitRequest:
        """The same request with new limits; one limit given alone takes the place of both."""
        if budget is None and networks is None:
            return self
        return replace(self, budget=budget, networks=networks)

    def settled(self, *, folds: int | None = None, likelihood: str | None = None) -> FitRequest:
        """The same request with what was left to a default now decided: a resumed run keeps it."""
        settings = self.settings if likelihood is None else {**self.settings, "likelihood.name": likelihood}
        return replace(self, folds=self.folds if folds is None else folds, settings=settings)

    def to_json(self) -> dict[str, Any]:
        """The plain record."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FitRequest:
        """Read what ``to_json`` wrote."""
        known = {f.name for f in fields(cls)}
        tuples = {
            name: tuple(record.get(name, ())) for name in ("families", "drop", "pareto", "date_formats", "missing")
        }
        return cls(**{**{k: v for k, v in record.items() if k in known}, **tuples})


def parse_budget(word: str | float | None) -> float | None:
    """Seconds of ``40``, ``"40s"``, ``"2m"``, ``"1.5h"``.

    Raises:
        UserError: it is no positive span of time.
    """
    if word is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|)\s*", str(word))
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UserError(f"--budget {word!r} is no span of time; write 40s, 2m or 1h")
    return seconds


def parse_memory(word: str | float | None) -> int | None:
    """Bytes of ``500MB``, ``2GB``, ``1.5GiB`` or a plain number.

    Raises:
        UserError: it is no size.
    """
    if word is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(word).lower())
    if not match:
        raise UserError(f"--memory {word!r} is no size; write 500MB or 2GB")
    return round(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))


def parse_pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """``name=value`` texts of an option such as ``--kind``.

    Raises:
        UserError: a text without ``=``.
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise UserError(f"{option} {text!r} is no COLUMN=KIND, such as {option} zipcode=category")
        pairs[name] = value
    return pairs


def parse_numbers(option: str, text: str | None) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        UserError: one is none.
    """
    try:
        return tuple(float(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"{option} must be numbers with commas, such as 0.1,0.5,0.9, but got {text!r}") from error


def parse_limits(texts: tuple[str, ...], option: str = "--limit", such: str = "parameters=10000") -> dict[str, float]:
    """``name=number`` texts of an option.

    Raises:
        UserError: a text without ``=`` or whose right side is no number.
    """
    found = {}
    for text in texts:
        name, equals, word = text.rpartition("=")
        if name.strip() in found:
            raise UserError(f"{option} {name.strip()} is given twice")
        try:
            found[name.strip()] = float(word)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"{option} {text!r} is no NAME=NUMBER, such as {option} {such}")
    return found


def target_names(given: str | Sequence[str], columns: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of one target, or of several with commas between; a column whose name holds commas is one.

    Raises:
        UserError: a name is empty, or given twice.
    """
    if isinstance(given, str):
        names = [given.strip()] if given.strip() in columns or "," not in given else given.split(",")
    else:
        names = list(given)
    found = tuple(str(name).strip() for name in names)
    for i, name in enumerate(found):
        if not name:
            raise UserError(f"--target {given!r} holds an empty name; write the names with one comma between them")
        if name in found[:i]:
            raise UserError(f"--target names {name!r} twice; name each target once")
    if not found:
        raise UserError("which column is to be predicted? Name it with --target")
    return found


def target_words(targets: str | int | Sequence[str]) -> str:
    """One target's name, or several with commas between: what ``target_names`` reads.

    Raises:
        UserError: one of several holds a comma.
    """
    if isinstance(targets, (str, int)):
        return str(targets)
    names = [str(name) for name in targets]
    for name in names:
        if "," in name and len(names) > 1:
            raise UserError(f"the target {name!r} holds a comma, which divides the names of several; rename the column")
    return ",".join(names)


def check_target(targets: Sequence[str], drop: tuple[str, ...], group: str | None, split: str | None) -> None:
    """Refuse targets, named by the caller or by the source, that another option has a use for.

    Rows may well be ordered by their target (``--time``): it is no input.

    Raises:
        UserError: one is dropped, groups rows, or says which part they are in.
    """
    for target in targets:
        used = {"--drop": target in drop, "--group": target == group, "--split-column": target == split}
        for option, also in used.items():
            if also:
                raise UserError(f"the target {target!r} is named by {option} too; leave one of the two out")


def _option(field: str) -> str:
    """What a field is called on the command line."""
    words = {
        "families": "family", "kinds": "kind", "settings": "set", "limits": "limit", "split": "split-column",
        "target_weights": "target-weight",
    }  # fmt: skip
    return f"--{words.get(field, field.replace('_', '-'))}"


def _member(option: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise UserError(f"{option} cannot be {value!r}{nearest(value, options)}")
