"""The linear model of CLIP in W."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toy import SETTINGS, random, toy_domain

from helpers.latents import random_w_plus
from helpers.losses import text_direction
from helpers.methods.linear_model import (
    ClipMargin,
    LinearModel,
    fit_linear_model,
    linear_model,
    ridge_regression,
    slope,
)

E0 = torch.tensor([1.0, 0.0])


class SameFeatures:
    """A CLIP that sees the images as they are: [N, D] -> [N, D]."""

    def encode_image(self, image):
        return image


def test_the_margin_is_that_of_the_best_in_cosine():
    settings = replace(SETTINGS.linear_model, share=0.1)  # two of twenty
    features = torch.zeros(20, 2)
    features[3, 0], features[8, 0], features[9, 0] = 0.5, 0.4, 0.3
    model = ClipMargin(settings, SameFeatures(), features)
    assert model.margin(E0) == pytest.approx(0.45 - 1.2 / 20)
    assert model.margin(-E0) == pytest.approx(0 + 1.2 / 20)
    assert model.margin(torch.tensor([0.0, 1.0])) == pytest.approx(1e-3)  # it is never 0


def test_what_remains_is_a_share_of_the_margin():
    features = torch.zeros(20, 2)
    features[3, 0] = 0.5  # an average of 0.025, and a margin of 0.475
    model = ClipMargin(SETTINGS.linear_model, SameFeatures(), features)
    match = torch.tensor([0.025, 0.2625, 0.5, 2.0, -1.0])
    remaining = model.remaining(E0, torch.stack([match, match], dim=1))
    assert remaining.tolist() == pytest.approx([1, 0.5, 0.1, 0.1, 1])


def test_ridge_regression_finds_a_linear_map_about_any_mean():
    v, M, constant = random(40, 3, seed=1) + 5, random(2, 3, seed=2), torch.tensor([7.0, -3.0])
    found = ridge_regression(v, constant + v @ M.T, ridge=1e-4)
    torch.testing.assert_close(found, M, atol=1e-3, rtol=1e-3)


def test_ridge_counts_in_images_of_one_standard_deviation():
    """One coordinate of v that is 1 or -1, n times: the slope is n / (n + ridge) of itself."""
    v = torch.tensor([[1.0], [-1.0]] * 10)
    assert ridge_regression(v, 3 * v, ridge=5).item() == pytest.approx(3 * 20 / 25)


def model_of(M, P=None, **settings):
    """A `LinearModel` of these matrices, whose margin along E0 is 0.5."""
    features = torch.zeros(1000, 2)
    features[:100, 0] = 0.5 / 0.9
    tensors = {"clip": features, "clip model": torch.tensor(M)}
    if P is not None:
        tensors["identity model"] = torch.tensor(P)
    settings = replace(SETTINGS.linear_model, share=0.1, **settings)
    settings = replace(SETTINGS, linear_model=settings)
    return LinearModel(toy_domain(linear_model_tensors=tensors, settings=settings))


def test_the_step_by_hand():
    """M = [[1, 1], [0, 0]], so that a = (1, 1) and S = 0."""
    M = [[1.0, 1.0], [0.0, 0.0]]
    plain = model_of(M, lambda_id=0).step(E0)
    assert plain.tolist() == pytest.approx([0.25, 0.25])  # 0.5 (1, 1) / 2
    # A = diag(4, 1), inv(A) a = (1/4, 1), a' inv(A) a = 5/4
    priced = model_of(M, P=[[1.0, 0.0]], lambda_id=3).step(E0)
    assert priced.tolist() == pytest.approx([0.5 * 0.25 / 1.25, 0.5 * 1 / 1.25])
    assert torch.equal(model_of(M, P=[[1.0, 0.0]], lambda_id=0).step(E0), plain)
    # S = (0, 0; 0, 2), A = diag(1, 1 + 4 c1)
    M = [[1.0, 1.0], [0.0, 2.0]]
    sideways = model_of(M, lambda_orthogonal=0.25, lambda_id=0).step(E0)
    assert sideways.tolist() == pytest.approx([0.5 * 1 / 1.5, 0.5 * 0.5 / 1.5])
    assert not model_of(M).step(torch.zeros(2)).any()  # where no direction is asked for


def test_cosines_below_the_least_match_count_as_this():
    """Of images below half a margin, only that they are."""
    settings = replace(SETTINGS.linear_model, least_match=0.5, samples=400, ridge=5)
    toy = toy_domain(settings=replace(SETTINGS, linear_model=settings))
    model, d = LinearModel(toy), F.normalize(random(5, seed=3), dim=0)
    cosine = model.features @ d
    least = cosine.mean() + 0.5 * model.margin(d)
    assert 0.02 < (cosine > least).float().mean() < 0.5
    v = toy.w_space.position(random_w_plus(toy, 400, 77, truncation=0.8)[:, 0], 3)
    v, y = v - v.mean(dim=0), torch.where(cosine > least, cosine, least)
    b = torch.linalg.solve(v.T @ v + 5 * torch.eye(3), v.T @ (y - y.mean()))
    torch.testing.assert_close(slope(model, d), b, atol=1e-5, rtol=1e-3)
    step = model.step(d)
    assert (model.M @ step @ d).item() == pytest.approx(model.margin(d), rel=1e-4)
    model.settings = replace(settings, least_match=-100.0)  # all cosines as they are
    torch.testing.assert_close(slope(model, d), d @ model.M, atol=1e-5, rtol=1e-3)
    model.v = None
    assert torch.equal(slope(model, d), d @ model.M)
    assert F.cosine_similarity(model.step(d), step, dim=0) < 0.9999


def test_the_step_moves_clip_by_the_margin_at_the_least_price():
    M, P, d = random(5, 3, seed=1), random(6, 3, seed=2), F.normalize(random(5, seed=3), dim=0)
    tensors = {"clip": F.normalize(random(60, 5, seed=4), dim=1), "clip model": M,
               "identity model": P}
    toy = toy_domain(linear_model_tensors=tensors)  # c1 = 2, c2 = 3
    model = LinearModel(toy)
    v = model.step(d)
    assert (M @ v @ d).item() == pytest.approx(model.margin(d), rel=1e-5)

    def price(v):
        moved = M @ v
        orthogonal = moved - (moved @ d) * d
        return v.square().sum() + 2 * orthogonal.square().sum() + 3 * (P @ v).square().sum()

    for seed in range(20):  # any other v that moves CLIP as far
        aside = random(3, seed=seed) / 10
        aside -= (M @ aside @ d) / (d @ M).square().sum() * (d @ M)
        assert price(v + aside) > price(v)


def test_a_fit_recovers_a_clip_that_is_linear():
    """CLIP of the toy is linear in w, here without its unit length."""
    settings = replace(SETTINGS.linear_model, ridge=1e-4)
    toy = toy_domain(unit=False, settings=replace(SETTINGS, linear_model=settings))
    tensors, space = fit_linear_model(toy), toy.w_space
    ends = space.mean + space.offset(torch.cat([torch.zeros(1, 3), torch.eye(3)]))
    features = toy.clip(toy.generator(toy.generator.broadcast(ends)))  # of the mean, and each axis
    w = random_w_plus(toy, 60, 77, truncation=0.8)
    torch.testing.assert_close(tensors["clip"], toy.clip(toy.generator(w)))
    fourth = space.position(w[:, 0])[:, 3:]  # K = 3 of 4 axes: what the fourth moves is not seen
    left = toy.clip(toy.generator(toy.generator.broadcast(
        space.mean + fourth * space.spread[3] * space.axes[3]))) - features[0]
    v = space.position(w[:, 0], 3)
    expected = ridge_regression(v, tensors["clip"] - left, 1e-4)
    torch.testing.assert_close(expected, (features[1:] - features[0]).T, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(tensors["clip model"],
                               ridge_regression(v, tensors["clip"], 1e-4))
    persons = torch.cat([toy.identity(toy.generator(part)) for part in w.split(20)])
    torch.testing.assert_close(tensors["identity model"], ridge_regression(v, persons, 1e-4))


def test_the_person_is_modelled_where_that_has_a_price():
    assert set(fit_linear_model(toy_domain())) == {"clip", "clip model", "identity model"}
    assert set(fit_linear_model(toy_domain(identity=None))) == {"clip", "clip model"}
    free = replace(SETTINGS, linear_model=replace(SETTINGS.linear_model, lambda_id=0))
    assert set(fit_linear_model(toy_domain(settings=free))) == {"clip", "clip model"}


def test_a_domain_keeps_its_model_and_uses_the_one_it_brings(toy, domain):
    assert linear_model(toy) is linear_model(toy)
    assert linear_model(domain).M is domain.linear_model_tensors["clip model"]


def test_the_linear_step_shows_what_the_sentence_says(domain):
    """Added to random faces, it makes the classifier see glasses on more of them."""
    model = linear_model(domain)
    direction = text_direction(domain.clip, domain.neutral, "a person with glasses")
    step, faces = model.step(direction), random_w_plus(domain, 16, seed=3)
    moved = faces + 1.7 * domain.w_space.offset(step)
    wanted = domain.classifier.attributes["glasses"].index("glasses")
    seen = [(domain.classifier.read(domain.generator(w))["glasses"][0] == wanted).float().mean()
            for w in (faces, moved)]
    assert model.margin(direction) > 0 and seen[1] > seen[0] + 0.25
    remaining = [model.remaining(direction, domain.generator(w)).mean() for w in (faces, moved)]
    assert remaining[1] < remaining[0] - 0.3  # who has it is moved less
    assert domain.settings.linear_model.min_remaining <= remaining[1]


def test_two_sets_of_random_faces_give_one_direction(domain):
    """Linear models of four hundred faces each, and of neither of those that came along."""
    generator, settings, found = domain.generator, domain.settings.linear_model, []
    for seed in (1, 2):
        w = random_w_plus(domain, 400, seed, settings.psi)[:, 0]
        v = domain.w_space.position(w, settings.axes)
        with torch.no_grad():
            seen = torch.cat([domain.clip.encode_image(generator(generator.broadcast(part)))
                              for part in w.split(100)])
        tensors = {**domain.linear_model_tensors,
                   "clip model": ridge_regression(v, seen, settings.ridge)}
        model = LinearModel(replace(domain, linear_model_tensors=tensors))
        found.append([model.step(text_direction(domain.clip, domain.neutral, prompt))
                      for prompt in domain.prompts])
    cosines = [F.cosine_similarity(one, two, dim=0).item() for one, two in zip(*found)]
    assert sum(cosines) / len(cosines) >= 0.85, cosines
