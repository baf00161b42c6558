"""What the championship found, in words, each sentence with its numbers."""

import numpy as np

from bpfree_common.studies.championship import (
    MARGIN,
    Entrant,
    Field,
    against,
    difference,
    front,
    own,
    percent,
)
from bpfree_common.studies.contest import CONVERGED, EPOCHS, layers
from bpfree_common.studies.contest_networks import BACKPROP, FROZEN, SUPERVISED


def sentences(found: Field) -> dict[str, str]:
    """All findings on one network by subject: `own`, `frozen`, `best`, and so on.

    `converged` and `depth` only where that was trained, nothing without rules.
    """
    if not found.rules:
        return {}
    said = {"own": _own_backprop(found), "frozen": _frozen(found), "best": _best(found)}
    if any(rule.values(CONVERGED) is not None for rule in found.rules):
        said["converged"] = _converged(found)
    if found.textbook and (deep := depths(found.textbook)):
        said["depth"] = _depth(found, deep)
    said["price"] = _price(found)
    return {subject: sentence for subject, sentence in said.items() if sentence}


def protocol(found: Field) -> str:
    """Data, budgets and seeds of one network, from the parameters of its records."""
    if not found.rules:
        return ""
    p = found.rules[0].record["parameters"]
    text = (
        f"**{_kind(found).capitalize()} network**: {p['samples']:,} images of "
        f"{p['dataset']}, {p['epochs']} passes in batches of {p['batch_size']}, "
        f"{p['hidden_layers']} hidden layers of {_width(found, p)}; "
        f"{p['seeds']} reporting and {p['tuning_seeds']} tuning seeds, "
        f"{p['validation']:,} validation images."
    )
    if p["converging_seeds"]:
        text += (
            f" Own convergence: {p['converging_seeds']} seeds, cooling over {p['tail']} "
            f"epochs after {p['patience']} without a better validation accuracy, "
            f"{p['cap']} epochs at most."
        )
    if p["deepest"]:
        text += (
            f" Depth: up to {p['deepest']} layers, {p['deep_samples']:,} images, "
            f"{p['deep_epochs']} passes, {p['deep_seeds']} seeds."
        )
    return text


def _width(found: Field, parameters: dict) -> str:
    width = parameters["width"]
    more = f"{width}, {2 * width}, ... maps"
    return f"{width} units" if found.network == "dense" else more


def starts(found: Field) -> str:
    """How much backprop alone depends on where it starts."""
    holders = [*found.grounds.values(), *(r for r in found.rules if r.own is None)]
    means = {h.name: 100 * h.values(arm=BACKPROP).mean() for h in holders}
    if len(means) < 2:
        return ""
    worst, best = min(means, key=means.get), max(means, key=means.get)
    gaps = [abs(d.gap.mean) for d in against(found.rules, own(BACKPROP)).values()]
    return (
        f"On the {_kind(found)} network backprop alone, the same algorithm, spans "
        f"{means[best] - means[worst]:.1f} points over these starts "
        f"({means[worst]:.1f} to {means[best]:.1f} %); the median rule is "
        f"{np.median(gaps):.1f} points from backprop on its own network."
    )


def supervision(found: Field) -> str:
    """What deep supervision, the opponent of every local loss, reaches."""
    parts = []
    for name, ground in found.grounds.items():
        values = ground.values(arm=SUPERVISED)
        if values is not None:
            gap = difference(values, ground.values()).text(sign=True)
            parts.append(f"{percent(values)} % on `{name}`, {gap} points from backprop")
    if not parts:
        return ""
    return (
        f"On the {_kind(found)} network deep supervision, gradients cut between layers, "
        f"reaches {'; '.join(parts)} there."
    )


def _listed(found: Field, names) -> str:
    """Short names, the best first; `none` if there is none."""
    names = set(names)
    return ", ".join(r.short for r in found.ranked if r.name in names) or "none"


def _kind(found: Field) -> str:
    return "dense" if found.network == "dense" else "convolutional"


def _own_backprop(found: Field) -> str:
    duels = against(found.rules, own(BACKPROP))
    by = {w: [n for n, d in duels.items() if d.word == w] for w in _WORDS}
    median = float(np.median([d.gap.mean for d in duels.values()]))
    start = (
        f"On the {_kind(found)} network, after equal passes, against backprop on its own"
    )
    if not any(by[w] for w in ("above", "below", "tie")):
        return (
            f"{start} network {len(duels)} rules differ by {median:+.1f} points (median)."
        )
    gaps = "; ".join(
        f"{found.find(n).short} {duels[n].gap.text(sign=True)}" for n in by["above"]
    )
    return (
        f"{start} network (same activation, same initialisation) {len(by['below'])} of "
        f"{len(duels)} rules are below, {len(by['tie'])} tie "
        f"({_listed(found, by['tie'])}) and {len(by['above'])} are above"
        f"{f' ({gaps} points)' if gaps else ''}; the median difference is {median:+.1f} "
        "points. p values are Holm's."
    )


_WORDS = ("above", "below", "tie", "open")


