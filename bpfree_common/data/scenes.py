"""Scenes as regression tasks: a photograph, and views of an object with their cameras."""

import io

import numpy as np
import torch
from torch import Tensor

from bpfree_common.data import datasets
from bpfree_common.data.tasks import Data, random_split


def load_photo(name: str = "photo", step: int = 4) -> Data:
    """Every `step`-th pixel of a photograph: its place and its colour.

    x: (samples, 2), across and down, in [-1, 1] on the longer side. y: (samples, 3), red,
    green and blue in [0, 1]. 60 % of the pixels, drawn at random, train, 20 % validate,
    20 % test. `classes` is the number of colours.
    """
    from PIL import Image

    (raw,) = datasets.contents(name).files
    pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))[
        ::step, ::step
    ] / np.float32(255)
    height, width, _ = pixels.shape
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([2 * columns - width + 1, 2 * rows - height + 1], -1)
    x = torch.from_numpy((place / max(height, width)).astype(np.float32)).flatten(0, 1)
    y = torch.from_numpy(pixels).flatten(0, 1)
    return random_split(name, 3, x, y, train=0.6, val=0.2)


def load_views(name: str = "nerf-lego", step: int = 1) -> Data:
    """View synthesis; x: (rays, 6) origin and unit direction, y: (rays, 3) colour.

    Pixels of the rendered views on a white background, colours in [0, 1]; every `step`-th
    pixel in both directions. Whole views are held out: of ten, eight train, one
    validates, one tests. Rays go view by view, row by row. Raises DataError when the
    file is missing or corrupted.
    """
    (raw,) = datasets.contents(name).files
    with np.load(io.BytesIO(raw)) as scene:
        images = torch.from_numpy(scene["images"][:, ::step, ::step]) / 255
        poses, focal = torch.from_numpy(scene["poses"]), float(scene["focal"])
        side = scene["images"].shape[1]
    colour = images[..., :3] * images[..., 3:] + 1 - images[..., 3:]
    rays = _rays(poses, focal, side, step)
    turn = torch.arange(len(images)) % 10
    parts = [turn < 8, turn == 8, turn == 9]
    splits = [t[part].flatten(0, 2) for part in parts for t in (rays, colour)]
    return Data(name, 3, *splits)


def _rays(poses: Tensor, focal: float, side: int, step: int) -> Tensor:
    """Rays through the pixels: (views, rows, columns, 6). Cameras look along their -z."""
    pixel = torch.arange(0, side, step, dtype=torch.float32) - side / 2
    down, right = torch.meshgrid(pixel, pixel, indexing="ij")
    camera = torch.stack([right / focal, -down / focal, -torch.ones_like(right)], -1)
    direction = torch.einsum("hwc,vdc->vhwd", camera, poses[:, :3, :3])
    direction = direction / direction.norm(dim=-1, keepdim=True)
    origin = poses[:, None, None, :3, 3].expand_as(direction)
    return torch.cat([origin, direction], -1)
