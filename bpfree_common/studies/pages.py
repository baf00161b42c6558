"""Tables and figures across papers, made from records and from nothing else."""

import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from bpfree_common import paths, records
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.studies import claims, figures

BASELINE = "backprop"
_GOOD, _MIDDLE, _BAD, _NONE = "#a7d8c0", "#f5e3a8", "#f2b8a0", "#eeeeee"

#: Colours of audit properties: what backpropagation does is dark, its absence is light.
_SHADES = {"none": _GOOD, "flat": _GOOD, "part": _MIDDLE, "full": _BAD, "linear": _BAD}


def metric(record: dict, arm: str, name: str = "test accuracy") -> np.ndarray | None:
    """Values per seed of a metric of an arm; None if the record has none."""
    for entry in record["metrics"]:
        if (entry["arm"], entry["name"]) == (arm, name):
            return np.array(entry["values"])
    return None


def percent(values: np.ndarray | None) -> str:
    """Mean and, over several seeds, the lowest and highest, in per cent."""
    if values is None:
        return "-"
    text = f"{100 * values.mean():.1f}"
    if len(values) > 1:
        text += f" ({100 * values.min():.1f} to {100 * values.max():.1f})"
    return text


def scoreboard(found: dict[str, dict]) -> pd.DataFrame:
    """Accuracy of rule, backpropagation and frozen control, gap and counted cost."""
    rows = {}
    for slug, record in found.items():
        own, base = metric(record, slug), metric(record, BASELINE)
        cost = record["cost"].get(slug, {})
        gap = None if own is None or base is None else 100 * (own.mean() - base.mean())
        rows[record["short"]] = {
            "data": record["parameters"].get("dataset", "-"),
            "seeds": len(record["seeds"]),
            "accuracy %": percent(own),
            "backprop %": percent(base),
            "gap, points": "-" if gap is None else f"{gap:+.1f}",
            "control %": percent(metric(record, catalogue.get(slug).control)),
            "FLOPs / BP": _ratio(cost, "flops_ratio"),
            "saved bytes / BP": _ratio(cost, "saved_ratio"),
            "live bytes / BP": _ratio(cost, "live_ratio"),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _ratio(cost: dict, name: str) -> str:
    return f"{cost[name]:.2f}" if name in cost else "-"


def step_times(found: dict[str, dict]) -> pd.DataFrame:
    """Measured step time over backpropagation's, beside the ratio of FLOPs."""
    rows = {}
    for slug, record in found.items():
        times = record["timing"].get("step_time_ratio", {})
        if slug in times:
            flops = record["cost"][slug]["flops_ratio"]
            rows[record["short"]] = {
                "step time / BP": round(times[slug], 2),
                "FLOPs / BP": round(flops, 2),
                "time over FLOPs": round(times[slug] / flops, 2),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def staleness(profile: str) -> pd.DataFrame:
    """Every paper of the catalogue: is its record there, and is it up to date?"""
    rows = {}
    for entry in catalogue.load().values():
        if entry.is_paper:
            word, reason = records.state(entry.slug, profile)
            shown = {"current": "up to date", "confirmed": f"confirmed: {reason}"}
            rows[entry.short] = {"notebook": entry.slug, "state": shown.get(word, reason)}
    return pd.DataFrame.from_dict(rows, orient="index")


def accuracy_figure(found: dict[str, dict]) -> Figure:
    """Gap to backpropagation per method, with the range over seeds of both."""
    shown = {s: r for s, r in found.items() if metric(r, s) is not None}
    figure, ax = plt.subplots(figsize=(7.2, 0.5 * len(shown) + 1.4))
    for y, (slug, record) in enumerate(shown.items()):
        control = catalogue.get(slug).control
        for arm, shift, name in (
            (BASELINE, 0.14, BASELINE),
            (control, 0.28, "frozen"),
            (slug, 0.0, slug),
        ):
            values = metric(record, arm)
            if values is None:
                continue
            style = figures.Palette(slug)(name)
            percent_values = 100 * values
            place = y + shift - 0.14
            ax.plot([percent_values.min(), percent_values.max()], [place] * 2, lw=1.5,
                    color=style["color"])  # fmt: skip
            ax.plot(percent_values.mean(), place, style["marker"], color=style["color"])
    ax.set_yticks(range(len(shown)), [r["short"] for r in shown.values()])
    ax.invert_yaxis()
    ax.set_xlabel("test accuracy, % (line: range over seeds)")
    words = {"the paper's rule": "rule", "backprop": BASELINE, "control": "frozen"}
    for text, arm in words.items():
        style = figures.Palette("rule")(arm)
        ax.plot([], [], style["marker"], color=style["color"], label=text)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    ax.grid(axis="x", alpha=0.3)
    return figure


def audit_figure(found: dict[str, dict]) -> Figure:
    """The audit of all methods side by side: one row each, backpropagation on top."""
    columns = {
        "crossings": "boundary\ncrossings",
        "locking": "update\nlocking",
        "weight_transport": "weight\ntransport",
        "memory": "saved bytes\nwith depth",
        "live_memory": "live bytes\nwith depth",
        "forward": "forward\npasses",
        "backward": "backward\npasses",
        "jvp": "JVPs",
    }
    rows = _audit_rows(found)
    figure, ax = plt.subplots(figsize=(8.6, 0.42 * len(rows) + 1.1))
    for y, audited in enumerate(rows.values()):
        for x, name in enumerate(columns):
            value = audited.get(name) if audited else None
            ax.add_patch(plt.Rectangle((x, y), 0.96, 0.92, color=_shade(name, value)))
            text = "n/a" if value is None else value
            text = f"{text:g}" if isinstance(text, int | float) else text
            ax.text(x + 0.48, y + 0.46, text, ha="center", va="center", fontsize=9)
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    ax.set_xticks(np.arange(len(columns)) + 0.48, columns.values(), fontsize=8)
    ax.set_yticks(np.arange(len(rows)) + 0.46, rows, fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    return figure


def _audit_rows(found: dict[str, dict]) -> dict[str, dict]:
    """Label -> audited properties; backpropagation's from the first record with it."""
    rows = {}
    for record in found.values():
        if BASELINE in record["audit"]:
            rows["backprop"] = record["audit"][BASELINE]
            break
    for slug, record in found.items():
        rows[record["short"]] = record["audit"].get(slug, {})
    return rows


def _shade(name: str, value) -> str:
    if value is None:
        return _NONE
    if name == "crossings":
        return _BAD if value else _GOOD
    if name == "backward":
        return _BAD if value >= 1 else _GOOD if value == 0 else _MIDDLE
    return _SHADES.get(value, "#f7f7f7")


def claims_table(found: dict[str, dict]) -> pd.DataFrame:
    """Every claim of every paper, what was measured, and the verdict."""
    rows = [
        {
            "paper": record["short"],
            "claim": claim["text"],
            "measured": claims.Claim(**claim).value,
            "threshold": claims.Claim(**claim).threshold,
            "verdict": claim["verdict"],
        }
        for record in found.values()
        for claim in record["claims"]
    ]
    pd.set_option("display.max_rows", None)  # sixty rows are not all claims
    return pd.DataFrame(rows).set_index("paper") if rows else pd.DataFrame()


def claims_figure(found: dict[str, dict]) -> Figure:
    """How many claims of each paper were reproduced, partly, not, or not attempted."""
    colours = dict(zip(claims.VERDICTS, (_GOOD, _MIDDLE, _BAD, _NONE), strict=True))
    hatches = dict(zip(claims.VERDICTS, ("", "//", "xx", ""), strict=True))
    figure, ax = plt.subplots(figsize=(7.6, 0.45 * len(found) + 1.2))
    left = np.zeros(len(found))
    for verdict in claims.VERDICTS:
        counts = np.array(
            [sum(c["verdict"] == verdict for c in r["claims"]) for r in found.values()]
        )
        ax.barh(range(len(found)), counts, left=left, color=colours[verdict],
                hatch=hatches[verdict], edgecolor="white", label=verdict)  # fmt: skip
        for y, (count, start) in enumerate(zip(counts, left, strict=True)):
            if count:
                ax.text(start + count / 2, y, str(count), ha="center", va="center")
        left += counts
    ax.set_yticks(range(len(found)), [r["short"] for r in found.values()])
    ax.invert_yaxis()
    ax.set_xlabel("claims")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def gallery(found: dict[str, dict], per_method: int, width: int = 380) -> str:
    """HTML of the first figures of each method, as thumbnails with their captions."""
    parts = []
    for slug, record in found.items():
        parts.append(f"<h4>{record['short']}: {record['title']}</h4>")
        parts.append('<div style="display:flex;flex-wrap:wrap;gap:16px">')
        for shown in record["figures"][:per_method]:
            picture = _thumbnail(slug, record["profile"], shown, width)
            parts.append(
                f'<figure style="width:{width}px;margin:0">'
                f'<img alt="{shown["caption"]}" src="data:image/png;base64,{picture}">'
                f"<figcaption>{shown['caption']}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join(parts)


def _thumbnail(slug: str, profile: str, shown: dict, width: int) -> str:
    """Base64 of a figure, made smaller."""
    picture = Image.open(io.BytesIO(figure_png(slug, profile, shown))).convert("RGB")
    height = round(picture.height * width / picture.width)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(64).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def figure_png(
    slug: str, profile: str, shown: dict, reports: Path | None = None
) -> bytes:
    """A figure of a report: its file, or the picture inside the executed notebook."""
    folder = records.folder(slug, profile, reports or paths.reports())
    file = folder / "figures" / f"{shown['name']}.png"
    if file.is_file():
        return file.read_bytes()
    for cell in notebook.read(folder / f"{slug}.ipynb")["cells"]:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("image/png", {})
            if about.get("alt") == shown["caption"]:
                return base64.b64decode("".join(output["data"]["image/png"]))
    raise ReportError(f"the report of {slug} lacks its figure {shown['name']!r}")