def _frozen(found: Field) -> str:
    duels = against(found.rules, own(FROZEN))
    taught = [n for n, d in duels.items() if d.word == "above"]
    if all(d.word == "open" for d in duels.values()):
        return ""
    gaps = [
        f"{found.find(n).short} {duels[n].gap.text(sign=True)}"
        for n in sorted(duels, key=lambda n: -duels[n].gap.mean)
        if n not in taught
    ]
    rest = f", {len(gaps)} do not: {'; '.join(gaps)} points" if gaps else ""
    said = (
        f"On the {_kind(found)} network {len(taught)} of {len(duels)} rules beat their "
        f"own frozen control{rest}."
    )
    if found.textbook is None or found.textbook.values(arm=FROZEN) is None:
        return said
    gain = difference(found.textbook.values(), found.textbook.values(arm=FROZEN))
    return f"{said} Textbook backprop gains {gain.text(sign=True)} on its own."


def _best(found: Field) -> str:
    if not found.textbook:
        return ""
    values = found.textbook.values()
    duels = against(found.rules, lambda _: values)
    best = found.ranked[0]
    equal = [n for n, d in duels.items() if d.equal]
    text = (
        f"Textbook backprop (ReLU, He) reaches {percent(values)} %; the best rule, "
        f"{best.short}, {percent(best.values())} %, a difference of "
        f"{duels[best.name].gap.text(digits=2, sign=True)} points"
    )
    if duels[best.name].word == "open":
        return text + "."
    below = [n for n, d in duels.items() if d.word == "below"]
    rest = [n for n in duels if n not in below]
    others = f", not so {_listed(found, rest)}" if rest else ""
    return (
        f"{text}. {len(below)} of {len(duels)} rules are below it{others}; shown to be "
        f"within {100 * MARGIN:g} points of it: {_listed(found, equal)}."
    )


def _converged(found: Field) -> str:
    duels = against(found.rules, own(BACKPROP, CONVERGED), CONVERGED)
    gains = {
        r.name: difference(r.values(CONVERGED), r.values()).mean
        for r in found.rules
        if r.values(CONVERGED) is not None
    }
    most = max(gains, key=gains.get)
    counts = {w: sum(d.word == w for d in duels.values()) for w in _WORDS}
    best = max(gains, key=lambda n: found.find(n).values(CONVERGED).mean())
    spent = [found.find(n).values(EPOCHS).mean() for n in gains]
    text = (
        f"Trained to own convergence ({min(spent):.0f} to {max(spent):.0f} epochs), "
        f"{found.find(most).short} gains most ({gains[most]:+.1f} points)"
    )
    if counts["open"] < len(duels):
        above = [n for n, d in duels.items() if d.word == "above"]
        text += (
            f"; {counts['below']} of {len(duels)} rules stay below their own backprop, "
            f"{counts['tie']} tie with it, above it: {_listed(found, above)}"
        )
    if capped := [n for n in gains if found.find(n).capped]:
        text += f". The cap ended runs of {_listed(found, capped)}: they may rise further"
    if found.textbook:
        reference = found.textbook
        text += (
            f". The best is {found.find(best).short} with "
            f"{percent(found.find(best).values(CONVERGED))} %, textbook backprop has "
            f"{percent(reference.values(CONVERGED))} % after "
            f"{reference.values(EPOCHS).mean():.0f} epochs"
        )
    return text + "."


def _price(found: Field) -> str:
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    kinds = {"FLOPs of training": lambda e: e.work(),
             "live bytes of a step": lambda e: e.cost("live_bytes")}  # fmt: skip
    parts = []
    for words, price in kinds.items():
        places = {e.short: (price(e), e.values().mean()) for e in everyone}
        parts.append(f"of {words} {', '.join(front(places))}")
    less = [r.name for r in found.rules if r.cost("live_ratio") < 1]
    cheap = [r.name for r in found.rules if r.cost("flops_ratio") < 1]
    return (
        f"The Pareto fronts hold, the cheapest first: {'; '.join(parts)}. "
        f"{len(less)} of {len(found.rules)} rules hold fewer live bytes in a step than "
        f"backprop on their own network ({_listed(found, less)}), and {len(cheap)} need "
        f"fewer FLOPs ({_listed(found, cheap)})."
    )


def depths(entrant: Entrant) -> list[int]:
    """The numbers of layers at which an entrant was trained, ascending."""
    names = {m["name"] for m in entrant.record["metrics"] if m["arm"] == entrant.arm}
    return [count for count in range(2, 33) if layers(count) in names]


def _depth(found: Field, deep: list[int]) -> str:
    first, last = deep[0], deep[-1]
    lost = {
        r.name: 100 * (r.values(layers(first)).mean() - r.values(layers(last)).mean())
        for r in found.rules
        if r.values(layers(last)) is not None
    }
    reference = found.textbook
    ends = [percent(reference.values(layers(count))) for count in (first, last)]
    text = (
        f"From {first} to {last} layers, with starts that suit depth, textbook backprop "
        f"goes from {ends[0]} to {ends[1]} %"
    )
    if not lost:
        return text + "."
    tests = {n: found.find(n).values(layers(last)).mean() for n in lost}
    top = max(tests, key=tests.get)
    worst = max(lost, key=lost.get)
    level = [n for n, v in tests.items() if v >= reference.values(layers(last)).mean()]
    return (
        f"{text}. At {last} layers the best rule is {found.find(top).short} "
        f"({percent(found.find(top).values(layers(last)))} %); with a mean not below "
        f"textbook backprop's: {_listed(found, level)}. Most is lost by "
        f"{found.find(worst).short} ({lost[worst]:.0f} points)."
    )
