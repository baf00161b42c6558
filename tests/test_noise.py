"""Random directions: distribution, independence, and reproduction from three counters."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bpfree_common.learning import noise

N = 64 * 20_000
LIKE = torch.empty(N)


def signs(seed=0, step=0, index=0, like=LIKE):
    return noise.rademacher_like(like, noise.generator(seed, step, index))


def assert_uncorrelated(a, b):
    """Within five standard deviations, as for independent numbers of variance 1."""
    assert abs(float(a @ b)) < 5 * math.sqrt(len(a))


@pytest.mark.parametrize("draw", [noise.rademacher_like, noise.gaussian_like])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (63,), (3, 5, 7), (64, 2), (0, 4)])
def test_a_direction_has_the_shape_and_type_of_what_it_is_like(draw, dtype, shape):
    like = torch.empty(shape, dtype=dtype, requires_grad=True)
    drawn = draw(like, noise.generator(0, 0))
    assert drawn.shape == shape
    assert drawn.dtype == dtype
    assert not drawn.requires_grad


def test_signs_are_plus_or_minus_one_with_equal_chance():
    drawn = signs()
    assert torch.equal(drawn.abs(), torch.ones(N))
    assert_uncorrelated(drawn, torch.ones(N))


def test_none_of_the_64_bits_of_a_word_is_stuck_or_tied_to_another():
    words = signs().view(-1, 64)
    bound = 5 * math.sqrt(len(words))
    assert words.sum(0).abs().max() < bound
    products = words.T @ words - len(words) * torch.eye(64)
    assert products.abs().max() < 1.2 * bound  # the largest of two thousand
    following = words[:-1].T @ words[1:]
    assert following.abs().max() < 1.2 * bound


def test_gaussian_directions_have_the_moments_of_a_standard_normal():
    drawn = noise.gaussian_like(LIKE, noise.generator(0, 0))
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        found = drawn.double().pow(power).mean()
        assert abs(found - moment) < 5 * math.sqrt(variance / N)


@pytest.mark.parametrize("draw", [noise.rademacher_like, noise.gaussian_like])
def test_equal_counters_give_the_direction_again_and_others_give_independent_ones(draw):
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (-1, 0, 0)]
    drawn = [draw(LIKE, noise.generator(*key)) for key in keys]
    again = [draw(LIKE, noise.generator(*key)) for key in reversed(keys)]
    for n, direction in enumerate(drawn):
        assert torch.equal(direction, again[-1 - n])
        for other in drawn[:n]:
            assert_uncorrelated(direction, other)


def test_close_counters_never_share_a_seed():
    made = {noise.key(s, t, k) for s in range(10) for t in range(100) for k in range(20)}
    assert len(made) == 10 * 100 * 20
    assert all(0 <= key < 2**63 for key in made)


def test_a_generator_of_its_own_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    signs()
    assert torch.equal(state, torch.get_rng_state())
    noise.rademacher_like(LIKE)
    assert not torch.equal(state, torch.get_rng_state())


def test_the_mean_of_projected_directions_is_the_vector():
    vector = torch.randn(50)
    drawn = signs(like=torch.empty(40_000, 50))
    mean = (drawn @ vector / 40_000) @ drawn
    assert (mean - vector).norm() < 5 * vector.norm() * math.sqrt(50 / 40_000)


class RandomNumbers(TorchDispatchMode):
    """Counts the elements that random operations fill."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "random" in str(function) or "normal" in str(function):
            self.count += args[0].numel()
        return function(*args, **kwargs or {})


def test_64_signs_come_from_one_random_number():
    for draw, numbers in ((noise.rademacher_like, N // 64), (noise.gaussian_like, N)):
        with RandomNumbers() as mode:
            draw(LIKE)
        assert mode.count == numbers
