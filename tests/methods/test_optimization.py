"""Method 1."""

from dataclasses import replace

import pytest
import torch
from toy import SETTINGS, toy_domain

from helpers.evaluation import evaluate_edit, summary
from helpers.latents import random_w_plus
from helpers.losses import augment, directional_clip_loss, text_direction
from helpers.methods.linear_model import linear_model
from helpers.methods.optimization import optimize_latent
from helpers.settings import PAPER_OPTIMIZATION

PROMPT = "a person with glasses"


class Watched:
    """A toy whose edits are watched: the w_plus [N, L, w_dim] of each image that is drawn."""

    def __init__(self, **optimization):
        settings = replace(SETTINGS.optimization, **optimization)
        self.toy = toy_domain(settings=replace(SETTINGS, optimization=settings))
        self.source = random_w_plus(self.toy, 2, seed=8)

    def edit(self, source, **options):
        linear_model(self.toy)  # it draws images of its own
        self.toy.generator.drawn.clear()
        found, history = optimize_latent(self.toy, source, PROMPT, **options)
        drawn = [s.view(-1, 3, 4) for s in self.toy.generator.drawn]
        torch.testing.assert_close(drawn[0], source)  # the image before the edit
        return found, history, drawn[1:]

    def persons(self, w_plus):
        """1 - cosine [N] to each image's own person."""
        one, two = (self.toy.identity(self.toy.generator(w)) for w in (w_plus, self.source))
        return 1 - (one * two).sum(dim=1)


def check(history, step, **expected):
    """The losses [N] of a step, which are kept as means."""
    for name, value in expected.items():
        assert history[name][step] == pytest.approx(value.mean().item(), rel=2e-3, abs=1e-5), name
    total = sum(value.mean().item() for value in expected.values())
    assert history["loss"][step] == pytest.approx(total, rel=2e-3, abs=1e-5)
    assert set(history) == {"loss", *expected}


def test_each_loss_of_the_paper_by_hand():
    watched = Watched()
    _, history, drawn = watched.edit(watched.source, objective="paper", steps=8)
    toy = watched.toy
    text = toy.clip.encode_text([PROMPT])
    torch.testing.assert_close(drawn[0], watched.source)  # it begins with what was given
    for step, w_plus in enumerate(drawn):
        clip = 1 - (toy.clip(toy.generator(w_plus)) * text).sum(dim=1)
        latent = 0.008 * (w_plus - watched.source).square().sum(dim=(1, 2))
        check(history, step, clip=clip, latent=latent, identity=0.005 * watched.persons(w_plus))
    assert history["identity"][-1] > 0 and history["latent"][-1] > 0
    assert history["clip"][-1] < history["clip"][0]


@pytest.mark.parametrize("augmentations,at_once", [(4, 2), (5, 2), (3, 1)])
def test_each_loss_of_ours_by_hand(augmentations, at_once):
    """CLIP looks through the augmentations in turn, a few in each step."""
    watched = Watched(augmentations=augmentations, augmentations_per_step=at_once)
    toy, source = watched.toy, watched.source
    _, history, drawn = watched.edit(source)
    direction = text_direction(toy.clip, toy.neutral, PROMPT)
    model, space, before = linear_model(toy), toy.w_space, toy.generator(source)
    remaining = model.remaining(direction, before)
    start = 0.8 * remaining[:, None] * model.step(direction)  # [N, K]
    expected = source + space.offset(start)[:, None]
    torch.testing.assert_close(drawn[0], expected, atol=1e-4, rtol=1e-4)
    goal = 1.3 * remaining * model.margin(direction)
    for step, w_plus in enumerate(drawn):
        offset = w_plus - source
        torch.testing.assert_close(offset, offset[:, :1].expand(-1, 3, -1))  # one for all rows
        v = space.position(space.mean + offset[:, 0], 3)
        change = 0
        for seed in range(step * at_once, (step + 1) * at_once):
            seed = seed % augmentations
            seen, saw = (toy.clip(augment(image, seed))
                         for image in (toy.generator(w_plus), before))
            change = change + (seen - saw) / at_once
        clip = remaining**2 * directional_clip_loss(change, direction, goal, lambda_orthogonal=0.1)
        check(history, step, clip=clip, latent=0.01 * v.square().sum(dim=1),
              identity=0.5 * watched.persons(w_plus))
    assert history["identity"][-1] > 0


