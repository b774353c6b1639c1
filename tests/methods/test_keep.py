"""`keep`: what an edit leaves as it is, and the faces that show already what is asked for."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toy import SETTINGS, random, toy_domain

from helpers.edits import Edit, apply_edits, load_edits, save_edits
from helpers.evaluation import evaluate_edit
from helpers.latents import random_w_plus
from helpers.losses import augmented_features, text_direction
from helpers.methods.directions import (
    alpha_for,
    channel_relevance,
    global_direction,
    gradient_relevance,
)
from helpers.methods.linear_model import (
    LinearModel,
    keep_directions,
    kept_sentences,
    linear_model,
)
from helpers.methods.mapper import (
    LinearMapperObjective,
    MapperObjective,
    mapper_step,
    new_mapper,
    start_at_linear_step,
    train_mapper,
)
from helpers.methods.optimization import optimize_latent
from helpers.settings import PAPER_MAPPER
from helpers.training_files import mapper_path

PROMPT, KEPT = "a person with glasses", "a person with a hat"


def settings_with(**parts):
    """The toy's settings, a method's changed: {method: {setting: value}}."""
    changed = {method: replace(getattr(SETTINGS, method), **values)
               for method, values in parts.items()}
    return replace(SETTINGS, **changed)


def model_of(domain, prompt=PROMPT, kept=(KEPT,)):
    """The linear model, the prompt's direction and what is kept."""
    direction = text_direction(domain.clip, domain.neutral, prompt)
    return (linear_model(domain), direction,
            keep_directions(domain, domain.neutral, prompt, list(kept)))


# The sentences


def test_bare_nouns_become_sentences(toy):
    found = kept_sentences(toy, toy.neutral, PROMPT, ["glasses", "A Woman. ", "the sky", "glasses"])
    assert found == ("a person with glasses", "a woman", "the sky")
    assert kept_sentences(toy, toy.neutral, PROMPT, "long hair,  a man,") == (
        "a person with long hair", "a man")


@pytest.mark.parametrize("nothing", [[], (), "", " , ", "-"])
def test_nothing_is_kept_where_nothing_is_named(toy, nothing):
    toy.keep_defaults = {PROMPT: ("hat",)}
    assert kept_sentences(toy, toy.neutral, PROMPT, nothing) == ()
    assert keep_directions(toy, toy.neutral, PROMPT, nothing).shape == (0, 5)


def test_the_domains_own_are_kept_for_its_neutral_sentence_and_that_prompt(toy):
    toy.keep_defaults = {PROMPT: ("hat", "a man")}
    own = ("a person with hat", "a man")
    assert kept_sentences(toy, toy.neutral, " A person with GLASSES.") == own
    assert kept_sentences(toy, toy.neutral, "a person with a beard") == ()
    assert kept_sentences(toy, "a man", PROMPT) == ()
    with_own = global_direction(toy, toy.neutral, PROMPT)
    assert torch.equal(with_own, global_direction(toy, toy.neutral, PROMPT, keep=own))
    assert not torch.equal(with_own, global_direction(toy, toy.neutral, PROMPT, keep=[]))


@pytest.mark.parametrize("keep", [3, b"hat", {"hat": 1}, [3], [None]])
def test_what_is_no_list_of_sentences_is_refused_by_type(toy, keep):
    with pytest.raises(TypeError, match=r"is a (list of sentences|sentence)") as caught:
        global_direction(toy, toy.neutral, PROMPT, keep=keep)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep,match", [([""], "prompt is empty"),
                                        (["a person"], "says the same as the neutral sentence")])
def test_a_sentence_that_names_nothing_is_refused(domain, faces, keep, match):
    with pytest.raises(ValueError, match=match):
        optimize_latent(domain, faces[:1], PROMPT, keep=keep, steps=1)


@pytest.mark.parametrize("prompt,kept,how", [
    ("a person with a beard", "a bearded person", "nearly the same"),
    ("a person with glasses", "eyeglasses", "nearly the same"),
    ("a person with a beard", "a person without a beard", "opposites"),
    ("a person with glasses", "a person without glasses", "opposites")])
def test_what_the_prompt_says_or_denies_cannot_be_kept(domain, faces, prompt, kept, how):
    with pytest.raises(ValueError, match=f"cannot keep .*: to this CLIP they are {how}") as caught:
        global_direction(domain, domain.neutral, prompt, keep=[kept])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot keep"):
        optimize_latent(domain, faces[:1], prompt, keep=[kept], steps=1)
    with pytest.raises(ValueError, match="cannot keep"):
        train_mapper(domain, prompt, faces, keep=[kept], steps=1)


