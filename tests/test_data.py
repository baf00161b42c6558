"""Data are verified, split once and for all, and served as slices."""

import hashlib
import os

import pytest
import torch

from bpfree_common import catalogue, data, datasets
from bpfree_common.__main__ import main
from bpfree_common.errors import DataError
from bpfree_common.training import Batches

CONTENT = b"some bytes that were published"
needs_data = pytest.mark.skipif(
    "BPFREE_DATA" not in os.environ, reason="needs the data sets in $BPFREE_DATA"
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A catalogue with one data set of one file that nobody can reach."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    file = {"name": "toy/file.bin", "sha256": sha256, "url": "https://127.0.0.1:9/file"}
    entry = {"about": "a toy", "licence": "none", "forms": {"raw": [file]}}
    monkeypatch.setattr(datasets, "catalogue", lambda: {"toy": entry})
    monkeypatch.setenv("BPFREE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data" / "toy" / "file.bin"
    path.parent.mkdir(parents=True)
    return path


def test_a_good_file_is_found(toy):
    toy.write_bytes(CONTENT)
    assert datasets.files("toy") == [toy]


def test_the_cache_is_looked_at_after_the_users_folder(toy, tmp_path):
    cached = tmp_path / "cache" / "data" / "toy" / "file.bin"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    assert datasets.files("toy") == [cached]
    toy.write_bytes(CONTENT)
    assert datasets.files("toy") == [toy]


@pytest.mark.parametrize("place", range(0, len(CONTENT), 7))
def test_a_file_with_one_byte_flipped_is_refused_named_and_kept(toy, capsys, place):
    flipped = bytearray(CONTENT)
    flipped[place] ^= 1
    toy.write_bytes(flipped)
    assert main(["data", "toy"]) == 2
    said = capsys.readouterr().err
    assert f"{toy} is corrupted" in said
    assert len(said.splitlines()) == 1
    assert toy.read_bytes() == flipped


def test_no_network_and_no_data_gives_one_clear_sentence(toy, capsys):
    assert main(["data", "toy"]) == 2
    said = capsys.readouterr().err
    assert "data set 'toy': toy/file.bin could not be downloaded" in said
    assert "put it under $BPFREE_DATA, or run `make data` with a network" in said
    assert len(said.splitlines()) == 1


def test_the_runner_refuses_before_a_kernel_starts_when_data_are_missing(
    toy, project, monkeypatch, capsys
):
    path = project.add("tiny")
    declaration = 'dataset: str = \\"toy\\"  # toy | it\\n'
    path.write_text(path.read_text().replace("word: str", f"{declaration}word: str"))
    where = project.notebooks
    monkeypatch.setattr("bpfree_common.paths.NOTEBOOKS", where)
    monkeypatch.setattr("bpfree_common.paths.CATALOGUE", where / "papers.yaml")
    catalogue.load.cache_clear()
    assert main(["run", "tiny", "--reports", str(project.reports)]) == 2
    catalogue.load.cache_clear()
    assert "could not be downloaded" in capsys.readouterr().err
    assert not list(project.pids.iterdir())


def test_an_unknown_data_set_is_refused_with_the_names_that_exist():
    with pytest.raises(DataError, match="no data set 'minst': choose one of digits"):
        datasets.files("minst")


@pytest.mark.parametrize(("name", "inputs"), [("digits", 64), ("mnist5k", 784)])
def test_embedded_data_are_real_complete_and_balanced(name, inputs):
    loaded = data.load_data(name).flat()
    samples = {"digits": 1797, "mnist5k": 5000}[name]
    assert sum(len(loaded.split(s)[1]) for s in ("train", "val", "test")) == samples
    assert loaded.inputs == inputs
    assert loaded.x_train.min() == 0
    assert loaded.x_train.max() == 1
    for split in ("train", "val", "test"):
        counts = torch.bincount(loaded.split(split)[1], minlength=10)
        assert counts.max() - counts.min() <= 0.05 * counts.sum() / 10 + 6


def test_splits_share_no_sample():
    loaded = data.load_data("mnist5k").flat()
    rows = torch.cat([loaded.split(s)[0] for s in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == 5000


def test_standardised_data_have_mean_zero_and_variance_one():
    loaded = data.load_data("digits").standardised()
    assert abs(float(loaded.x_train.mean())) < 1e-5
    assert abs(float(loaded.x_train.std()) - 1) < 1e-4


def test_the_neighbour_graph_is_symmetric_without_loops():
    task = data.knn_graph(data.load_data("digits"), neighbours=5)
    pairs = set(map(tuple, task.graph.edges.T.tolist()))
    assert all((b, a) in pairs and a != b for a, b in pairs)
    assert len(pairs) == task.graph.edges.shape[1]
    degree = torch.bincount(task.graph.edges[0])
    assert degree.min() >= 5
    assert torch.equal(task.graph.y[task.x_test], task.y_test)


@needs_data
@pytest.mark.parametrize(
    ("name", "train", "classes"),
    [("mnist", 50_000, 10), ("fashion-mnist", 50_000, 10), ("cifar-10", 45_000, 10)],
)
def test_official_data_load(name, train, classes):
    loaded = data.load_data(name)
    assert len(loaded.y_train) == train
    assert len(loaded.y_test) == 10_000
    assert loaded.classes == classes


@needs_data
@pytest.mark.parametrize(
    ("name", "nodes", "edges"),
    [("cora", 2708, 5278), ("citeseer", 3327, 4552), ("pubmed", 19717, 44324)],
)
def test_citation_graphs_have_the_published_sizes(name, nodes, edges):
    graph = data.load_graph(name).graph
    assert len(graph.x) == nodes
    assert graph.edges.shape[1] == 2 * edges


def test_batches_are_slices_shuffled_by_seed_and_epoch():
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    first = Batches(x, y, 3, shuffle_seed=1)
    assert len(first) == 3
    orders = []
    for epoch in (0, 1, 0):
        first.set_epoch(epoch)
        orders.append(torch.cat([labels for _, labels in first]).tolist())
    assert orders[0] == orders[2] != orders[1]
    assert len(set(orders[0])) == 9


def test_ranks_share_every_batch():
    x, y = torch.arange(8.0)[:, None], torch.arange(8)
    whole = [labels for _, labels in Batches(x, y, 4, shuffle_seed=0)]
    parts = [list(Batches(x, y, 4, shuffle_seed=0, rank=r, ranks=2)) for r in (0, 1)]
    for batch, (a, b) in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(torch.cat([a[1], b[1]]).tolist()) == sorted(batch.tolist())


def test_evaluation_batches_cover_everything_in_order():
    x, y = torch.arange(7.0)[:, None], torch.arange(7)
    labels = torch.cat([labels for _, labels in Batches(x, y, 3)])
    assert labels.tolist() == list(range(7))
