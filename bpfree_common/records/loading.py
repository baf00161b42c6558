"""Data sets on two laboratories: does a changed loader still give the same tensors?

A quick run reads embedded data, so that it says nothing of the loaders that a standard
run uses. These are put to the test by themselves: every data set that the report's
record names is loaded with both laboratories, and every tensor compared bit for bit.
"""

import json
import subprocess
import sys
from functools import cache

from bpfree_common.errors import ReportError
from bpfree_common.records import replay

#: Modules of the old or the new layout that do nothing but load data.
MODULES = ("data", "datasets", "sequences", "scenes", "ratings", "tasks")

#: Run in a checkout: loads the data sets named as arguments, prints their digests.
_SCRIPT = """
import dataclasses, hashlib, importlib, json, sys
import numpy, torch

def loaders():
    for module in ("bpfree_common.data.loading", "bpfree_common.study"):
        try:
            return module, importlib.import_module(module).LOADERS
        except ImportError:
            pass

def load(name):
    where, known = loaders()
    module, loader = known.get(name, DEFAULT[where]).split(".")
    room = "bpfree_common.data" if where.endswith("loading") else "bpfree_common"
    return getattr(importlib.import_module(f"{room}.{module}"), loader)(name)

DEFAULT = {"bpfree_common.data.loading": "tasks.load_data",
           "bpfree_common.study": "data.load_data"}

def digest(value, into):
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            into.update(field.name.encode())
            digest(getattr(value, field.name), into)
    elif isinstance(value, torch.Tensor):
        dense = value.to_dense() if value.layout != torch.strided else value
        into.update(str((dense.dtype, tuple(dense.shape))).encode())
        into.update(dense.contiguous().numpy().tobytes())
    else:
        into.update(repr(value).encode())

found = {}
for name in sys.argv[1:]:
    sha = hashlib.sha256()
    try:
        digest(load(name), sha)
        found[name] = sha.hexdigest()
    except Exception as error:
        found[name] = None
        print(f"{name}: {error}", file=sys.stderr)
print(json.dumps(found))
"""


@cache
def digests(commit: str, names: tuple[str, ...]) -> dict[str, str | None]:
    """Data set -> SHA-256 of all that the laboratory of `commit` makes of it.

    None where it cannot load the set. Raises ReportError when it cannot even try.
    """
    with replay.checkout(commit) as tree:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *names],
            cwd=tree,
            env=replay.surroundings(tree),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ReportError(f"the loaders of {commit[:7]} do not run: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def different(old: str, new: str, names: list[str]) -> list[str]:
    """Which data sets the two laboratories do not load alike, bit for bit."""
    wanted = tuple(sorted(names))
    one, two = digests(old, wanted), digests(new, wanted)
    return [name for name in wanted if one[name] is None or one[name] != two[name]]


def missing(commit: str, names: list[str]) -> list[str]:
    """Which data sets the laboratory of `commit` cannot load on this machine."""
    found = digests(commit, tuple(sorted(names)))
    return [name for name, digest in found.items() if digest is None]