@pytest.mark.parametrize("objective,lr", [("ours", 2.0), ("paper", 5.0)])
def test_the_best_is_returned_and_not_the_last(objective, lr, monkeypatch):
    """With steps so long that the last is none of the better ones."""
    monkeypatch.setattr("helpers.methods.optimization.PAPER_OPTIMIZATION",
                        replace(PAPER_OPTIMIZATION, lr=lr))
    watched = Watched(lr=lr)
    found, history, drawn = watched.edit(watched.source[:1], objective=objective, steps=60,
                                         callback=lambda state: state["step"] == 9)
    best = min(range(9), key=history["loss"].__getitem__)
    assert best < 8 and history["loss"][8] > 1.05 * history["loss"][best]
    torch.testing.assert_close(found, drawn[best], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_without_an_identity_network_there_is_no_such_loss(objective):
    toy = toy_domain(identity=None)
    _, history = optimize_latent(toy, random_w_plus(toy, 2, seed=8), PROMPT, objective=objective,
                                 steps=2)
    assert set(history) == {"loss", "clip", "latent"}


def test_ours_stops_the_generator_early_and_the_paper_does_not(toy):
    toy.preview_resolution, source = 16, random_w_plus(toy, 1, seed=8)
    for options, side in ((dict(), 16), (dict(objective="paper"), 32),
                          (dict(resolution=32), 32), (dict(objective="paper", resolution=16), 16)):
        states = []
        optimize_latent(toy, source, PROMPT, steps=1, callback=states.append, **options)
        assert states[0]["image"].shape == (1, 3, side, side), options


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_what_is_given_replaces_a_setting(toy, objective):
    source, given = random_w_plus(toy, 1, seed=8), dict(lambda_l2=0.0, lambda_id=0.0, steps=3)
    _, history = optimize_latent(toy, source, PROMPT, objective=objective, **given)
    assert history["latent"] == history["identity"] == [0, 0, 0]


@pytest.mark.parametrize("objective", ["ours", "paper"])
@pytest.mark.parametrize("name,loss", [("lambda_l2", "latent"), ("lambda_id", "identity")])
def test_steps_follow_each_price(toy, objective, name, loss):
    """It is part of the gradient, and not of the reported sum alone."""
    source, found = random_w_plus(toy, 2, seed=8), []
    for weight in (1e-3, 10):
        _, history = optimize_latent(toy, source, PROMPT, objective=objective, steps=40,
                                     **{name: weight})
        found.append(history[loss][-1] / weight)
    assert found[1] < 0.2 * found[0]


def test_the_optimization_lowers_its_loss_and_repeats_itself(domain, faces):
    first, history = optimize_latent(domain, faces[:2], PROMPT, steps=20)
    second, _ = optimize_latent(domain, faces[:2], PROMPT, steps=20)
    assert first.shape == faces[:2].shape
    assert min(history["loss"]) < history["loss"][0]
    assert {len(values) for values in history.values()} == {20}
    assert torch.equal(first, second)


def test_a_batch_gives_what_single_images_give(domain, faces):
    together, _ = optimize_latent(domain, faces[:2], PROMPT, steps=10)
    alone, _ = optimize_latent(domain, faces[1], PROMPT, steps=10)  # [L, w_dim] is one image
    torch.testing.assert_close(together[1:], alone, atol=2e-2, rtol=2e-2)


def test_stop_returns_the_best_so_far(domain, faces):
    states = []

    def stop_at_six(state):
        states.append(state)
        return state["step"] == 6

    result, history = optimize_latent(domain, faces[:1], PROMPT, steps=100, callback=stop_at_six)
    assert len(history["loss"]) == len(states) == 6 and result.shape == faces[:1].shape
    assert states[-1]["image"].shape == (1, 3, 64, 64) and states[-1]["steps"] == 100


def test_ctrl_c_returns_the_best_so_far(domain, faces):
    def interrupt(state):
        if state["step"] == 4:
            raise KeyboardInterrupt

    result, history = optimize_latent(domain, faces[:1], PROMPT, steps=50, callback=interrupt)
    assert len(history["loss"]) == 4 and torch.isfinite(result).all()


def test_strength_zero_is_the_same_picture(domain, faces):
    result, _ = optimize_latent(domain, faces[:1], PROMPT, steps=5)
    again = faces[:1] + 0 * (result - faces[:1])
    assert torch.equal(domain.generator(again), domain.generator(faces[:1]))


def test_bad_input_gets_one_sentence(domain, faces):
    with pytest.raises(ValueError, match="prompt is empty"):
        optimize_latent(domain, faces, "")
    with pytest.raises(ValueError, match="CLIP reads 77"):
        optimize_latent(domain, faces, "beard " * 90)
    with pytest.raises(ValueError, match="another generator"):
        optimize_latent(domain, torch.zeros(1, 18, 512), PROMPT)
    with pytest.raises(ValueError, match='objective must be "ours" or "paper"'):
        optimize_latent(domain, faces, PROMPT, objective="theirs")


def test_equation_1_as_it_stands(domain, faces):
    result, history = optimize_latent(domain, faces[:1], PROMPT, objective="paper", steps=20)
    assert set(history) == {"loss", "clip", "latent", "identity"}
    total = [sum(history[name][i] for name in ("clip", "latent", "identity")) for i in range(20)]
    assert total == pytest.approx(history["loss"], rel=1e-4)
    assert history["latent"][0] == 0 and history["identity"][0] == pytest.approx(0, abs=1e-5)


def test_the_neutral_sentence_is_refused_or_breaks_nothing(domain, faces):
    """It names no direction; to the paper's objective, it is a sentence as others."""
    with pytest.raises(ValueError, match="says the same as the neutral sentence"):
        optimize_latent(domain, faces[:1], domain.neutral, steps=5)
    result, history = optimize_latent(domain, faces[:1], domain.neutral, objective="paper",
                                      steps=5)
    assert torch.isfinite(result).all() and all(value == value for value in history["loss"])


def test_edits_do_what_is_asked_and_little_else(domain, faces):
    """A small version of `make bench`, by the classifier that drives nothing."""
    before, evaluations = domain.generator(faces), []
    for prompt in ("a person with sunglasses", "a person with purple hair", "a surprised person"):
        after = domain.generator(optimize_latent(domain, faces, prompt, steps=40)[0])
        evaluations.append(evaluate_edit(domain, before, after, prompt))
    success, unchanged = summary(evaluations)
    assert success >= 0.65 and unchanged >= 0.8
