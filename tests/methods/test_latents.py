"""Random latents, and the principal axes of W."""

import torch

from helpers.latents import WSpace, random_w_plus


def test_random_latents_repeat_and_stay_near_the_mean_under_truncation(domain):
    wide = random_w_plus(domain, 8, seed=1, truncation=1)
    narrow = random_w_plus(domain, 8, seed=1, truncation=0.5)
    assert torch.equal(wide, random_w_plus(domain, 8, seed=1)) and domain.psi == 1
    assert not torch.equal(wide, random_w_plus(domain, 8, seed=2))
    middle = domain.generator.w_avg
    torch.testing.assert_close(narrow - middle, 0.5 * (wide - middle), atol=1e-4, rtol=1e-3)


def test_random_latents_are_at_the_domains_truncation(toy):
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(6))
    w, middle = toy.generator.map(z), toy.generator.w_avg
    expected = (middle + 0.7 * (w - middle))[:, None].expand(3, 3, 4)
    torch.testing.assert_close(random_w_plus(toy, 3, seed=6), expected)


def test_w_space_covers_the_generators_own_w(domain):
    generator, space = domain.generator, domain.w_space
    noise = torch.randn(2000, generator.z_dim, generator=torch.Generator().manual_seed(99))
    w = generator.map(noise)
    v = (w - space.mean) @ space.axes.T / space.spread
    assert v.std(dim=0).sub(1).abs().max() < 0.15
    left = (w - space.mean - space.offset(v)).square().sum() / (w - space.mean).square().sum()
    assert left < 0.01


def test_axes_without_spread_are_left_out(toy):
    """Where W has three dimensions of four."""
    layer = toy.generator.mapping[0]
    layer.weight.data[3], layer.bias.data[3] = 0, 2
    space = WSpace(toy.generator)
    assert space.dim == 3 and space.axes.shape == (3, 4) and space.spread.shape == (3,)
    assert (space.axes[:, 3].abs() < 1e-5).all()
    assert (space.spread[:-1] >= space.spread[1:]).all()


def test_position_is_the_inverse_of_offset(domain):
    space = domain.w_space
    v = torch.randn(5, space.dim, generator=torch.Generator().manual_seed(0))
    found = space.position(space.mean + space.offset(v))
    torch.testing.assert_close(found, v, atol=1e-2, rtol=1e-2)
    few = space.position(space.mean + space.offset(v), 3)  # along the first axes alone
    torch.testing.assert_close(few, v[:, :3], atol=1e-2, rtol=1e-2)
    one = torch.zeros(2)
    one[1] = 1
    torch.testing.assert_close(space.offset(one), space.axes[1] * space.spread[1])
