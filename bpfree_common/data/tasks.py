"""Data sets as tensors in memory, batches as slices.

Images come as float32 in [0, 1], shape (samples, channels, height, width); labels as
int64. The split into training, validation and test data is fixed once and for all:
methods and hyper-parameters are chosen on validation data, test data is read once.
"""

import gzip
import io
import pickle
import tarfile
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from bpfree_common.data import datasets
from bpfree_common.data.datasets import Contents
from bpfree_common.data.decoded import decoded
from bpfree_common.errors import DataError, choices

SPLIT_SEED = 2022  #: draws the validation (and, where none is official, test) samples
CIFAR10_BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


@dataclass(frozen=True)
class Data:
    """A task: three splits of inputs and targets.

    `x_*` has the samples in its first dimension; in a classification task `y_*` is int64
    of shape (samples,). For a graph the inputs are node indices and `graph` holds the
    rest. Other tasks say in their loader what `x`, `y` and `classes` are.
    """

    name: str
    classes: int
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    graph: "Graph | None" = None

    @property
    def inputs(self) -> int:
        """Numbers per sample."""
        return self.x_train[0].numel()

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """(x, y) of the split `train`, `val` or `test`."""
        return getattr(self, f"x_{name}"), getattr(self, f"y_{name}")

    def flat(self) -> "Data":
        """The same data with one row of numbers per sample."""
        return self._map(lambda x: x.flatten(1))

    def standardised(self) -> "Data":
        """Shifted and scaled to mean 0 and variance 1 over all training values."""
        mean, std = self.x_train.mean(), self.x_train.std()
        return self._map(lambda x: (x - mean) / std)

    def take(self, train: int) -> "Data":
        """Only the first `train` training samples (they are in random order)."""
        return replace(self, x_train=self.x_train[:train], y_train=self.y_train[:train])

    def without_test(self) -> "Data":
        """The same task with an empty test split, for whoever must not see it.

        In a graph the test nodes stay, with the label -1.
        """
        graph = self.graph
        if graph is not None:
            hidden = graph.y.index_fill(0, self.x_test, -1)
            graph = replace(graph, y=hidden)
        empty = {"x_test": self.x_test[:0], "y_test": self.y_test[:0]}
        return replace(self, **empty, graph=graph)

    def to(self, device) -> "Data":
        """All tensors on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if torch.is_tensor(v)}
        graph = self.graph.to(device) if self.graph else None
        return replace(self, **moved, graph=graph)

    def _map(self, change) -> "Data":
        names = ("x_train", "x_val", "x_test")
        return replace(self, **{n: change(getattr(self, n)) for n in names})


@dataclass(frozen=True)
class Graph:
    """An undirected graph with node features.

    x: (nodes, features) float32. edges: (2, 2 x undirected edges) int64, both
    directions, no self-loops. y: (nodes,) int64.
    """

    x: Tensor
    edges: Tensor
    y: Tensor

    def to(self, device) -> "Graph":
        """All tensors on `device`."""
        return Graph(self.x.to(device), self.edges.to(device), self.y.to(device))


def load_data(name: str) -> Data:
    """A table or images: the names are those of `READERS`.

    Raises DataMissing when a file is not here and cannot come, DataCorrupted when its
    bytes are not the published ones.
    """
    if name not in READERS:
        raise DataError(f"{name!r} is no table or images: {choices(name, READERS)}")
    return READERS[name](name, datasets.contents(name))


def _digits(name: str, found: Contents) -> Data:
    table = np.loadtxt(_unzipped(found.files[0]), delimiter=",")
    return split_thirds(name, table[:, :-1].reshape(-1, 1, 8, 8) / 16, table[:, -1])


def _mnist5k(name: str, found: Contents) -> Data:
    text = _unzipped(found.files[0])
    table = pd.read_csv(text, header=None, dtype="uint8").to_numpy()
    return split_thirds(name, table[:, :-1].reshape(-1, 1, 28, 28) / 255, table[:, -1])


def _unzipped(raw: bytes) -> io.BytesIO:
    return io.BytesIO(gzip.decompress(raw))


def _idx(name: str, found: Contents) -> Data:
    x_train, y_train, x_test, y_test = map(_read_idx, found.files)
    return _official(name, x_train[:, None], y_train, x_test[:, None], y_test, 10_000)


def _read_idx(zipped: bytes) -> np.ndarray:
    """An IDX file: magic 0, 0, type 8 (uint8), rank; sizes; then the bytes."""
    raw = gzip.decompress(zipped)
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _cifar10(name: str, found: Contents) -> Data:
    """Decoded pixels are kept in the cache, keyed by the checksums of the files."""
    key = "-".join(sha[:8] for sha in datasets.checksums(name).values())
    decode = {"sheets": _cifar10_sheets, "archive": _cifar10_archive}[found.form]
    arrays = decoded(
        f"cifar-10-{found.form}-{key}.npz",
        datasets.catalogue()[name]["decoded"],
        lambda: dict(zip(("xa", "ya", "xb", "yb"), decode(found.files), strict=True)),
    )
    return _official(name, *arrays.values(), 5_000)


def _cifar10_sheets(files: list[bytes]):
    """Each sheet holds 100 x 100 tiles of 32 x 32 RGB pixels, row by row."""
    from PIL import Image

    *sheets, index = files
    table = pd.read_csv(_unzipped(index))
    x, y = [], []
    for batch, raw in zip(CIFAR10_BATCHES, sheets, strict=True):
        sheet = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
        tiles = sheet.reshape(100, 32, 100, 32, 3).transpose(0, 2, 4, 1, 3)
        x.append(tiles.reshape(-1, 3, 32, 32))
        y.append(table.loc[table["batch"] == batch, "label"].to_numpy())
    return np.concatenate(x[:-1]), np.concatenate(y[:-1]), x[-1], y[-1]


def _cifar10_archive(files: list[bytes]):
    x, y = _cifar_batches(files[0], "cifar-10-batches-py", CIFAR10_BATCHES, b"labels")
    return np.concatenate(x[:-1]), np.concatenate(y[:-1]), x[-1], y[-1]


def _cifar100(name: str, found: Contents) -> Data:
    """The 100 fine classes."""
    (x, x_test), (y, y_test) = _cifar_batches(
        found.files[0], "cifar-100-python", ["train", "test"], b"fine_labels"
    )
    return _official(name, x, y, x_test, y_test, 5_000)


def _cifar_batches(archive: bytes, folder: str, names: list[str], labels: bytes):
    """Images and labels of the official pickles, whose checksum has been verified."""
    x, y = [], []
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for name in names:
            stream = members.extractfile(f"{folder}/{name}")
            batch = pickle.load(stream, encoding="bytes")
            x.append(batch[b"data"].reshape(-1, 3, 32, 32))
            y.append(np.array(batch[labels]))
    return x, y


def _vowel(name: str, found: Contents) -> Data:
    """The official split by speakers: 8 train, 7 test; here two of the 8 validate.

    Columns: split, speaker, sex, ten numbers, class.
    """
    table = pd.read_csv(io.BytesIO(found.files[0]), header=None).to_numpy()
    test, speaker, x, y = table[:, 0] == 1, table[:, 1], table[:, 3:13], table[:, 13]
    held = np.isin(speaker, (3, 7))  # one woman, one man
    parts = (~test & ~held, held, test)
    return _data(name, *[a for part in parts for a in (x[part], y[part])])


READERS = {
    "digits": _digits,
    "mnist5k": _mnist5k,
    "mnist": _idx,
    "fashion-mnist": _idx,
    "cifar-10": _cifar10,
    "cifar-100": _cifar100,
    "vowel": _vowel,
}


def split_thirds(name: str, x: np.ndarray, y: np.ndarray) -> Data:
    """60 % training, 20 % validation, 20 % test, every class in proportion."""
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(y))
    rank = pd.Series(y[order]).groupby(y[order]).cumcount().to_numpy()
    share = rank / np.bincount(y.astype(int))[y[order].astype(int)]
    parts = [
        order[share < 0.6],
        order[(share >= 0.6) & (share < 0.8)],
        order[share >= 0.8],
    ]
    return _data(name, *[a for part in parts for a in (x[part], y[part])])


def _official(name: str, x, y, x_test, y_test, validation: int) -> Data:
    """Official test split; `validation` random training samples held out."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    held, rest = order[:validation], order[validation:]
    scale = np.float32(255)
    return _data(
        name,
        *(x[rest] / scale, y[rest], x[held] / scale, y[held], x_test / scale, y_test),
    )


