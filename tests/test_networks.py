"""Layers that write their own credit: equal to plain products, and to autograd."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bpfree_common import LabelledLinear, TaughtLinear

IMAGES, PIXELS, CLASSES, UNITS = 5, 7, 3, 4


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return LabelledLinear(PIXELS, CLASSES, UNITS).double()


def rows(labels: int, scaled: bool = True):
    """x, the labels of k * batch rows, and a factor of each row or None."""
    x, c = torch.randn(IMAGES, PIXELS), torch.randn(labels * IMAGES, CLASSES)
    s = torch.rand(len(c), 1).double() + 0.5 if scaled else None
    return x.double(), c.double(), s


def plain(layer, x, c, s):
    """Label and image in one row, one product per row."""
    W = torch.cat([layer.image.weight, layer.label.weight], 1)
    whole = torch.cat([x.repeat(len(c) // len(x), 1), c], 1)
    return F.linear(whole if s is None else s * whole, W, layer.bias)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_shared_product_is_the_plain_one(layer, labels, scaled):
    inputs = rows(labels, scaled)
    assert torch.allclose(layer(*inputs), plain(layer, *inputs), atol=1e-12)


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_written_credit_is_the_gradient_of_the_plain_layer(
    layer, labels, scaled, extra
):
    x, c, s = rows(labels, scaled)
    delta = torch.randn(len(c), UNITS).double()
    more = [torch.randn(extra, n).double() for n in (UNITS, PIXELS, CLASSES)]
    loss = (delta * plain(layer, x, c, s)).sum()
    loss += (more[0] * plain(layer, *more[1:], None)).sum() if extra else 0
    parameters = [*layer.parameters()]
    wanted = torch.autograd.grad(loss, parameters)
    layer.write(delta, x, c, s, extra=tuple(more) if extra else ())
    for p, gradient in zip(parameters, wanted, strict=True):
        assert p.grad.is_contiguous()
        assert torch.allclose(p.grad, gradient, atol=1e-12)


def test_no_row_writes_zeros(layer):
    none = torch.zeros(0, UNITS).double(), torch.zeros(0, PIXELS).double()
    layer.write(*none, torch.zeros(0, CLASSES).double())
    assert not any(p.grad.any() for p in layer.parameters())


def test_a_labelled_layer_starts_like_one_layer(layer):
    bound = (PIXELS + CLASSES) ** -0.5
    wide = LabelledLinear(PIXELS, CLASSES, 4000)
    for p in wide.parameters():
        assert 0.99 * bound < p.abs().max() <= bound
        assert abs(p.mean()) < 0.05 * bound


def test_one_image_product_serves_all_labels(layer):
    with FlopCounterMode(display=False) as counter:
        layer(*rows(3))
    image, label = IMAGES * PIXELS * UNITS, 3 * IMAGES * CLASSES * UNITS
    assert counter.get_total_flops() == 2 * (image + label)


def test_a_taught_layer_writes_the_gradient_of_its_rows_and_of_more():
    torch.manual_seed(0)
    layer = TaughtLinear(PIXELS, UNITS)
    h, delta = torch.randn(IMAGES + 2, PIXELS), torch.randn(IMAGES + 2, UNITS)
    wanted = torch.autograd.grad((delta * layer(h)).sum(), [*layer.parameters()])
    layer.write(delta[:IMAGES], h[:IMAGES], extra=(delta[IMAGES:], h[IMAGES:]))
    for p, gradient in zip(layer.parameters(), wanted, strict=True):
        assert torch.allclose(p.grad, gradient, atol=1e-5)


def test_outputs_and_inputs_that_are_left_out_get_what_zeros_would(layer):
    torch.manual_seed(0)
    outputs, inputs = torch.tensor([0, 3]), torch.tensor([1, 2, 6])
    delta, h = torch.zeros(IMAGES, UNITS), torch.zeros(IMAGES, PIXELS)
    delta[:, outputs], h[:, inputs] = torch.randn(IMAGES, 2), torch.randn(IMAGES, 3)
    whole, part = TaughtLinear(PIXELS, UNITS), TaughtLinear(PIXELS, UNITS)
    part.load_state_dict(whole.state_dict())
    assert torch.allclose(part(h[:, inputs], inputs), whole(h), atol=1e-6)
    whole.write(delta, h)
    part.write(delta[:, outputs], h[:, inputs], outputs=outputs, inputs=inputs)
    x, c, s = rows(1)
    other = copy.deepcopy(layer)
    other.write(delta[:, outputs].double(), x, c, s, outputs=outputs)
    layer.write(delta.double(), x, c, s)
    for one, two in ((whole, part), (layer, other)):
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, atol=1e-6)
