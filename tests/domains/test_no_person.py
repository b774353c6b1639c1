"""The cats: a domain that is no person, so that nothing of a person is asked for or looked for."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from helpers.domains import DATA, load_domain
from helpers.evaluation import evaluate_edit, summary
from helpers.images import open_image
from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.methods.directions import alpha_for, global_direction
from helpers.methods.mapper import apply_mapper, train_mapper
from helpers.methods.optimization import optimize_latent
from helpers.panels import OptimizationPanel
from helpers.photographs import learn_picture
from helpers.training_files import find_mapper

PROMPTS = ("a cute cat", "a cat with glasses", "an orange cat")  # those that have a mapper


@pytest.fixture(scope="module")
def cats():
    return load_domain("cats", "cpu")


@pytest.fixture(scope="module")
def kittens(cats):
    """w_plus [16, L, w_dim] of random cats, and their images."""
    w_plus = random_w_plus(cats, 16, seed=3)
    with torch.no_grad():
        return w_plus, cats.generator(w_plus)


def counted(cats, image, edits):
    """Shares of images: the asked attribute is there, others are unchanged.

    Args: edits: {prompt: w_plus or s of the edited images}.
    """
    found = []
    for prompt, s in edits.items():
        with torch.no_grad():
            after = cats.generator.synthesize(s)
        found.append(evaluate_edit(cats, image, after, prompt))
    return summary(found)


def test_the_first_line_says_that_there_is_no_identity_network_and_whose_cats_they_are(capsys):
    load_domain("cats", "cpu")
    text = capsys.readouterr().out
    assert "Domain: cats" in text and "David Revoy" in text and "CC BY 4.0" in text
    assert "No identity network goes with it" in text


def test_its_networks_are_small(cats):
    """11 MB with mappers, linear model and sweep; the avatars take the same space twice."""
    files = [*(DATA / "cats").rglob("*.safetensors")]
    assert len(files) >= 3 and sum(file.stat().st_size for file in files) < 11e6


def test_method_1_edits_without_an_identity_term(cats, kittens):
    w_plus, image = kittens
    edits, losses = {}, set()
    for prompt in PROMPTS:
        edited, history = optimize_latent(cats, w_plus, prompt)
        edits[prompt] = cats.generator.styles(edited)
        losses |= set(history)
    there, unchanged = counted(cats, image, edits)
    assert "identity" not in losses and {"clip", "latent"} <= losses
    assert there > 0.6 and unchanged > 0.6


def test_its_mappers_edit(cats, kittens):
    w_plus, image = kittens
    edits = {prompt: cats.generator.styles(apply_mapper(cats, find_mapper(cats, prompt), w_plus))
             for prompt in PROMPTS}
    there, unchanged = counted(cats, image, edits)
    assert there > 0.6 and unchanged > 0.6


def test_a_mapper_is_trained_without_an_identity_term(cats, kittens):
    _, history = train_mapper(cats, "a cat with a hat", kittens[0], steps=2)
    assert "identity" not in history and len(history["loss"]) == 2


def test_method_3_edits(cats, kittens):
    w_plus, image = kittens
    edits, s = {}, cats.generator.styles(w_plus)
    for prompt in ("a cat with a hat", "a cat with a bow", "an orange cat"):
        alpha = alpha_for(cats, s, cats.neutral, prompt)
        edits[prompt] = s + alpha * global_direction(cats, cats.neutral, prompt)
    there, unchanged = counted(cats, image, edits)
    assert there > 0.6 and unchanged > 0.6


def test_method_3_edits_by_the_sweep_that_comes_along(cats):
    direction = global_direction(cats, cats.neutral, "a cat with glasses", method="sweep",
                                 channels=20)
    assert (direction != 0).sum() == 20


def test_a_cat_of_a_file_is_encoded_and_tuned_to_as_it_is(cats, tmp_path):
    """No face is looked for, so nothing is cut out but the square in the middle."""
    picture = Image.open(cats.samples[0]).resize((300, 200))
    picture.save(tmp_path / "cat.png")
    tuning = replace(cats.settings.tuning, steps=3)
    encoding = replace(cats.settings.encoding, steps=30)
    quick = replace(cats, settings=replace(cats.settings, tuning=tuning, encoding=encoding))
    learnt = learn_picture(quick, tmp_path / "cat.png")
    assert learnt.photograph is None and learnt.domain.identity is None
    side = cats.generator.resolution
    assert learnt.picture(cats.generator.styles(learnt.w_plus)).size == (side, side)


def test_samples_are_found_again(cats):
    image = open_image(cats.samples[1], cats.generator.resolution)
    w_plus, _ = invert(cats, image)
    with torch.no_grad():
        error = (cats.generator(w_plus).clamp(-1, 1) - image).square().mean()
    assert 10 * torch.log10(4 / error) > 22  # dB
    assert cats.sample_latents.shape[0] == len(cats.samples) == 16


def test_a_panel_offers_nothing_about_persons(cats, tmp_path):
    panel = OptimizationPanel(cats, invert, optimize_latent, folder=tmp_path)
    controls = [getattr(control, "description", "") for control in panel.faces.controls]
    assert "person" not in controls and not any("FFHQ" in text for text in controls)
    assert panel.prompt.value == "a cute cat" and panel.chosen.image.shape[-1] == 64


def test_words_about_people_are_named_as_unknown(cats):
    assert cats.clip.caution("a cute cat") == ""
    assert '"beard"' in cats.clip.caution("a cat with a beard")
