"""One door to all data sets: a name, and the loader that knows it."""

from importlib import import_module

from bpfree_common.data.tasks import Data

#: Where a data set's loader lives; all others are images or tables.
LOADERS = dict.fromkeys(("cora", "citeseer", "pubmed"), "tasks.load_graph") | {
    **dict.fromkeys(
        ("descriptions", "tiny-shakespeare", "wikitext-2"), "sequences.load_text"
    ),
    "fsdd": "sequences.load_speech",
    "photo": "scenes.load_photo",
    "nerf-lego": "scenes.load_views",
    "movielens-100k": "ratings.load_ratings",
    "acoustic-cavity": "cavity.load_cavity",
    "formants": "cavity.load_formants",
}


def load(name: str, **options) -> Data:
    """The data set `name`; options: those of its loader.

    Raises DataError when its files are not here, cannot be had, or are corrupted.
    """
    module, loader = LOADERS.get(name, "tasks.load_data").split(".")
    return getattr(import_module(f"bpfree_common.data.{module}"), loader)(name, **options)
