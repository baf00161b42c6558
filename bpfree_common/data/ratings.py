"""Recommendation: will this user like this film?"""

import io
import zipfile

import numpy as np
import pandas as pd
import torch

from bpfree_common.data import datasets
from bpfree_common.data.tasks import Data, random_split


def load_ratings(name: str = "movielens-100k") -> Data:
    """x: (ratings, 2) int64 user and film, y: (ratings,) int64, 1 for four or five stars.

    80 % of the ratings, drawn at random, train, 10 % validate, 10 % test. Users are
    numbered from 0 to 942, films from 0 to 1681. Raises DataError when the archive is
    not here and cannot be downloaded.
    """
    (raw,) = datasets.contents(name).files
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        table = pd.read_csv(
            io.BytesIO(archive.read("ml-100k/u.data")), sep="\t", header=None
        ).to_numpy()
    x = torch.from_numpy(table[:, :2].astype(np.int64) - 1)
    y = torch.from_numpy((table[:, 2] >= 4).astype(np.int64))
    return random_split(name, 2, x, y, train=0.8, val=0.1)
