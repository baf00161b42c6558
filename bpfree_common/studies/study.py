"""A study: one notebook's run, from its parameters to its record.

It is the only laboratory object that a notebook has to know. It checks the parameters,
hands out data, has arms tuned and trained, measures cost and credit, keeps figures,
findings and claims, and writes the record as its last act.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from bpfree_common import paths, records
from bpfree_common.data import Data
from bpfree_common.data.loading import load
from bpfree_common.errors import CatalogueError, ContractError
from bpfree_common.learning import training
from bpfree_common.papers import catalogue, notebook, parameters
from bpfree_common.studies import (
    cards,
    claims,
    figures,
    images,
    statistics,
    tables,
    tuning,
)
from bpfree_common.studies.comparison import Comparison
from bpfree_common.studies.measurements import Measurements
from bpfree_common.studies.recording import (
    environment,
    finite_columns,
    identities_held,
    laboratory,
)

BASELINE, TEXTBOOK, FROZEN = "backprop", "textbook", "frozen"
#: Of the epochs, after which settings are compared at a paper's scale.
TUNING_SHARE = 0.1
_FIRST_SCREEN = "what-we-found"


class Study(Measurements):
    """One run of the notebook `slug`, with its parameters taken from `namespace`.

    In the notebook: ``study = Study("the_notebooks_name", globals())``. Seeds: the
    parameter `seeds` says how many are reported; `tuning_seeds` how many choose the
    settings (2 where several seeds are reported, else 1).

    Raises ParameterError when a parameter is ill-typed or out of range.
    """

    def __init__(self, slug: str, namespace: dict):
        training.silence()
        figures.use_style()
        # dying weights and activities become subnormal, with which CPUs are far slower
        torch.set_flush_denormal(True)
        super().__init__()
        self._start = time.perf_counter()
        records.start(slug)
        self.slug = slug
        self.entry = catalogue.get(slug)
        declared = self.entry.declared()
        given = {name: namespace[name] for name in declared if name in namespace}
        self.parameters = parameters.resolve(declared, given)
        defaults = {name: p.default for name, p in declared.items()}
        own = "quick" if self.parameters == defaults else "custom"
        self.profile = os.environ.get("BPFREE_PROFILE", own)
        self.seeds = list(range(self.parameters.get("seeds", 1)))
        several = 2 if len(self.seeds) > 1 else 1
        count = self.parameters.get("tuning_seeds", several)
        self.tuning_seeds = [tuning.FIRST_TUNING_SEED + k for k in range(count)]
        paper = self.profile == "paper"
        self.precision = training.precision() if paper else "highest"
        self.style = figures.Palette(slug)
        self._data: list[str] = []
        self._trained = False
        self._figures: list[dict] = []
        self._headline, self._picture = "", ""
        self._metrics: list[dict] = []
        self._findings: list[str] = []
        self._budget: dict = {}
        self._claims: dict[str, claims.Claim] = {}
        self._why: dict[str, str] = {}
        self._tuning: dict[str, tuning.Tuned] = {}
        self._curves: dict[str, list] = {}
        self._longer: dict[str, tuple[tuning.Tuned, tuning.Tuned]] = {}

    # --- the first screen ------------------------------------------------------------

    def card(self) -> Markdown:
        """The paper in a few lines, from the catalogue."""
        return Markdown(cards.card(self.entry))

    def found(self) -> None:
        """Where the findings and the headline figure will stand once all has run."""
        text = "*What was found stands here when the notebook has run to its end.*"
        display(Markdown(text), display_id=_FIRST_SCREEN)

    def finding(self, sentence: str) -> None:
        """A sentence for the first screen, with its numbers and intervals."""
        self._findings.append(sentence)

    def figure(self, figure: Figure, name: str, caption: str = "", alt: str = "",
               headline: bool = False) -> None:  # fmt: skip
        """Show a figure with its caption and keep it.

        caption, alt (what the picture shows, for those who cannot see it): those that
        the laboratory's plots suggest, if empty. headline: it is the one picture of the
        first screen.
        """
        caption = caption or getattr(figure, "caption", "")
        alt = alt or getattr(figure, "alt", "")
        if any(kept["name"] == name for kept in self._figures):
            raise ValueError(f"there is already a figure {name!r}: choose another name")
        png = images.save(figure, self.folder / "figures", name)
        plt.close(figure)
        self._figures.append({"name": name, "caption": caption, "alt": alt or caption})
        shown = images.picture(png, alt or caption, caption)
        display(shown)
        if headline:
            self._headline, self._picture = name, shown.data

    # --- data and training -----------------------------------------------------------

    def data(self, name: str, **options) -> Data:
        """A data set by name; the record notes what was read.

        options: those of its loader (`load_graph`, `load_text`, `load_views`, ...).
        """
        data = load(name, **options)
        self._data.append(name)
        return data

    def budget(self, epochs: int, batch_size: int, **more) -> tuning.Budget:
        """A budget with this study's seeds; more: see `tuning.Budget`."""
        seeds = {"seeds": tuple(self.seeds), "tuning_seeds": tuple(self.tuning_seeds)}
        precision = {"precision": self.precision}
        return tuning.Budget(epochs, batch_size, **(seeds | precision | more))

    def compare(
        self,
        arms: dict[str, tuning.Build],
        task: Data,
        epochs: int,
        batch_size: int,
        grid: list[float | dict],
        grids: dict[str, list[float | dict]] | None = None,
        without: dict[str, str] | None = None,
        **options,
    ) -> Comparison:
        """Tune and train every arm with the same data, budget and seeds.

        arms: name -> ``build(**setting)``. The names include this notebook's slug,
        `backprop` (the rule's own network, activation and initialisation), `textbook`
        (what a practitioner would take) and `frozen` (the rule's own network with hidden
        layers as drawn), unless `without` gives a reason why one cannot exist.
        grid: rates or settings for every arm; grids: instead of it, by arm; the paper's
        own rate belongs among the rule's. options: see `budget`; and `measure` and
        `unit` of what the rules score, if that is no accuracy.

        In the paper profile settings are compared after a tenth of the epochs.
        """
        needed = {self.slug, BASELINE, TEXTBOOK, FROZEN} - set(without or {})
        if missing := sorted(needed - set(arms)):
            raise ContractError(
                f"compare needs the arm {missing[0]!r}, or a reason in `without`"
            )
        if self.profile == "paper":
            options = {"tuning_epochs": max(1, round(epochs * TUNING_SHARE))} | options
        return self._compared(arms, task, epochs, batch_size, grid, grids, **options)

    def tune(
        self,
        arm: str,
        build: tuning.Build,
        task: Data,
        epochs: int,
        batch_size: int,
        grid: list[float | dict],
        **options,
    ) -> tuning.Tuned:
        """Tune and train one arm as `compare` does: the way for side experiments.

        Its settings, curves and times go to the record under the name `arm`, which no
        other arm may have. Returns what was tried and one run per reporting seed.
        """
        budget = self.budget(epochs, batch_size, **options)
        return self._tune(arm, build, task, budget, grid)

    def side(self, arms: dict[str, tuning.Build], task: Data, epochs: int,
             batch_size: int, grid: list[float | dict], prefix: str,
             grids: dict | None = None, **options) -> Comparison:  # fmt: skip
        """A comparison of any arms, named ``prefix: arm`` in the record.

        options: as of `compare`.
        """
        return self._compared(
            arms, task, epochs, batch_size, grid, grids, prefix=prefix, **options
        )

    def _compared(self, arms, task, epochs, batch_size, grid, grids, prefix="",
                  measure="test accuracy", unit="fraction", **options):  # fmt: skip
        budget = self.budget(epochs, batch_size, **options)
        comparison = Comparison(budget, {}, measure, unit, prefix)
        for arm, build in arms.items():
            chosen, name = (grids or {}).get(arm, grid), comparison.name(arm)
            comparison.arms[arm] = self._tune(name, build, task, budget, chosen)
            self.metric(name, measure, comparison.test(arm), unit)
        return comparison

    def again(self, comparison: Comparison, builds: dict[str, tuning.Build], task: Data,
              times: float = 2.0) -> Comparison:  # fmt: skip
        """The arms of `builds` with their chosen settings after `times` the epochs.

        For the check that a failure stands when the budget is doubled. They are called
        as in `comparison`, with the number of epochs.
        """
        old = comparison.budget
        epochs = round(old.epochs * times)
        budget = self.budget(epochs, old.batch_size, cool=old.cool, seeds=old.seeds)
        longer = Comparison(
            budget, {}, comparison.measure, comparison.unit, comparison.prefix
        )
        for arm, build in builds.items():
            name = f"{comparison.name(arm)}, {epochs} epochs"
            tuned = comparison.arms[arm]
            source, again = self._longer.get(name, (tuned, None))
            if source is not tuned:
                raise ContractError(
                    f"two arms would be called {name!r}: give one comparison a prefix"
                )
            if again is None:
                runs = [
                    training.train(
                        name, build, tuned.chosen, task.to(training.device()), seed,
                        epochs, old.batch_size, cool=old.cool, test=True,
                    )
                    for seed in old.seeds
                ]  # fmt: skip
                again = replace(tuned, arm=name, runs=runs)
                self._longer[name] = tuned, again
                self.metric(name, longer.measure, [run.test for run in runs], longer.unit)
            longer.arms[arm] = again
        return longer

    def _tune(self, arm, build, task, budget, grid) -> tuning.Tuned:
        if arm in self._tuning:
            raise ContractError(f"there is already an arm {arm!r}: choose another name")
        keep = self._checkpoint(arm) if self.profile == "paper" else None
        tuned = tuning.tune(arm, build, task, budget, grid, keep)
        self._tuning[arm] = tuned
        self._curves[arm] = [finite_columns(run.history) for run in tuned.runs]
        seconds = [each.seconds for each in tuned.tried]
        self._timing[arm] = {"seconds": seconds + [run.seconds for run in tuned.runs]}
        return tuned

    def _checkpoint(self, arm: str) -> Callable[[dict, int], Path]:
        def folder(hyper: dict, seed: int) -> Path:
            parts = [arm.replace("/", "-"), *map(str, hyper.values()), str(seed)]
            return self.checkpoints / "-".join(parts)

        return folder

    @cached_property
    def checkpoints(self) -> Path:
        """Where an interrupted run of this very study goes on from."""
        now = records.hashes(
            self.slug, self.parameters, laboratory(), self._data, self.profile
        )
        key = notebook.digest(now)[:12]
        return paths.cache() / "checkpoints" / f"{self.slug}-{key}"

    def tuned(self, arm: str) -> tuning.Tuned:
        """What the tuner found for an arm."""
        return self._tuning[arm]

    @property
    def at_edge(self) -> list[str]:
        """Arms whose best rate is at an edge of the rates tried."""
        return [arm for arm, tuned in self._tuning.items() if tuned.at_edge]

    # --- numbers ---------------------------------------------------------------------

    def metric(self, arm: str, name: str, values, unit: str) -> None:
        """Put a measured number, one per seed, into the record, with its interval.

        Of a fraction the interval ends at 0 and 1.
        """
        found = statistics.estimate(values)
        found = found.within(0.0, 1.0) if unit == "fraction" else found
        values = [float(v) for v in np.atleast_1d(values)]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        interval = None if found.low is None else [found.low, found.high]
        self._metrics.append(
            {"arm": arm, "name": name, "unit": unit, "values": values, "mean": found.mean,
             "std": std, "interval": interval}
        )  # fmt: skip

    # --- claims ----------------------------------------------------------------------

    def spent(self, updates: int, paper_updates: int | None) -> None:
        """How many updates the main arm made, and the paper's; None if it is unknown."""
        share = None if paper_updates is None else min(updates / paper_updates, 1.0)
        self._budget = {"updates": int(updates), "paper_updates": paper_updates}
        self._budget["share"] = share

    def claim(self, name: str, measured, *, null: float | None = None,
              counted: bool = False, note: str = "", doubled=None) -> None:  # fmt: skip
        """Judge a claim of the catalogue; see `claims.assess`.

        measured: a value, one per seed, or those by setting. doubled: called for the
        same after twice the updates, if a claim about a final accuracy fails.
        """
        self._claims[name] = claims.assess(
            name, self._declared(name), measured, null=null, counted=counted, note=note,
            share=self._budget.get("share"), doubled=doubled,
        )  # fmt: skip

    def not_attempted(self, name: str, why: str) -> None:
        """Say that this profile cannot test a claim, and why."""
        self._claims[name] = claims.not_attempted(name, self._declared(name), why)

    def why(self, name: str, sentence: str) -> None:
        """Why a claim's verdict is not `reproduced`: what was tried, what it means."""
        self._declared(name)
        self._why[name] = sentence

    def verdict(self, name: str) -> str:
        """What became of a claim."""
        return self._claims[name].verdict

    def _declared(self, name: str):
        if name not in self.entry.declared_claims:
            raise CatalogueError(f"papers.yaml has no claim {name!r} for {self.slug}")
        return self.entry.declared_claims[name]

    def judged(self) -> list[claims.Claim]:
        """All claims so far, each with its reason, where it is not reproduced."""
        reasons = {
            name: claim.why or self._why.get(name, "")
            for name, claim in self._claims.items()
            if claim.verdict != claims.REPRODUCED
        }
        return [
            claims.with_reason(c, reasons.get(c.name, "")) for c in self._claims.values()
        ]

    def claims_table(self) -> Markdown:
        """All claims with source, measured value, band and verdict, and then why."""
        found = self.judged()
        table = tables.markdown([c.row() for c in found]).data
        reasons = [
            f"- **{c.name}** ({c.verdict}): {c.why or c.note}"
            for c in found
            if c.verdict != claims.REPRODUCED and (c.why or c.note)
        ]
        why = "\n".join(["", "**Why these verdicts**", "", *reasons]) if reasons else ""
        return Markdown(f"{table}\n{why}")

    # --- the record ------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where this run's files go: the runner's choice, or `reports/interactive`."""
        chosen = os.environ.get("BPFREE_RUN_DIR")
        return Path(chosen) if chosen else paths.reports() / "interactive" / self.slug

    def finish(self) -> None:
        """Fill the first screen and write the record, the proof that this run succeeded.

        The last act. Raises CatalogueError when a claim has no verdict.
        """
        missing = [n for n in self.entry.declared_claims if n not in self._claims]
        if missing:
            raise CatalogueError(f"claim {missing[0]!r} of papers.yaml has no verdict")
        self._fill_first_screen()
        records.write(self._record(), self.folder / records.NAME)

    def _fill_first_screen(self) -> None:
        text = cards.findings(self._findings, self.profile, len(self.seeds))
        shown = Markdown(f"{text}\n\n{self._picture}")
        display(shown, display_id=_FIRST_SCREEN, update=True)

    def _record(self) -> dict:
        timing = self._timing | {"seconds": time.perf_counter() - self._start}
        return {
            "schema": 2,
            "method": self.slug,
            "title": self.entry.title,
            "short": self.entry.short,
            "family": self.entry.family,
            "profile": self.profile,
            "parameters": self.parameters,
            "seeds": self.seeds,
            "tuning_seeds": self.tuning_seeds,
            "metrics": self._metrics,
            "tuning": {arm: tuned.as_dict() for arm, tuned in self._tuning.items()},
            "curves": self._curves,
            "cost": self._cost,
            "audit": self._audit,
            "identities": identities_held(),
            "claims": [claim.as_dict() for claim in self.judged()],
            "findings": self._findings,
            "headline": self._headline,
            "budget": self._budget,
            "figures": self._figures,
            "environment": environment(self.precision),
            "hashes": records.run_hashes(
                self.slug, self.parameters, self._data, self.profile
            ),
            "timing": timing,
        }
