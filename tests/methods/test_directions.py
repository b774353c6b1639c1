"""Method 3: the relevance of channels, and the direction that it gives."""

import re
from dataclasses import replace

import pytest
import torch
from conftest import golden
from toy import SETTINGS, random, toy_domain

from helpers.domains.formats.safetensors_files import save_tensors
from helpers.evaluation import evaluate_edit, summary
from helpers.fused_ops import HalfPrecision
from helpers.latents import random_w_plus
from helpers.losses import text_direction
from helpers.methods.directions import (
    alpha_for,
    channel_direction,
    channel_directions,
    channel_relevance,
    derivative_lengths,
    global_direction,
    gradient_relevance,
    least_enough,
    linear_relevance,
    score_gradients,
    select,
    style_statistics,
    sweep,
    sweep_images,
    sweep_relevance,
    swept_channels,
    threshold_for,
)
from helpers.methods.linear_model import linear_model

GLASSES = "a person with glasses"


def with_settings(toy, **changes):
    settings = replace(SETTINGS.directions, **changes)
    toy.settings = replace(SETTINGS, directions=settings)
    return toy


def test_agrees_with_the_authors_relevance():
    right = golden("channel_relevance")
    found = channel_directions(right["features"])
    assert (found - right["delta_i"]).abs().max() <= 1e-6
    relevance = found @ right["delta_t"]
    assert (relevance - right["relevance"]).abs().max() <= 1e-6
    for beta in ("0.05", "0.15", "0.25"):
        found = select(relevance, float(beta))
        assert (found - right[f"delta_s_{beta}"]).abs().max() <= 1e-6


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_clip_sees_a_sweep_in_half_precision_where_that_is_fast(toy, monkeypatch, half):
    """Nowhere else: autocast without a type of ours would take its own."""
    used, encode_image = [], toy.clip.encode_image

    def encode(image):
        used.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return encode_image(image)

    monkeypatch.setattr(toy.clip, "encode_image", encode)
    monkeypatch.setattr("helpers.methods.directions.half_type", lambda device: half)
    channel_direction(toy, sweep_images(toy, 3), 0)
    assert used == [half]


