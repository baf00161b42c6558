"""What the Makefile does about environments and cores, with a stand-in for Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bpfree_common import paths

MAKEFILE = paths.PROJECT / "Makefile"
pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not MAKEFILE.is_file(), reason="needs make"
)

STAND_IN = """#!/bin/sh
echo "python $*" >> "$LOG"
if [ "$1 $2" = "-m venv" ]; then
  for last; do :; done
  mkdir -p "$last/bin" && cp "$0" "$last/bin/python"
fi
"""


class Checkout:
    """A folder with the Makefile, a stand-in for Python, and a log of its calls."""

    def __init__(self, root: Path):
        self.root, self.log = root, root / "log"
        root.mkdir(parents=True)
        shutil.copy(MAKEFILE, root)
        for name in ("requirements.lock", "pyproject.toml"):
            (root / name).touch()
        self.python = root.parent / "stand-in"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        self.log.write_text("")
        return subprocess.run(
            ["make", f"PYTHON={self.python}", *arguments],
            cwd=self.root,
            env=os.environ | {"LOG": str(self.log)} | environment,
            capture_output=True,
            text=True,
        )

    def calls(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if word in line]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "a 'checkout' with ü")


def test_the_environment_is_made_once(checkout):
    assert checkout.make("env").returncode == 0
    assert len(checkout.calls("-m venv")) == 1
    assert checkout.make("env").returncode == 0
    assert not checkout.calls("-m venv")


def test_another_build_of_pytorch_replaces_the_one_that_is_there(checkout):
    checkout.make("env", "TORCH=cpu")
    done = checkout.make("env", "TORCH=cu130")
    assert done.returncode == 0
    assert checkout.calls("pip uninstall")
    assert "whl/cu130" in checkout.calls("requirements.lock")[0]


def test_the_build_of_pytorch_is_kept_when_nothing_is_said_of_it(checkout):
    checkout.make("env", "TORCH=cpu")
    checkout.make("env")
    assert not checkout.calls("pip")
    (checkout.root / "requirements.lock").touch()
    checkout.make("env")
    assert "whl/cpu" in checkout.calls("requirements.lock")[0]
    assert not checkout.calls("pip uninstall")


@pytest.mark.parametrize("target", ["reports", "lab", "unit"])
def test_a_broken_environment_is_told_with_the_way_out(checkout, target):
    checkout.make("env")
    (checkout.root / ".venv/bin/python").unlink()
    done = checkout.make(target)
    assert done.returncode == 2
    assert "does not run any more: `make env`" in done.stderr
    assert checkout.make("env").returncode == 0  # and the way out leads out
    assert checkout.make("reports").returncode == 0


def test_a_moved_checkout_is_told_with_the_way_out(checkout, tmp_path):
    checkout.make("env")
    checkout.root = checkout.root.rename(tmp_path / "elsewhere")
    checkout.log = checkout.root / "log"
    done = checkout.make("reports")
    assert done.returncode == 2
    assert "belongs to another folder than this one: `make env`" in done.stderr
    assert checkout.make("env").returncode == 0
    assert checkout.make("reports").returncode == 0


def test_help_works_whatever_the_environment_is_like(checkout):
    checkout.make("env")
    (checkout.root / ".venv/bin/python").unlink()
    assert "make reports" in checkout.make("help").stdout


def test_a_python_that_is_not_there_is_named(checkout):
    done = checkout.make("env", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert "there is no no-such-python" in done.stderr


def test_variables_of_openmp_do_not_take_cores_away(checkout):
    checkout.make("env")
    checkout.make("reports")
    all_cores = checkout.calls("bpfree_common run")
    checkout.make("reports", OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1")
    assert checkout.calls("bpfree_common run") == all_cores


def test_jupyterlab_is_let_start_as_root_only_for_root(checkout):
    checkout.make("env")
    checkout.make("lab")
    root = os.geteuid() == 0
    assert bool(checkout.calls("--allow-root")) == root


def test_the_site_has_badges_only_where_the_repository_is_named(checkout):
    checkout.make("env")
    checkout.make("site")
    (plain,) = checkout.calls("bpfree_common site")
    checkout.make("site", "REPOSITORY=owner/name")
    (named,) = checkout.calls("bpfree_common site")
    assert named == f"{plain} --repository owner/name"


def test_jupyterlab_opens_at_a_committed_page_within_reach_of_reports_and_notebooks(
    checkout,
):
    checkout.make("env")
    checkout.make("lab")
    (call,) = [line for line in checkout.log.read_text().splitlines() if "lab" in line]
    assert "--ServerApp.root_dir=." in call
    page = call.partition("default_url=/lab/tree/")[2].split()[0]
    assert (paths.PROJECT / page).is_file()
