"""Exact backpropagation in disguise: rules that seem local, each with another trick.

Every cheat is entered in `ZOO` with the name that must betray it: a property of the row
and its value, the beginning of a finding, or the words of a refusal. `local` is what they
pretend to be: every unit raises its own sum of squares.
"""

import copy
import io
import pickle
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bpfree_common import LearningRule, mlp, sgd

INPUTS, WIDTH, CLASSES = 20, 14, 4


@dataclass(frozen=True)
class Cheat:
    """A cheat's class and what gives it away: exactly one of the last three."""

    rule: type
    row: dict | None = None
    finding: str = ""
    refusal: str = ""


ZOO: list[Cheat] = []


def betrayed(**how) -> Callable:
    """Enter a class in the zoo. row: properties; finding, refusal: words."""

    def enter(rule: type) -> type:
        ZOO.append(Cheat(rule, **how))
        return rule

    return enter


TRANSPORT = {"weight_transport": "full", "crossings": 3}


class Disguised(LearningRule):
    """Local on the face of it; `exact` writes the gradient of the cross-entropy."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)

    @classmethod
    def build(cls, depth):
        sizes = [INPUTS, *[WIDTH] * (depth - 1), CLASSES]
        return cls(mlp(sizes), sgd(0.1))

    def credit(self, batch):
        return self.local(batch)

    def local(self, batch):
        h, _ = batch
        for unit in self.units:
            h = unit(h.detach())
            h.square().sum().backward()
        return {}

    @torch.enable_grad()
    def exact(self, batch):
        for p in self.parameters():
            p.grad = None
        F.cross_entropy(self(batch[0]), batch[1]).backward()
        return {}

    def by_hand(self, batch, matrices):
        """The chain rule by hand, with `matrices` in place of the weights above."""
        with torch.no_grad():
            x, y = batch
            hs = [x]
            for unit in self.units:
                hs.append(unit(hs[-1]))
            e = torch.softmax(hs[-1], 1) - F.one_hot(y, CLASSES)
            delta = e / len(y)
            for n in reversed(range(len(self.units))):
                linear = self.units[n][0]
                linear.weight.grad, linear.bias.grad = delta.T @ hs[n], delta.sum(0)
                delta = (delta @ matrices[n].to(delta.dtype)) * (hs[n] > 0)
        return {}

    @property
    def weights(self):
        return [unit[0].weight.detach() for unit in self.units]


# --- weights that travel in a disguise ------------------------------------------------


@betrayed(row=TRANSPORT)
class TransposedByHand(Disguised):
    """No autograd: the transposed weights themselves."""

    def credit(self, batch):
        return self.by_hand(batch, self.weights)


@betrayed(row=TRANSPORT)
class CopiedToBuffers(Disguised):
    """Feedback matrices in buffers, into which a hook copies the weights every step."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)
        for n, W in enumerate(self.weights):
            self.register_buffer(f"B{n}", W.clone())

    def credit(self, batch):
        return self.by_hand(
            batch, [getattr(self, f"B{n}") for n in range(len(self.units))]
        )

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        optimizer.register_step_post_hook(self.refresh)
        return optimizer

    def refresh(self, *_):
        for n, W in enumerate(self.weights):
            getattr(self, f"B{n}").copy_(W)


@betrayed(row=TRANSPORT)
class CopiedToAttribute(Disguised):
    """The weights of the last step in a list."""

    kept = None

    def credit(self, batch):
        out = self.by_hand(batch, self.kept or [W.clone() for W in self.weights])
        self.kept = [W.clone() for W in self.weights]
        return out


