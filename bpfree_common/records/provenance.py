"""What a run depends on, as digests: its laboratory, rules, names, packages, settings."""

import hashlib
import linecache
import os
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from bpfree_common import executed, paths
from bpfree_common.errors import CatalogueError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.records.units import Units, units

#: Modules that cannot change a number or a picture; a change there makes nothing stale.
PLUMBING = {
    "__main__",
    "errors",
    "papers",
    "papers.catalogue",
    "papers.notebook",
    "paths",
    "progress",
    "records",
    "running",
}

#: Distributions that carry a notebook's text and pictures, but make neither.
_CARRIERS = """
asttokens certifi charset-normalizer comm coverage debugpy decorator execnet executing
fastjsonschema idna iniconfig ipykernel ipython ipython-pygments-lexers jedi jsonschema
jsonschema-specifications jupyter-client jupyter-core markdown-it-py matplotlib-inline
mdurl nbclient nbformat nest-asyncio2 packaging papermill parso pexpect platformdirs
pluggy pooch prompt-toolkit psutil ptyprocess pure-eval pygments pytest pytest-timeout
pytest-xdist pyzmq referencing requests rich rpds-py six stack-data tornado tqdm traitlets
typing-extensions urllib3 wcwidth
"""
JUPYTER = set(_CARRIERS.split())

_STARTED: dict[str, str] = {}


def counts(module: str) -> bool:
    """Whether a module, named "room.module", can change what a report says."""
    room = module.partition(".")[0]
    return module not in PLUMBING and room not in ("records", "running")


def start(slug: str) -> None:
    """Remember the notebook as it is when its run begins: later edits are not run."""
    _STARTED[slug] = notebook.content_hash(catalogue.get(slug).path)


def notebook_hash(slug: str) -> str:
    """Digest of the notebook's source as it was at `start`, else as it is on disk."""
    return _STARTED.get(slug) or notebook.content_hash(catalogue.get(slug).path)


# --- laboratory -------------------------------------------------------------------------


def disk(module: str) -> Units | None:
    """The units of a module of the laboratory as it lies on disk, or None."""
    path = paths.LABORATORY / module.replace(".", "/")
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return _parsed(file)
    return None


