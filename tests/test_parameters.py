"""Parameters are declared once, and bad values get one sentence."""

import pytest

from bpfree_common.errors import CatalogueError, ParameterError
from bpfree_common.papers.parameters import parse, resolve

CELL = """
epochs: int = 5  # 1..100 | passes over the data
lr: float = 2e-3  # 1e-6..1 | step size
dataset: str = "digits"  # digits, mnist | the images
hard: bool = True  # | hard negatives
"""


def test_a_cell_gives_names_types_defaults_ranges_and_help():
    found = parse(CELL)
    assert list(found) == ["epochs", "lr", "dataset", "hard"]
    assert (found["epochs"].low, found["epochs"].high) == (1, 100)
    assert found["dataset"].choices == ("digits", "mnist")
    assert found["lr"].help == "step size"
    assert found["hard"].default is True


def test_overrides_replace_defaults_and_integers_become_floats():
    values = resolve(parse(CELL), {"lr": 1, "dataset": "mnist"})
    assert values == {"epochs": 5, "lr": 1.0, "dataset": "mnist", "hard": True}
    assert type(values["lr"]) is float


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"epoch": 3}, "unknown parameter 'epoch'"),
        ({"epochs": 0}, "epochs=0 is out of range: choose a value from 1 to 100"),
        ({"epochs": True}, "epochs=True is a bool, but epochs takes int"),
        ({"epochs": 2.0}, "epochs=2.0 is a float"),
        ({"lr": float("nan")}, "lr=nan is out of range"),
        ({"dataset": "cifar"}, "'cifar' is not one of: digits, mnist"),
        ({"hard": 1}, "hard=1 is a int, but hard takes bool"),
    ],
)
def test_a_bad_override_is_refused(override, message):
    with pytest.raises(ParameterError, match=message.replace("(", r"\(")):
        resolve(parse(CELL), override)


@pytest.mark.parametrize(
    "line",
    [
        "epochs = 5  # 1..9 | untyped",
        "epochs: int = five  # 1..9 | not a literal",
        "epochs: list = [1]  # 1..9 | no scalar",
        "epochs: int = 5",
        'name: str = "a"',
        "import torch",
    ],
)
def test_a_sloppy_declaration_is_refused(line):
    with pytest.raises((CatalogueError, ValueError)):
        parse(line)


def test_a_default_outside_its_own_range_is_refused():
    with pytest.raises(ParameterError, match="epochs=500 is out of range"):
        parse("epochs: int = 500  # 1..100 | too many")