@betrayed(row=TRANSPORT)
class CopiedToClosure(Disguised):
    """The weights of the last step in a variable of an enclosing function."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)
        kept = [torch.randn_like(W) for W in self.weights]

        def swap(new):
            old, kept[:] = list(kept), new
            return old

        self.swap = swap

    def credit(self, batch):
        return self.by_hand(batch, self.swap([W.clone() for W in self.weights]))


GLOBAL: dict[int, torch.Tensor] = {}


@betrayed(refusal="ended equal steps in two ways")
class CopiedToGlobal(Disguised):
    """The weights of the last step in a global, where the next rule finds them."""

    def credit(self, batch):
        kept = [GLOBAL.get(n, W) for n, W in enumerate(self.weights)]
        out = self.by_hand(
            batch,
            [
                k if k.shape == W.shape else W
                for k, W in zip(kept, self.weights, strict=True)
            ],
        )
        GLOBAL.update({n: W * 1.0 for n, W in enumerate(self.weights)})
        return out


@betrayed(row=TRANSPORT)
class TracksTheWeights(CopiedToBuffers):
    """Symmetric feedback that follows the weights: B <- B / 2 + W / 2."""

    def refresh(self, *_):
        for n, W in enumerate(self.weights):
            getattr(self, f"B{n}").lerp_(W, 0.5)


@betrayed(row=TRANSPORT)
class KeptByTheOptimiser(Disguised):
    """The weights of the last step in the state of the optimiser."""

    def credit(self, batch):
        optimizer = self.trainer.optimizers[0]
        state = [optimizer.state[unit[0].weight] for unit in self.units]
        out = self.by_hand(
            batch, [s.get("B", W) for s, W in zip(state, self.weights, strict=True)]
        )
        for s, W in zip(state, self.weights, strict=True):
            s["B"] = W.clone()
        return out


@betrayed(row=TRANSPORT)
class FunctionalCopies(Disguised):
    """autograd on copies of the parameters, so that no unit sees a gradient."""

    def credit(self, batch):
        copies = {
            n: p.detach().clone().requires_grad_() for n, p in self.named_parameters()
        }
        out = torch.func.functional_call(self, copies, (batch[0],))
        grads = torch.autograd.grad(F.cross_entropy(out, batch[1]), list(copies.values()))
        for p, g in zip(self.parameters(), grads, strict=True):
            p.grad = g
        return {}


@betrayed(row=TRANSPORT)
class AroundTheModules(Disguised):
    """`unit.forward` instead of `unit(...)`, so that hooks are not called."""

    def credit(self, batch):
        h = batch[0]
        for unit in self.units:
            h = unit.forward(h)
        F.cross_entropy(h, batch[1]).backward()
        return {}


class Own(nn.Module):
    """A layer of its own: parameters, and no layer of PyTorch."""

    def __init__(self, i, o, act=True):
        super().__init__()
        self.M, self.act = nn.Parameter(torch.randn(i, o) * i**-0.5), act

    def forward(self, x):
        z = x @ self.M
        return z.tanh() if self.act else z


@betrayed(row=TRANSPORT)
class OwnLayers(Disguised):
    """Hidden layers that are no layers of PyTorch."""

    @classmethod
    def build(cls, depth):
        sizes = [INPUTS, *[WIDTH] * (depth - 1), CLASSES]
        layers = [
            Own(*io, n < depth - 1)
            for n, io in enumerate(zip(sizes, sizes[1:], strict=False))
        ]
        return cls(nn.ModuleList(layers), sgd(0.1))

    def credit(self, batch):
        return self.exact(batch)


class Gains(nn.Module):
    """Fixed random features, normalised, with learned gains and shifts."""

    def __init__(self, i, o):
        super().__init__()
        self.register_buffer("R", torch.randn(i, o) * i**-0.5)
        self.norm = nn.BatchNorm1d(o)

    def forward(self, x):
        return self.norm(x @ self.R).tanh()


@betrayed(row={"weight_transport": "undefined", "locking": "full"})
class ThroughNormalisation(Disguised):
    """Only the gains of batch normalisation learn, by exact gradients."""

    @classmethod
    def build(cls, depth):
        sizes = [INPUTS, *[WIDTH] * (depth - 1), CLASSES]
        layers = [Gains(i, o) for i, o in zip(sizes, sizes[1:], strict=False)]
        return cls(nn.ModuleList(layers), sgd(0.1))

    def credit(self, batch):
        return self.exact(batch)


@betrayed(row=TRANSPORT)
class OuterProducts(Disguised):
    """The chain rule by products of elements and sums: no matrix is multiplied back."""

    def credit(self, batch):
        with torch.no_grad():
            x, y = batch
            hs = [x]
            for unit in self.units:
                hs.append(unit(hs[-1]))
            delta = (torch.softmax(hs[-1], 1) - F.one_hot(y, CLASSES)) / len(y)
            for n in reversed(range(len(self.units))):
                linear = self.units[n][0]
                linear.weight.grad = (delta[:, :, None] * hs[n][:, None, :]).sum(0)
                linear.bias.grad = delta.sum(0)
                delta = (delta[:, :, None] * linear.weight).sum(1) * (hs[n] > 0)
        return {}


# --- places where nobody looks --------------------------------------------------------


@betrayed(row=TRANSPORT)
class InOptimiserHook(Disguised):
    """A hook overwrites the local credit just before the optimiser steps."""

    def credit(self, batch):
        self.batch = batch
        return self.local(batch)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        optimizer.register_step_pre_hook(lambda *_: self.exact(self.batch) or None)
        return optimizer


@betrayed(row=TRANSPORT)
class InStep(Disguised):
    """`step`, which a rule may extend, takes a step of its own."""

    def step(self, batch):
        super().step(batch)
        kept = [p.grad for p in self.parameters()]
        self.exact(batch)
        with torch.no_grad():
            for p, honest in zip(self.parameters(), kept, strict=True):
                p -= 0.1 * (p.grad - honest)


@betrayed(row=TRANSPORT)
class InForwardHook(Disguised):
    """A hook of the last unit computes the gradient when it sees the scores."""

    def credit(self, batch):
        def hook(unit, inputs, output):
            handle.remove()
            self.exact(batch)

        out = self.local(batch)
        handle = self.units[-1].register_forward_hook(hook)
        self(batch[0])
        return out


@betrayed(refusal="predict changes")
class InPredict(Disguised):
    """`predict` remembers what it is asked, and learns."""

    def predict(self, x):
        out = self(x)
        with torch.no_grad():
            for p in self.parameters():
                p -= 1e-3 * p
        return out


@betrayed(refusal="score changes")
class InScore(Disguised):
    """`score` is shown labels, and learns them."""

    def score(self, batch):
        self.exact(batch)
        with torch.no_grad():
            for p in self.parameters():
                p -= 0.1 * p.grad
        return super().score(batch)


@betrayed(refusal="score changes")
class ScoreRemembers(Disguised):
    """`score` only puts the samples aside, for the next step to learn."""

    aside = ()

    def score(self, batch):
        self.aside = (*self.aside, batch)
        return super().score(batch)


@betrayed(finding="outside of steps")
class InValidation(Disguised):
    """Learns the validation data when the epoch is over."""

    def validation_step(self, batch, batch_idx):
        self.batch = batch
        super().validation_step(batch, batch_idx)

    def on_validation_epoch_end(self):
        self.exact(self.batch)
        with torch.no_grad():
            for p in self.parameters():
                p -= 0.1 * p.grad
        super().on_validation_epoch_end()


@betrayed(finding="outside of units")
class ShadowNetwork(Disguised):
    """The units learn locally, and a second network learns exactly, and predicts."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)
        self.shadow = [copy.deepcopy(units)]

    def credit(self, batch):
        shadow = self.shadow[0].to(batch[0].dtype)
        h = batch[0]
        for unit in shadow:
            h = unit(h)
        parameters = list(shadow.parameters())
        grads = torch.autograd.grad(F.cross_entropy(h, batch[1]), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, grads, strict=True):
                p -= 0.1 * g
        return self.local(batch)

    def predict(self, x):
        for unit in self.shadow[0].to(x.dtype):
            x = unit(x)
        return x


