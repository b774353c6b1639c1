"""The measure of an edit, by a classifier whose readings are dictated."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers.evaluation import (
    UNSEEN,
    Evaluation,
    estimate_edit,
    evaluate_edit,
    reading_aucs,
    summary,
)
from helpers.latents import random_w_plus
from helpers.losses import augment, text_direction
from helpers.methods.linear_model import linear_model

ATTRIBUTES = {"glasses": ["none", "glasses", "sunglasses"], "hair": ["short", "long"],
              "hat": ["none", "cap", "hood"], "mouth": ["closed", "open"]}


class Reader:
    """Reads what an image [N, 4, 2] says: the choice of each attribute, and its probability."""

    attributes = ATTRIBUTES

    def read(self, image):
        return {name: (image[:, k, 0].long(), image[:, k, 1] / 2 + 0.5)
                for k, name in enumerate(ATTRIBUTES)}


def pictures(*readings, sure=1.0):
    """Of each picture the choices of all attributes; `sure` is (2 p - 1) for probability p."""
    image = torch.tensor(readings, dtype=torch.float32) / 4  # it is clamped to [-1, 1]
    return torch.stack([image, torch.full_like(image, sure)], dim=2)


@pytest.fixture
def reading(toy, monkeypatch):
    class Scaled(Reader):
        def read(self, image):
            return super().read(torch.stack([image[..., 0] * 4, image[..., 1]], dim=2))

    toy.classifier = Scaled()
    toy.prompt_targets = {"a person with glasses": ("glasses", "glasses", "sunglasses")}
    toy.entangled, toy.occluded_by = {"glasses": ("mouth",)}, {"hair": ("hat", "hood")}
    return toy


def test_an_edit_by_hand(reading):
    """Of four images, the third shows glasses before; hair is not seen under a hood."""
    before = pictures([0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 2, 0])
    after = pictures([1, 0, 0, 1], [2, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 0])
    found = evaluate_edit(reading, before, after, "a person with glasses")
    assert found.there == [True, True, False] and found.n == 3
    assert found.kept == {"hair": [True, False], "hat": [True, True, True]}
    assert found.success == pytest.approx(2 / 3) and found.unchanged == pytest.approx(0.75)
    assert str(found) == "asked attribute there  67%, others unchanged  75% (n = 3)"


def test_a_hood_that_comes_or_goes_hides_hair(reading):
    before, after = pictures([0, 0, 2, 0], [0, 0, 0, 0]), pictures([0, 1, 0, 0], [0, 1, 2, 0])
    found = evaluate_edit(reading, before, after, "a person with glasses")
    assert found.kept == {"hair": [], "hat": [False, False]} and found.unchanged == 0


def test_only_what_is_read_with_confidence_counts(reading):
    """The less certain of two readings decides."""
    before = pictures([0, 0, 0, 0], [0, 0, 0, 0], sure=0.6)  # a probability of 0.8
    after = pictures([1, 1, 0, 0], [1, 0, 0, 0], sure=1.0)
    for sure, counted in ((0.0, 2), (0.8, 2), (0.81, 0)):
        found = evaluate_edit(reading, before, after, "a person with glasses", sure)
        assert len(found.kept["hair"]) == counted and found.n == 2
        found = evaluate_edit(reading, after, before, "a person with glasses", sure)
        assert found.n == 0 and found.success == 0


def test_a_summary_is_the_mean_over_prompts():
    one = Evaluation([True, False], {"hair": [True, True], "hat": [True, False], "age": []})
    two = Evaluation([True], {"hair": [False]})
    assert one.unchanged == 0.75 and two.success == 1
    assert summary(iter([one, two])) == (0.75, 0.375)


def test_readings_are_ranked_by_hand(reading, monkeypatch):
    """CLIP ranks 7 images that show glasses or sunglasses against 6 that do not; too few show a
    hood."""
    reading.prompt_targets |= {"a person with a hood": ("hat", "hood")}
    shown, match = [0, 1, 2, 1, 0, 0, 1, 2, 0, 1, 0, 2, 0], torch.arange(13) / 13
    image = pictures(*[[choice, 0, 2 if i < 4 else 0, 0] for i, choice in enumerate(shown)])
    direction = text_direction(reading.clip, reading.neutral, "a person with glasses")
    monkeypatch.setattr(reading.clip, "encode_image", lambda _: match[:, None] * direction)
    above = [match[i] > match[j] for i, one in enumerate(shown) if one
             for j, other in enumerate(shown) if not other]
    found = reading_aucs(reading, image)
    assert found == {"a person with glasses": pytest.approx(sum(above).item() / len(above))}


def test_an_unknown_prompt_is_refused(reading, toy):
    image = pictures([0, 0, 0, 0])
    with pytest.raises(ValueError, match='What "a wig" asks for is not known here; known are: a '):
        evaluate_edit(reading, image, image, "a wig")
    reading.prompt_targets = {}
    with pytest.raises(ValueError, match="none, since the domain has no classifier"):
        evaluate_edit(reading, image, image, "a wig")


def test_a_word_made_of_several_attributes_is_there_where_all_of_them_are(reading):
    """Smart: glasses of either kind and a hat. Of the third image, both are there before."""
    reading.compounds = {"smart": {"glasses": ["glasses", "sunglasses"], "hat": ["cap", "hood"]}}
    reading.prompt_targets = {"a smart person": ("smart", "yes")}
    reading.entangled = {"smart": ("glasses", "hat")}
    before = pictures([0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 1, 0])
    after = pictures([1, 0, 0, 0], [2, 0, 1, 1], [0, 0, 0, 0])
    found = evaluate_edit(reading, before, after, "a smart person")
    assert found.there == [False, True] and set(found.kept) == {"hair", "mouth"}
    assert found.kept["mouth"] == [True, False]


@pytest.mark.parametrize("whole", [True, False])
def test_an_estimate_by_hand(toy, whole):
    """The share of what was missing that CLIP sees now, and how alike the rest is, for four edits:
    too little, enough, too much, and the wrong way."""
    domain, prompt = replace(toy, identity=toy.identity if whole else None), toy.prompts[0]
    model, d = linear_model(domain), text_direction(domain.clip, domain.neutral, prompt)
    w_plus = random_w_plus(domain, 4, seed=1)
    strength = torch.tensor([0.1, 1, 40, -1])[:, None, None]
    before = domain.generator(w_plus)
    after = domain.generator(w_plus + strength * domain.w_space.offset(model.step(d)))
    old, new = (sum(domain.clip.encode_image(augment(image, seed)) for seed in UNSEEN) / len(UNSEEN)
                for image in (before, after))
    there = (new @ d - old @ d) / (model.margin(d) * model.remaining(d, before))
    assert there[0] < 1 < there[2] and there[3] < 0  # both bounds are reached
    if whole:
        old, new = domain.identity(before), domain.identity(after)
    else:
        old, new = old - torch.outer(old @ d, d), new - torch.outer(new @ d, d)
    found = estimate_edit(domain, before, after, prompt)
    assert found[0] == pytest.approx(there.clamp(0, 1).mean().item(), abs=1e-4)
    assert found[1] == pytest.approx(F.cosine_similarity(old, new).mean().item(), abs=1e-4)
