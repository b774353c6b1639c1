"""The distances of the objectives, text directions and augmentations."""

import pytest
import torch
import torch.nn.functional as F
from toy import ToyClip

from helpers.losses import (
    AUGMENTATION,
    IMAGENET_TEMPLATES,
    augment,
    augmented_features,
    clip_loss,
    directional_clip_loss,
    identity_loss,
    latent_loss,
    text_direction,
)


def smooth_image(count=2, side=64):
    image = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(image, size=side, mode="bilinear")


@pytest.mark.parametrize("loss", [clip_loss, identity_loss])
def test_one_minus_cosine_by_hand(loss):
    one, two = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.6, 0.8])
    assert loss(one, two).tolist() == pytest.approx([0.4, 0.2])
    assert loss(one, torch.stack([two, -two])).tolist() == pytest.approx([0.4, 1.8])


def test_latent_loss_adds_up_layers_and_channels():
    w_plus = torch.ones(2, 5, 3)
    assert latent_loss(w_plus, torch.zeros(2, 5, 3)).tolist() == [15, 15]
    assert latent_loss(3 * w_plus, w_plus).tolist() == [60, 60]


def test_directional_clip_loss_by_hand():
    direction = torch.tensor([1.0, 0.0])
    change = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.5, 0.0], [0.2, 0.3]])
    loss = directional_clip_loss(change, direction, goal=0.4, lambda_orthogonal=0.1)
    assert loss.tolist() == pytest.approx([1, 0.5, 0, 0.5 + 0.1 * 0.09 / 0.16], abs=1e-6)
    goals = torch.tensor([0.1, 0.2, 1.0, 0.4])  # each image has one of its own
    loss = directional_clip_loss(change, direction, goals, lambda_orthogonal=0.1)
    assert loss.tolist() == pytest.approx([1, 0, 0.5, 0.5 + 0.1 * 0.09 / 0.16], abs=1e-6)


def test_text_direction_is_a_unit_vector_away_from_the_neutral_sentence(domain):
    direction = text_direction(domain.clip, domain.neutral, "a person with glasses")
    assert direction.norm().item() == pytest.approx(1, abs=1e-5)
    other = text_direction(domain.clip, domain.neutral, "a bald person")
    assert not torch.allclose(direction, other, atol=0.1)


def test_text_direction_by_hand():
    """The difference of two means of unit vectors, each made a unit vector first."""
    clip, templates = ToyClip(), ("a photo of a {}.", "art of the {}!")
    found = text_direction(clip, "a person", "glad person", templates)
    ends = []
    for text in ("person", "glad person"):
        phrased = clip.encode_text([f"a photo of a {text}.", f"art of the {text}!"])
        ends.append(phrased.sum(dim=0) / phrased.sum(dim=0).norm())
    expected = (ends[1] - ends[0]) / (ends[1] - ends[0]).norm()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(text_direction(clip, "glad person", "person", templates), -expected)


@pytest.mark.parametrize("sentence,said", [
    ("a person", "person"), ("an old person", "old person"), ("the tan hat", "tan hat"),
    (" a person ", "person"), ("theatre", "theatre"), ("person in a hat", "person in a hat"),
    ("anna", "anna"), ("person", "person")])
def test_a_phrasing_brings_its_own_article(sentence, said):
    clip = ToyClip()
    text_direction(clip, "neutral words", sentence, ("a photo of a {}.",))
    assert clip.asked[-1] == f"a photo of a {said}."


def test_all_phrasings_count():
    assert len(IMAGENET_TEMPLATES) == 79
    assert all(template.count("{}") == 1 for template in IMAGENET_TEMPLATES)
    clip = ToyClip()
    text_direction(clip, "a person", "a glad person")
    assert [template.format("glad person") for template in IMAGENET_TEMPLATES] == clip.asked[-79:]


def test_text_direction_says_what_is_wrong(domain):
    with pytest.raises(ValueError, match="says the same as the neutral sentence"):
        text_direction(domain.clip, "a person", "a person")
    with pytest.raises(ValueError, match="prompt is empty"):
        text_direction(domain.clip, "a person", " ")
    with pytest.raises(ValueError, match="CLIP reads 77"):
        text_direction(domain.clip, "a person", "beard " * 90)
    with pytest.raises(TypeError, match="a sentence, a str, not int"):
        text_direction(domain.clip, "a person", 3)


def test_augmentations_differ_by_seed_only_and_move_little():
    image = smooth_image()
    assert torch.equal(augment(image, 1), augment(image, 1))
    assert not torch.equal(augment(image, 1), augment(image, 2))
    assert (augment(image, 1) - image).abs().mean() < 0.15


def test_an_augmentation_turns_zooms_and_shifts_and_does_not_shear():
    """Of an image of coordinates, it shows from where each pixel comes."""
    side, found = 32, []
    at = (torch.arange(side) + 0.5) * 2 / side - 1  # affine_grid's coordinates
    places = torch.stack([at.expand(side, side), at[:, None].expand(side, side)])  # x, y
    image = torch.cat([places, torch.zeros(1, side, side)])[None]
    inner = slice(side // 4, -side // 4)  # what lies beyond the border is repeated
    for seed in range(12):
        source = augment(image, seed)[0, :2, inner, inner].flatten(1).T  # [M, 2]
        target = places[:, inner, inner].flatten(1).T
        known = torch.cat([target, torch.ones(len(target), 1)], dim=1)  # [M, 3]
        matrix = torch.linalg.lstsq(known, source).solution.T  # [2, 3]
        torch.testing.assert_close(known @ matrix.T, source, atol=1e-4, rtol=0)
        (a, b, x), (c, d, y) = matrix.tolist()
        assert a == pytest.approx(d, abs=1e-4) and b == pytest.approx(-c, abs=1e-4)
        found.append((a - 1, c, x, y))
    sizes = torch.tensor(found).abs()
    assert AUGMENTATION == 0.08  # as methods 1 and 2 were tuned with
    assert (sizes < AUGMENTATION + 1e-4).all() and (sizes.amax(dim=0) > AUGMENTATION / 2).all()
    signs = torch.tensor(found).sign().sum(dim=0).abs()
    assert (signs < 12).all()  # both ways


def test_features_of_augmentations_come_by_seed_and_image():
    clip, image = ToyClip(), smooth_image(3, 32)
    found = augmented_features(clip, image, [5, 2])
    assert found.shape == (2, 3, 5)
    for seed, features in zip((5, 2), found):
        torch.testing.assert_close(features, clip(augment(image, seed)))
