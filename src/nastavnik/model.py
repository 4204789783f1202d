"""Model: the chosen network or networks with the data preparation, ready to predict anywhere."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from nastavnik.arguments import checked
from nastavnik.boosted import Boosted
from nastavnik.data import Columns, Inputs, Preparation, TargetPreparation, as_frame, plain_frame
from nastavnik.errors import UserError
from nastavnik.files import file_hash, read_json, read_tensors, settle, together, write_json, write_tensors, write_text
from nastavnik.kinds import ColumnInfo, to_columns
from nastavnik.metrics import LEVEL
from nastavnik.nets import FAMILIES, Family, Signature, initialize, monte_carlo
from nastavnik.population import Learner
from nastavnik.predictive import Predictive, mixture
from nastavnik.recipe import Recipe
from nastavnik.rooms import rows_at_once
from nastavnik.schemas import MODEL
from nastavnik.targets import Target, target_of
from nastavnik.training.likelihoods import TEMPERATURES
from nastavnik.training.losses import TrainingLoss

_OF_ROWS = ("examples", "entries", "answers", "_bins")  # of a signature: what training needs, or is kept elsewhere


class DataWarning(UserWarning):
    """Something odd in the rows to be predicted that does not stop the prediction."""


@dataclass(frozen=True)
class Member:
    """One network of a model: weights, the recipe it came from, and the temperature of its distribution.

    ``votes`` is how often a greedy ensemble picked it: its weight among the members. ``fold`` numbers the rows that it
    was trained on, which inputs and target are prepared by.
    """

    learner: Learner
    recipe: Recipe
    temperature: float = 1.0
    votes: int = 1
    fold: int = 0

    def at(self, temperature: float) -> Member:
        """The same network at another temperature."""
        other = replace(self, temperature=temperature)
        other.__dict__["judge"] = self.judge  # what is cached of it holds for the other
        return other

    @functools.cached_property
    def judge(self) -> Learner:
        """The network on the CPU in evaluation mode, in the numbers it is asked in."""
        return _judged(self.learner)


@dataclass(frozen=True)
class Fold:
    """How inputs and target are prepared by the training rows of one fold."""

    preparation: Preparation
    target: TargetPreparation


@dataclass(frozen=True, repr=False)
class Model:
    """Networks that predict together, each weighted by its votes; a blend holds boosted trees with votes beside them.

    Networks of several folds each have their own preparation: the first fold's is the model's, ``others`` are the rest.
    ``task`` is what is predicted; ``columns`` describes the input columns of a raw table.
    Predictions are computed in float64, so that a row's prediction does not depend on its neighbours; those of
    convolutions in float32, in which they are much faster.
    """

    task: Target
    columns: tuple[ColumnInfo, ...]
    preparation: Preparation
    target: TargetPreparation
    signature: Signature
    members: tuple[Member, ...]
    boosted: tuple[tuple[Boosted, int], ...] = ()
    network_votes: int = 1  # of all networks together, beside those of boosted trees
    others: tuple[Fold, ...] = ()

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The preparations of all folds."""
        return (Fold(self.preparation, self.target), *self.others)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, empty where the target is no class."""
        return self.task.classes

    def __repr__(self) -> str:
        """Four lines: what it predicts, from what, by which networks, and how to use it."""
        kinds = Counter(info.kind for info in self.columns)
        what = f"{len(self.classes)} classes" if self.classes else "values"
        lines = [
            f"Model: {self.task.kind} of {self.task.name!r} ({what})",
            f"inputs: {len(self.columns)} columns ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})",
            f"networks: {len(self.members)}, {self.members[0].recipe.in_words()[:100]}",
            "use: model.predict(rows), a frame, records, a Series or an Arrow table; model.save(folder)",
        ]
        return "\n".join(lines)

    @checked(but=("rows",))
    def predict(
        self, rows: Any, passes: int = 0, *, level: float = LEVEL, quantiles: Sequence[float] = ()
    ) -> pd.DataFrame:
        """One row of predictions for each row of a raw table, in its order.

        Classes: ``prediction`` and ``p_<class>``; of grades also ``expected``, the mean. Numbers: ``prediction``,
        ``low``, ``high``. Of several targets each has its own: ``<target>.prediction`` and so on.

        Args:
            rows: a frame, a dictionary (of one row's cells, or of columns), a list of them, a Series, an Arrow table,
                or what speaks Arrow (polars).
            passes: average so many passes of each network with its dropout left on (Monte-Carlo dropout).
            level: the share of the mass that lies between ``low`` and ``high``.
            quantiles: shares q, each of which becomes a column ``q<share>``: the value below which a share q lies.

        Raises:
            UserError: a column is not there, most of its cells are not of its kind, or the target has no quantiles.
        """
        _check_shares(level, quantiles)
        frame = as_frame(rows)
        columns = self.read(frame)
        # a mixture holds every member's distribution of every row: in pieces, but where draws follow the rows' places
        size = len(columns) if passes else _AT_ONCE
        starts = range(0, max(1, len(columns)), max(1, size))
        pieces = (columns.take(np.arange(start, min(start + size, len(columns)))) for start in starts)
        tables = [
            pd.DataFrame(self.task.table(self.predictive(piece, passes), level, quantiles))
            for piece in (pieces if len(starts) > 1 else [columns])
        ]
        table = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)
        table.index = frame.index
        return _finite(table)

    def read(self, frame: pd.DataFrame) -> Columns:
        """A raw table's input columns, in the model's order; what is odd about the cells is warned of."""
        preparation = self.preparation
        columns = to_columns(plain_frame(frame, in_haste=True), self.columns)
        columns = columns.ordered(preparation.number_names, preparation.names.word_names, preparation.bags.bag_names)
        for lost in columns.lost:
            warnings.warn(str(lost), DataWarning, stacklevel=3)
        for name, (count, row) in preparation.beyond(columns).items():
            place = columns.number_names.index(name)
            text = (
                f"{name}: {count} rows lie far outside the training range ({preparation.lowest[place]:g} to "
                f"{preparation.highest[place]:g}; first: row {row + 1}, {columns.numbers[row, place]:g}); what is said "
                "of them is a guess"
            )
            warnings.warn(text, DataWarning, stacklevel=3)
        for name, count in preparation.unseen(columns).items():
            warnings.warn(f"{name}: {count} rows hold a category that training never saw", DataWarning, stacklevel=3)
        missing = np.isnan(columns.numbers).any(0)
        for j in np.flatnonzero(missing):
            if j not in preparation.indicators:
                text = f"{columns.number_names[j]}: missing cells, though training had none; its centre is taken"
                warnings.warn(text, DataWarning, stacklevel=3)
        return columns

    def predictive(self, columns: Columns, passes: int = 0) -> Predictive:
        """The mixture of the members' distributions; see ``predict`` for ``passes``."""
        inputs = [fold.preparation.apply(columns) for fold in self.folds]
        targets = [fold.target for fold in self.folds]
        each = [(member_predictive(m, inputs[m.fold], targets[m.fold], passes), m.votes) for m in self.members]
        networks = mixture([own for own, _ in each], [votes for _, votes in each])
        if not self.boosted:
            return networks
        trees = [(boosted.beside(networks, columns), votes) for boosted, votes in self.boosted]
        both = [pair for pair in [(networks, self.network_votes), *trees] if pair[1]]
        return mixture([own for own, _ in both], [votes for _, votes in both])

    def save(self, folder: str | Path, card: str | None = None) -> None:
        """Write ``model.safetensors``, ``model.json`` and ``card.md``; nothing is pickled."""
        record, tensors = self.preparation.to_record()
        tensors = {f"preparation.{name}": t for name, t in tensors.items()}
        for i, member in enumerate(self.members):
            state = member.learner.state_dict()
            tensors |= {f"members.{i}.{name}": t.detach().cpu().contiguous() for name, t in state.items()}
        signature = {k: v for k, v in self.signature.__dict__.items() if k not in _OF_ROWS}
        members = [
            {"recipe": m.recipe.to_json(), "temperature": m.temperature, "votes": m.votes, "fold": m.fold}
            for m in self.members
        ]
        content: dict[str, Any] = {
            "task": self.task.to_json(),
            "columns": [info.to_json() for info in self.columns],
            "preparation": record,
            "target": self.target.to_json(),
            "signature": signature,
            "members": members,
        }
        if self.boosted:
            content |= {"boosted": [], "network_votes": self.network_votes}
        if self.others:
            content["others"] = []
        for i, fold in enumerate(self.others):
            own, arrays = fold.preparation.to_record()
            content["others"].append({"preparation": own, "target": fold.target.to_json()})
            tensors |= {f"others.{i}.{name}": t for name, t in arrays.items()}
        for i, (boosted, votes) in enumerate(self.boosted):
            own, arrays = boosted.to_record()
            content["boosted"].append({**own, "votes": votes})
            tensors |= {f"boosted.{i}.{name}": t for name, t in arrays.items()}
        with together(Path(folder)) as stage:
            write_tensors(stage / "model.safetensors", tensors)
            named = {"tensors_sha256": file_hash(stage / "model.safetensors"), **content}
            write_json(stage / "model.json", named, MODEL)
            if card is not None:
                write_text(stage / "card.md", card)

    @classmethod
    @checked(but=("family",))
    def load(cls, folder: str | Path, *, family: Family | None = None) -> Model:
        """Load from a run's folder or its ``model`` folder.

        Args:
            folder: where ``fit`` wrote the run.
            family: needed when the networks came from a module factory of your own: ``Factory(make)``.

        Raises:
            UserError: there is no finished model, or its family is not known here.
        """
        folder = Path(folder)
        for place in (folder.parent if folder.name == "model" else folder, folder, folder / "model"):
            settle(place)
        inner = folder / "model"
        folder = inner if (inner / "model.json").exists() else folder
        if not (folder / "model.json").exists():
            raise UserError(f"there is no model in {folder}; give the folder of a finished run")
        record = read_json(folder / "model.json", MODEL)
        tensors = _tensors(folder / "model.safetensors", record)
        raw = record["signature"]
        prepared = {n.removeprefix("preparation."): t for n, t in tensors.items() if n.startswith("preparation.")}
        preparation = Preparation.from_record(record["preparation"], prepared)
        signature = Signature(
            raw["numbers"],
            tuple(raw["cardinalities"]),
            raw["outputs"],
            tuple(raw["distinct"]),
            bags=tuple((start, stop) for start, stop in raw["bags"]),
            entries=preparation.entries,
        )
        members, task = [], target_of(record["task"])
        for i, entry in enumerate(record["members"]):
            recipe = Recipe.from_json(entry["recipe"])
            start = f"members.{i}."
            state = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            learner = _rebuild(recipe, signature, task, family, state)
            _check_weights(state, learner.state_dict(), start, folder)
            learner.load_state_dict(state)
            members.append(Member(learner.eval(), recipe, entry["temperature"], entry["votes"], entry.get("fold", 0)))
        return cls(
            task,
            tuple(ColumnInfo.from_json(c) for c in record["columns"]),
            preparation,
            TargetPreparation.from_json(record["target"]),
            signature,
            tuple(members),
            tuple(_boosted_of(record, tensors)),
            record.get("network_votes", 1),
            tuple(_others_of(record, tensors)),
        )


def _boosted_of(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[Boosted, int]]:
    for i, own in enumerate(record.get("boosted", [])):
        start = f"boosted.{i}."
        yield (
            Boosted.from_record(own, {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}),
            own["votes"],
        )


def _others_of(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Iterator[Fold]:
    for i, own in enumerate(record.get("others", [])):
        start = f"others.{i}."
        arrays = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        yield Fold(Preparation.from_record(own["preparation"], arrays), TargetPreparation.from_json(own["target"]))


def _tensors(path: Path, record: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A model's tensors, held against its record: none is missing, left over, or holds what is no number."""
    tensors = read_tensors(path, record["tensors_sha256"])
    counts = {name: len(record.get(name, [])) for name in ("members", "boosted", "others")}
    for name, tensor in tensors.items():
        start, _, rest = name.partition(".")
        place = rest.partition(".")[0]
        if start != "preparation" and place not in map(str, range(counts.get(start, 0))):
            raise UserError(f"{path} is damaged: nothing in model.json has the tensor {name}")
        bad = ~torch.isfinite(tensor) if start == "members" else torch.isnan(tensor)
        if bad.any():  # a preparation's scale is infinite for a column that never varied
            raise UserError(f"{path} is damaged: {int(bad.sum())} numbers of {name} are not finite; fit again")
    _check_preparation(path, tensors, record["preparation"])
    return tensors


def _check_preparation(path: Path, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
    """Refuse numbers of a preparation that are not as many as its columns, names and words."""
    columns, names, bags = len(record["number_names"]), record["names"], record["bags"]
    sizes = [len(levels) + 1 for levels in names["levels"]]
    tokens = sum(len(v) for v in bags["vocabularies"])
    wanted = {
        "centre": columns, "scale": columns, "lowest": columns, "highest": columns, "quantiles": None,
        "level_counts": sum(sizes[j] for j in names["counted"]),
        "level_means": sum(sizes[j] for j in names["averaged"]),
        "bag_centre": tokens, "bag_weight": tokens, "bag_length": len(bags["bag_names"]),
    }  # fmt: skip
    for name, length in wanted.items():
        tensor = tensors.get(f"preparation.{name}")
        if tensor is None or not tensor.ndim or (length is not None and len(tensor) != length):
            raise UserError(f"{path} is damaged: preparation.{name} does not belong to {columns} columns")


def _check_weights(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], start: str, folder: Path
) -> None:
    """Refuse weights that are not exactly those of the network that the record describes."""
    for name in sorted({*state, *own}):
        found, wanted = state.get(name), own.get(name)
        if found is None or wanted is None:
            what = "is missing" if found is None else "is none of its network's"
            raise UserError(f"{folder / 'model.safetensors'} is damaged: {start}{name} {what}")
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise UserError(
                f"{folder / 'model.safetensors'} is damaged: {start}{name} must be {wanted.dtype} "
                f"{list(wanted.shape)}, not {found.dtype} {list(found.shape)}"
            )


def _check_shares(level: float, quantiles: Sequence[float]) -> None:
    for name, share in (("level", level), *(("quantiles", q) for q in quantiles)):
        if not 0 < share < 1:
            raise UserError(f"{name} must lie between 0 and 1, but got {share:g}")


def _finite(table: pd.DataFrame) -> pd.DataFrame:
    """Predictions with empty cells instead of infinities; no cell is left empty without a word."""
    numbers = table.select_dtypes("number")
    wrong = pd.DataFrame(~np.isfinite(numbers.to_numpy(dtype=np.float64)), index=table.index, columns=numbers.columns)
    rows = np.flatnonzero(wrong.to_numpy().any(1))
    if len(rows):
        text = (
            f"{len(rows)} rows have no finite prediction (first: row {rows[0] + 1}) and are left empty: their inputs "
            "lie far outside what training saw"
        )
        warnings.warn(text, DataWarning, stacklevel=3)
    return table.mask(wrong.reindex(columns=table.columns, fill_value=False)) if len(rows) else table


def build_network(recipe: Recipe, signature: Signature, family: Family | None = None) -> nn.Module:
    """The recipe's network, by its family's name in the table or by the family given."""
    name = str(recipe["network.family"])
    if family is None or family.name != name:
        if name not in FAMILIES:
            raise UserError(
                f"the networks came from the family {name!r}, which is not ours; "
                "give it: Model.load(…, family=Factory(make))"
            )
        family = FAMILIES[name]
    network = family.build(recipe.section("network"), signature)
    initialization = recipe.section("initialization")
    if initialization and signature.examples is not None:  # without examples, weights are loaded anyway
        initialize(network, initialization, signature.examples)
    return network


def _rebuild(
    recipe: Recipe, signature: Signature, task: Target, family: Family | None, state: Mapping[str, torch.Tensor]
) -> Learner:
    def build() -> tuple[nn.Module, ...]:
        likelihood = task.likelihood(recipe)
        loss = task.loss(recipe, likelihood)
        for name, module in loss.named_modules(prefix="loss"):
            if isinstance(module, TrainingLoss) and f"{name}.weights" in state:
                module.weights = torch.zeros_like(state[f"{name}.weights"])
        return build_network(recipe, signature, family), likelihood, loss

    return Learner.seeded(int(recipe.get("seed", 0)), build)


def member_predictive(member: Member, inputs: Inputs, target: TargetPreparation, passes: int = 0) -> Predictive:
    """One network's distribution for prepared rows, computed in float64 on the CPU.

    With ``passes``, the mixture of so many passes with dropout left on (Gal & Ghahramani 2016).
    """
    learner = copy.deepcopy(member.judge) if passes else member.judge
    with monte_carlo(learner) if passes else nullcontext(), torch.no_grad():
        each = [_described(learner, member.temperature, inputs) for _ in range(max(1, passes))]
    return mixture([learner.likelihood.predictive(described, target) for described in each])


def _described(learner: Learner, temperature: float, inputs: Inputs) -> dict[str, np.ndarray]:
    outputs = (learner(*_as_asked(learner, few)) for few in _few_at_once(inputs))
    pieces = [learner.likelihood.describe(some, temperature) for some in outputs]
    return {name: torch.cat([p[name] for p in pieces]).double().numpy() for name in pieces[0]}


def _in_pieces(learner: Learner, inputs: Inputs) -> torch.Tensor:
    """Outputs of all rows, so many at a time that what lies between fits into memory."""
    return torch.cat([learner(*_as_asked(learner, few)) for few in _few_at_once(inputs)]).double()


def _few_at_once(inputs: Inputs) -> Iterator[Inputs]:
    size = rows_at_once(sum(t[:1].nbytes for t in inputs.held))
    for start in range(0, max(len(inputs), 1), size):
        yield inputs.take(slice(start, start + size))


def _judged(learner: Learner) -> Learner:
    copied = copy.deepcopy(learner).cpu().eval()
    return copied if any(isinstance(m, nn.modules.conv._ConvNd) for m in copied.modules()) else copied.double()


def _as_asked(learner: Learner, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """Inputs in the precision of a network that ``_judged`` gave."""
    dtype = next(learner.parameters()).dtype
    return inputs.double().tensors if dtype == torch.float64 else inputs.tensors


_AT_ONCE = 2**15  # rows that are predicted at a time
_USUAL = 0.5  # deviation of a temperature's logarithm


def calibrate(
    learners: Sequence[Learner],
    inputs: Sequence[Inputs],
    targets: Sequence[torch.Tensor],
    weights: np.ndarray | None = None,
) -> float:
    """One temperature for these networks, each with its own held-out rows; 1 where it does not help.

    The temperature helps when the rows' negative log likelihood falls by more than one standard error of the paired
    differences (notes: calibration must not be paid for with noise). Its logarithm has a normal prior of deviation 0.5:
    a few rows that are all classified right are no reason to be certain. ``weights`` are of all rows, one after the
    other.
    """
    own = 1.0 if weights is None else torch.from_numpy(weights / weights.mean())
    with torch.no_grad():
        doubles = [_judged(learner) if learner.training else learner for learner in learners]
        outputs = [_in_pieces(m, i) for m, i in zip(doubles, inputs, strict=True)]
        right = [t.double() if t.is_floating_point() else t for t in targets]
        sets = list(zip([m.double() for m in doubles], outputs, right, strict=True))

        def losses(temperature: float) -> torch.Tensor:
            return torch.cat([m.likelihood.neg_log_likelihood(o, t, temperature) for m, o, t in sets]) * own

        def loss(temperature: float) -> float:
            each = losses(temperature)
            return float(each.mean()) + math.log(temperature) ** 2 / (2 * _USUAL**2 * len(each))

        coarse = min(TEMPERATURES, key=loss)
        best = min((coarse * 2.0 ** (i / 30) for i in range(-10, 11)), key=loss)
        gain = losses(1.0) - losses(best)
    error = float(gain.std() / max(len(gain), 1) ** 0.5) if len(gain) > 1 else float("inf")
    return best if float(gain.mean()) > error else 1.0
