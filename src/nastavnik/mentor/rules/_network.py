"""Rules about the network as it was built: known before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from nastavnik.mentor._reading import matrices, since
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _rectify(history: History) -> Iterator[Advice]:
    yield Advice(
        "take a rectifier with the initialization it asks for",
        {"network.activation": "relu", "initialization.name": "matched"},
    )
    yield Advice("or normalize each layer", {"network.normalization": "layer"})
    yield Advice("or fewer layers", {"network.depth": 2})
    yield Advice(
        "or fewer layers of rectifiers",
        {"network.activation": "relu", "initialization.name": "matched", "network.depth": 2},
    )


@rule(
    severity="warning",
    title="Many layers of sigmoids in a row",
    source="Hochreiter 1991; Nielsen 2015 ch. 5",
    usual=60.0,
    advise=_rectify,
    measured=False,
)
def network_paralysis(history: History) -> Iterator[Sign]:
    """Gradients pass through several activations whose slope is never more than a quarter.

    Each such layer makes the gradient of the layers before it at least four times smaller for weights of size 1: the
    first layers stand still (score: the product of 1 / steepest slope of the activations, those with a normalization
    before them left out).
    """
    product, names = 1.0, list[str]()
    for layer in history.facts.get("layers", []):
        if layer["role"] in ("normalization", "batch normalization"):
            product, names = 1.0, []
        elif layer["role"] == "activation" and 0 < layer.get("steepest", 0.0) < 0.5:
            product, names = product / layer["steepest"], [*names, layer["name"]]
    if len(names) > 2:
        yield Sign(product, layer=names[0], evidence={"layers": len(names), "gradient at most": 1 / product})


def _bend(history: History) -> Iterator[Advice]:
    yield Advice("put an activation between the layers", {"network.activation": "relu"})


@rule(
    severity="warning",
    title="Two layers without an activation between them",
    source="Leshno et al. 1993 (universal approximation needs a bend); AutoTrainer, UMLAUT",
    usual=0.5,
    advise=_bend,
    measured=False,
)
def no_nonlinearity(history: History) -> Iterator[Sign]:
    """A layer is given exactly what the layer before it says, or an activation that changes nothing stands between.

    Two linear maps in a row are one linear map: the depth buys nothing. A narrow layer between wider ones, a factored
    matrix, is meant so and is not reported.
    """
    before: dict[str, Any] = {}
    for layer in matrices(history):
        low_rank = bool(before) and before["units"] < min(before["fan_in"], layer["units"])  # a factored matrix
        if layer.get("fed raw") and not low_rank:
            yield Sign(1.0, layer=layer["name"], evidence={"given exactly what is said by": before.get("name", "")})
        before = layer


def _own_optimizer(history: History) -> Iterator[Advice]:
    yield Advice("make the optimizer of this model's parameters(), after the model is built, moved and wrapped")


@rule(
    severity="error",
    title="The optimizer holds none of the model's parameters",
    source="torch-audit TA104; PyTorch's documentation of torch.optim (construct it after moving the model)",
    usual=0.5,
    advise=_own_optimizer,
    measured=False,
)
def foreign_optimizer(history: History) -> Iterator[Sign]:
    """None of the parameters that want a gradient is in one of the optimizer's groups.

    It was made of another model, or of this one before its parameters were replaced; nothing is learned, unless
    another optimizer moves them.
    """
    names = history.facts.get("without optimizer", [])
    if history.facts.get("optimizer holds none") and len(history.facts.get("still", names)) >= len(names):
        yield Sign(1.0, evidence={"parameters held": 0})


def _training_mode(history: History) -> Iterator[Advice]:
    yield Advice("call model.train() before the training steps: after each validation, too")


@rule(
    severity="warning",
    title="Trained in evaluation mode",
    source="PyTorch's documentation of Module.train",
    usual=0.5,
    advise=_training_mode,
    measured=False,
)
def evaluation_mode(history: History) -> Iterator[Sign]:
    """Steps are taken while the model, or a part of it that is trained, is in evaluation mode, and it has dropout or
    batch normalization.

    Nothing is dropped, and batches are normalized by averages that stand still. Mostly model.eval() was called for a
    validation and nothing called it back (score: share of the looks).
    """
    modes, left = history.series("evaluation mode"), history.facts.get("left in evaluation mode", [])
    if left:
        share = len(left) / max(history.facts.get("parts with modes", 1), len(left))
        yield Sign(max(share, 0.5), layer=left[0], evidence={"parts left in evaluation mode": left})
    if len(modes) > 1 and modes.any():
        yield Sign(
            float(modes.mean()),
            steps=since(history, "evaluation mode", 0.5),
            evidence={"share of looks": float(modes.mean())},
        )


def _train_them(history: History) -> Iterator[Advice]:
    facts = history.facts
    if not facts.get("unused") and not facts.get("without optimizer"):
        yield Advice("let requires_grad be true, unless they are meant to stay, as pretrained layers may be")
    if facts.get("unused"):
        yield Advice("see where they leave the way to the loss: an output not used, .detach(), .item(), no_grad()")
    if facts.get("without optimizer"):
        yield Advice("give them to the optimizer")
    if facts.get("unheld"):
        yield Advice("keep layers in nn.ModuleList or nn.ModuleDict, not in a list or dictionary")


@rule(
    severity="warning",
    title="Parameters that do not learn",
    source="SageMaker Debugger's UnchangedTensor; torch-audit TA104, TA500",
    usual=0.5,
    advise=_train_them,
    measured=False,
    causes=("foreign_optimizer",),
)
def frozen_parameters(history: History) -> Iterator[Sign]:
    """A layer's weights are not trained: without gradient, not with the optimizer, without part in the output, or in a
    list that no module knows of.

    The rest of the network has to work with what they hold, what chance put there. Weights without gradient that were
    trained before are meant to stay, and what another optimizer moves is trained: neither is reported.
    """
    for layer in history.facts.get("layers", []):
        if layer["tensors"] and layer["parameters"] and not layer["trained"] and layer.get("fresh", True):
            yield Sign(1.0, layer=layer["name"], evidence={"parameters without gradient": layer["parameters"]})
    for fact, words in (("unused", "has no part in the loss"), ("without optimizer", "is held by no optimizer")):
        names = history.facts.get(fact, [])
        for name in [n for n in names if n in history.facts.get("still", names)]:
            yield Sign(1.0, layer=name, evidence={"it": words})
    for name in history.facts.get("unheld", []):
        yield Sign(1.5, layer=name, evidence={"it": "has a part in the loss, and no module holds it"})


def _reorder(history: History) -> Iterator[Advice]:
    yield Advice("leave dropout out where there is batch normalization", {"network.dropout": 0.0})
    yield Advice("or take layer normalization", {"network.normalization": "layer"})


@rule(
    severity="info",
    title="Batch normalization behind dropout",
    source="Li et al. 2019, Disharmony between dropout and batch normalization",
    usual=0.2,
    advise=_reorder,
    measured=False,
)
def batch_norm_with_dropout(history: History) -> Iterator[Sign]:
    """Dropout stands before batch normalization.

    Dropout makes variances larger in training than in evaluation; batch normalization remembers those of training, and
    divides by them in evaluation (score: the dropout's rate).
    """
    dropped = ""
    for layer in history.facts.get("layers", []):
        if layer["role"] == "dropout" and layer.get("rate", 0.0) > 0:
            dropped = layer["name"]
            rate = layer["rate"]
        elif layer["role"] == "batch normalization" and dropped:
            yield Sign(rate, layer=layer["name"], evidence={"dropout": dropped, "rate": rate})


def _widen(history: History) -> Iterator[Advice]:
    yield Advice("give every hidden layer at least eight units", {"network.width": 32})


@rule(
    severity="warning",
    title="A hidden layer is very narrow",
    source="Nielsen 2015 ch. 3 (too few hidden units); Tishby & Zaslavsky 2015",
    usual=1.3,
    advise=_widen,
    measured=False,
)
def bottleneck(history: History) -> Iterator[Sign]:
    """Everything must pass through a layer of a few units.

    What the target needs to know of the inputs may not fit (score: 4 over its units, where it is narrower than the
    inputs).
    """
    layers = matrices(history)
    for layer, behind in itertools.pairwise(layers):
        beside = behind["fan_in"] % max(layer["units"], 1) or (layer["units"] == 1 and behind["fan_in"] > 1)
        if layer["units"] < layers[0]["fan_in"] and not beside:  # a weight of attention is no way for all
            yield Sign(4 / max(layer["units"], 1), layer=layer["name"], evidence={"units": layer["units"]})


def _less_dropout(history: History) -> Iterator[Advice]:
    yield Advice("halve or quarter the rate", {"network.dropout": 0.2})


@rule(
    severity="warning",
    title="Dropout silences most units",
    source="Srivastava et al. 2014 (0.5 for hidden units); UMLAUT (0.5)",
    usual=0.7,
    advise=_less_dropout,
    measured=False,
)
def dropout_too_strong(history: History) -> Iterator[Sign]:
    """A dropout layer leaves out far more than half of its units.

    What is left in one step is too narrow to learn what the whole could, and the noise of the steps grows as
    rate / (1 − rate).
    """
    for layer in history.facts.get("layers", []):
        if layer["role"] == "dropout":
            yield Sign(layer.get("rate", 0.0), layer=layer["name"], evidence={"rate": layer.get("rate", 0.0)})


RULES = (
    network_paralysis,
    no_nonlinearity,
    foreign_optimizer,
    evaluation_mode,
    frozen_parameters,
    batch_norm_with_dropout,
    bottleneck,
    dropout_too_strong,
)
