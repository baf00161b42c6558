"""Data are verified, split once and for all, and served as slices."""

import errno
import hashlib
import os
import pickle
import re
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from bpfree_common import paths, progress
from bpfree_common.__main__ import main
from bpfree_common.data import (
    cavity,
    datasets,
    decoded,
    download,
    loading,
    ratings,
    scenes,
    sequences,
)
from bpfree_common.data import tasks as data
from bpfree_common.data.checksum import checksum
from bpfree_common.errors import DataCorrupted, DataError, DataMissing, UserError
from bpfree_common.learning.batches import Batches, Executions

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
    address = "https://127.0.0.1:9/file"
    assert f"bring it from {address} to $BPFREE_DATA, or try again with a net" in said
    assert len(said.splitlines()) == 1


def test_missing_and_corrupted_are_two_errors_and_both_of_data(toy):
    with pytest.raises(DataMissing):
        datasets.contents("toy", download=False)
    toy.write_bytes(CONTENT[:-1])
    with pytest.raises(DataCorrupted):
        datasets.contents("toy", download=False)
    assert not issubclass(DataCorrupted, DataMissing)
    assert not issubclass(DataMissing, DataCorrupted)
    assert issubclass(DataMissing, DataError)
    assert issubclass(DataCorrupted, DataError)


def test_a_corrupted_file_is_never_merely_unavailable(toy, monkeypatch):
    monkeypatch.setenv("BPFREE_OFFLINE", "1")
    assert datasets.available("toy") is False
    toy.write_bytes(CONTENT)
    assert datasets.available("toy") is True
    toy.write_bytes(CONTENT + b".")
    with pytest.raises(DataCorrupted):
        datasets.available("toy")


