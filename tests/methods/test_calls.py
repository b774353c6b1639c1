"""Calls as people make them: none and too few, wrong kinds, wrong names."""

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.losses import text_direction
from helpers.methods.directions import alpha_for, global_direction, sweep
from helpers.methods.linear_model import linear_model
from helpers.methods.mapper import apply_mapper, mapper_step, new_mapper, train_mapper
from helpers.methods.optimization import optimize_latent

PROMPT = "a person with glasses"


@pytest.fixture
def w_plus(toy):
    return random_w_plus(toy, 12, seed=8)


@pytest.fixture
def image(toy, w_plus):
    return toy.generator(w_plus[:2]).clamp(-1, 1)


def refused(match, call, *given, **options):
    """The call raises a ValueError of one line."""
    with pytest.raises(ValueError, match=match) as caught:
        call(*given, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 20


# Steps


def test_no_steps_return_what_was_given(toy, w_plus, image):
    found, history = optimize_latent(toy, w_plus, PROMPT, objective="paper", steps=0)
    assert torch.equal(found, w_plus) and history == {"loss": []}
    assert found.data_ptr() != w_plus.data_ptr()
    found, history = invert(toy, image, steps=0, start=w_plus[:2])
    torch.testing.assert_close(found, w_plus[:2], atol=1e-4, rtol=1e-4)
    assert history == {"loss": []}


def test_no_steps_of_ours_are_the_linear_step(toy, w_plus):
    """What a panel shows before a run."""
    found, history = optimize_latent(toy, w_plus, PROMPT, steps=0)
    model, direction = linear_model(toy), text_direction(toy.clip, toy.neutral, PROMPT)
    remaining = model.remaining(direction, toy.generator(w_plus))  # [N]
    step = 0.8 * remaining[:, None] * model.step(direction)  # [N, K]
    expected = w_plus + toy.w_space.offset(step)[:, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert history == {"loss": []}


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_no_steps_give_the_mapper_that_a_training_begins_with(toy, w_plus, objective):
    mapper, history = train_mapper(toy, PROMPT, w_plus, objective=objective, steps=0)
    assert history["loss"] == [] and len(history["held_out"]) == 1
    if objective == "paper":
        new = new_mapper(toy, "paper").state_dict()
        assert all(torch.equal(new[name], value) for name, value in mapper.state_dict().items())


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_fewer_steps_than_none_are_refused(toy, w_plus, image, objective):
    match = "steps must be 0 or more, not -1"
    refused(match, optimize_latent, toy, w_plus, PROMPT, objective=objective, steps=-1)
    refused(match, train_mapper, toy, PROMPT, w_plus, objective=objective, steps=-1)
    refused(match, invert, toy, image, steps=-1)


# Names


OBJECTIVE = 'objective must be "ours" or "paper", not \'theirs\''


def test_another_objective_is_refused(toy, w_plus):
    refused(OBJECTIVE, optimize_latent, toy, w_plus, PROMPT, objective="theirs")
    refused(OBJECTIVE, train_mapper, toy, PROMPT, w_plus, objective="theirs")


def test_another_objective_is_refused_with_settings_too(toy, w_plus):
    refused(OBJECTIVE, train_mapper, toy, PROMPT, w_plus, objective="theirs",
            settings=toy.settings.mapper)


def test_a_new_mapper_of_another_objective_is_refused(toy):
    refused(OBJECTIVE, new_mapper, toy, "theirs")


@pytest.mark.parametrize("names", [("coarse", "nope"), ["nonsense"], "nope", "", [], ("Coarse",)])
def test_other_networks_are_refused(toy, w_plus, names):
    match, mapper = "networks must be some of coarse, medium, fine, not", new_mapper(toy)
    refused(match, new_mapper, toy, networks=names)
    refused(match, train_mapper, toy, PROMPT, w_plus, networks=names)
    refused(match, apply_mapper, toy, mapper, w_plus, only=names)
    refused(match, apply_mapper, toy, mapper, w_plus, strength=0, only=names)


def test_one_name_counts_as_a_list_of_one(toy, w_plus, tmp_path):
    for one, many in (("fine", ["fine"]), (["fine"], ("fine",))):
        assert list(new_mapper(toy, networks=one).networks) == ["fine"]
        mapper, _ = train_mapper(toy, PROMPT, w_plus, networks=one, steps=1)
        assert list(mapper.networks) == ["fine"]
        mapper = new_mapper(toy)
        assert torch.equal(apply_mapper(toy, mapper, w_plus, only=one),
                           apply_mapper(toy, mapper, w_plus, only=many))
        # To a run that is kept, both are the same.
        train_mapper(toy, PROMPT, w_plus, networks=one, steps=2, path=tmp_path / "a.run",
                     callback=lambda state: True)
        train_mapper(toy, PROMPT, w_plus, networks=many, steps=2, path=tmp_path / "a.run")


def test_settings_and_steps_go_together(toy, w_plus):
    """Where both are given, none is ignored."""
    _, history = train_mapper(toy, PROMPT, w_plus, settings=toy.settings.mapper, steps=2)
    assert len(history["loss"]) == 2


# Numbers


@pytest.mark.parametrize("channels", [0, -1, 0.5, float("inf"), float("nan"), "3", None])
def test_a_number_of_channels_that_is_none_is_refused(toy, channels):
    if channels is None:  # the domain's own
        assert global_direction(toy, toy.neutral, PROMPT, channels=None).any()
    else:
        refused("channels must be a number of channels from 1", global_direction, toy,
                toy.neutral, PROMPT, channels=channels)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 1e9])
