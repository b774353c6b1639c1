"""Method 2: the mapper, its objectives, and how it is trained."""

from dataclasses import replace

import pytest
import torch
from toy import SETTINGS, toy_domain

from helpers.latents import random_w_plus
from helpers.losses import augment, directional_clip_loss, text_direction
from helpers.methods.linear_model import linear_model
from helpers.methods.mapper import (
    apply_mapper,
    mapper_step,
    new_mapper,
    paper_optimizer,
    split_latents,
    train_mapper,
)
from helpers.settings import PAPER_MAPPER
from helpers.training_state import TrainingRun

PROMPT = "a person with glasses"


class Watched:
    """A training on twelve latents of a toy, one of them held out, and every image it draws.

    With a learning rate of 0, the mapper stays as it began, and every loss can be computed anew.
    """

    def __init__(self, objective="ours", seed=5, **settings):
        self.toy, self.lrs = toy_domain(), []
        direction = text_direction(self.toy.clip, self.toy.neutral, PROMPT)
        many = random_w_plus(self.toy, 60, seed=8, truncation=1)
        shown = linear_model(self.toy).remaining(direction, self.toy.generator(many))
        self.latents = many[shown.argsort()[:36:3].flip(0)]  # some show more of the prompt
        self.toy.generator.drawn.clear()
        usual = SETTINGS.mapper if objective == "ours" else replace(PAPER_MAPPER, batch=2)
        self.settings = replace(usual, **settings)
        self.mapper, self.history = train_mapper(self.toy, PROMPT, self.latents, seed=seed,
                                                 objective=objective, settings=self.settings)
        drawn = [s.view(-1, 3, 4) for s in self.toy.generator.drawn]
        edits = drawn[[len(w_plus) for w_plus in drawn].index(1):]  # after the sources
        self.batches = [w_plus for w_plus in edits if len(w_plus) == 2]
        self.looks = [w_plus for w_plus in edits if len(w_plus) == 1]
        self.edited = apply_mapper(self.toy, self.mapper, self.latents)

    def numbers(self, w_plus):
        """The numbers of the latents whose edits these are."""
        distance = (w_plus[:, None] - self.edited).abs().amax(dim=(2, 3))  # [B, 12]
        assert (distance.amin(dim=1) < 1e-5).all()
        return distance.argmin(dim=1).tolist()

    def persons(self, index):
        """1 - cosine [B] of these edits to each latent's own person."""
        one, two = (self.toy.identity(self.toy.generator(w[index]))
                    for w in (self.edited, self.latents))
        return 1 - (one * two).sum(dim=1)

    def change_losses(self, index, seeds):
        """Our CLIP loss [B] of these edits, seen in these augmentations."""
        toy = self.toy
        before, after = (toy.generator(w[index]) for w in (self.latents, self.edited))
        change = [toy.clip(augment(after, seed)) - toy.clip(augment(before, seed))
                  for seed in seeds]
        direction, model = text_direction(toy.clip, toy.neutral, PROMPT), linear_model(toy)
        remaining = model.remaining(direction, before)
        goal = 1.5 * remaining * model.margin(direction)
        losses = directional_clip_loss(torch.stack(change).mean(dim=0), direction, goal,
                                       lambda_orthogonal=0.2)
        return remaining, remaining**2 * losses

    def latent_losses(self, index):
        """The mean square [B] of a step, in standard deviations along three axes of W."""
        step = self.toy.w_space.offset(torch.eye(3))  # [3, w_dim]
        moved = (self.edited - self.latents)[index]  # [B, L, w_dim]
        v = moved @ torch.linalg.pinv(step)  # [B, L, 3]
        return v.square().mean(dim=(1, 2))