def test_the_bytes_that_were_verified_are_handed_on_whatever_lies_there_now(
    toy, monkeypatch
):
    """The file is replaced as soon as it has been read, and read no second time."""
    toy.write_bytes(CONTENT)

    def swapping(content):
        toy.write_bytes(b"something else altogether")
        return checksum(content)

    monkeypatch.setattr(datasets, "checksum", swapping)
    assert datasets.contents("toy").files == [CONTENT]
    assert toy.read_bytes() != CONTENT


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["cora", "cifar-10", "cifar-100"])
def test_a_pickle_that_is_not_the_published_one_is_never_opened(
    tmp_path, monkeypatch, name
):
    monkeypatch.setenv("BPFREE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path / "cache"))
    marker = tmp_path / "executed"
    evil = pickle.dumps(Evil(marker))
    for file in datasets.catalogue()[name]["forms"][datasets.form(name)]:
        path = tmp_path / "data" / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(evil)
        if path.name.endswith(".tar.gz"):
            (tmp_path / "batch").write_bytes(evil)
            with tarfile.open(path, "w:gz") as archive:
                for inside in (
                    "cifar-10-batches-py/data_batch_1",
                    "cifar-100-python/train",
                ):
                    archive.add(tmp_path / "batch", inside)
    load = data.load_graph if name == "cora" else data.load_data
    with pytest.raises(DataCorrupted):
        load(name)
    assert not marker.exists()
    pickle.loads(evil)
    assert marker.exists(), "the pickle would have acted"


# --- what is no file, or cannot be read ---


def refused(capsys, path) -> str:
    assert main(["data", "toy"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert str(path) in said
    return said


@pytest.mark.parametrize("thing", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting(toy, capsys, thing):
    if thing == "pipe":
        os.mkfifo(toy)
    elif thing == "device":
        toy.symlink_to("/dev/zero")
    else:
        toy.mkdir()
    assert "is corrupted" in refused(capsys, toy)


def test_a_file_larger_than_any_that_was_published_is_not_read(toy, capsys, monkeypatch):
    with toy.open("wb") as stream:
        stream.truncate(download.LARGEST + 1)
    monkeypatch.setattr(datasets, "checksum", None)
    assert "is corrupted" in refused(capsys, toy)


def test_a_file_that_cannot_be_looked_up_gets_one_sentence(toy, capsys):
    toy.symlink_to(toy)  # a loop of links: the look-up fails even for an administrator
    assert "cannot be read (Too many levels of symbolic links)" in refused(capsys, toy)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_opened_gets_one_sentence(toy, capsys, monkeypatch, number):
    toy.write_bytes(CONTENT)
    opened = os.open

    def denied(path, *more, **options):
        if Path(path) == toy:
            raise OSError(number, os.strerror(number))
        return opened(path, *more, **options)

    monkeypatch.setattr(os, "open", denied)
    assert f"cannot be read ({os.strerror(number)})" in refused(capsys, toy)


@pytest.mark.parametrize("variable", ["BPFREE_DATA", "BPFREE_CACHE", "BPFREE_REPORTS"])
def test_a_folder_of_nobody_is_named_with_its_variable(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "~no-such-user/x")
    find = {"BPFREE_DATA": paths.data_dir, "BPFREE_CACHE": paths.cache}
    with pytest.raises(UserError, match=f"{variable}='~no-such-user/x' is no folder"):
        find.get(variable, paths.reports)()


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    folders = []
    for set_them in (True, False):
        for name in ("BPFREE_DATA", "BPFREE_CACHE", "BPFREE_REPORTS"):
            monkeypatch.setenv(name, "")
            if not set_them:
                monkeypatch.delenv(name)
        folders.append([paths.data_dir(), paths.cache(), paths.reports()])
    assert folders[0] == folders[1]
    assert folders[0][0] is None


def test_of_a_form_that_is_nearly_there_the_lacking_file_is_named(toy, monkeypatch):
    whole = datasets.catalogue()["toy"]["forms"]["raw"]
    parts = [{"name": f"toy/{n}.bin", "sha256": checksum(b"")} for n in range(7)]
    forms = {"sheets": parts, "raw": whole}
    entry = {"toy": {"about": "", "licence": "", "forms": forms}}
    monkeypatch.setattr(datasets, "catalogue", lambda: entry)
    for part in parts:
        (toy.parents[1] / part["name"]).write_bytes(b"")
    assert datasets.form("toy") == "sheets"
    (toy.parent / "3.bin").unlink()
    with pytest.raises(DataMissing, match="'sheets' only toy/3.bin is missing"):
        datasets.files("toy")


def test_the_runner_refuses_before_a_kernel_starts_when_data_are_missing(
    toy, project, monkeypatch, capsys
):
    path = project.add("tiny")
    declaration = 'dataset: str = \\"toy\\"  # toy | it\\n'
    path.write_text(path.read_text().replace("word: str", f"{declaration}word: str"))
    where = project.notebooks
    monkeypatch.setattr("bpfree_common.paths.NOTEBOOKS", where)
    monkeypatch.setattr("bpfree_common.paths.CATALOGUE", where / "papers.yaml")
    assert main(["run", "tiny", "--reports", str(project.reports)]) == 2
    assert "could not be downloaded" in capsys.readouterr().out
    assert not list(project.pids.iterdir())


def test_an_unknown_data_set_is_refused_with_the_names_that_exist():
    with pytest.raises(DataError, match="no data set 'minst': did you mean mnist"):
        datasets.files("minst")
    with pytest.raises(DataError, match="no data set 'zzz': choose one of digits"):
        datasets.files("zzz")
    with pytest.raises(DataError, match="'cora' is no table or images"):
        data.load_data("cora")


def test_every_data_set_of_the_catalogue_has_a_loader_and_every_loader_a_data_set():
    assert set(loading.LOADERS) | set(data.READERS) == set(datasets.catalogue())
    assert not set(loading.LOADERS) & set(data.READERS)
    for loader in loading.LOADERS.values():
        module, name = loader.split(".")
        assert callable(getattr(import_module(f"bpfree_common.data.{module}"), name))
    assert loading.load("digits").classes == 10


def test_every_file_of_the_catalogue_has_a_place_and_a_checksum_of_its_own():
    files = [
        file
        for entry in datasets.catalogue().values()
        for form in entry["forms"].values()
        for file in form
    ]
    assert len({file["name"] for file in files}) == len(files)
    assert len({file["sha256"] for file in files}) == len(files)
    for file in files:
        assert re.fullmatch("[0-9a-f]{64}", file["sha256"])
        assert set(file) <= {"name", "sha256", "url", "folder", "package"}
        assert ".." not in Path(file["name"]).parts
        assert not Path(file["name"]).is_absolute()


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


# --- decoded copies ---

PIXELS = {"xa": np.arange(600, dtype=np.uint8).reshape(10, 60), "ya": np.arange(10)}


def decode(calls: list) -> dict:
    """PIXELS, counting how often they are decoded."""
    copies = decoded.decoded(
        "toy.npz", decoded.array_digest(PIXELS), lambda: calls.append(1) or PIXELS
    )
    assert all(np.array_equal(copies[name], PIXELS[name]) for name in PIXELS)
    return copies


@pytest.mark.parametrize(
    "damage", ["pixels", "labels", "type", "extra", "object", "flipped", "cut", "empty"]
)
def test_a_damaged_copy_of_decoded_pixels_is_made_anew_and_never_used(
    tmp_path, monkeypatch, damage
):
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path))
    kept, calls = tmp_path / "decoded" / "toy.npz", []
    decode(calls), decode(calls)
    assert len(calls) == 1, "the good copy was used"
    whole = kept.read_bytes()
    middle = whole.index(PIXELS["xa"].tobytes()) + 99
    written = {
        "pixels": {"xa": PIXELS["xa"] // 2},
        "labels": {"ya": PIXELS["ya"] * 0},
        "type": {"ya": PIXELS["ya"].astype(np.int32)},
        "extra": {"za": PIXELS["ya"]},
        "object": {"ya": PIXELS["ya"].astype(object)},
    }
    bytes_written = {
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "cut": whole[:middle],
        "empty": b"",
    }
    if damage in written:
        np.savez(kept, **PIXELS | written[damage])
    else:
        kept.write_bytes(bytes_written[damage])
    decode(calls), decode(calls)
    assert len(calls) == 2, "decoded once more, and the new copy was used"
    assert kept.read_bytes() == whole
    assert list(kept.parent.iterdir()) == [kept]


def test_a_decoder_that_makes_other_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path))
    with pytest.raises(DataCorrupted, match="toy was decoded to other numbers"):
        decoded.decoded("toy.npz", decoded.array_digest(PIXELS), lambda: {})
    assert not list(tmp_path.iterdir())


def test_a_copy_that_cannot_be_kept_costs_a_warning_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set BPFREE_CACHE to a folder of yours"):
        decode([])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_photographs_of_100_classes_come_from_their_archive(tmp_path, monkeypatch):
    """An archive made as the official one is: pickled rows of red, green, blue planes."""
    rows, fine = np.arange(8 * 3072).reshape(8, 3072) % 251, [3, 99, 0, 7, 50, 1, 2, 4]
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, part in (("train", slice(0, 6)), ("test", slice(6, 8))):
            batch = {
                b"data": rows[part].astype(np.uint8),
                b"fine_labels": fine[part],
                b"coarse_labels": [0] * len(fine[part]),
            }
            (tmp_path / name).write_bytes(pickle.dumps(batch))
            archive.add(tmp_path / name, f"cifar-100-python/{name}")
    raw = (tmp_path / "a.tar.gz").read_bytes()
    x, y = data._cifar_batches(raw, "cifar-100-python", ["train", "test"], b"fine_labels")
    assert [part.tolist() for part in y] == [fine[:6], fine[6:]]
    assert x[0].shape == (6, 3, 32, 32)
    assert x[1][1, 2, 31, 0] == rows[7, 2 * 1024 + 31 * 32]


@needs_data
def test_the_cavity_has_20_channels_and_the_split_of_its_authors():
    loaded = cavity.load_cavity()
    assert [len(loaded.split(s)[0]) for s in ("train", "val", "test")] == [9000, 300, 700]
    assert loaded.x_train.shape[1] == loaded.y_train.shape[1] == loaded.classes == 20
    for x, y in map(loaded.split, ("train", "val", "test")):
        assert 0 < x.min() < x.max() <= 1
        assert y.min() >= 0
    rows = torch.cat([loaded.split(s)[0] for s in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == 10_000, "random inputs do not repeat"


@needs_data
def test_formants_are_those_of_37_women_and_seven_vowels():
    loaded = cavity.load_formants()
    x = torch.cat([loaded.split(s)[0] for s in ("train", "val", "test")])
    y = torch.cat([loaded.split(s)[1] for s in ("train", "val", "test")])
    assert x.shape == (258, 12)
    assert y.bincount().tolist() == [37] * 6 + [36]
    f1, f2, f3 = x.view(258, 4, 3).unbind(-1)
    assert (f1 < f2).all()
    assert (f2 < f3).all()
    high, low = cavity.VOWELS.index("iy"), cavity.VOWELS.index("ah")
    assert f1[y == high].mean() < 0.6 * f1[y == low].mean(), "close vowels have a low F1"
    assert f2[y == high].mean() > 1.5 * f2[y == low].mean(), "front vowels have a high F2"


@needs_data
@pytest.mark.parametrize(
    ("name", "nodes", "edges"),
    [("cora", 2708, 5278), ("citeseer", 3327, 4552), ("pubmed", 19717, 44324)],
)
def test_citation_graphs_have_the_published_sizes(name, nodes, edges):
    graph = data.load_graph(name).graph
    assert len(graph.x) == nodes
    assert graph.edges.shape[1] == 2 * edges


@needs_data
def test_spoken_digits_are_standardised_sequences_split_by_take():
    loaded = sequences.load_speech()
    assert loaded.x_train.shape == (2400, 32, 20)
    assert len(loaded.y_val) == len(loaded.y_test) == 300
    assert torch.bincount(loaded.y_test).tolist() == [30] * 10
    assert loaded.x_train.mean((0, 1)).abs().max() < 1e-4
    assert (loaded.x_train.std((0, 1)) - 1).abs().max() < 1e-3


def test_a_pure_tone_lights_up_the_band_of_its_frequency():
    seconds = torch.arange(256 + 200 * 31) / 8000
    low, high = (torch.sin(6.2832 * f * seconds)[None] for f in (300, 3000))
    bands = [sequences._band_energies(tone).mean(1).argmax() for tone in (low, high)]
    assert bands[0] < 5 < 14 < bands[1]


@needs_data
def test_vowels_are_split_by_speaker():
    loaded = data.load_data("vowel")
    assert [len(loaded.split(s)[1]) for s in ("train", "val", "test")] == [396, 132, 462]
    assert torch.bincount(loaded.y_val).tolist() == [12] * 11


def test_text_is_cut_into_pieces_whose_targets_are_one_character_ahead():
    loaded = sequences.load_text("descriptions", context=16)
    assert torch.equal(loaded.x_train[:, 1:], loaded.y_train[:, :-1])
    assert torch.equal(loaded.x_train[1:, 0], loaded.y_train[:-1, -1])
    assert loaded.classes == int(max(loaded.x_train.max(), loaded.x_test.max())) + 1


@needs_data
@pytest.mark.parametrize(
    ("name", "classes"), [("tiny-shakespeare", 65), ("wikitext-2", 137)]
)
def test_texts_have_the_published_alphabet(name, classes):
    assert sequences.load_text(name).classes == classes


def test_every_pixel_of_the_photograph_is_in_one_split():
    loaded = scenes.load_photo(step=8)
    places = torch.cat([loaded.split(s)[0] for s in ("train", "val", "test")])
    assert len(places.unique(dim=0)) == len(places) == 54 * 80
    assert places.abs().max() < 1


@needs_data
def test_rays_start_at_the_camera_and_the_middle_one_points_at_the_scene():
    loaded = scenes.load_views(step=10)
    origin, direction = loaded.x_train.view(80, 10, 10, 6).split(3, -1)
    assert (direction.norm(dim=-1) - 1).abs().max() < 1e-6
    assert torch.equal(origin[:, 0, 0], origin[:, 9, 9])
    middle = direction[:, 5, 5]
    towards = -origin[:, 5, 5] / origin[:, 5, 5].norm(dim=-1, keepdim=True)
    assert (middle * towards).sum(-1).min() > 0.99


def test_ratings_become_likes(tmp_path, monkeypatch):
    lines = [f"{1 + n % 9}\t{1 + n // 9}\t{1 + n % 5}\t0" for n in range(100)]
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", "\n".join(lines))
    found = datasets.Contents("archive", [(tmp_path / "ml.zip").read_bytes()])
    monkeypatch.setattr(datasets, "contents", lambda name: found)
    loaded = ratings.load_ratings()
    x = torch.cat([loaded.split(s)[0] for s in ("train", "val", "test")])
    y = torch.cat([loaded.split(s)[1] for s in ("train", "val", "test")])
    assert [len(loaded.split(s)[1]) for s in ("train", "val", "test")] == [80, 10, 10]
    stars = 1 + (9 * x[:, 1] + x[:, 0]) % 5
    assert torch.equal(y, (stars >= 4).long())


def test_make_data_goes_past_what_has_no_address(toy, capsys):
    del datasets.catalogue()["toy"]["forms"]["raw"][0]["url"]
    assert main(["data"]) == 0
    assert "toy: no official address" in capsys.readouterr().out


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


def test_executions_hold_all_batches_in_order_and_say_where_they_start():
    batches = Batches(torch.arange(10.0)[:, None], torch.arange(10), 2, shuffle_seed=0)
    groups = Executions(batches, 2)
    found = [(group.first, [y.tolist() for _, y in group.batches]) for group in groups]
    assert [first for first, _ in found] == [0, 2, 4]
    assert len(groups) == 3
    assert sum((ys for _, ys in found), []) == [y.tolist() for _, y in batches]


def test_evaluation_batches_cover_everything_in_order():
    x, y = torch.arange(7.0)[:, None], torch.arange(7)
    labels = torch.cat([labels for _, labels in Batches(x, y, 3)])
    assert labels.tolist() == list(range(7))


def test_a_download_shows_in_the_runner_and_not_in_the_report(
    tmp_path, monkeypatch, capsys
):
    progress.announce("downloading mnist")
    assert capsys.readouterr().out == "downloading mnist\n"
    monkeypatch.setenv("BPFREE_PROGRESS", str(tmp_path / "progress.json"))
    progress.announce("downloading mnist")
    assert capsys.readouterr().out == ""
    assert progress.read(tmp_path / "progress.json")["stage"] == "downloading mnist"
