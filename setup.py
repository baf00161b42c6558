"""Writes the rules into the package when it is built, from the notebooks that hold them.

All else about the package is said in `pyproject.toml`.
"""

import ast
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from bpfree_common.papers import notebook  # noqa: E402

NOTEBOOKS = HERE / "notebooks"
PRIVATE = "my"  # rules of a user's own are never packed

MODULE = '''\
"""The rule of {paper}, as it was when this package was built."""

{needed}

{cells}

bpfree_common.rules.register(__name__)
'''


class WithRules(build_py):
    """Builds the package, and in it `rules/SLUG.py` for every paper's notebook."""

    def run(self) -> None:
        """Build as usual; an editable installation reads the notebooks themselves."""
        super().run()
        if not self.editable_mode:
            self.write_rules(Path(self.build_lib) / "bpfree_common" / "rules")

    def write_rules(self, folder: Path) -> None:
        """Write all modules; a rule that an earlier build left behind is taken out."""
        for old in set(folder.glob("*.py")) - {folder / "__init__.py"}:
            old.unlink()
        for path in papers():
            text = module(path)
            ast.parse(text, f"{path}, rule cells")
            (folder / f"{path.stem}.py").write_text(text, encoding="utf-8")


def papers() -> list[Path]:
    """The notebooks of all papers: those in the folders of their families."""
    found = sorted(
        path for path in NOTEBOOKS.glob("[!.]*/*.ipynb") if path.parent.name != PRIVATE
    )
    if not found:
        raise SystemExit(f"{NOTEBOOKS} holds no papers: build from a whole checkout")
    return found


def module(path: Path) -> str:
    """The source of a module with the rule cells of the notebook at `path`."""
    cells = notebook.tagged(notebook.read(path), *notebook.RULE)
    if not cells:
        raise SystemExit(f"{path} has no code cell tagged 'rule'")
    text = "\n\n\n".join(
        f"# %% cell {index}\n{source.strip()}" for index, source in cells
    )
    slugs = needed(ast.parse(text, str(path)))
    imports = ["import bpfree_common.rules"]
    imports += [f"import bpfree_common.rules.{slug}  # for load_rule" for slug in slugs]
    name = path.relative_to(NOTEBOOKS).as_posix()
    return MODULE.format(paper=name, needed="\n".join(imports), cells=text)


def needed(tree: ast.Module) -> list[str]:
    """The papers whose rules these cells load, in the order in which they do."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func).endswith("load_rule")]
    for call in loads:
        if not (call.args and isinstance(call.args[0], ast.Constant)):
            raise SystemExit(f"{ast.unparse(call)}: a rule cell gives the name in quotes")
    return list(dict.fromkeys(call.args[0].value for call in loads))


setup(cmdclass={"build_py": WithRules})