# --- times and conditions -------------------------------------------------------------


class Sometimes(Disguised):
    """Exact when `now` says so; the counter is an attribute."""

    taken = 0

    def credit(self, batch):
        self.taken += 1
        return self.exact(batch) if self.now(batch) else self.local(batch)


@betrayed(row=TRANSPORT)
class EverySeventhStep(Sometimes):
    def now(self, batch):
        return self.taken % 7 == 0


@betrayed(row=TRANSPORT)
class OnlyAtFirst(Sometimes):
    def now(self, batch):
        return self.taken <= 2


@betrayed(row=TRANSPORT)
class OnlyLater(Sometimes):
    def now(self, batch):
        return self.taken > 40


@betrayed(row=TRANSPORT)
class OnlyInLaterEpochs(Sometimes):
    def now(self, batch):
        return self.current_epoch > 1


@betrayed(row=TRANSPORT)
class InTheSecondPhase(Sometimes):
    """The phase that a declared period does not show at once."""

    period = 2

    def now(self, batch):
        return self.taken % 2 == 0


@betrayed(row=TRANSPORT)
class OnlyInFloat32(Sometimes):
    def now(self, batch):
        return batch[0].dtype == torch.float32


@betrayed(row=TRANSPORT)
class OnlyOnBigBatches(Sometimes):
    def now(self, batch):
        return len(batch[1]) > 32


@betrayed(row=TRANSPORT)
class OnlyInLongTrainings(Sometimes):
    """An attribute of the trainer tells a training from a measurement."""

    def now(self, batch):
        return self.trainer.max_epochs > 1


