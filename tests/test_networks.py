"""Layers that write their own credit: equal to plain products, and to autograd."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bpfree_common import LabelledLinear, TaughtLinear, cnn
from bpfree_common.learning import textbook, textbook_cnn

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


# --- initialisation ---------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_neither_signals_nor_gradients_vanish_or_explode_with_depth(activation, depth):
    torch.manual_seed(0)
    units = textbook([256] * depth + [10], activation)
    x = torch.randn(512, 256)
    outputs = [x]
    for unit in units:
        outputs.append(unit(outputs[-1]))
    F.cross_entropy(outputs[-1], torch.arange(512) % 10).backward()
    gradients = [unit[0].weight.grad.norm() for unit in units[:-1]]
    # PyTorch's own initialisation loses a factor of a thousand and more at 16 layers
    assert (
        0.2 < outputs[-2].square().mean().sqrt() / outputs[1].square().mean().sqrt() < 5
    )
    assert 0.2 < gradients[0] / gradients[-1] < 5


@pytest.mark.parametrize("activation, gain", [("relu", 2**0.5), ("tanh", 1.0)])
def test_weights_have_the_gain_of_their_activation_and_biases_are_zero(activation, gain):
    torch.manual_seed(0)
    dense = textbook([400, 300, 300], activation)
    images = textbook_cnn((30, 4, 4), [200], 300, activation)
    gains = [gain, 1.0, gain, 1.0]  # the read-outs feed a softmax, no activation
    layers = [dense[0][0], dense[1][0], images[0][0], images[1][1]]
    for layer, expected in zip(layers, gains, strict=True):
        std = float(layer.weight.detach().std()) * layer.weight[0].numel() ** 0.5
        assert std == pytest.approx(expected, rel=0.02)
        assert not layer.bias.any()


def test_channels_last_changes_the_layout_in_memory_and_no_score():
    made = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        made.append(cnn((3, 8, 8), [4, 6], 5, channels_last=channels_last).double())
    plain, fast = (torch.nn.Sequential(*units) for units in made)
    x = torch.randn(7, 3, 8, 8).double()
    hidden = fast[:2](x)
    assert hidden.is_contiguous(memory_format=torch.channels_last)
    assert not hidden.is_contiguous()
    assert torch.allclose(plain(x), fast(x), atol=1e-12)