def test_so_much_that_little_is_left_cannot_be_kept(toy):
    toy.settings = settings_with(linear_model=dict(min_left=0.9))
    with pytest.raises(ValueError, match="cannot keep"):
        keep_directions(toy, toy.neutral, PROMPT, ["hat", "beard", "a man"])


# The step


def test_the_step_by_hand():
    """M = [[1, 1], [0, 1]], no other prices: d asks for v = (1, 1); the second axis is kept."""
    features = torch.zeros(1000, 2)
    features[:100, 0] = 0.5 / 0.9
    settings = settings_with(linear_model=dict(share=0.1, lambda_id=0, lambda_orthogonal=0))
    tensors = {"clip": features, "clip model": torch.tensor([[1.0, 1.0], [0.0, 1.0]])}
    model = LinearModel(toy_domain(linear_model_tensors=tensors, settings=settings))
    d, keep = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 7.0]])
    assert model.step(d).tolist() == pytest.approx([0.25, 0.25])
    assert model.step(d, keep).tolist() == pytest.approx([0.5, 0], abs=1e-6)  # as far along d
    assert model.least_step(d)[1].item() == pytest.approx(2)
    assert model.least_step(d, keep)[1].item() == pytest.approx(1)  # half of it is left
    twice = torch.cat([keep, -keep])
    assert model.step(d, twice).tolist() == pytest.approx([0.5, 0], abs=1e-6)


def test_a_kept_step_is_the_cheapest_that_moves_clip_by_the_margin_and_not_along_what_is_kept():
    M, P = random(5, 4, seed=1), random(6, 4, seed=2)
    tensors = {"clip": F.normalize(random(60, 5, seed=4), dim=1), "clip model": M,
               "identity model": P}
    model = LinearModel(toy_domain(linear_model_tensors=tensors))  # c1 = 2, c2 = 3
    d, keep = F.normalize(random(5, seed=3), dim=0), random(2, 5, seed=6)
    v = model.step(d, keep)
    assert (M @ v @ d).item() == pytest.approx(model.margin(d), rel=1e-4)
    assert (keep @ M @ v).abs().max() < 1e-4 * (M @ v).norm()

    def price(v):
        moved = M @ v
        orthogonal = moved - (moved @ d) * d
        return v.square().sum() + 2 * orthogonal.square().sum() + 3 * (P @ v).square().sum()

    forbidden = torch.linalg.qr(torch.cat([d[None], keep]).matmul(M).T)[0]  # [K, 3]
    for seed in range(20):
        aside = random(4, seed=seed) / 10
        assert price(v + aside - forbidden @ (forbidden.T @ aside)) > price(v)


def test_directions_are_counted_in_margins(toy):
    model, _, keep = model_of(toy)
    kept = text_direction(toy.clip, toy.neutral, KEPT)
    torch.testing.assert_close(keep, (kept / model.margin(kept))[None])


# The three methods


def test_method_1_begins_at_the_kept_step_and_is_charged_for_leaving_it():
    toy = toy_domain(settings=settings_with(optimization=dict(lambda_keep=0.7, augmentations=1,
                                                              augmentations_per_step=1)))
    source = random_w_plus(toy, 2, seed=8)
    model, direction, keep = model_of(toy)
    remaining = model.remaining(direction, toy.generator(source))
    found, _ = optimize_latent(toy, source, PROMPT, keep=[KEPT], steps=0)
    step = 0.8 * remaining[:, None] * model.step(direction, keep)
    torch.testing.assert_close(found, source + toy.w_space.offset(step)[:, None],
                               atol=1e-5, rtol=1e-4)
    _, history = optimize_latent(toy, source, PROMPT, keep=[KEPT], steps=1)
    before, after = (augmented_features(toy.clip, toy.generator(w), [0])[0]
                     for w in (source, found))
    charged = 0.7 * ((after - before) @ keep[0]).square()
    assert history["keep"][0] == pytest.approx(charged.mean().item(), rel=1e-2, abs=1e-6)
    _, history = optimize_latent(toy, source, PROMPT, keep=[], steps=1)
    assert "keep" not in history


