"""A study: one notebook's run, from its parameters to its record.

It is the only laboratory object that a notebook has to know. It checks the parameters,
hands out data, trains a rule beside its controls, measures cost and credit, keeps figures
and claims, and writes the record as its last act.
"""

import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from bpfree_common import paths, records
from bpfree_common.data.tasks import Data
from bpfree_common.errors import CatalogueError, ContractError
from bpfree_common.former import audit as auditing
from bpfree_common.former import checks, figures
from bpfree_common.former import claims as judging
from bpfree_common.former import cost as costing
from bpfree_common.learning import training
from bpfree_common.learning.rule import LearningRule
from bpfree_common.papers import catalogue, parameters

BASELINE, FROZEN = "backprop", "frozen"

#: Where a data set's loader lives; all others are images or tables.
LOADERS = dict.fromkeys(("cora", "citeseer", "pubmed"), "tasks.load_graph") | {
    **dict.fromkeys(
        ("descriptions", "tiny-shakespeare", "wikitext-2"), "sequences.load_text"
    ),
    "fsdd": "sequences.load_speech",
    "photo": "scenes.load_photo",
    "nerf-lego": "scenes.load_views",
    "movielens-100k": "ratings.load_ratings",
}


@dataclass
class Comparison:
    """Trained runs of several arms on the same data, budget and seeds.

    tuning: per arm the grid with validation metrics, and what was chosen.
    """

    runs: dict[str, list[training.Run]]
    tuning: dict[str, dict] = field(default_factory=dict)

    def test(self, arm: str) -> np.ndarray:
        """Test metric of an arm, one value per seed."""
        return np.array([run.test for run in self.runs[arm]])

    def rule(self, arm: str, seed: int = 0) -> LearningRule:
        """A trained rule."""
        return self.runs[arm][seed].rule

    def table(self) -> pd.DataFrame:
        """Arms by mean, spread and chosen hyper-parameters."""
        rows = {
            figures.label(arm): {
                "test accuracy, mean": self.test(arm).mean(),
                "lowest seed": self.test(arm).min(),
                "highest seed": self.test(arm).max(),
                **runs[0].hyper,
            }
            for arm, runs in self.runs.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")


class Study:
    """One run of the notebook `slug`, with its parameters taken from `namespace`.

    In the notebook: ``study = Study("the_notebooks_name", globals())``.
    Raises ParameterError when a parameter is ill-typed or out of range.
    """

    def __init__(self, slug: str, namespace: dict):
        training.silence()
        figures.use_style()
        # dying weights and activities become subnormal, with which CPUs are far slower
        torch.set_flush_denormal(True)
        self._start = time.perf_counter()
        self.slug = slug
        self.entry = catalogue.get(slug)
        records.start(slug)
        declared = self.entry.declared()
        given = {name: namespace[name] for name in declared if name in namespace}
        self.parameters = parameters.resolve(declared, given)
        defaults = {name: p.default for name, p in declared.items()}
        own = "quick" if self.parameters == defaults else "custom"
        self.profile = os.environ.get("BPFREE_PROFILE", own)
        self.seeds = list(range(self.parameters.get("seeds", 1)))
        self.style = figures.Palette(slug)
        self._data: list[str] = []
        self._figures: list[dict] = []
        self._metrics: list[dict] = []
        self._claims: dict[str, judging.Claim] = {}
        self._parts: dict[str, dict] = {
            name: {} for name in ("tuning", "curves", "cost", "audit", "timing")
        }

    # --- showing ---------------------------------------------------------------------

    def card(self) -> Markdown:
        """The paper in a few lines, from the catalogue."""
        e = self.entry
        arxiv = f"[arXiv {e.arxiv}](https://arxiv.org/abs/{e.arxiv})" if e.arxiv else ""
        code = f"[official code]({e.code})" if e.code else "no official code"
        lines = [
            f"**{e.title}**  ",
            f"{', '.join(e.authors)} ({e.year}), {e.venue}. {arxiv}; {code}.",
            "",
            f"*Family*: {catalogue.FAMILIES[e.family]}. *Idea*: {e.idea}",
        ]
        for words, slugs in (
            ("Builds on", e.builds_on),
            ("Compare with", e.compare_with),
        ):
            if slugs:
                lines += ["", f"*{words}*: " + ", ".join(map(self._link, slugs)) + "."]
        if e.headline:
            lines += ["", *_headline_table(e.headline)]
        return Markdown("\n".join(lines))

    def _link(self, slug: str) -> str:
        other = catalogue.load().get(slug)
        if other is None or not other.path.is_file():
            return f"`{slug}`"
        return f"[{other.short}]({os.path.relpath(other.path, self.entry.path.parent)})"

    def figure(self, figure: Figure, name: str, caption: str) -> None:
        """Show a figure with its caption and keep it as PNG and SVG."""
        if any(kept["name"] == name for kept in self._figures):
            raise ValueError(f"there is already a figure {name!r}: choose another name")
        png = figures.save(figure, self.folder / "figures", name)
        self._figures.append({"name": name, "caption": caption})
        display(Image(png, alt=caption))
        display(Markdown(f"*{caption}*"))
        plt.close(figure)

    # --- data and training -----------------------------------------------------------

    def data(self, name: str, **options) -> Data:
        """A data set by name; the record notes what was read.

        options: those of its loader (`load_graph`, `load_text`, `load_views`, ...).
        """
        module, loader = LOADERS.get(name, "tasks.load_data").split(".")
        load = getattr(import_module(f"bpfree_common.data.{module}"), loader)
        data = load(name, **options)
        self._data.append(name)
        return data

    def compare(
        self,
        arms: dict[str, Callable[..., LearningRule]],
        task: Data,
        epochs: int,
        batch_size: int,
        grid: list[float],
        track_alignment: bool = False,
    ) -> Comparison:
        """Train every arm with the same data, budget, seeds and learning-rate grid.

        arms: name -> ``build(lr)``, which makes a rule from PyTorch's random state. The
        names must include this notebook's slug, `backprop` and `frozen`.
        grid: learning rates; each arm uses the one that is best on validation data with
        the first seed, and keeps that run.
        """
        missing = {self.slug, BASELINE, FROZEN} - set(arms)
        if missing:
            raise ContractError(f"compare needs the arm {sorted(missing)[0]!r}")
        options = {"track_alignment": track_alignment}
        comparison = Comparison({}, self._parts["tuning"])
        for arm, build in arms.items():
            runs = self.tune(arm, build, task, epochs, batch_size, grid, **options)
            comparison.runs[arm] = runs
            self.metric(arm, "test accuracy", comparison.test(arm), "fraction")
        return comparison

    def tune(
        self,
        arm: str,
        build: Callable[..., LearningRule],
        task: Data,
        epochs: int,
        batch_size: int,
        grid: list[float] | list[dict],
        seeds: list[int] | None = None,
        track_alignment: bool = False,
    ) -> list[training.Run]:
        """Train one arm as `compare` does: the way for side experiments.

        Its grid, curves and times go to the record under the name `arm`, which no other
        arm may have. grid: learning rates, or whole settings for ``build(**setting)``,
        with `lr` among them. seeds: the study's, unless told. Returns one run per seed.
        """
        if arm in self._parts["tuning"]:
            raise ContractError(f"there is already an arm {arm!r}: choose another name")
        task = task.to(training.device())
        seeds = self.seeds if seeds is None else seeds
        options = {"epochs": epochs, "batch_size": batch_size}
        options["track_alignment"] = track_alignment
        settings = [each if isinstance(each, dict) else {"lr": each} for each in grid]
        first = [self._run(arm, build, s, task, seeds[0], options) for s in settings]
        best = max(first, key=lambda run: run.validation)
        runs = [best] + [
            self._run(arm, build, best.hyper, task, seed, options) for seed in seeds[1:]
        ]
        self._parts["tuning"][arm] = {
            "grid": [run.hyper | {"validation": run.validation} for run in first],
            "chosen": best.hyper,
            "at_edge": _at_edge(best.hyper, settings),
        }
        self._parts["curves"][arm] = [_rounded(run.history) for run in runs]
        self._parts["timing"][arm] = {
            "seconds": [run.seconds for run in first + runs[1:]]
        }
        return runs

    def _run(self, arm: str, build, hyper: dict, task, seed: int, options):
        name = "-".join([arm.replace("/", "-"), *map(str, hyper.values()), str(seed)])
        keep = self.checkpoints / name if self.profile == "paper" else None
        return training.train_arm(
            arm, build, hyper, task, seed, checkpoint=keep, **options
        )

    @cached_property
    def checkpoints(self) -> Path:
        """Where an interrupted run of this very study goes on from."""
        now = records.hashes(
            self.slug, self.parameters, self._modules(), self._data, self.profile
        )
        key = records.notebook.digest(now)[:12]
        return paths.cache() / "checkpoints" / f"{self.slug}-{key}"

    # --- measuring -------------------------------------------------------------------

    def metric(self, arm: str, name: str, values, unit: str) -> None:
        """Put a measured number, one per seed, into the record."""
        values = [float(v) for v in np.atleast_1d(values)]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        entry = {"arm": arm, "name": name, "unit": unit, "values": values}
        self._metrics.append(entry | {"mean": float(np.mean(values)), "std": std})

    def cost(
        self, rules: dict[str, LearningRule], batch, baseline: str = BASELINE
    ) -> pd.DataFrame:
        """Count one step of each rule on `batch`, relative to the arm `baseline`.

        Step times are measured too, side by side, and go to the record only.
        """
        rules = {arm: rule.to(batch[0].device) for arm, rule in rules.items()}
        counted = {arm: costing.measure(rule, batch) for arm, rule in rules.items()}
        base = counted[baseline]
        for arm, c in counted.items():
            self._parts["cost"][arm] = c.as_dict() | {
                "flops_ratio": c.flops / base.flops,
                "saved_ratio": c.saved_bytes / base.saved_bytes,
                "live_ratio": c.live_bytes / base.live_bytes,
            }
        ratios = costing.step_time_ratios(rules, baseline, batch)
        self._parts["timing"].setdefault("step_time_ratio", {}).update(ratios)
        return self._cost_table(list(rules))

    def counted(self, arm: str) -> dict:
        """What `cost` found for an arm: FLOPs, bytes, passes, and ratios."""
        return self._parts["cost"][arm]

    def tuning(self, arm: str) -> dict:
        """What `tune` found for an arm: the grid, and what was chosen."""
        return self._parts["tuning"][arm]

    def _cost_table(self, arms: list[str]) -> pd.DataFrame:
        columns = {
            "flops_ratio": "FLOPs / BP",
            "saved_ratio": "saved bytes / BP",
            "live_ratio": "live bytes / BP",
            "forward": "forward passes",
            "backward": "backward passes",
            "jvp": "JVPs",
        }
        rows = {figures.label(arm): self._parts["cost"][arm] for arm in arms}
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table[list(columns)].rename(columns=columns).round(3)

    def audit(
        self, builds: dict[str, auditing.Build], batch, expect: dict[str, dict], **options
    ) -> dict[str, auditing.Audit]:
        """Audit each rule, compare with the stated rows, and put both in the record.

        expect: arm -> properties (see `Audit.row`); raises AuditMismatch on a difference.
        """
        audits = {arm: auditing.audit(b, batch, **options) for arm, b in builds.items()}
        for arm, stated in expect.items():
            audits[arm].expect(**stated)
        for arm, found in audits.items():
            self._parts["audit"][arm] = found.as_dict() | {"stated": expect.get(arm, {})}
        return audits

    def audit_table(self) -> pd.DataFrame:
        """One row of properties per audited rule."""
        columns = {
            "crossings": "boundary crossings",
            "locking": "update locking",
            "weight_transport": "weight transport",
            "memory": "saved bytes with depth",
            "live_memory": "live bytes with depth",
            "forward": "forward",
            "backward": "backward",
            "jvp": "JVPs",
        }
        rows = {figures.label(arm): a for arm, a in self._parts["audit"].items()}
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table[list(columns)].rename(columns=columns)

    def audit_figure(
        self, audits: dict[str, auditing.Audit], unit: str = "unit", note: str = ""
    ) -> None:
        """Show and keep what the audit found of dependence and weight transport.

        unit: what a reader calls a unit. note: sentences to end the caption.
        """
        caption = (
            f"Whose weights each {unit}'s credit depends on (above) and whose it uses "
            f"without any forward pass showing them (below). Orange: {unit}s that come "
            f"later in the forward pass. {note}"
        )
        drawn = figures.audit_matrices(audits, self.style)
        self.figure(drawn, "audit", caption.strip())

    def memory_figure(self, audits: dict[str, auditing.Audit], note: str = "") -> None:
        """Show and keep how the bytes of a step grow with the probe network's depth."""
        caption = (
            "Peak bytes of one step against depth, on the probe network: what autograd "
            "saves for a backward pass (left) and everything that the step creates but "
            f"the credits (right). {note}"
        )
        drawn = figures.memory_growth(audits, self.style)
        self.figure(drawn, "memory", caption.strip())

    # --- claims and record -----------------------------------------------------------

    def claim(self, name: str, measured, band, unit: str = "", note: str = "") -> None:
        """Judge a claim of the catalogue by a value, or one value per seed.

        band: (low, high), None for an open side.
        """
        text = self._claim_text(name)
        self._claims[name] = judging.judge(name, text, measured, band, unit, note)

    def not_attempted(self, name: str, why: str) -> None:
        """Say that this profile cannot test a claim, and why."""
        self._claims[name] = judging.not_attempted(name, self._claim_text(name), why)

    def _claim_text(self, name: str) -> str:
        if name not in self.entry.claims:
            raise CatalogueError(f"papers.yaml has no claim {name!r} for {self.slug}")
        return self.entry.claims[name]

    def claims_table(self) -> pd.DataFrame:
        """All claims with measured value, threshold and verdict."""
        rows = [
            {
                "claim": c.text,
                "measured": c.value,
                "threshold": c.threshold,
                "verdict": c.verdict,
                "note": c.note,
            }
            for c in self._claims.values()
        ]
        table = pd.DataFrame(rows, index=list(self._claims))
        pd.set_option("display.max_colwidth", None)
        return table

    @property
    def folder(self) -> Path:
        """Where this run's files go: the runner's choice, or `reports/interactive`."""
        chosen = os.environ.get("BPFREE_RUN_DIR")
        return Path(chosen) if chosen else paths.reports() / "interactive" / self.slug

    def finish(self) -> Path:
        """Write the record, the proof that this run succeeded. The last act."""
        missing = [name for name in self.entry.claims if name not in self._claims]
        if missing:
            raise CatalogueError(f"claim {missing[0]!r} of papers.yaml has no verdict")
        timing = self._parts["timing"] | {"seconds": time.perf_counter() - self._start}
        record = {
            "schema": 1,
            "method": self.slug,
            "title": self.entry.title,
            "short": self.entry.short,
            "family": self.entry.family,
            "profile": self.profile,
            "parameters": self.parameters,
            "seeds": self.seeds,
            "metrics": self._metrics,
            **{k: self._parts[k] for k in ("tuning", "curves", "cost", "audit")},
            "identities": list({held["name"]: held for held in checks.HELD}.values()),
            "claims": [asdict(c) for c in self._claims.values()],
            "figures": self._figures,
            "environment": environment(),
            "hashes": records.run_hashes(
                self.slug, self.parameters, self._data, self.profile
            ),
            "timing": timing,
        }
        records.write(record, self.folder / records.NAME)
        return self.folder / records.NAME

    def _modules(self) -> list[str]:
        prefix = "bpfree_common."
        loaded = [m.removeprefix(prefix) for m in sys.modules if m.startswith(prefix)]
        return sorted(set(loaded) - records.PLUMBING)


def environment() -> dict:
    """What ran this: versions, machine type, device."""
    import lightning

    where = training.device()
    gpu = torch.cuda.get_device_name(where) if where.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": gpu or "cpu",
    }


def _at_edge(chosen: dict, settings: list[dict]) -> bool:
    """Whether no lower, or no higher, of three or more rates was tried, else equal."""
    rates = [s["lr"] for s in settings if s | {"lr": chosen["lr"]} == chosen]
    return len(rates) > 2 and chosen["lr"] in (min(rates), max(rates))


def _rounded(history: list[dict]) -> dict[str, list]:
    """History rows as columns; alignment rows are lists per unit."""
    columns: dict[str, list] = {}
    for row in history:
        for name, value in row.items():
            per_unit = isinstance(value, list)
            value = [_finite(v, 5) for v in value] if per_unit else _finite(value, 6)
            columns.setdefault(name, []).append(value)
    return columns


def _finite(value, digits: int):
    """A float rounded; None if it is no number, as a diverged run's: JSON has none."""
    if not isinstance(value, float):
        return value
    return round(value, digits) if math.isfinite(value) else None


def _headline_table(rows: list[dict]) -> list[str]:
    """Markdown lines of the paper's headline numbers."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(str(r.get(c, '-')) for c in columns)} |" for r in rows]
    return lines
