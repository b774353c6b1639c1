"""Details that a small change of the code gets wrong, found by `make mutants`."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from helpers.inversion import (
    Descent,
    PictureLoss,
    RelativeChange,
    check_image,
    invert,
    maps_distance,
    partly_tuned,
    tune_generator,
    tuned_domain,
    tuned_strength,
)
from helpers.latents import random_w_plus


@pytest.fixture
def image(toy):
    return toy.generator(random_w_plus(toy, 2, seed=8)).clamp(-1, 1)  # [2, 3, 32, 32]


@pytest.mark.parametrize(("most", "taken"), [
    (1.4, True), (-1.4, True), (1.6, False), (-1.6, False)])
def test_one_pixel_beyond_the_range_is_enough(toy, image, most, taken):
    """A generator's images go a little beyond [-1, 1]; other scales go far."""
    image[1, 2, 3, 4], image[0, 0, 0, 0] = most, 0
    if taken:
        assert torch.equal(check_image(toy, image), image)
    else:
        with pytest.raises(ValueError, match=f"in \\[-1, 1\\], got values up to {abs(most)}"):
            check_image(toy, image)


class Parts(nn.Module):
    """A generator's tensors by their names: some are tuned, some lead to s and stay."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 5.0]]))
        self.bias = nn.Parameter(torch.full([3], 2.0))
        self.affine = nn.Linear(2, 2)
        self.mapping = nn.Linear(2, 2)
        self.strength = nn.Parameter(torch.ones(1))
        self.register_buffer("noise", torch.full([1, 2], 10.0))


def test_a_change_of_one_is_a_tensors_root_mean_square_and_less_of_noise():
    parts = Parts()
    change = RelativeChange(parts, noise_scale=0.5)
    assert set(change.tensors) == {"weight", "bias", "noise"}
    assert change.start().shape == (1, 9) and not change.start().any()
    x = torch.arange(1.0, 10.0)[None]  # [1, P]
    changed = change.apply(x)
    unit = (50 / 4) ** 0.5
    torch.testing.assert_close(changed["weight"],
                               parts.weight + unit * torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.testing.assert_close(changed["bias"], 2 + 2 * torch.tensor([5.0, 6.0, 7.0]))
    torch.testing.assert_close(changed["noise"], 10 + 5 * torch.tensor([[8.0, 9.0]]))
    assert parts.bias.tolist() == [2, 2, 2]


def test_a_tuned_domain_has_a_name_of_its_own_and_keeps_what_is_known_of_w(toy):
    space, before = toy.w_space, toy.fingerprint
    toy.kept["something else"] = 1
    weight = toy.generator.weight.detach()
    one, other = (tuned_domain(toy, {"weight": weight + shift}) for shift in (0.1, 0.2))
    assert len({before, one.fingerprint, other.fingerprint}) == 3 and toy.fingerprint == before
    assert tuned_domain(toy, {"weight": weight + 0.1}).fingerprint == one.fingerprint
    assert one.w_space is space and "something else" not in one.kept
    assert one.preview_resolution is None and one.samples == () and one.sample_latents is None
    torch.testing.assert_close(one.generator.weight, weight + 0.1)
    assert torch.equal(toy.generator.weight, weight)
    assert one.tuned_from is toy and tuned_domain(one, {"weight": weight}).tuned_from is toy


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_partly_tuned_domain_lies_between_both(toy, share):
    tuning = replace(toy.settings.tuning, edit_share=share)
    first = replace(toy, settings=replace(toy.settings, tuning=tuning))
    weight = first.generator.weight.detach()
    tuned = tuned_domain(first, {"weight": weight + 0.4})
    between = partly_tuned(tuned)
    torch.testing.assert_close(between.generator.weight, weight + 0.4 * share)
    torch.testing.assert_close(tuned.generator.weight, weight + 0.4)
    assert torch.equal(first.generator.weight, weight)
    assert between.tuned_from is first and between.fingerprint != first.fingerprint
    usual, found = toy.settings.directions, between.settings.directions
    assert found.slack == 0.04 and found.match == 1.2 * usual.match
    assert found.alpha_most == 1.5 * usual.alpha_most


def test_a_weight_of_nought_or_a_network_that_is_not_there_is_left_out(toy, image):
    settings = replace(toy.settings.encoding, features=1.0, identity=1.0, identity_maps=0.0,
                       encoder_maps=0.0)
    assert set(PictureLoss(toy, settings, image)(image)) == {"features", "identity"}
    without = replace(settings, identity=0.0)
    assert set(PictureLoss(toy, without, image)(image)) == {"features"}
    toy.identity = toy.encoder = None
    all_asked = replace(settings, identity_maps=1.0, encoder_maps=1.0)
    assert set(PictureLoss(toy, all_asked, image)(image)) == {"features"}


def test_each_part_of_a_picture_loss_has_its_weight(toy, image):
    """And is 0 for the picture itself."""
    settings = replace(toy.settings.encoding, features=1.0, identity=1.0, identity_maps=0.0,
                       encoder_maps=0.0)
    other = image.flip(3)
    plain = PictureLoss(toy, settings, image)(other)
    doubled = PictureLoss(toy, replace(settings, features=2.0, identity=3.0), image)(other)
    torch.testing.assert_close(doubled["features"], 2 * plain["features"])
    torch.testing.assert_close(doubled["identity"], 3 * plain["identity"])
    assert all((loss > 1e-3).all() for loss in plain.values())
    for loss in PictureLoss(toy, settings, image)(image).values():
        torch.testing.assert_close(loss, torch.zeros(2), atol=1e-5, rtol=0)


class Maps:
    """Two feature maps of an image."""

    def features(self, image):
        return [image, image[..., ::2, ::2] + 1]


def test_the_encoders_maps_have_their_weight(toy, image):
    toy.encoder, other = Maps(), image.flip(3)
    settings = replace(toy.settings.encoding, encoder_maps=3.0)
    found = PictureLoss(toy, settings, image)(other)["encoder maps"]
    distance = maps_distance(Maps().features(other), Maps().features(image))
    torch.testing.assert_close(found, 3 * distance)
    assert (found > 1e-3).all()


@pytest.mark.parametrize("call", ["invert", "tune_generator"])
def test_pictures_are_learned_with_a_short_memory_of_gradients(toy, image, monkeypatch, call):
    """Adam's second beta is .99: a hundred steps are too few for its usual .999."""
    found, w_plus = [], random_w_plus(toy, 1, seed=1)

    class Watched(Descent):
        def __init__(self, *given, **settings):
            super().__init__(*given, **settings)
            found.append(self.optimizer.param_groups[0]["betas"])

    monkeypatch.setattr("helpers.inversion.Descent", Watched)
    if call == "invert":
        invert(toy, toy.generator(w_plus), steps=1)
    else:
        tune_generator(toy, toy.generator(w_plus), w_plus, steps=1)
    assert set(found) == {(0.9, 0.99)}