def test_equation_1_keeps_only_what_a_weight_is_given_for(toy):
    source = random_w_plus(toy, 2, seed=8)
    plain, history = optimize_latent(toy, source, PROMPT, objective="paper", steps=3)
    named, same = optimize_latent(toy, source, PROMPT, objective="paper", keep=[KEPT], steps=3)
    assert torch.equal(plain, named) and history == same and "keep" not in history
    _, charged = optimize_latent(toy, source, PROMPT, objective="paper", keep=[KEPT], steps=3,
                                 lambda_keep=0.5)
    assert charged["keep"][0] == pytest.approx(0, abs=1e-6) and charged["keep"][-1] > 0
    _, nothing = optimize_latent(toy, source, PROMPT, objective="paper", keep=[], steps=3,
                                 lambda_keep=0.5)
    assert "keep" not in nothing


def test_a_mapper_begins_at_the_kept_step_and_is_charged_for_leaving_it():
    toy = toy_domain(settings=settings_with(mapper=dict(lambda_keep=0.7)))
    latents, settings = random_w_plus(toy, 3, seed=8), toy.settings.mapper
    model, direction, keep = model_of(toy)
    mapper = new_mapper(toy, "ours")
    start_at_linear_step(toy, mapper, PROMPT, replace(settings, last_layer_scale=0), [KEPT])
    step = toy.w_space.offset(0.8 * model.step(direction, keep))
    moved = mapper_step(toy, mapper, latents)
    torch.testing.assert_close(moved, step.expand_as(moved), atol=1e-4, rtol=1e-3)
    objective = LinearMapperObjective(toy, PROMPT, latents, settings, None, keep)
    losses, _ = objective.compute_losses(mapper, torch.tensor([2, 0]), [1])
    before, after = (augmented_features(toy.clip, toy.generator(w), [1])[0]
                     for w in (latents[[2, 0]], latents[[2, 0]] + moved[[2, 0]]))
    expected = 0.7 * ((after - before) @ keep[0]).square()
    torch.testing.assert_close(losses["keep"], expected, atol=1e-6, rtol=1e-3)


def test_the_papers_mapper_is_charged_where_its_settings_say_so(toy):
    latents, settings = random_w_plus(toy, 3, seed=8), replace(PAPER_MAPPER, lambda_keep=0.5)
    _, _, keep = model_of(toy)
    mapper, index = new_mapper(toy, "paper"), torch.tensor([1])
    plain, _ = MapperObjective(toy, PROMPT, latents, PAPER_MAPPER, None).compute_losses(
        mapper, index, [0])
    assert "keep" not in plain
    losses, image = MapperObjective(toy, PROMPT, latents, settings, None, keep).compute_losses(
        mapper, index, [0])
    change = toy.clip(image) - toy.clip(toy.generator(latents[index]))
    torch.testing.assert_close(losses["keep"], 0.5 * (change @ keep[0]).square())
    for objective, chosen in (("paper", settings), ("ours", None)):
        _, history = train_mapper(toy, PROMPT, random_w_plus(toy, 12, seed=1), keep=[KEPT],
                                  objective=objective, settings=chosen, steps=1)
        assert "keep" in history


def test_a_training_with_something_else_kept_is_another_run(toy, tmp_path):
    latents, path = random_w_plus(toy, 12, seed=1), tmp_path / "a.run"
    train_mapper(toy, PROMPT, latents, steps=2, path=path, callback=lambda state: True)
    with pytest.raises(ValueError):
        train_mapper(toy, PROMPT, latents, keep=[KEPT], steps=2, path=path)


def test_mappers_that_keep_something_else_have_files_of_their_own(toy):
    toy.keep_defaults = {PROMPT: ("hat",)}
    usual = mapper_path(toy, PROMPT)
    assert usual == mapper_path(toy, PROMPT, keep=["hat"]) == mapper_path(toy, PROMPT, keep="hat")
    assert len({usual, mapper_path(toy, PROMPT, keep=[]), mapper_path(toy, PROMPT, keep=["a man"])}
               ) == 3


@pytest.mark.parametrize("method", ["linear", "gradient"])
def test_method_3_does_not_move_what_is_kept(toy, method):
    model, direction, keep = model_of(toy)
    relevance = channel_relevance(toy, toy.neutral, PROMPT, method, [KEPT])
    free = channel_relevance(toy, toy.neutral, PROMPT, method)
    assert not torch.allclose(relevance, free)
    if method == "gradient":  # the direction's part along what is kept is taken out
        d = F.normalize(direction - (direction @ keep[0]) / keep[0].square().sum() * keep[0], dim=0)
        torch.testing.assert_close(
            relevance, gradient_relevance(toy, d), atol=1e-5, rtol=1e-3)