def test_each_loss_of_ours_by_hand():
    watched, seeds_seen, shares = Watched(lr=0.0, steps=24, last_layer_scale=1.0), set(), []
    history = watched.history
    for step, w_plus in enumerate(watched.batches):
        index = watched.numbers(w_plus)
        expected = {"identity": 0.5 * watched.persons(index).mean().item(),
                    "latent": 0.03 * watched.latent_losses(index).mean().item()}
        for name, value in expected.items():
            assert history[name][step] == pytest.approx(value, rel=2e-3, abs=1e-5), name
        # The batch is seen in one augmentation of three.
        clip = []
        for seed in range(3):
            remaining, losses = watched.change_losses(index, [seed])
            clip.append(losses.mean().item())
        fits = [seed for seed in range(3)
                if clip[seed] == pytest.approx(history["clip"][step], rel=1e-4, abs=1e-6)]
        assert len(fits) == 1, (clip, history["clip"][step])
        seeds_seen.add(fits[0])
        shares += remaining.tolist()
        total = sum(history[name][step] for name in ("clip", "latent", "identity"))
        assert history["loss"][step] == pytest.approx(total, rel=1e-4)
    assert seeds_seen == {0, 1, 2} and min(shares) < 0.7  # the square of what remains shows
    assert min(history["identity"]) > 0 and min(history["latent"]) > 0
    _, clip = watched.change_losses([0], range(3))
    held_out = clip + 0.5 * watched.persons([0]) + 0.03 * watched.latent_losses([0])
    assert history["held_out"] == pytest.approx(2 * [held_out.item()], rel=2e-3)


def test_each_loss_of_the_paper_by_hand():
    watched = Watched("paper", lr=0.0, steps=8)
    toy, text = watched.toy, watched.toy.clip.encode_text([PROMPT])
    moved = (watched.edited - watched.latents).square().mean(dim=(1, 2))
    assert (moved > 0).all()
    for step, w_plus in enumerate(watched.batches):
        index = watched.numbers(w_plus)
        clip = 1 - (toy.clip(toy.generator(watched.edited[index])) * text).sum(dim=1)
        expected = {"clip": clip, "latent": 0.8 * moved[index],
                    "identity": 0.1 * watched.persons(index)}
        for name, value in expected.items():
            assert watched.history[name][step] == pytest.approx(
                value.mean().item(), rel=2e-3, abs=1e-6), name
        total = sum(value.mean().item() for value in expected.values())
        assert watched.history["loss"][step] == pytest.approx(total, rel=2e-3)
    assert min(watched.history["identity"]) > 0


@pytest.mark.parametrize("objective", ["ours", "paper"])
@pytest.mark.parametrize("name,loss", [("lambda_l2", "latent"), ("lambda_id", "identity")])
def test_steps_follow_each_price(toy, objective, name, loss):
    """It is part of the gradient, and not of the reported sum alone."""
    usual = SETTINGS.mapper if objective == "ours" else replace(PAPER_MAPPER, batch=2)
    latents, found = random_w_plus(toy, 12, seed=8), []
    for weight in (1e-3, 10):
        settings = replace(usual, lr=4.0, steps=50, **{name: weight})
        _, history = train_mapper(toy, PROMPT, latents, objective=objective, settings=settings)
        found.append(sum(history[loss][-10:]) / weight)
    assert found[1] < 0.7 * found[0]


def test_held_out_latents_are_not_trained_on_and_batches_differ():
    found = []
    for seed in (5, 6):
        watched = Watched(seed=seed, lr=0.0, steps=40)
        batches = [tuple(watched.numbers(w_plus)) for w_plus in watched.batches]
        assert len(batches) == 40 and len(set(batches)) > 25
        assert {i for batch in batches for i in batch} == set(range(1, 12))
        assert [watched.numbers(w_plus) for w_plus in watched.looks] == [[0], [0], [0]]
        found.append(batches)
    assert found[0] != found[1]


def test_a_step_is_a_tenth_of_what_the_networks_say(toy):
    """The paper's see w itself, ours see it in standard deviations along three axes of W."""
    latents, space = random_w_plus(toy, 2, seed=8), toy.w_space
    mapper = new_mapper(toy, "paper")
    torch.testing.assert_close(mapper_step(toy, mapper, latents), mapper(latents) / 10)
    mapper = new_mapper(toy, "ours")
    v = space.position(latents, 3)
    torch.testing.assert_close(mapper_step(toy, mapper, latents), space.offset(mapper(v) / 10))