class Drawer:
    """A domain whose CLIP sees of s [N, 2] what its generator's matrix makes of it."""

    def __init__(self, matrix, side=None):
        self.matrix, self.preview_resolution, self.sides = torch.tensor(matrix), side, []
        self.generator, self.clip = self, self

    def synthesize(self, s, resolution):
        self.sides.append(resolution)
        return s @ self.matrix

    def encode_image(self, image):
        return image + 5.0


@pytest.mark.parametrize(("matrix", "expected"), [
    ([[0.5, 0.0], [0.0, 1.0]], 2.0), ([[0.5, 9.0], [0.0, 1.0]], 2.0),  # only what is wanted counts
    ([[1.0, 0.0], [0.0, 1.0]], 1.0), ([[3.0, 0.0], [0.0, 1.0]], 1.0),
    ([[0.1, 0.0], [0.0, 1.0]], 4.0), ([[0.0, 2.0], [0.0, 1.0]], 4.0),
    ([[-1.0, 0.0], [0.0, 1.0]], 4.0)])
def test_an_edit_of_a_picture_grows_until_clip_sees_it_there(matrix, expected):
    first = Drawer([[1.0, 0.0], [0.0, 1.0]], side=256)
    first.settings = SimpleNamespace(tuning=SimpleNamespace(strength=4.0))
    s = torch.tensor([[1.0, 2.0]])
    edited = s + torch.tensor([[3.0, 0.0]])
    shown = torch.cat([s, edited]) @ torch.tensor(matrix)
    found = tuned_strength(first, s, edited, shown)
    assert found == pytest.approx(expected) and first.sides == [256]
