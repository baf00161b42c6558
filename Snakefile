"""Reports on many machines: one job for each notebook of a profile.

    snakemake --cores 8
    snakemake --cores 2 --config profile=quick notebooks="forward_forward pepita"
    snakemake --executor slurm --jobs 20

The runner does the work and decides what is stale: a job for a report that holds after
all ends at once, and a notebook that fails is kept in `reports/failed/`, as its own log
(Snakemake would empty a log that it knew). Pages that are made from records come last.
Another Python than that of the environment: `--config python=...`. With `--keep-going`
one failure stops no other.
"""

import json
import os
import subprocess

PYTHON = config.get("python", ".venv/bin/python")
PROFILE = config.get("profile", "standard")
NOTEBOOKS = os.environ.get("BPFREE_NOTEBOOKS", "notebooks")
REPORTS = os.environ.get("BPFREE_REPORTS", "reports")
RECORD = f"{REPORTS}/{PROFILE}/{{name}}/record.json"

listed = json.loads(subprocess.check_output([PYTHON, "-m", "bpfree_common", "list", "--json"]))
entries = {entry["slug"]: entry for entry in listed}
have = [name for name, entry in entries.items() if PROFILE in entry["profiles"]]
wanted = str(config.get("notebooks") or "").split() or have
if unknown := sorted(set(wanted) - set(have)):
    raise WorkflowError(f"no notebook {unknown[0]!r} has a {PROFILE} profile")


def made_from(wildcards):
    """The notebook and those whose rules it loads; for a page, the records it reads."""
    entry = entries[wildcards.name]
    if entry["reads_records"]:
        papers = [name for name in wanted if not entries[name]["reads_records"]]
        return expand(RECORD, name=papers)
    names = [wildcards.name, *entry["builds_on"]]
    return [f"{NOTEBOOKS}/{entries[name]['notebook']}" for name in names]


rule all:
    input:
        expand(RECORD, name=wanted),


rule report:
    input:
        made_from,
    output:
        update(RECORD),
    threads: 1
    shell:
        "{PYTHON:q} -m bpfree_common run {wildcards.name} --profile {PROFILE} --jobs 1"
        " --threads {threads} && touch {output:q}"
