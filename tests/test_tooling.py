"""What helps contributors calls what the project already has, and works."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bpfree_common import paths
from bpfree_common.papers import notebook

ROOT = paths.PROJECT
pytestmark = pytest.mark.skipif(
    not (ROOT / ".pre-commit-config.yaml").is_file(), reason="needs a checkout"
)


def hooks() -> dict[str, dict]:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local", "nothing is fetched for a commit"
    return {hook["id"]: hook for hook in local["hooks"]}


def run_hook(name: str, *files: Path) -> int:
    """The hook's command with this interpreter in the environment's place."""
    python, *rest = shlex.split(hooks()[name]["entry"])
    assert python == ".venv/bin/python"
    command = [sys.executable, *rest, *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode


@pytest.fixture
def dirty(tmp_path) -> Path:
    """The template with an output, and a line that neither linter nor formatter likes."""
    content = notebook.read(paths.NOTEBOOKS / "template.ipynb")
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    code[1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    code[1]["execution_count"] = 7
    code[1]["source"] = ["import os\n", "x   =  1"]
    path = tmp_path / "dirty.ipynb"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def test_the_hook_takes_outputs_out_and_leaves_the_rest(dirty):
    before = notebook.read(dirty)
    assert run_hook("nbstripout", dirty) == 0
    after = notebook.read(dirty)
    assert all(not cell.get("outputs") for cell in after["cells"])
    assert [c["id"] for c in after["cells"]] == [c["id"] for c in before["cells"]]
    assert notebook.cells_hash(after["cells"]) == notebook.cells_hash(before["cells"])


def test_the_hooks_lint_and_format_notebooks_as_make_lint_does(dirty):
    clean = dirty.with_name("clean.ipynb")
    shutil.copy(paths.NOTEBOOKS / "template.ipynb", clean)
    text = clean.read_text()
    assert run_hook("ruff-check", clean) == 0
    assert run_hook("ruff-check", dirty) == 1, "an import that nothing uses"
    assert run_hook("ruff-format", clean, dirty) == 0
    assert clean.read_text() == text
    assert '"x = 1"' in dirty.read_text()


def test_the_workflow_calls_the_test_command_and_keeps_failed_notebooks():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["test"]["steps"]
    (command,) = [step["run"] for step in steps if "run" in step]
    assert command.split()[:2] == ["make", "test"]
    (keep,) = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert keep["if"] == "failure()"
    assert keep["with"]["path"] == "reports/failed"


def test_the_workflow_publishes_the_site_that_make_builds_once_tests_have_passed():
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"][
        "site"
    ]
    assert job["needs"] == "test"
    assert job["if"] == "github.ref == 'refs/heads/main'"
    assert job["permissions"] == {
        "contents": "read",
        "pages": "write",
        "id-token": "write",
    }
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    assert command.split()[:2] == ["make", "site"]
    (upload,) = [s for s in job["steps"] if "pages-artifact" in s.get("uses", "")]
    assert Path(upload["with"]["path"]) == paths.reports().relative_to(ROOT) / "site"
    assert any("deploy-pages" in step.get("uses", "") for step in job["steps"])


def test_a_failed_notebook_is_kept_where_the_workflow_looks(project):
    project.add("broken", "raise RuntimeError('on purpose')", finish=False)
    assert project.run("broken").returncode == 1
    assert (project.reports / "failed" / "quick" / "broken.ipynb").is_file()


@pytest.mark.parametrize("name", ["number", "defect", "paper"])
def test_an_issue_form_has_what_such_forms_need(name):
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml"
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(field["attributes"]["label"] for field in form["body"])
    assert {field["type"] for field in form["body"]} <= {"input", "textarea"}


def test_the_container_makes_the_environment_by_make():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert made["postCreateCommand"].split()[:2] == ["make", "env"]
