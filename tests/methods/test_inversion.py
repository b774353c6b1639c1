"""The schedule, descent on a latent, and how a picture becomes one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import golden
from toy import toy_domain

from helpers.images import open_image
from helpers.inversion import (
    Descent,
    invert,
    latent_prior,
    learning_rate,
    maps_distance,
    pyramid_distance,
    tune_generator,
)
from helpers.latents import random_w_plus
from helpers.settings import EncodingSettings
from helpers.training_files import load_tuned, save_tuned


def test_schedule_is_the_authors():
    right = golden("learning_rate")
    for t, lr in zip(right["t"].tolist(), right["lr"].tolist()):
        assert learning_rate(t, 1, 0.1) == pytest.approx(lr, abs=1e-9)


def test_the_schedule_counts_steps():
    assert [learning_rate(step, 8, 2.0) for step in range(8)] == pytest.approx(
        [0, 2, 2, 2, 2, 2, 2, 1])
    assert learning_rate(1, 100, 2.0) == pytest.approx(2 / 5)


def test_a_descent_keeps_the_best_of_each_image():
    """By losses that are dictated; the first step has length 0."""
    descent, seen = Descent(torch.zeros(2, 3), steps=5, lr=0.5), []
    for _, values in zip(descent, ([4, 3], [3, 1], [1, 2], [2, 4], [3, 5])):
        seen.append(descent.x.detach().clone())
        pull = descent.x.sum(dim=1)  # what the steps follow
        descent.update({"a": torch.tensor(values) + pull - pull.detach()}, torch.zeros(2))
    assert all(not torch.equal(one, two) for one, two in zip(seen[1:], seen[2:]))
    assert torch.equal(descent.best[0], seen[2][0]) and torch.equal(descent.best[1], seen[1][1])
    assert descent.history == {"loss": [3.5, 2, 1.5, 3, 4], "a": [3.5, 2, 1.5, 3, 4]}


def test_a_descent_is_adam_with_the_schedule():
    start = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    descent = Descent(start, steps=9, lr=0.3, betas=(0.8, 0.9))
    for _ in descent:
        descent.update({"a": descent.x.square().sum(dim=1), "b": descent.x[:, 0]}, descent.x)
    x = start.clone().requires_grad_()
    adam, history = torch.optim.Adam([x], lr=0.3, betas=(0.8, 0.9)), []
    for step in range(9):
        adam.param_groups[0]["lr"] = learning_rate(step, 9, 0.3)
        adam.zero_grad()
        loss = x.square().sum() + x[:, 0].sum()
        history.append(loss.item() / 2)
        loss.backward()
        adam.step()
    torch.testing.assert_close(descent.x.detach(), x.detach())
    assert descent.history["loss"] == pytest.approx(history)
    assert torch.equal(start, torch.tensor([[1.0, -2.0], [0.5, 4.0]]))  # it stays as it was


def test_a_descent_that_is_stopped_stays_where_it_looked():
    states = []

    def stop_at_two(state):
        states.append(state)
        return state["step"] == 2

    descent = Descent(torch.ones(1, 1), steps=5, lr=0.3, callback=stop_at_two)
    for _ in descent:
        descent.update({"a": descent.x.square().sum(dim=1)}, descent.x)
        last = descent.x.item()
    assert len(states) == 2 and descent.stopped and last == descent.best.item()
    assert states[1]["step"] == 2 and states[1]["steps"] == 5
    assert states[1]["loss"] == pytest.approx(last**2) and not states[1]["image"].requires_grad


def test_the_pyramid_sees_stripes_once_and_brightness_four_times():
    image, black = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    image[..., ::2], image[..., 1::2] = 1, -1
    assert pyramid_distance(image, black).tolist() == [1]  # gone at half size
    blocks = F.interpolate(image[..., :4, :4], scale_factor=4)
    assert pyramid_distance(blocks, black).tolist() == [3]  # gone at an eighth
    assert pyramid_distance(black + 0.5, black).tolist() == [2]
    both = pyramid_distance(torch.cat([image, black]), torch.cat([black, black]))
    assert both.tolist() == [1, 0]


def with_settings(toy, **changes):
    settings = replace(toy.settings.encoding, **changes)
    toy.settings = replace(toy.settings, encoding=settings)
    return toy


def test_each_loss_of_an_inversion_by_hand(toy):
    target = toy.generator(random_w_plus(toy, 2, seed=1)).clamp(-1, 1)
    start, states = random_w_plus(toy, 2, seed=2), []
    toy.generator.drawn.clear()
    found, history = invert(toy, target, start=start, steps=4, callback=states.append)
    assert [state["step"] for state in states] == [1, 2, 3, 4] and history["prior"][0] > 0
    drawn = toy.generator.drawn.copy()
    for i, s in enumerate(drawn):
        image, w_plus = toy.generator.synthesize(s), s.view(2, 3, 4)
        features = 1 - (toy.clip(image) * toy.clip(target)).sum(dim=1)
        v = toy.w_space.position(w_plus)
        expected = {"pixels": pyramid_distance(image, target).mean(),
                    "features": 0.2 * features.mean(),
                    "prior": 0.01 * v.square().sum(dim=(1, 2)).mean()}
        for name, value in expected.items():
            assert history[name][i] == pytest.approx(value.item(), rel=1e-3), name
        assert history["loss"][i] == pytest.approx(sum(expected.values()).item(), rel=1e-3)
    torch.testing.assert_close(drawn[0].view(2, 3, 4), start, atol=1e-4, rtol=1e-4)


def test_an_inversion_returns_the_best_and_not_the_last(toy):
    """With steps so long that the last is none of the better ones."""
    target, drawn = toy.generator(random_w_plus(toy, 1, seed=1)).clamp(-1, 1), []
    with_settings(toy, lr=3.0)

    def stop_at_nine(state):
        drawn.append(state["image"])
        return state["step"] == 9

    found, history = invert(toy, target, start=random_w_plus(toy, 1, seed=2), steps=60,
                            callback=stop_at_nine)
    best = min(range(9), key=history["loss"].__getitem__)
    assert 0 < best < 8 and history["loss"][8] > 1.05 * history["loss"][best]
    torch.testing.assert_close(toy.generator(found), drawn[best], atol=1e-4, rtol=1e-4)


def test_most_steps_are_drawn_small_and_the_best_is_one_at_full_size(toy):
    """The target has stripes that no small image shows, so that all of those seem better."""
    toy.preview_resolution, states = 16, []
    stripes = torch.zeros(32)
    stripes[::2], stripes[1::2] = 0.4, -0.4
    target = toy.generator(random_w_plus(toy, 1, seed=1)) / 2 + stripes
    start = random_w_plus(toy, 1, seed=2)
    found, history = invert(toy, target, start=start, steps=6, callback=states.append)
    assert [state["image"].shape[-1] for state in states] == [16, 16, 16, 32, 32, 32]
    losses = history["loss"]
    assert min(losses[:3]) < min(losses[3:])
    best = min(range(3, 6), key=losses.__getitem__)
    torch.testing.assert_close(toy.generator(found), states[best]["image"], atol=1e-4, rtol=1e-4)
    # What is small is compared with the target at that size.
    expected = pyramid_distance(states[0]["image"], F.adaptive_avg_pool2d(target, 16))
    assert history["pixels"][0] == pytest.approx(expected.item(), rel=1e-4)


def test_noise_fades_in_the_first_half_and_is_the_same_for_all_images(toy):
    target = toy.generator(random_w_plus(toy, 2, seed=1)).clamp(-1, 1)
    with_settings(toy, lr=0.0)
    toy.generator.drawn.clear()
    found, history = invert(toy, target, steps=10)
    assert history["prior"] == pytest.approx([0] * 10)  # it is that of the result
    v = toy.w_space.position(torch.stack(toy.generator.drawn).view(10, 2, 3, 4))  # [10, 2, L, K]
    assert torch.equal(v[:, 0], v[:, 1])
    noise = torch.Generator().manual_seed(0)
    for step in range(10):
        expected = torch.zeros(3, 4)
        if step < 5:
            expected = 0.3 * (1 - step / 5) ** 2 * torch.randn(3, 4, generator=noise)
        torch.testing.assert_close(v[step, 0], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found, toy.w_space.mean.expand(2, 3, 4))  # noise is no part of it


def test_the_encoder_says_where_to_begin(toy):
    wanted = random_w_plus(toy, 2, seed=3)
    toy.encoder = StubEncoder(wanted[:, 0])
    image = toy.generator(random_w_plus(toy, 2, seed=1)).clamp(-1, 1)
    found, history = invert(toy, image, steps=0)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert history == {"loss": []}


class StubEncoder:
    """Gives w [N, w_dim] for any images."""

    def __init__(self, w):
        self.w = w

    def __call__(self, image):
        return self.w


def test_a_sample_is_found_again(domain):
    image, steps = open_image(domain.samples[0], 64), []
    w_plus, history = invert(domain, image, callback=lambda state: steps.append(state["step"]))
    again = domain.generator(w_plus).clamp(-1, 1)
    assert 10 * torch.log10(4 / (again - image).square().mean()) > 24
    assert steps == list(range(1, len(history["loss"]) + 1))
    read = [domain.classifier.read(x) for x in (image, again)]
    same = [torch.equal(read[0][name][0], read[1][name][0]) for name in read[0]]
    assert sum(same) >= len(same) - 1


def error(domain, w_plus, image):
    return (domain.generator(w_plus) - image).abs().mean()


def test_stopping_returns_the_best_so_far(domain):
    image = open_image(domain.samples[1], 64)
    w_plus, history = invert(domain, image, callback=lambda state: state["step"] == 7)
    assert len(history["loss"]) == 7 and w_plus.shape == (1, 10, domain.generator.w_dim)
    first, _ = invert(domain, image, steps=1)
    assert error(domain, w_plus, image) < error(domain, first, image)


def test_a_start_is_where_the_search_begins(domain):
    image = open_image(domain.samples[2], 64)
    found, _ = invert(domain, image, steps=60)
    again, history = invert(domain, image, steps=5, start=found)
    cold, cold_history = invert(domain, image, steps=5)
    assert history["loss"][0] < 0.7 * cold_history["loss"][0]
    assert error(domain, again, image) < 0.7 * error(domain, cold, image)
    with pytest.raises(ValueError, match="another generator"):
        invert(domain, image, steps=5, start=torch.zeros(1, 18, 512))


def test_an_image_of_another_size_is_refused(domain):
    with pytest.raises(ValueError, match=r"must be \[N, 3, 64, 64\].*open_image"):
        invert(domain, torch.zeros(1, 3, 32, 32))


def test_a_tuned_generator_draws_the_picture_and_the_first_stays(toy):
    w_plus, states = random_w_plus(toy, 1, seed=2), []
    image = (toy.generator(w_plus) * 0.8 + 0.1).clamp(-1, 1)
    before = {name: value.clone() for name, value in toy.generator.state_dict().items()}
    tuned = tune_generator(toy, image, w_plus, steps=40, callback=states.append)
    assert len(states) == 40 and states[-1]["steps"] == 40
    for name, value in toy.generator.state_dict().items():
        assert torch.equal(value, before[name]), name
    error = [(domain.generator(w_plus) - image).abs().mean().item() for domain in (toy, tuned)]
    assert error[1] < 0.5 * error[0]
    assert tuned.fingerprint != toy.fingerprint and tuned.w_fingerprint == toy.fingerprint
    assert tuned.preview_resolution is None
    assert tuned.settings.directions.slack == 0.04 != toy.settings.directions.slack
    assert torch.equal(tuned.generator.styles(w_plus), toy.generator.styles(w_plus))


def test_each_loss_of_a_tuning_by_hand(toy):
    """On three levels of the pyramid, as its settings say; an inversion has four."""
    w_plus, states = random_w_plus(toy, 1, seed=2), []
    image = (toy.generator(w_plus) * 0.8 + 0.1).clamp(-1, 1)
    tune_generator(toy, image, w_plus, callback=states.append)
    for state in states:
        drawn = state["image"]
        features = 1 - (toy.clip(drawn) * toy.clip(image)).sum(dim=1)
        expected = pyramid_distance(drawn, image, levels=3) + 0.3 * features
        assert state["loss"] == pytest.approx(expected.item(), rel=1e-3)
    assert len(states) == 6


def test_tuning_returns_the_best_and_stops_when_it_is_told_to(toy):
    """With steps so long that the last is none of the better ones."""
    w_plus, drawn, losses = random_w_plus(toy, 1, seed=2), [], []
    image = (toy.generator(w_plus) * 0.8).clamp(-1, 1)
    toy.settings = replace(toy.settings, tuning=replace(toy.settings.tuning, lr=1.0))

    def stop_at_seven(state):
        drawn.append(state["image"])
        losses.append(state["loss"])
        return state["step"] == 7

    tuned = tune_generator(toy, image, w_plus, steps=30, callback=stop_at_seven)
    best = min(range(7), key=losses.__getitem__)
    assert len(drawn) == 7 and losses[-1] > losses[best]
    torch.testing.assert_close(tuned.generator(w_plus), drawn[best], atol=1e-4, rtol=1e-4)


def test_tuning_by_no_step_and_of_several_pictures(toy):
    w_plus = random_w_plus(toy, 2, seed=2)
    image = toy.generator(w_plus).clamp(-1, 1)
    same = tune_generator(toy, image[:1], w_plus[:1], steps=0)
    assert torch.equal(same.generator(w_plus), toy.generator(w_plus))
    with pytest.raises(ValueError, match="One generator learns one picture, not 2"):
        tune_generator(toy, image, w_plus)


def test_a_tuned_generator_is_saved_as_a_small_difference(toy, tmp_path):
    w_plus = random_w_plus(toy, 1, seed=2)
    image = (toy.generator(w_plus) * 0.8).clamp(-1, 1)
    tuned, path = tune_generator(toy, image, w_plus), tmp_path / "mine.safetensors"
    save_tuned(path, toy, tuned)
    again = load_tuned(path, toy)
    torch.testing.assert_close(again.generator(w_plus), tuned.generator(w_plus), atol=2e-3, rtol=0)
    assert path.stat().st_size < 2.2 * toy.generator.weight.numel() + 1000
    other = toy_domain(fingerprint="another")
    with pytest.raises(ValueError, match="mine.safetensors was tuned from another generator"):
        load_tuned(path, other)


def test_the_distance_of_feature_maps_by_hand():
    x = torch.zeros(1, 2, 2, 2)
    y = x.clone()
    x[:, 0], y[:, 0] = 3.0, 5.0  # the same direction at each place
    assert maps_distance([x], [y]).tolist() == [0]
    y[:, 0, 0, 0], y[:, 1, 0, 0] = 0, 7  # orthogonal at one of four places: |a - b|^2 = 2
    assert maps_distance([x, x], [y, x]).tolist() == pytest.approx([0.25])


def test_the_prior_weighs_what_rows_share_and_what_parts_them():
    settings = EncodingSettings(steps=1, lr=1, features=0, prior=2.0, prior_rows=3.0, jitter=0,
                                preview_share=0)
    v = torch.tensor([[[1.0, 0], [3.0, 0]]])  # mean 2, apart by 1
    assert latent_prior(v, settings).tolist() == [2.0 * 2 * 4 + 3.0 * 2]


def test_encoding_follows_the_persons_vector_and_maps(domain):
    """Weights of 0 leave a loss out, and so does an encoder that is not there."""
    settings = replace(domain.settings.encoding, identity=1.0, identity_maps=2.0, encoder_maps=0.5)
    mine = replace(domain, settings=replace(domain.settings, encoding=settings))
    image = domain.generator(random_w_plus(domain, 1, seed=3)).clamp(-1, 1)
    _, history = invert(mine, image, steps=2)
    assert {"identity", "identity maps"} <= set(history) and domain.encoder is None
    assert "encoder maps" not in history
    _, history = invert(domain, image, steps=2)
    assert not {"identity", "identity maps"} & set(history)
