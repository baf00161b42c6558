"""The tables of the championship, a row per rule, made from the records of the jobs."""

import numpy as np

from bpfree_common.studies import tables
from bpfree_common.studies.championship import (
    Entrant,
    Field,
    against,
    difference,
    groups,
    own,
    percent,
)
from bpfree_common.studies.contest import CONVERGED, EPOCHS
from bpfree_common.studies.contest_networks import BACKPROP, FROZEN, SUPERVISED


def link(rule: Entrant) -> str:
    """A Markdown link to the paper's report, from the page's own."""
    return tables.link(rule.entry.title, f"../{rule.name}/{rule.name}.ipynb")


def job(entrant: Entrant) -> str:
    """A Markdown link to the job's report, by its state."""
    return tables.link(entrant.state, f"../{entrant.slug}/{entrant.slug}.ipynb")


def standings(found: Field) -> list[dict]:
    """A row per rule, grouped by ties, with its differences to the three opponents."""
    duels = {
        "minus own backprop": against(found.rules, own(BACKPROP)),
        "minus own frozen": against(found.rules, own(FROZEN)),
    }
    if found.textbook:
        values = found.textbook.values()
        duels["minus textbook backprop"] = against(found.rules, lambda _: values)
    table = []
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    for place, tied in enumerate(groups(everyone), 1):
        for each in tied:
            row = {"ties": place, "rule": each.short}
            row["paper"] = link(each) if each.entry else "*opponent*"
            row["test accuracy %"] = percent(each.values(), 2)
            for column, all_of in duels.items():
                row[column] = all_of[each.name].text if each.name in all_of else ""
            table.append(row | {"job": job(each)})
    return table


def convergence(found: Field) -> list[dict]:
    """A row per entrant that trained to its own convergence, grouped by ties."""
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    everyone = [each for each in everyone if each.values(CONVERGED) is not None]
    duels = against(found.rules, own(BACKPROP, CONVERGED), CONVERGED)
    reference = found.textbook.work(EPOCHS) if found.textbook else None
    table = []
    for place, tied in enumerate(groups(everyone, CONVERGED), 1):
        for each in tied:
            gain = difference(each.values(CONVERGED), each.values())
            duel = duels.get(each.name)
            row = {
                "ties": place,
                "rule": each.short,
                "test accuracy %": percent(each.values(CONVERGED), 2),
                "epochs": f"{each.values(EPOCHS).mean():.1f}" + " (cap)" * each.capped,
                "minus equal passes": gain.text(sign=True),
                "minus own backprop": duel.text if duel else "",
            }
            if reference:
                row["FLOPs to converge / textbook"] = (
                    f"{each.work(EPOCHS) / reference:.2f}"
                )
            table.append(row)
    return table


def costs(found: Field) -> list[dict]:
    """A row per rule: what a step costs against backprop on its own network."""
    table = []
    everyone = [*found.ranked, *([found.textbook] if found.textbook else [])]
    for each in everyone:
        arms = [each.arm]
        if not each.entry:
            arms = [arm for arm in each.record["cost"] if arm != FROZEN]
        for arm in arms:
            times = each.record["timing"]["step_time"][arm]
            tuned = each.record["tuning"].get(arm)
            edge = " (at edge)" if tuned and tuned["at_edge"] else ""
            table.append(
                {
                    "rule": each.short if arm == each.arm else arm,
                    "FLOPs / own BP": f"{each.cost('flops_ratio', arm):.2f}",
                    "live bytes / own BP": f"{each.cost('live_ratio', arm):.2f}",
                    "live KiB": f"{each.cost('live_bytes', arm) / 1024:.0f}",
                    "step time / own BP": f"{times['ratio']:.2f} ± {_half(times)}",
                    "settings tried": tuned["tried"] if tuned else "as backprop",
                    "chosen": _setting(tuned["chosen"]) + edge if tuned else "",
                }
            )
    return table


def _half(times: dict) -> str:
    """Half the width of a step time's interval; a dash where it is not bounded."""
    spread = times["spread"]
    known = spread is not None and np.isfinite(spread)
    return f"{times['ratio'] * spread:.2f}" if known else tables.MISSING


def _setting(chosen: dict) -> str:
    return f"{chosen['optimizer']} {chosen['lr']:g}"


def grounds_table(found: Field) -> list[dict]:
    """Opponents by network: every shared one, and those of rules that have their own."""
    holders = [*found.grounds.values(), *(r for r in found.rules if r.own is None)]
    table = []
    for holder in holders:
        users = [r.short for r in found.rules if (r.own or r) is holder]
        row = {"network": holder.name if not holder.entry else f"{holder.short}'s own"}
        row["rules that start there"] = ", ".join(users) or tables.MISSING
        for arm in (BACKPROP, FROZEN, SUPERVISED):
            values = holder.values(arm=arm)
            row[f"{arm} %"] = tables.MISSING if values is None else percent(values, 2)
        table.append(row)
    return table