def test_alpha_grows_with_what_is_kept(toy):
    """By what it takes for CLIP to see as much."""
    toy.settings = settings_with(directions=dict(match=0.3, slack=0.0, alpha_most=8.0, tries=40,
                                                 channels=12))
    s = toy.generator.styles(random_w_plus(toy, 30, seed=1))
    plain = alpha_for(toy, s, toy.neutral, PROMPT)
    kept = alpha_for(toy, s, toy.neutral, PROMPT, [KEPT])
    asked = (plain > 0) & (plain < 8)
    assert asked.sum() > 5 and not kept[plain == 0].any()
    assert (kept > plain)[asked].float().mean() > 0.7  # this CLIP is not quite linear
    assert kept[asked].mean() > 1.05 * plain[asked].mean()


def test_a_kept_thing_does_not_come_along(domain):
    """To a linear model of the avatars' CLIP that knows no `least_match`, who laughs wears
    sunglasses."""
    model = replace(domain.settings.linear_model, least_match=None, lambda_orthogonal=300)
    domain = replace(domain, settings=replace(domain.settings, linear_model=model))
    w_plus, prompt, shown = random_w_plus(domain, 32, seed=901), "a laughing person", {}
    s, glasses = domain.generator.styles(w_plus), domain.classifier.attributes["glasses"]
    before = domain.generator.synthesize(s)
    lacking = domain.classifier.read(before)["glasses"][0] != glasses.index("sunglasses")
    for keep in ((), ("sunglasses",)):
        alpha = alpha_for(domain, s, domain.neutral, prompt, keep)
        direction = global_direction(domain, domain.neutral, prompt, keep=keep)
        after = domain.generator.synthesize(s + alpha * direction)
        read = domain.classifier.read(after)["glasses"][0][lacking]
        shown[keep] = (read == glasses.index("sunglasses")).sum()
        there = evaluate_edit(domain, before, after, prompt).success
        assert there >= 0.35
    assert shown[()] >= 4 and shown[("sunglasses",)] <= shown[()] / 2


# Lists of edits


def test_a_list_of_edits_keeps_what_it_names(toy, tmp_path):
    s = toy.generator.styles(random_w_plus(toy, 2, seed=1))
    edit = Edit(toy.neutral, PROMPT, 1.5, keep=["hat"])
    direction = global_direction(toy, toy.neutral, PROMPT, keep=["hat"])
    torch.testing.assert_close(apply_edits(toy, s, [edit]), s + 1.5 * direction)
    save_edits(tmp_path / "a.json", [edit])
    assert load_edits(tmp_path / "a.json") == [edit]
    old = [{"neutral": "a person", "target": PROMPT, "alpha": 2.0}]
    (tmp_path / "b.json").write_text(json.dumps(old))
    assert load_edits(tmp_path / "b.json")[0].keep is None


@pytest.mark.parametrize("keep", ["glasses", 3, [3], {"a": 1}, [None], True])
def test_a_bad_keep_in_a_list_of_edits_is_named(tmp_path, keep):
    edit = {"neutral": "a person", "target": PROMPT, "alpha": 2.0, "keep": keep}
    (tmp_path / "a.json").write_text(json.dumps([edit]))
    with pytest.raises(ValueError, match="a.json, edit 1: keep must be a list of sentences"):
        load_edits(tmp_path / "a.json")


# A face that shows already what is asked for


@pytest.mark.parametrize("prompt", ["a person with glasses", "a surprised person"])
def test_such_a_face_changes_little_alone_and_in_a_batch(domain, prompt):
    """By method 1, beside faces that lack it; the other methods scale their steps by what is
    lacking."""
    w_plus = random_w_plus(domain, 64, seed=3)
    before = domain.generator(w_plus)
    direction = text_direction(domain.clip, domain.neutral, prompt)
    remaining = linear_model(domain).remaining(direction, before)
    order = remaining.argsort()
    chosen = torch.cat([order[:3], order[-3:]])
    assert remaining[chosen[:3]].max() < 0.2 and remaining[chosen[3:]].min() > 0.7
    edited, _ = optimize_latent(domain, w_plus[chosen], prompt)
    alone, _ = optimize_latent(domain, w_plus[chosen[0]], prompt)
    together, single = domain.generator(edited), domain.generator(alone)
    change = (together - before[chosen]).abs().mean(dim=(1, 2, 3))
    print(change, (single - together[:1]).abs().mean())
    assert change[:3].mean() < 0.25 * change[3:].mean()
    assert (single - together[:1]).abs().mean() < 0.01
