"""Progress of a training cell where no runner looks: a bar in the notebook."""

import nbformat
import pytest
from nbclient import NotebookClient

from bpfree_common import progress

TRAINS = """
from bpfree_common import progress
for stage in ("rule, seed 0", "rule, seed 1"):
    for epoch in range(4):
        progress.report(stage, epoch, 3)
"""


def printed(cell: str) -> str:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(book, timeout=60).execute()
    return "".join(o.get("text", "") for o in book.cells[0].outputs)


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.delenv("BPFREE_PROGRESS", raising=False)


def test_a_training_cell_tells_arm_seed_epoch_and_time_left(alone):
    text = printed(TRAINS)
    assert "rule, seed 0:" in text and "rule, seed 1:" in text
    assert "0/3 [00:00<?" in text  # at once, before the first epoch is over
    assert not text.rpartition("\r")[2].strip()  # nothing stays when it is over


def test_a_runner_that_looks_or_wants_nothing_has_no_bar(alone, monkeypatch, tmp_path):
    for target in ("", str(tmp_path / "progress.json")):
        monkeypatch.setenv("BPFREE_PROGRESS", target)
        assert printed(TRAINS) == ""
    assert progress.read(tmp_path / "progress.json")["epoch"] == 3


def test_a_script_prints_nothing(alone, capfd):
    progress.report("rule, seed 0", 1, 3)
    assert capfd.readouterr() == ("", "")
