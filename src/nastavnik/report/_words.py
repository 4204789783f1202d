"""Sentences that report and card share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nastavnik.metrics import best_of as best_of_values
from nastavnik.metrics import headline as headline_of
from nastavnik.targets import in_digits

_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1 over all labels",
    "exact": "rows with every label right",
    "distance": "distance of shares",
    "balanced_accuracy": "balanced accuracy",
    "nll": "negative log likelihood (nats per row)",
    "ece": "calibration error",
    "r2": "R²",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "coverage": "coverage of the 95 % intervals",
}


def metric_name(name: str) -> str:
    """A metric's name for people."""
    return _NAMES.get(name, name)


def figure(value: float | None) -> str:
    """A number in four significant digits, large ones with separators."""
    return "–" if value is None else in_digits(value)


def axis_name(name: str) -> str:
    """A metric's name beside an axis."""
    return {"nll": "negative log likelihood", "f1": "F1"}.get(name, metric_name(name))


def headline(result: dict[str, Any]) -> str:
    """The metric of the task that is shown first."""
    return headline_of(result["validation"])


def by_target(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of several targets each one's record with its name, its headline metric, and what sharing gained in words."""
    found = []
    for name, record in result.get("targets", {}).items():
        scored = record["test"] or record["validation"]
        if scored:
            own = {"name": name, "head": headline_of(scored), "score": scored[headline_of(scored)]}
            found.append({**record, **own, "sharing": _sharing(record.get("gain_of_sharing"))})
    return found


def _sharing(gain: dict[str, float | None] | None) -> str:
    if gain is None:
        return "not compared"
    value, low, high = gain["value"], gain["low"], gain["high"]
    if value is None or low is None or high is None:
        return "too few rows to tell"
    if low <= 0 <= high:
        return f"no difference these rows can show ({figure(low)} to {figure(high)} nats a row)"
    return f"{'gained' if value > 0 else 'cost'} {figure(abs(value))} nats a row ({figure(low)} to {figure(high)})"


def verdict(result: dict[str, Any]) -> str:
    """How good the choice is, in one sentence, and that it is hardly trained where it is."""
    part = "test" if result["test"] else "validation"
    touched = "rows that nothing was chosen on" if part == "test" else "validation rows, which also chose it"
    scored = [(f"{one['name']}: ", one["head"], one["score"]) for one in by_target(result)]
    scored = scored or [("", headline(result), result[part][headline(result)])]
    words = [
        f"{name}{metric_name(head).capitalize()} {figure(score['value'])} (95 % interval {ends(score)})"
        for name, head, score in scored
    ]
    said = f"{', '.join(words)} on {touched}."
    return " ".join(filter(None, (said, hardly_trained(result), of_one_fold(result))))


def ends(score: Mapping[str, float | None]) -> str:
    """From where to where a score's interval goes; "unknown" where the rows are too few to say."""
    known = score["low"] is not None and score["high"] is not None
    return f"{figure(score['low'])} to {figure(score['high'])}" if known else "unknown"


def hardly_trained(result: dict[str, Any]) -> str:
    """That the budget ended long before the delivered network was trained, in one sentence; else nothing."""
    training = result["chosen"]["training"]
    if not training["hardly_trained"]:
        return ""
    return (
        f"Hardly trained: the budget was enough for {training['steps']} of the {training['usual_steps']} steps that "
        "are usual for such a network; give the fit more time."
    )


def blended(result: dict[str, Any]) -> str:
    """What is in a delivered blend, and what that gained over the networks alone; else nothing."""
    chosen, found = result["chosen"], result.get("comparison", {}).get("blend")
    if chosen.get("deliver") != "blend" and chosen.get("asked") == "blend":
        return "A blend was asked for, but there are no boosted trees that could join: networks are delivered alone."
    if chosen.get("deliver") != "blend" or found is None:
        return ""
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in found["shares"].items() if share)
    gain = found["nll_gain"]
    told = f"{figure(gain['value'])} nats a row ({figure(gain['low'])} to {figure(gain['high'])})"
    return f"Delivered is a blend: {shares}; held-out rows gain {told} over the networks alone."


def of_one_fold(result: dict[str, Any]) -> str:
    """That there was no time for a final training, in one sentence; else nothing."""
    if not result["chosen"]["training"]["first_fold"]:
        return ""
    return "No time was left for a final training on all rows: the network of the first fold is delivered."


def best_baseline(result: dict[str, Any]) -> tuple[str, dict[str, Any], str] | None:
    """The baseline of the highest headline score, its record, and how it stands to us; None where none is scored.

    The standing, one for the screen, the report and the card, is by the paired differences on the test rows: "ahead of
    us", "behind", or "no difference that these rows can show".
    """
    head = headline(result)
    if not result["test"] or result["test"][head]["value"] is None:
        return None
    return best_of(result["baselines"], head)


