"""The hashes that a record carries."""

from bpfree_common.data import datasets
from bpfree_common.papers import catalogue, notebook
from bpfree_common.records import provenance, staleness


def hashes(
    slug: str, parameters: dict, modules: list[str], data: list[str], profile: str
) -> dict:
    """Content hashes of all that results of `slug` may depend on, with whole modules.

    modules: names of the laboratory's modules, "room.module". data: data sets read.
    For what must not outlive any edit, such as checkpoints.
    """
    return _common(slug, parameters, data, profile) | {
        "laboratory": provenance.whole(modules)
    }


def run_hashes(slug: str, parameters: dict, data: list[str], profile: str) -> dict:
    """Content hashes of what this run of `slug` really depended on, for its record.

    data: data sets read. Of the laboratory, the functions that were called count.
    """
    return _common(slug, parameters, data, profile) | {
        "laboratory": provenance.laboratory(),
        "rule_calls": provenance.rule_calls(),
    }


def _common(slug: str, parameters: dict, data: list[str], profile: str) -> dict:
    entry = catalogue.get(slug)
    return {
        "scheme": 2,
        "notebook": provenance.notebook_hash(slug),
        "builds_on": provenance.rules(entry.builds_on),
        "names": provenance.used_names(),
        "data": {n: notebook.digest(datasets.catalogue()[n]["forms"]) for n in data},
        "parameters": notebook.digest(parameters),
        "catalogue": staleness.shown(entry),
        "lock": provenance.packages(),
        "records": staleness.pages(entry, profile) if entry.reads_records else {},
    }