def test_latents_are_parted():
    for count, held_out in ((2, 1), (19, 1), (60, 6), (400, 16)):
        training, looked_at = split_latents(torch.zeros(count, 3, 4), batch=1)
        assert looked_at.tolist() == list(range(held_out))
        assert training.tolist() == list(range(held_out, count))
    with pytest.raises(ValueError, match="has 10 latents, 1 of them held out: too few for a "
                                         "batch of 10"):
        split_latents(torch.zeros(10, 3, 4), batch=10)


def test_a_seed_draws_other_batches_and_other_weights(toy):
    latents, found = random_w_plus(toy, 12, seed=8), []
    for seed in (0, 0, 1):
        mapper, history = train_mapper(toy, PROMPT, latents, seed=seed)
        found.append((history, mapper.networks["coarse"].layers[0].weight))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
    assert found[0][0]["loss"] != found[2][0]["loss"]
    assert not torch.equal(found[0][1], found[2][1])


@pytest.mark.parametrize("neutral,prompt", [("a person", PROMPT), (PROMPT, "a person")])
def test_training_begins_at_the_linear_step(toy, neutral, prompt):
    """There and back. Of mapping x, only the last biases are left."""
    settings = replace(SETTINGS.mapper, last_layer_scale=0.0, steps=0)
    toy.neutral, latents = neutral, random_w_plus(toy, 12, seed=8)
    mapper, history = train_mapper(toy, prompt, latents, settings=settings)
    direction = text_direction(toy.clip, neutral, prompt)
    wanted = 0.8 * toy.w_space.offset(linear_model(toy).step(direction))  # [w_dim]
    torch.testing.assert_close(mapper_step(toy, mapper, latents), wanted.expand(12, 3, 4),
                               atol=1e-5, rtol=1e-4)
    assert history["loss"] == [] and len(history["held_out"]) == 1