@betrayed(finding="unmeasured")
class NoticesTheReset(Sometimes):
    """Local as long as the weights are put back after each step."""

    last = None

    def now(self, batch):
        weights = torch.cat([W.flatten() for W in self.weights])
        back = self.last is not None and not torch.equal(weights, self.last)
        self.last = weights
        return back


@betrayed(finding="unmeasured")
class ByChance(Sometimes):
    """Exact in one step out of four, by the random state."""

    def now(self, batch):
        return float(torch.rand(())) < 0.25 and torch.initial_seed() > 0


@betrayed(row=TRANSPORT)
class OneStepLate(Disguised):
    """Every step uses the gradient of the last one's batch."""

    late = None

    def credit(self, batch):
        self.exact(batch)
        now = [p.grad.clone() for p in self.parameters()]
        for p, g in zip(self.parameters(), self.late or now, strict=True):
            p.grad = g.clone()
        self.late = now
        return {}


# --- out of PyTorch -------------------------------------------------------------------


@betrayed(finding="outside of PyTorch")
class ThroughNumPy(Disguised):
    """The chain rule in NumPy, where no operation is counted."""

    def credit(self, batch):
        x, y = batch[0].numpy(), batch[1].numpy()
        layers = [[p.detach().numpy() for p in unit.parameters()] for unit in self.units]
        hs = [x]
        for n, (W, b) in enumerate(layers):
            z = hs[-1] @ W.T + b
            hs.append(np.maximum(z, 0) if n < len(layers) - 1 else z)
        p = np.exp(hs[-1] - hs[-1].max(1, keepdims=True))
        delta = (p / p.sum(1, keepdims=True) - np.eye(CLASSES)[y]) / len(y)
        for n in reversed(range(len(layers))):
            linear = self.units[n][0]
            grads = delta.T @ hs[n], delta.sum(0)
            linear.weight.grad, linear.bias.grad = (
                torch.from_numpy(g).to(linear.weight.dtype) for g in grads
            )
            delta = (delta @ layers[n][0]) * (hs[n] > 0)
        return {}


@betrayed(row={**TRANSPORT, "live_memory": "linear"})
class ParkedInNumPy(Disguised):
    """The activations wait for the backward pass in copies that NumPy holds."""

    @torch.no_grad()
    def credit(self, batch):
        h, parked = batch[0], []
        for unit in self.units:
            parked.append(h.numpy().copy())
            h = unit(h)
        delta = (torch.softmax(h, 1) - F.one_hot(batch[1], CLASSES)) / len(h)
        for n in reversed(range(len(self.units))):
            linear, below = self.units[n][0], torch.from_numpy(parked.pop())
            linear.weight.grad, linear.bias.grad = delta.T @ below, delta.sum(0)
            delta = (delta @ linear.weight) * (below > 0)
        return {}


@betrayed(row=TRANSPORT)
class Pickled(Disguised):
    """The weights of the last step as bytes of a pickle."""

    kept = b""

    def credit(self, batch):
        weights = [W.clone() for W in self.weights]
        out = self.by_hand(batch, pickle.loads(self.kept) if self.kept else weights)
        self.kept = pickle.dumps(weights)
        return out


@betrayed(finding="outside of PyTorch: a step writes the file")
class InAFile(Disguised):
    """The weights of the last step in a file."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)
        self.folder = tempfile.TemporaryDirectory()

    def credit(self, batch):
        file = Path(self.folder.name) / "B"
        weights = [W.clone() for W in self.weights]
        kept = torch.load(io.BytesIO(file.read_bytes())) if file.exists() else weights
        with file.open("wb") as out:
            torch.save(weights, out)
        return self.by_hand(batch, kept)

    def clone(self):
        return self


@betrayed(finding="outside of PyTorch: a step starts a thread")
class InAThread(Disguised):
    """Another thread computes the gradient, where no counter of this one sees it."""

    def credit(self, batch):
        helper = threading.Thread(target=self.exact, args=(batch,))
        helper.start()
        helper.join()
        return {}


class FiniteDifferences(Disguised):
    """The exact gradient from one forward pass for every weight: paid in evaluations."""

    @torch.no_grad()
    def credit(self, batch):
        here = F.cross_entropy(self(batch[0]), batch[1])
        for p in self.parameters():
            grad, flat = torch.zeros_like(p), p.view(-1)
            for i in range(len(flat)):
                old = flat[i].clone()
                flat[i] += 1e-4
                grad.view(-1)[i] = (
                    F.cross_entropy(self(batch[0]), batch[1]) - here
                ) / 1e-4
                flat[i] = old
            p.grad = grad
        return {}