def random_split(
    name: str, classes: int, x: Tensor, y: Tensor, train: float, val: float
) -> Data:
    """Shares `train` and `val` of the samples, drawn once and for all; the rest test."""
    order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(y)))
    a, b = int(train * len(y)), int((train + val) * len(y))
    parts = order[:a], order[a:b], order[b:]
    return Data(name, classes, *[t for part in parts for t in (x[part], y[part])])


def _data(name: str, *arrays: np.ndarray) -> Data:
    x = [torch.from_numpy(a.astype(np.float32)) for a in arrays[::2]]
    y = [torch.from_numpy(a.astype(np.int64)) for a in arrays[1::2]]
    return Data(name, int(y[0].max()) + 1, x[0], y[0], x[1], y[1], x[2], y[2])


def load_graph(name: str, split: str = "public") -> Data:
    """A citation graph: cora, citeseer or pubmed; inputs are node indices.

    Features are row-normalised to sum 1. `split` is `public` (Yang et al. 2016: 20
    training nodes a class, 500 validation, 1,000 test nodes) or `random` (64 / 16 / 20 %
    of all nodes, drawn once). Raises DataError when a file is missing or corrupted.
    """
    graph, test = _planetoid(datasets.contents(name).files)
    classes = int(graph.y.max()) + 1
    nodes = torch.arange(len(graph.y))
    if split == "public":
        train, val = nodes[: 20 * classes], nodes[20 * classes : 20 * classes + 500]
    elif split == "random":
        order = np.random.default_rng(SPLIT_SEED).permutation(len(nodes))
        a, b = int(0.64 * len(nodes)), int(0.80 * len(nodes))
        train, val, test = (torch.as_tensor(p) for p in np.split(order, [a, b]))
    else:
        raise ValueError(f"split must be 'public' or 'random', not {split!r}")
    return _node_task(name, graph, train, val, test)