def test_the_best_is_returned_and_not_the_last():
    """With steps so long that the last weights are none of the better ones."""
    watched = Watched(lr=10.0, steps=60)
    held_out = watched.history["held_out"]
    assert len(held_out) == len(watched.looks) == 4  # at first, after 25, 50 and 60 steps
    best = min(range(4), key=held_out.__getitem__)
    assert 0 < best < 3 and held_out[-1] > 1.02 * held_out[best]
    torch.testing.assert_close(watched.edited[:1], watched.looks[best], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stop", "looks"), [(25, 2), (30, 3)])
def test_a_run_that_is_stopped_is_looked_at_once_more_if_it_went_on(toy, stop, looks):
    """After steps 0 and 25, and at the end."""
    settings = replace(SETTINGS.mapper, steps=60)
    _, history = train_mapper(toy, PROMPT, random_w_plus(toy, 12, seed=8), settings=settings,
                              callback=lambda state: state["step"] == stop)
    assert len(history["loss"]) == stop and len(history["held_out"]) == looks


@pytest.mark.parametrize("objective,expected", [
    ("paper", [0.5] * 8), ("ours", [0.1] * 6 + [0.1 * 0.9698, 0.1 * 0.4132])])
def test_learning_rates(toy, monkeypatch, objective, expected):
    """Constant, or that of method 1 without its first step, whose rate is 0."""
    lrs, train_step = [], TrainingRun.train_step

    def watched(run, losses, lr):
        lrs.append(lr)
        train_step(run, losses, lr)

    monkeypatch.setattr(TrainingRun, "train_step", watched)
    settings = SETTINGS.mapper if objective == "ours" else replace(PAPER_MAPPER, batch=2)
    train_mapper(toy, PROMPT, random_w_plus(toy, 12, seed=8), objective=objective,
                 settings=replace(settings, steps=8))
    assert lrs == pytest.approx(expected, rel=1e-3)


def test_ours_stops_the_generator_early_and_the_paper_does_not(toy):
    toy.preview_resolution, latents = 16, random_w_plus(toy, 12, seed=8)
    paper = dict(objective="paper", settings=replace(PAPER_MAPPER, steps=1))
    for options, side in ((dict(steps=1), 16), (paper, 32), (dict(steps=1, resolution=32), 32),
                          (paper | dict(resolution=16), 16)):
        states = []
        train_mapper(toy, PROMPT, latents, callback=states.append, **options)
        assert states[0]["image"].shape == (2, 3, side, side), options
        assert states[0]["step"] == states[0]["steps"] == 1


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_without_an_identity_network_there_is_no_such_loss(objective):
    toy = toy_domain(identity=None)
    _, history = train_mapper(toy, PROMPT, random_w_plus(toy, 12, seed=8), objective=objective,
                              steps=2)
    assert set(history) == {"loss", "held_out", "clip", "latent"}


def test_what_is_trained_is_ready_for_use(toy):
    mapper, _ = train_mapper(toy, PROMPT, random_w_plus(toy, 12, seed=8), steps=2)
    assert not mapper.training and not any(value.requires_grad for value in mapper.parameters())


def test_ranger_begins_down_the_mean_gradient_as_the_authors_does():
    """RAdam's first five steps (1908.03265, algorithm 2); the package's own default goes up the
    gradient there."""
    network = torch.nn.Linear(3, 1)
    start, gradient = network.bias.detach().clone(), torch.tensor([2e-3])
    optimizer = paper_optimizer(network, 0.5)
    for step in range(1, 6):
        network.weight.grad, network.bias.grad = torch.zeros(1, 3), gradient.clone()
        optimizer.step()
        assert torch.allclose(network.bias, start - step * 0.5 * gradient, atol=1e-6)


def test_networks_act_alone_and_strength_zero_is_the_source(domain):
    mapper, latents = new_mapper(domain), random_w_plus(domain, 20, seed=0)
    for name, part in domain.rows.items():
        moved = (apply_mapper(domain, mapper, latents, only=[name]) != latents).any(dim=2)
        assert moved[:, part].all() and moved.sum() == moved[:, part].sum()
        others = [other for other in domain.rows if other != name]
        without = new_mapper(domain, "paper", others)
        assert torch.equal(apply_mapper(domain, without, latents)[:, part], latents[:, part])
    assert torch.equal(apply_mapper(domain, mapper, latents, strength=0), latents)
    twice, once = (apply_mapper(domain, mapper, latents, strength) for strength in (2, 1))
    torch.testing.assert_close(twice - latents, 2 * (once - latents), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="networks must be some of coarse, medium, fine"):
        new_mapper(domain, networks=[])


def test_training_lowers_the_loss_on_latents_it_never_saw(domain):
    latents, settings = random_w_plus(domain, 40, seed=0), domain.settings.mapper
    _, history = train_mapper(domain, PROMPT, latents,
                              settings=replace(settings, steps=30, batch=4))
    assert history["held_out"][-1] < history["held_out"][0]
    parts = ("clip", "latent", "identity", "keep")  # its edits keep something by default
    assert {*parts, "loss"} <= set(history) and len(history["loss"]) == 30
    total = [sum(history[name][i] for name in parts) for i in range(30)]
    assert total == pytest.approx(history["loss"], rel=1e-4)


def test_bad_input_gets_one_sentence(domain):
    latents = random_w_plus(domain, 20, seed=0)
    with pytest.raises(ValueError, match="too few for a batch of 8"):
        train_mapper(domain, PROMPT, latents[:5])
    with pytest.raises(ValueError, match="prompt is empty"):
        train_mapper(domain, " ", latents)
    with pytest.raises(ValueError, match="CLIP reads 77"):
        train_mapper(domain, "beard " * 90, latents)
    with pytest.raises(ValueError, match="another generator"):
        apply_mapper(domain, new_mapper(domain), torch.zeros(1, 18, 512))
    with pytest.raises(ValueError, match="another generator"):
        train_mapper(domain, PROMPT, torch.zeros(20, 18, 512))
