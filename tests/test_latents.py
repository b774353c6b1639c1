"""Distances of changes, augmentations, and what a sentence suggests."""

import pytest
import torch
import torch.nn.functional as F

from helpers.criteria import augment, change_distance, text_direction
from helpers.latents import gain, missing, random_w_plus, suggestion, w_space


def test_change_distance_by_hand():
    direction = torch.tensor([1.0, 0.0])
    moved = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.5, 0.0], [0.2, 0.3]])
    distance = change_distance(moved, direction, goal=0.4, sideways=0.1)
    assert distance.tolist() == pytest.approx([1, 0.5, 0, 0.5 + 0.1 * 0.09 / 0.16], abs=1e-6)


def test_text_direction_is_a_unit_vector_away_from_the_neutral_sentence(domain):
    direction = text_direction(domain, "a person with glasses")
    assert direction.norm().item() == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(direction, text_direction(domain, "a bald person"), atol=0.1)


def test_augmentations_differ_by_seed_only_and_move_little():
    image = F.interpolate(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), size=64, mode="bilinear")
    assert torch.equal(augment(image, 1), augment(image, 1)) and not torch.equal(augment(image, 1), augment(image, 2))
    assert (augment(image, 1) - image).abs().mean() < 0.15


def test_random_latents_repeat_and_stay_near_the_mean_under_truncation(domain):
    wide, narrow = random_w_plus(domain, 8, seed=1, truncation=1), random_w_plus(domain, 8, seed=1, truncation=0.5)
    assert torch.equal(wide, random_w_plus(domain, 8, seed=1)) and domain.psi == 1
    middle = domain.generator.w_avg
    torch.testing.assert_close(narrow - middle, 0.5 * (wide - middle), atol=1e-4, rtol=1e-3)


def test_position_is_the_inverse_of_offset(domain):
    space, v = w_space(domain.generator), torch.randn(5, w_space(domain.generator).dim)
    torch.testing.assert_close(space.position(space.mean + space.offset(v)), v, atol=1e-2, rtol=1e-2)


def test_the_suggestion_shows_what_the_sentence_says(domain):
    """Added to random faces, the suggested offset makes the classifier see glasses on more of them."""
    direction = text_direction(domain, "a person with glasses")
    offset = suggestion(domain, direction)
    faces = random_w_plus(domain, 16, seed=3)
    moved = faces + 1.7 * w_space(domain.generator).offset(offset)
    wanted = domain.classifier.attributes["glasses"].index("glasses")
    seen = [(domain.classifier.read(domain.generator(w))["glasses"][0] == wanted).float().mean()
            for w in (faces, moved)]
    assert gain(domain, direction) > 0 and seen[1] > seen[0] + 0.25
    lacks = [missing(domain, direction, domain.generator(w)).mean() for w in (faces, moved)]
    assert lacks[1] < lacks[0] - 0.3 and domain.settings.gallery.least <= lacks[1]  # who has it is moved less
    neutral = text_direction(domain, domain.neutral)
    assert gain(domain, neutral) == pytest.approx(1e-3) and not suggestion(domain, neutral).any()