def _node_task(name: str, graph: Graph, train, val, test) -> Data:
    y = graph.y
    classes = int(y.max()) + 1
    splits = (train, y[train], val, y[val], test, y[test])
    return Data(name, classes, *splits, graph=graph)


def _planetoid(files: list[bytes]) -> tuple[Graph, Tensor]:
    """The Planetoid pickles: test rows come in the order of `test.index`.

    CiteSeer lacks the rows of its 15 isolated test nodes; they get zero features.
    """
    tx, ty, allx, ally, adjacency = (
        pickle.loads(raw, encoding="latin1") for raw in files[2:7]
    )
    index = np.loadtxt(io.BytesIO(files[7]), dtype=int)
    nodes = len(adjacency)
    features = scipy.sparse.lil_matrix((nodes, allx.shape[1]), dtype=np.float32)
    labels = np.zeros((nodes, ally.shape[1]))
    features[: allx.shape[0]], labels[: len(ally)] = allx, ally
    features[index], labels[index] = tx, ty
    x = torch.as_tensor(features.toarray())
    x = x / x.sum(1, keepdim=True).clamp_min(1e-12)
    pairs = {(min(a, b), max(a, b)) for a in adjacency for b in adjacency[a] if a != b}
    edges = _both_directions(torch.tensor(sorted(pairs)).T)
    y = torch.as_tensor(labels.argmax(1))
    return Graph(x, edges, y), torch.as_tensor(np.sort(index))


def knn_graph(data: Data, neighbours: int = 10) -> Data:
    """A node-classification task from samples: each is linked to its nearest ones.

    Nodes are the training, validation and test samples in this order; distances are
    Euclidean; an edge exists where either end is among the other's `neighbours` nearest.
    """
    x = torch.cat([data.split(s)[0].flatten(1) for s in ("train", "val", "test")])
    y = torch.cat([data.split(s)[1] for s in ("train", "val", "test")])
    near = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(neighbours, largest=False)
    ends = torch.arange(len(x)).repeat_interleave(neighbours)
    pairs = torch.stack([ends, near.indices.flatten()]).sort(0).values.unique(dim=1)
    sizes = [len(data.y_train), len(data.y_val), len(data.y_test)]
    graph = Graph(x, _both_directions(pairs), y)
    return _node_task(f"{data.name}-knn", graph, *torch.arange(len(x)).split(sizes))


def _both_directions(pairs: Tensor) -> Tensor:
    return torch.cat([pairs, pairs.flip(0)], 1)