def test_styles_are_measured_at_the_domains_truncation(toy):
    mean, std = style_statistics(toy)
    z = torch.randn(10_000, 4, generator=torch.Generator().manual_seed(123))
    w = toy.generator.map(z, truncation=0.7)
    torch.testing.assert_close(mean, w.mean(dim=0).repeat(3), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(std, w.std(dim=0).repeat(3), atol=1e-4, rtol=1e-4)


def test_a_sweep_looks_at_images_of_the_authors_truncation(toy):
    toy.psi = 0.3
    z = torch.randn(4, 4, generator=torch.Generator().manual_seed(9))
    w, middle = toy.generator.map(z), toy.generator.w_avg
    expected = (middle + 0.7 * (w - middle)).repeat(1, 3)
    torch.testing.assert_close(sweep_images(toy, 4, seed=9), expected)


def test_a_channel_goes_from_five_deviations_below_to_five_above(toy):
    base, (mean, std) = sweep_images(toy, 4), style_statistics(toy)
    before = base.clone()
    toy.generator.drawn.clear()
    found = channel_direction(toy, base, 5)
    low, high = torch.cat(toy.generator.drawn).split(4)
    for s, value in ((low, mean - 5 * std), (high, mean + 5 * std)):
        expected = before.clone()
        expected[:, 5] = value[5]
        torch.testing.assert_close(s, expected)
    assert torch.equal(base, before)
    # From low to high: the mean of unit vectors, made a unit vector.
    change = toy.clip(toy.generator.synthesize(high)) - toy.clip(toy.generator.synthesize(low))
    change = (change / change.norm(dim=1, keepdim=True)).sum(dim=0)
    torch.testing.assert_close(found, change / change.norm(), atol=2e-2, rtol=0)  # half precision


def test_a_sweep_takes_the_channels_in_turn(toy):
    assert swept_channels(toy.generator).tolist() == list(range(8))  # not those to RGB
    assert swept_channels(toy.generator, resolution=8).tolist() == list(range(4))
    found, done = sweep(toy, seed=4)
    assert found.shape == (8, 5) and done.all()
    base = sweep_images(toy, SETTINGS.directions.images, seed=4)
    for channel in (0, 5):
        torch.testing.assert_close(found[channel], channel_direction(toy, base, channel))


def test_a_threshold_that_is_named_leaves_twenty_and_a_count_leaves_as_many():
    relevance = torch.randn(300, generator=torch.Generator().manual_seed(0)) / 5
    with pytest.raises(ValueError) as caught:
        select(relevance, 0.99)
    named = float(re.search(r"is (\d\.\d+)", str(caught.value))[1])
    assert 20 <= (select(relevance, named) != 0).sum() <= 26
    for count in (1, 20, 300, 5000):
        threshold = threshold_for(relevance, count)
        assert (select(relevance, threshold) != 0).sum() == min(count, 300)


def test_select_by_hand():
    relevance = torch.tensor([0.1, -0.4, 0.2, 0.0])
    assert select(relevance, 0.2).tolist() == pytest.approx([0, -1, 0.5, 0])
    assert select(relevance, 0.3).tolist() == [0, -1, 0, 0]
    assert threshold_for(relevance, 2) == pytest.approx(0.2)


def test_relevance_by_a_sweep_is_a_cosine(toy):
    direction = random(5, seed=1)
    toy.kept["sweep"] = random(9, 5, seed=2)  # the authors' files hold more channels
    expected = torch.cat([toy.kept["sweep"][:8] @ direction, torch.zeros(4)])
    torch.testing.assert_close(sweep_relevance(toy, direction), expected)


def test_relevance_by_the_linear_model_is_its_step_in_deviations_of_styles(toy):
    direction = text_direction(toy.clip, toy.neutral, GLASSES)
    _, std = style_statistics(toy)
    change = toy.w_space.offset(linear_model(toy).step(direction))  # of w, hence of each row of s
    torch.testing.assert_close(linear_relevance(toy, direction), change.repeat(3) / std,
                               atol=1e-4, rtol=1e-3)


def linear_toy(**changes):
    """A toy whose CLIP gives A s, without unit length, and A [D, S]."""
    toy = with_settings(toy_domain(unit=False), **changes)
    return toy, toy.clip(toy.generator.synthesize(torch.eye(12))).T


def test_gradients_by_hand():
    """Of nine images, each along a direction of its own."""
    toy, A = linear_toy()
    s, directions = random(9, 12, seed=1), random(9, 5, seed=2)
    torch.testing.assert_close(score_gradients(toy, s, directions), directions @ A)
    torch.testing.assert_close(score_gradients(toy, s, directions[:1]),
                               (directions[:1] @ A).expand(9, -1))


def test_lengths_of_derivatives_are_found_by_random_directions():
    """They are |A_c|, here within 5 %."""
    toy, A = linear_toy(gradient_images=2000)
    torch.testing.assert_close(derivative_lengths(toy), A.norm(dim=0), rtol=0.05, atol=0)


def test_relevance_by_gradients_is_the_cosine_with_the_derivative():
    toy, A = linear_toy(gradient_images=2000)
    direction = text_direction(toy.clip, toy.neutral, GLASSES)
    cosine = direction @ A / A.norm(dim=0)
    found = gradient_relevance(toy, direction)
    torch.testing.assert_close(found[:8], cosine[:8], rtol=0.05, atol=1e-3)
    assert not found[8:].any() and cosine.abs().min() > 1e-3


def test_gradients_agree_with_finite_differences(domain):
    s = sweep_images(domain, 2)
    direction = text_direction(domain.clip, domain.neutral, GLASSES)
    gradient, channel = score_gradients(domain, s, direction[None]), 779
    with torch.no_grad():
        ends = []
        for step in (-0.05, 0.05):
            moved = s.clone()
            moved[:, channel] += step
            ends.append(domain.clip.encode_image(domain.generator.synthesize(moved)) @ direction)
    torch.testing.assert_close(gradient[:, channel], (ends[1] - ends[0]) / 0.1, rtol=0.05,
                               atol=1e-5)


def test_the_last_256_relevances_are_kept(toy):
    first = channel_relevance(toy, toy.neutral, "a person 0", "linear")
    for i in range(1, 257):
        channel_relevance(toy, toy.neutral, f"a person {i}", "linear")
    kept = toy.kept["relevance"]
    assert len(kept) == 256 and (toy.neutral, "a person 0", "linear") not in kept
    assert torch.equal(channel_relevance(toy, toy.neutral, "a person 0", "linear"), first)


def test_what_is_not_given_is_a_setting(toy):
    _, std = style_statistics(toy)
    relevance = channel_relevance(toy, toy.neutral, GLASSES, "linear")
    found = global_direction(toy, toy.neutral, GLASSES)
    torch.testing.assert_close(found, std * select(relevance, threshold_for(relevance, 3)))
    threshold = (relevance.abs().max() / 2).item()
    expected = std * select(relevance, threshold)
    torch.testing.assert_close(
        global_direction(toy, toy.neutral, GLASSES, threshold=threshold), expected)
    with_settings(toy, threshold=threshold, channels=None)
    torch.testing.assert_close(global_direction(toy, toy.neutral, GLASSES), expected)
    assert (global_direction(toy, toy.neutral, GLASSES, channels=6) != 0).sum() == 6
    with_settings(toy, method="gradient")
    found = global_direction(toy, toy.neutral, GLASSES, channels=12)
    assert not found[8:].any() and found[:8].any()


def test_the_least_that_is_enough_by_hand():
    """Enough is reached between two strengths, at the first one, or by a leap; or it never is, and
    nearly the best lies in between, or before the end, or is there from the beginning."""
    alphas = torch.tensor([0.0, 2.0, 4.0])
    matches = torch.tensor([[0.0, 1.2, 0.0, 0.1, 0.0, 0.2, -3.0],
                            [0.5, 9.0, 1.0, 0.7, 0.5, 0.3, -4.0],
                            [1.5, 0.0, 0.0, 0.3, 0.9, 0.25, -4.0]])
    found = least_enough(alphas, matches, 1.0, 0.1)
    torch.testing.assert_close(found, torch.tensor([3.0, 0.0, 1.8, 5 / 3, 3.5, 0.0, 0.0]))
    found = least_enough(alphas, matches, 1.0, 0.0)
    torch.testing.assert_close(found, torch.tensor([3.0, 0.0, 2.0, 2.0, 4.0, 2.0, 0.0]))
    assert not least_enough(alphas[:1], matches[:1], 1.0, 0.1).any()


@pytest.mark.parametrize("given", [{}, {"keep": ["a person with a hat"]}])
def test_alpha_is_the_least_at_which_clip_finds_a_match(toy, given):
    """At it, the match is about what is asked; a face that matches stays as it is."""
    with_settings(toy, match=0.3, slack=0.0, alpha_most=6.0, tries=30)
    s = toy.generator.styles(random_w_plus(toy, 30, seed=8, truncation=1))
    model, d = linear_model(toy), text_direction(toy.clip, toy.neutral, GLASSES)
    step = global_direction(toy, toy.neutral, GLASSES, **given)
    alpha = alpha_for(toy, s, toy.neutral, GLASSES, **given)
    assert alpha.shape == (30, 1) and alpha.min() == 0 and alpha.max() <= 6
    before = model.match(d, toy.generator.synthesize(s))
    after = model.match(d, toy.generator.synthesize(s + alpha * step))
    less = model.match(d, toy.generator.synthesize(s + 0.9 * alpha * step))
    moved, reached = alpha[:, 0] > 0, alpha[:, 0] < 6
    assert torch.equal(moved, before < 0.3) and (moved & reached).sum() > 3
    torch.testing.assert_close(after[moved & reached], torch.full_like(after[moved & reached], 0.3),
                               atol=0.02, rtol=0)
    assert (less < after)[moved & reached].all()
    alone = torch.cat([alpha_for(toy, one[None], toy.neutral, GLASSES, **given) for one in s])
    torch.testing.assert_close(alpha, alone, atol=1e-4, rtol=1e-4)


def test_no_more_strengths_are_tried_than_have_to_be(toy):
    with_settings(toy, match=-100.0)
    s = toy.generator.styles(random_w_plus(toy, 2, seed=8))
    linear_model(toy)
    style_statistics(toy)
    toy.generator.drawn.clear()
    assert not alpha_for(toy, s, toy.neutral, GLASSES).any() and len(toy.generator.drawn) == 1
    with_settings(toy, match=100.0)
    alpha_for(toy, s, toy.neutral, GLASSES)
    assert len(toy.generator.drawn) == 1 + 7


def test_previews_are_drawn_small(toy):
    """Where a domain says so, for all that only CLIP looks at."""
    toy.preview_resolution, sides = 16, []
    encode = toy.clip.encode_image

    def watched(image):
        sides.append(image.shape[-1])
        return encode(image)

    toy.clip.encode_image = watched
    s = sweep_images(toy, 2)
    direction = text_direction(toy.clip, toy.neutral, GLASSES)
    channel_direction(toy, s, 0)
    score_gradients(toy, s, direction[None])
    alpha_for(toy, s, toy.neutral, GLASSES)
    assert set(sides) == {16}


def test_a_direction_is_in_standard_deviations_of_the_strongest_channel(domain):
    _, std = style_statistics(domain)
    for method in ("linear", "sweep"):
        direction = global_direction(domain, domain.neutral, GLASSES, method=method, channels=30)
        assert direction.shape == (domain.generator.style_dim,) and (direction != 0).sum() == 30
        assert (direction / std).abs().max() == pytest.approx(1, abs=1e-5)
    swept = global_direction(domain, domain.neutral, GLASSES, method="sweep", threshold=0.05)
    colours = [part for part in domain.generator.style_layout if part.kind == "toRGB"]
    assert not any(swept[part.slice].any() for part in colours)


def test_alpha_zero_is_the_identical_picture(domain, faces):
    with torch.no_grad():
        s = domain.generator.styles(faces)
        direction = global_direction(domain, domain.neutral, GLASSES)
        assert torch.equal(domain.generator.synthesize(s + 0 * direction), domain.generator(faces))


def test_the_default_edits_faces_it_never_saw(domain):
    """A small version of `make bench`."""
    with torch.no_grad():
        s = domain.generator.styles(random_w_plus(domain, 24, seed=99))
        before, evaluations = domain.generator.synthesize(s), []
        for prompt in (GLASSES, "a person with a beard", "an angry person",
                       "a person with purple hair"):
            alpha = alpha_for(domain, s, domain.neutral, prompt)
            step = alpha * global_direction(domain, domain.neutral, prompt)
            after = domain.generator.synthesize(s + step)
            evaluations.append(evaluate_edit(domain, before, after, prompt))
            assert evaluations[-1].success >= 0.55, (prompt, evaluations[-1])
            assert evaluations[-1].unchanged >= 0.85, (prompt, evaluations[-1])
    assert summary(evaluations)[0] >= 0.75


def test_alpha_is_less_for_who_shows_it_already(domain):
    with torch.no_grad():
        s = domain.generator.styles(random_w_plus(domain, 12, seed=99))
        seen = domain.classifier.read(domain.generator.synthesize(s))["glasses"][0]
        shows = seen == domain.classifier.attributes["glasses"].index("glasses")
        alpha = alpha_for(domain, s, domain.neutral, GLASSES, keep=())[:, 0]
    assert shows.any() and alpha[shows].mean() < alpha[~shows].mean() / 2, (shows, alpha)
    assert (alpha <= domain.settings.directions.alpha_most).all() and (alpha >= 0).all()


def test_a_sweep_leaves_its_codes_alone_and_finds_what_came_along(domain):
    base = sweep_images(domain, domain.settings.directions.images)
    before, some, channels = base.clone(), [0, 40, 300, 900], swept_channels(domain.generator)
    with HalfPrecision(domain.generator):
        found = torch.stack([channel_direction(domain, base, channels[i].item()) for i in some])
    assert torch.equal(base, before) and domain.generator.precision is None
    # 0.999; of eleven channels 0.97 on average, 0.88 at worst, where there is no bfloat16.
    assert (found * domain.swept_directions(928)[some]).sum(dim=1).mean() > 0.85
    assert len(channels) == 928


def test_a_missing_sweep_or_another_networks_is_refused(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the folder "sweeps" is looked for
    path = toy.sweep_path()
    path.parent.mkdir()
    assert not toy.has_sweep()
    with pytest.raises(ValueError, match="no sweep of toy yet: run `python -m helpers.commands"):
        toy.swept_directions(2)
    for header in (dict(generator="another", clip="toy clip"), dict(generator="toy"),
                   dict(generator="toy", clip="another")):
        save_tensors(path, {"directions": torch.zeros(2, 5)}, **header)
        with pytest.raises(ValueError, match=f"{path.name} is no sweep of this generator"):
            toy.swept_directions(2)
    save_tensors(path, {"directions": torch.zeros(2, 5)}, generator="toy", clip="toy clip")
    assert toy.has_sweep() and toy.swept_directions(2).shape == (2, 5)
    with pytest.raises(ValueError, match=r"The sweep is \[2, 5\]; toy .* needs \[3, 5\]"):
        toy.swept_directions(3)


def test_what_is_wrong_gets_one_sentence(domain):
    with pytest.raises(ValueError, match="method must be linear, sweep or gradient, not 'magic'"):
        global_direction(domain, "a person", GLASSES, method="magic")
    with pytest.raises(ValueError, match="says the same as the neutral sentence"):
        global_direction(domain, "a person", "a person")
    with pytest.raises(ValueError, match="prompt is empty"):
        global_direction(domain, "a person", " ")