def best_of(baselines: dict[str, dict[str, Any]], head: str) -> tuple[str, dict[str, Any], str] | None:
    """The best of these by a metric; see ``best_baseline``."""
    tested = {name: b for name, b in baselines.items() if "test" in b}
    name = best_of_values(head, {name: b["test"][head]["value"] for name, b in tested.items()})
    if name is None:
        return None
    ahead = tested[name]["ahead"]
    if None in ahead.values() or ahead["low"] <= 0 <= ahead["high"]:
        standing = "no difference that these rows can show"
    else:
        standing = "behind" if ahead["value"] > 0 else "ahead of us"
    return name, tested[name], standing


def baseline_words(name: str, record: dict[str, Any]) -> str:
    """A baseline's name, and on how few rows it was trained where those were not all."""
    words = name.replace("_", " ")
    if "trained_on_rows" in record:
        words += f" (trained on {record['trained_on_rows']:,} of {record['of_rows']:,} rows only)"
    return words


def not_done(result: dict[str, Any]) -> str:
    """Which baselines came to nothing, in one sentence; else nothing."""
    failed = [name.replace("_", " ") for name, b in result["baselines"].items() if "failed" in b]
    return f"Without an answer: {', '.join(failed)}." if failed else ""


def against_baselines(result: dict[str, Any]) -> str:
    """Whether a cheap baseline does as well, in a sentence or two."""
    best = best_baseline(result)
    if best is None:
        return not_done(result)
    name, record, standing = best
    more = {"behind": "behind ours", "ahead of us": "ahead of us: take it, unless you need what a network gives"}
    head = headline(result)
    value = f"{metric_name(head)} {figure(record['test'][head]['value'])}"
    said = f"The best baseline, {baseline_words(name, record)}, reaches {value}: {more.get(standing, standing)}."
    return f"{said} {not_done(result)}".rstrip()


def cost(result: dict[str, Any]) -> str:
    """What it cost, in one sentence."""
    c = result["cost"]
    share = c["wasted_seconds"] / max(c["seconds"], 1e-9)
    return (
        f"{c['networks']} networks, {c['network_steps']:,} network steps, {c['seconds']:.0f} seconds; "
        f"{c['wasted_seconds']:.0f} seconds ({share:.0%}) went into networks that were dropped or diverged."
    )


def surer(result: dict[str, Any], rows: int) -> str:
    """What it would cost to be surer: intervals shrink with the root of the number of rows."""
    head = headline(result)
    part = result["test"] or result["validation"]
    if None in part[head].values():
        return f"{rows} rows are too few for an interval."
    width = part[head]["high"] - part[head]["low"]
    return (
        f"The interval is {figure(width)} wide on {rows} rows; half of that needs about {4 * rows} held-out rows, "
        "whatever the network."
    )


def optimism(result: dict[str, Any]) -> str:
    """What the winner's score owes to having won, in one sentence."""
    found = result["optimism"]
    name = "accuracy" if "accuracy" in found else "nll"
    if not found or found["candidates"] < 2:
        return ""
    score = found[name]
    which = "this network" if found["delivered"] else f"candidate {found['candidate']} (not the one delivered)"
    return (
        f"The best of {found['candidates']} by held-out loss, {which}, flatters itself: without that, its "
        f"{metric_name(name)} of {figure(score['apparent'])} would be about {figure(score['corrected'])} "
        f"({figure(score['low'])} to {figure(score['high'])})."
    )


def search(result: dict[str, Any]) -> str:
    """How the space was searched, what stopping saved, and how good the forecasts were."""
    s = result["search"]
    drawn = f"By {', '.join(s['objectives'])}; drawn by {s['sampler']}, brackets thinned out by {s['halving']}"
    words = f"{drawn}; the search ended because {s['ended']}."
    words = words.replace("thinned out by none", "trained to their end")
    words += f" Stopping saved {s['saved']['share']:.0%} of the steps that all networks would have taken."
    forecasts = s["forecasts"]
    if forecasts and forecasts["scored"]:
        words += (
            f" {forecasts['made']} forecasts of final losses were made and {forecasts['dropped']} networks dropped by "
            f"them; of {forecasts['scored']} that could be scored {forecasts['coverage']:.0%} held in their 90 % "
            f"interval, and {forecasts['wrongly_condemned']} of {forecasts['condemned_controls']} condemned networks "
            "that were trained on nevertheless reached the best one."
        )
    if s["rejected"]:
        words += f" {s['rejected']} recipes were beyond a limit and not trained."
    return words
