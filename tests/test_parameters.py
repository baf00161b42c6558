"""Parameters are declared once, and bad values get one sentence."""

import pytest

from bpfree_common.__main__ import _assignment
from bpfree_common.errors import CatalogueError, ParameterError
from bpfree_common.papers.parameters import literal, parse, resolve

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
    ("override", "message"),
    [
        ({"lr": int("9" * 400)}, "lr=inf is out of range"),
        ({"lr": -int("9" * 400)}, "lr=-inf is out of range"),
        ({"epochs": int("9" * 400)}, "epochs=9+... is out of range"),
        ({"epochs": 16**5000}, "epochs=a int too long to print is out of range"),
        ({"dataset": "d" * 5000}, "dataset='d+... is not one of"),
        ({"hard": "d" * 5000}, "hard='d+... is a str, but hard takes bool"),
        ({"e" * 5000: 1}, "unknown parameter 'e+...: choose one of epochs"),
    ],
)
def test_a_huge_value_is_refused_in_a_short_sentence(override, message):
    with pytest.raises(ParameterError, match=message) as caught:
        resolve(parse(CELL), override)
    assert len(str(caught.value)) < 250


def test_the_nearest_name_is_offered():
    with pytest.raises(ParameterError, match=r"'epoch': did you mean epochs\? .*takes"):
        resolve(parse(CELL), {"epoch": 3})


NO_LITERAL = {
    "list as key": "{[]: 1}",
    "dict in set": "{{}}",
    "100,000 signs": "-" * 100_000 + "1",
    "5,000 brackets": "[" * 5_000,
    "5,000 digits": "9" * 5_000,
    "word": "a..b",
    "nothing": "",
}


@pytest.mark.parametrize("kind", NO_LITERAL)
def test_what_is_no_literal_is_a_word_that_is_checked_like_any_other(kind):
    text = NO_LITERAL[kind]
    with pytest.raises(ValueError, match="is no literal"):
        literal(text)
    assert _assignment(f"lr={text}") == ("lr", text)
    with pytest.raises(ParameterError, match="is a str, but lr takes float") as caught:
        resolve(parse(CELL), {"lr": text})
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs = 5  # 1..9 | untyped", "line 2: write `name: type = literal"),
        ("epochs: int = five  # 1..9 | a name", "line 2: the default of epochs is no"),
        ("epochs: int = {[]: 1}  # 1..9 | it", "line 2: the default of epochs is no"),
        ("epochs: list = [1]  # 1..9 | no scalar", "line 2: write `name: type"),
        ("epochs: int = 5", "line 2: the parameter needs its range"),
        ("epochs: int = 5  # 1-9 | a dash", "line 2: the parameter needs its range"),
        ("epochs: int = 5  # a..b | words", "line 2: a..b is no range of numbers"),
        ("epochs: int = 500  # 1..100 | too many", "line 2: .*=500 is out of range"),
        ("epochs: int = 5.0  # 1..9 | it", "line 2: .* a float, but epochs takes int"),
        ('name: str = "a"', "line 2: the parameter needs its range"),
        ("import torch", "line 2: write `name: type = literal"),
        ("seed: int = 1  # 0..9 | again", "line 2: seed is declared a second time"),
        ("<<<<<<< HEAD", "line 2: invalid syntax"),
        ("epochs: int = (5  # 1..9 | open", "line 2: '\\(' was never closed"),
        ("    epochs: int = 5  # 1..9 | moved", "line 2: unexpected indent"),
        ('epochs: int = """5  # 1..9 | open', r"line \d: unterminated"),
        ("epochs: int = 5\0  # 1..9 | null", "cell"),
        pytest.param(
            f"epochs: int = {'-' * 100_000}5  # 1..9 | deep", "cell", id="100,000 signs"
        ),
    ],
)
def test_a_slip_in_the_cell_is_told_with_notebook_and_line(line, message):
    with pytest.raises(CatalogueError, match=message) as caught:
        parse(f"seed: int = 0  # 0..9 | fine\n{line}\n", "N.ipynb, parameters cell")
    assert str(caught.value).startswith("N.ipynb, parameters cell")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


def test_the_values_that_are_allowed_are_shown_as_they_are_written():
    limits = {name: parameter.limits for name, parameter in parse(CELL).items()}
    assert limits == {
        "epochs": "1..100",
        "lr": "1e-06..1",
        "dataset": "digits, mnist",
        "hard": "True, False",
    }
