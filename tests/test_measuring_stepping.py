"""What is measured is what training does."""

import pytest
import torch

from bpfree_common import Backprop, adam, fit, load_data, mlp, sgd
from bpfree_common.data.tasks import Data
from bpfree_common.errors import ContractError
from bpfree_common.learning.batches import Batches
from bpfree_common.measuring.stepping import Observer, maker, train


class Noisy(Backprop):
    """Draws numbers, has a hook in its optimiser, and extends `step`."""

    def credit(self, batch):
        x, y = batch
        return super().credit((x + 0.1 * torch.randn_like(x), y))

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        optimizer.register_step_post_hook(self.shrink)
        return optimizer

    @torch.no_grad()
    def shrink(self, *_):
        for p in self.parameters():
            p.mul_(0.999)

    def step(self, batch):
        super().step(batch)
        with torch.no_grad():
            next(self.parameters()).add_(1e-3)


def rule():
    torch.manual_seed(0)
    return Noisy(mlp([64, 12, 10]), adam(0.01))


def small() -> Data:
    return load_data("digits").flat().take(96)


def test_observed_steps_end_in_the_same_bits_as_a_fit():
    data, epochs = small(), 1
    fitted = fit(rule(), data, epochs, batch_size=16, seed=3)
    batches = list(Batches(data.x_train, data.y_train, 16, shuffle_seed=3))
    observed = train(rule(), batches, Observer(), epochs, seed=3)
    for a, b in zip(fitted.parameters(), observed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_observer_stands_between_all_steps_of_all_epochs():
    seen = []

    class Counting(Observer):
        def before(self, rule, step, batch):
            seen.append(("before", step))

        def after(self, rule, step, batch):
            seen.append(("after", step))

    batch = (torch.randn(4, 64), torch.arange(4))
    train(rule(), [batch] * 2, Counting(), epochs=2)
    assert seen == [(when, step) for step in range(4) for when in ("before", "after")]


def test_the_same_draws_make_steps_from_equal_weights_equal():
    grads = []

    class Back(Observer):
        def before(self, rule, step, batch):
            self.start = [p.detach().clone() for p in rule.parameters()]

        def after(self, rule, step, batch):
            grads.append(next(rule.parameters()).grad.clone())
            with torch.no_grad():
                for p, start in zip(rule.parameters(), self.start, strict=True):
                    p.copy_(start)

    batch = (torch.randn(4, 64), torch.arange(4))
    train(rule(), [batch] * 2, Back(), same_draws=True)
    train(rule(), [batch] * 2, Back())
    assert torch.equal(grads[0], grads[1])
    assert not torch.equal(grads[2], grads[3])


def test_training_draws_leave_no_trace_in_the_random_states():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    train(rule(), [(torch.zeros(4, 64), torch.arange(4))])
    torch.manual_seed(5)
    assert torch.equal(torch.randn(3), expected)


def test_one_and_the_same_rule_handed_out_again_is_copied():
    one = rule()
    make = maker(lambda depth: one, 2)
    train(make(), [(torch.randn(4, 64), torch.arange(4))])
    for a, b in zip(make().parameters(), rule().parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_that_are_not_drawn_from_the_seed_are_refused():
    generator = torch.Generator().manual_seed(0)

    def build(depth):
        units = mlp([4, 3])
        with torch.no_grad():
            next(units.parameters()).copy_(torch.randn(3, 4, generator=generator))
        return Backprop(units, sgd(0.1))

    with pytest.raises(ContractError, match="built with other weights each time"):
        maker(build, 1)