def _parsed(file: Path) -> Units:
    try:
        return units(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        where = file.relative_to(paths.PROJECT)
        raise CatalogueError(f"{where} is not valid Python: {error}") from None


def all_modules() -> list[str]:
    """Every module of the laboratory on disk whose content counts."""
    found = []
    for file in sorted(paths.LABORATORY.rglob("*.py")):
        parts = file.relative_to(paths.LABORATORY).with_suffix("").parts
        found.append(".".join(p for p in parts if p != "__init__"))
    return [module for module in found if module and counts(module)]


def whole(modules: list[str]) -> dict[str, dict[str, str]]:
    """Every unit of the given modules, as compiled in this process or as on disk."""
    found = {}
    for module in filter(counts, modules):
        text = executed.SOURCES.get(module)
        known = units(text) if text is not None else disk(module)
        if known is not None:
            found[module] = _entries(known, known.functions)
    return found


def laboratory() -> dict[str, dict[str, str]]:
    """Module -> unit -> digest: functions that were called, and what import executed."""
    return {
        module: _entries(units(text), executed.CALLS.get(module, {}))
        for module, text in sorted(executed.SOURCES.items())
        if counts(module)
    }


def _entries(known: Units, called) -> dict[str, str]:
    functions = {name: d for name, d in known.functions.items() if name in called}
    imports = {name: f"@{target}" for name, target in known.imports.items()}
    return dict(sorted((imports | known.bindings | functions).items()))


def names() -> dict[str, str]:
    """What each public name means now: "room:module" or ":name"."""
    import bpfree_common

    modules = bpfree_common._MODULES
    homes = {name: f"{home}:{name}" for name, home in bpfree_common._HOME.items()}
    return {name: _target(home) for name, home in modules.items()} | homes


def _target(module: str) -> str:
    room, _, name = module.rpartition(".")
    return f"{room}:{name}"


def used_names() -> dict[str, str]:
    """The public names that were asked for in this process."""
    return dict(sorted(executed.NAMES.items()))


# --- rules of other notebooks -----------------------------------------------------------


def rule_hash(slug: str) -> str:
    """Digest of the cells of a notebook on disk that make up its rule."""
    cells = notebook.tagged(notebook.read(catalogue.get(slug).path), *notebook.RULE)
    return notebook.digest([text for _, text in cells])


def rules(slugs: list[str]) -> dict[str, str]:
    """Digests of the rules of `slugs` and of all that were loaded, as they were run."""
    prefix = "bpfree_papers."
    loaded = {m.removeprefix(prefix) for m in sys.modules if m.startswith(prefix)}
    loaded &= set(catalogue.load())
    return {s: _run_rule(s) if s in loaded else rule_hash(s) for s in slugs} | {
        slug: _run_rule(slug) for slug in sorted(loaded)
    }


def rule_calls() -> dict[str, list[str]]:
    """Functions of other notebooks' rules that were called, by notebook."""
    prefix = "bpfree_papers."
    return {
        module.removeprefix(prefix): sorted(calls)
        for module, calls in sorted(executed.CALLS.items())
        if module.startswith(prefix)
    }


def _run_rule(slug: str) -> str:
    """`rule_hash` of the text that was compiled, which tracebacks keep."""
    path = catalogue.get(slug).path
    cells = notebook.tagged(notebook.read(path), *notebook.RULE)
    compiled = {
        key: "".join(kept[2])
        for key, kept in list(linecache.cache.items())
        if key.startswith(f"{path}#cell-")
    }
    now = {f"{path}#cell-{index}": text for index, text in cells}
    if not compiled or all(compiled.get(key) == text for key, text in now.items()):
        return notebook.digest([text for _, text in cells])
    return notebook.digest(sorted(compiled.items()))


# --- packages and settings --------------------------------------------------------------


def lock_pins() -> list[str]:
    """The pinned requirements, without comments."""
    lines = paths.LOCK.read_text().splitlines() if paths.LOCK.is_file() else []
    return sorted(line.strip() for line in lines if line.strip() and line[0] != "#")


def locked() -> dict[str, str]:
    """Normalised distribution name -> pinned version."""
    return pinned(lock_pins())


def pinned(lines: list[str]) -> dict[str, str]:
    """Normalised distribution name -> version of lines like ``name==version``."""
    pins = (line.partition("==") for line in lines if "==" in line)
    return {_normal(name): version for name, _, version in pins}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@lru_cache(maxsize=1)
def _providers() -> dict[str, list[str]]:
    return metadata.packages_distributions()


def packages() -> dict[str, str]:
    """Version of each locked distribution that this process has loaded a module of.

    What only carries text and pictures to the notebook (Jupyter) is left out.
    """
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    found = {_normal(d): d for top in tops for d in _providers().get(top, [])}
    kept = sorted((set(found) & set(locked())) - JUPYTER)
    return {name: metadata.version(found[name]).partition("+")[0] for name in kept}


def surroundings() -> dict:
    """Settings outside the project that act inside a run, for a record's environment.

    Files are told by a digest, never by their place: `startup` are IPython's start-up
    files, `matplotlibrc` is null where the user has none.
    """
    home = Path(os.environ.get("IPYTHONDIR", "~/.ipython")).expanduser()
    startup = sorted(home.glob("profile_default/startup/*.*py"))
    return {
        "startup": {file.name: _file(file) for file in startup},
        "matplotlibrc": _matplotlibrc(),
        "aten_cpu_capability": os.environ.get("ATEN_CPU_CAPABILITY"),
        "offline": bool(os.environ.get("BPFREE_OFFLINE")),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _matplotlibrc() -> str | None:
    """Digest of a matplotlibrc that is not matplotlib's own."""
    import matplotlib

    used = Path(matplotlib.matplotlib_fname())
    own = Path(matplotlib.get_data_path()) / "matplotlibrc"
    return None if used == own or not used.is_file() else _file(used)


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
