"""Sequences as tensors in memory: spoken digits and text, character by character.

Both come as `Data`, so that batches, training and validation are those of images.
"""

import io

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from bpfree_common.data import datasets
from bpfree_common.data.tasks import Data
from bpfree_common.errors import DataError

TEXTS = ("descriptions", "tiny-shakespeare", "wikitext-2")

RATE, WINDOW, HOP, STEPS, BANDS = 8_000, 256, 200, 32, 20  # Hz, samples, samples


def load_speech(name: str = "fsdd") -> Data:
    """Spoken digits as log band energies over time, x: (samples, 32 steps, 20 bands).

    A step is 25 ms; what is longer than 0.8 s is cut, what is shorter is followed by
    silence. Each band has mean 0 and variance 1 over the training data. Takes 0 to 4 of
    each speaker and digit are the official test split, 5 to 9 validate, the rest train.
    Raises DataError when the recordings are missing or corrupted.
    """
    (folder,) = datasets.contents(name).files
    files = sorted(file for file in folder if file.endswith(".wav"))
    digit, take = zip(*map(_labels, files), strict=True)
    waves = [_waveform(file, folder[file]) for file in files]
    energies = _band_energies(torch.stack(waves))
    digit, take = torch.tensor(digit), torch.tensor(take)
    train, val, test = take >= 10, (take >= 5) & (take < 10), take < 5
    mean = energies[train].mean((0, 1))
    x = (energies - mean) / energies[train].std((0, 1))
    splits = [part for use in (train, val, test) for part in (x[use], digit[use])]
    return Data(name, 10, *splits)


def _labels(file: str) -> tuple[int, int]:
    """Digit and take of a file named `digit_speaker_take.wav`."""
    digit, _, take = file.removesuffix(".wav").split("_")
    return int(digit), int(take)


def _waveform(file: str, raw: bytes) -> Tensor:
    """The recording in [-1, 1], cut or padded to the length of all steps."""
    rate, samples = wavfile.read(io.BytesIO(raw))
    if rate != RATE:
        raise DataError(f"{file} is sampled at {rate} Hz, not {RATE}")
    length = WINDOW + HOP * (STEPS - 1)
    wave = torch.zeros(length)
    samples = torch.from_numpy(samples[:length].astype(np.float32) / 2**15)
    wave[: len(samples)] = samples
    return wave


def _band_energies(waves: Tensor) -> Tensor:
    """Log energies in triangular bands on the mel scale: (samples, STEPS, BANDS)."""
    frames = waves.unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames).abs().square()
    return torch.log(power @ _mel_filters() + 1e-6)


def _mel_filters() -> Tensor:
    """(frequencies, BANDS): triangles at even steps of 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, float(top), BANDS + 2) / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rise = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
    return torch.minimum(rise, fall).clamp_min(0)


def load_text(name: str, context: int = 64) -> Data:
    """Next-character prediction; x, y: (samples, context) int64, y one character ahead.

    Samples are consecutive pieces of the text that do not overlap. WikiText-2's test
    articles are the test split; other texts end with 5 % validation and 5 % test. The
    classes are the distinct characters, in the order of their code points. Raises
    DataError when a file is missing or corrupted.
    """
    texts = [_text(raw) for raw in datasets.contents(name).files]
    if name == "wikitext-2":
        texts[1:] = [texts[0][-len(texts[0]) // 20 :], texts[1]]
        texts[0] = texts[0][: -len(texts[1])]
    else:
        texts = _ninety_five_five("".join(texts))
    characters = sorted(set("".join(texts)))
    code = {character: n for n, character in enumerate(characters)}
    splits = []
    for text in texts:
        stream = torch.tensor([code[character] for character in text])
        pieces = (len(stream) - 1) // context
        for shift in (0, 1):
            piece = stream[shift : shift + pieces * context]
            splits.append(piece.view(pieces, context))
    return Data(name, len(characters), *splits)


def _text(raw: bytes) -> str:
    """UTF-8 text, whatever characters end its lines."""
    return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8").read()


def _ninety_five_five(text: str) -> list[str]:
    a, b = int(0.90 * len(text)), int(0.95 * len(text))
    return [text[:a], text[a:b], text[b:]]