def test_a_threshold_that_leaves_nothing_is_refused(toy, threshold):
    refused("leaves no channel: the largest that leaves 12 is", global_direction, toy,
            toy.neutral, PROMPT, threshold=threshold)


def test_a_sweep_of_no_images_is_refused(toy):
    for images in (0, -1):
        refused("images", sweep, toy, images=images)


def test_strength_zero_gives_a_copy(toy, w_plus):
    found, before = apply_mapper(toy, new_mapper(toy), w_plus, strength=0), w_plus.clone()
    assert torch.equal(found, w_plus)
    found.add_(1)
    assert torch.equal(w_plus, before)


def test_strength_counts_steps(toy, w_plus):
    mapper = new_mapper(toy)
    step = mapper_step(toy, mapper, w_plus)
    for strength in (-1, 0.5, 2):
        torch.testing.assert_close(apply_mapper(toy, mapper, w_plus, strength),
                                   w_plus + strength * step)


# No images


@pytest.mark.parametrize("call", [
    "optimize_latent", "optimize_latent, paper", "apply_mapper", "alpha_for", "invert"])
def test_no_images_work_or_are_refused(toy, w_plus, image, call):
    """In our own words."""
    none, objective = w_plus[:0], "paper" if call.endswith("paper") else "ours"
    try:
        if call == "apply_mapper":
            found = apply_mapper(toy, new_mapper(toy), none)
        elif call == "alpha_for":
            found = alpha_for(toy, toy.generator.styles(none), toy.neutral, PROMPT)
        elif call == "invert":
            found, _ = invert(toy, image[:0], steps=2)
        else:
            found, _ = optimize_latent(toy, none, PROMPT, objective=objective, steps=2)
        assert len(found) == 0
    except ValueError as error:
        assert any(name in str(error) for name in ("w_plus", "image must", "images"))


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_no_latents_to_train_on_are_refused(toy, w_plus, objective):
    refused("w_plus|latents", train_mapper, toy, PROMPT, w_plus[:0], objective=objective)


# Images and latents of other kinds


def others(image):
    """An image as people have it, {what: it}."""
    pixels = ((image + 1) * 127.5).clamp(0, 255)
    bytes_of = pixels.byte()[0].permute(1, 2, 0).numpy()
    holed = image.clone()
    holed[0, 0, 0, 0] = float("nan")
    return {"0 to 255": pixels, "bytes": pixels.byte(), "PIL": Image.fromarray(bytes_of),
            "array": image.numpy(), "array of bytes": bytes_of, "path": Path("a.png"),
            "name": "a.png", "list": [image], "NaN": holed, "infinite": image / 0,
            "no batch": image[0], "None": None, "channels last": image.permute(0, 2, 3, 1),
            "grey": image[:, :1], "other size": image[..., ::2, ::2]}


@pytest.mark.parametrize("kind", [
    "0 to 255", "bytes", "PIL", "array", "array of bytes", "path", "name", "list", "NaN",
    "infinite", "no batch", "None", "channels last", "grey", "other size"])
def test_other_kinds_of_images_get_a_sentence_at_the_door(toy, w_plus, image, kind):
    other = others(image)[kind]
    refused("image", invert, toy, other, steps=1)
    refused("w_plus", optimize_latent, toy, other, PROMPT, steps=1)
    refused("w_plus|latents", train_mapper, toy, PROMPT, other, steps=1)
    refused("w_plus", apply_mapper, toy, new_mapper(toy), other)


def test_an_image_from_0_to_1_is_not_taken_silently(toy, image):
    """It is refused, or there is a warning: a picture in [-1, 1] may be as bright."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            invert(toy, (image + 1) / 2, steps=1)
        except ValueError as error:
            caught.append(error)
    assert caught


@pytest.mark.parametrize("kind", ["NaN", "array"])
def test_other_kinds_of_latents_get_a_sentence_at_the_door(toy, w_plus, kind):
    holed = w_plus.clone()
    holed[3, 1, 2] = float("nan")
    other = holed if kind == "NaN" else w_plus.numpy()
    refused("w_plus|latents", optimize_latent, toy, other, PROMPT, steps=1)
    refused("w_plus|latents", train_mapper, toy, PROMPT, other, steps=1)
    refused("w_plus|latents", apply_mapper, toy, new_mapper(toy), other)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_other_floating_point_numbers_work(toy, w_plus, image, kind):
    found, _ = invert(toy, image.to(kind), steps=1)
    assert found.dtype == torch.float32 and found.isfinite().all()
    found, _ = optimize_latent(toy, w_plus.to(kind), PROMPT, steps=1)
    assert found.dtype == torch.float32 and found.isfinite().all()
    train_mapper(toy, PROMPT, w_plus.to(kind), steps=1)
    assert apply_mapper(toy, new_mapper(toy), w_plus.to(kind)).dtype == torch.float32


@pytest.mark.parametrize("call", ["invert", "optimize_latent", "train_mapper"])
def test_what_has_a_graph_behind_it_is_taken_as_it_is(toy, w_plus, call):
    """As an edit that is still being computed; no gradient goes there."""
    leaf = w_plus.clone().requires_grad_()
    if call == "invert":
        invert(toy, toy.generator(leaf[:2]) / 2, steps=3)
    elif call == "optimize_latent":
        optimize_latent(toy, leaf * 1, PROMPT, steps=3)
    else:
        train_mapper(toy, PROMPT, leaf * 1, steps=3)
    assert leaf.grad is None
