"""What a call leaves behind: nothing that changes or breaks a later one."""

import os
import pickle
import random as python_random
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from toy import random, toy_domain

from helpers.domains import load_domain
from helpers.fused_ops import HalfPrecision
from helpers.inversion import invert, tune_generator
from helpers.latents import random_w_plus
from helpers.losses import text_direction
from helpers.methods.directions import (
    alpha_for,
    channel_relevance,
    derivative_lengths,
    global_direction,
    gradient_relevance,
    style_statistics,
    sweep,
)
from helpers.methods.linear_model import linear_model
from helpers.methods.mapper import apply_mapper, new_mapper, train_mapper
from helpers.methods.optimization import optimize_latent

PROMPT = "a person with glasses"
METHODS = ("linear", "sweep", "gradient")
CALLS = ("encode_text", "encode_image", "w_space", "swept_directions", "text_direction",
         "linear_model", "style_statistics", "derivative_lengths", "gradient_relevance",
         "channel_relevance", "global_direction", "alpha_for", "sweep", "optimize_latent",
         "optimize_latent, paper", "new_mapper", "apply_mapper", "train_mapper",
         "train_mapper, paper", "invert", "tune_generator")


def fresh_toy():
    """A toy with a sweep, which has computed nothing yet."""
    toy = toy_domain()
    toy.kept["sweep"] = random(8, 5, seed=2)
    return toy


def make(call, domain, steps=2):
    """The tensors that a call gives."""
    objective = "paper" if call.endswith("paper") else "ours"
    w_plus = random_w_plus(domain, 2, seed=1)
    s = domain.generator.styles(w_plus)
    image = domain.generator.synthesize(s).clamp(-1, 1)
    direction = text_direction(domain.clip, domain.neutral, PROMPT)
    if call == "encode_text":
        return [domain.clip.encode_text([PROMPT])]
    if call == "encode_image":
        return [domain.clip.encode_image(image)]
    if call == "w_space":
        return [domain.w_space.position(w_plus)]
    if call == "swept_directions":
        return [domain.swept_directions(8)]
    if call == "text_direction":
        return [direction]
    if call == "linear_model":
        model = linear_model(domain)
        return [model.step(direction), model.remaining(direction, image)]
    if call == "style_statistics":
        return list(style_statistics(domain))
    if call == "derivative_lengths":
        return [derivative_lengths(domain)]
    if call == "gradient_relevance":
        return [gradient_relevance(domain, direction)]
    if call == "channel_relevance":
        return [channel_relevance(domain, domain.neutral, PROMPT, method) for method in METHODS]
    if call == "global_direction":
        return [global_direction(domain, domain.neutral, PROMPT, method=method)
                for method in METHODS]
    if call == "alpha_for":
        return [alpha_for(domain, s, domain.neutral, PROMPT)]
    if call == "sweep":
        return [sweep(domain, images=2)[0]]
    if call.startswith("optimize_latent"):
        return [optimize_latent(domain, w_plus, PROMPT, objective=objective, steps=steps)[0]]
    if call == "new_mapper":
        return list(new_mapper(domain, seed=4).state_dict().values())
    if call == "apply_mapper":
        return [apply_mapper(domain, new_mapper(domain), w_plus)]
    if call.startswith("train_mapper"):
        latents = random_w_plus(domain, 12, seed=2)
        mapper, _ = train_mapper(domain, PROMPT, latents, objective=objective, steps=steps)
        return list(mapper.state_dict().values())
    if call == "tune_generator":
        tuned = tune_generator(domain, image[:1], w_plus[:1], steps=steps)
        return list(tuned.generator.state_dict().values())
    return [invert(domain, image, steps=steps)[0]]


def equal(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two))


@pytest.fixture(scope="module")
def right():
    """What each call gives in a domain of its own."""
    return {call: make(call, fresh_toy()) for call in CALLS}


def check_gradients(domain):
    """Gradients by hand, through everything that a domain keeps."""
    w_plus = random_w_plus(domain, 2, seed=1).requires_grad_()
    image = domain.generator(w_plus)
    direction = text_direction(domain.clip, domain.neutral, PROMPT)
    loss = linear_model(domain).remaining(direction, image).sum()
    loss = loss + domain.w_space.position(w_plus).square().sum()
    loss = loss + (domain.generator.styles(w_plus) * style_statistics(domain)[1]).square().sum()
    loss = loss + (domain.generator.styles(w_plus)
                   * global_direction(domain, domain.neutral, PROMPT)).square().sum()
    loss = loss + (domain.clip.encode_image(image) * domain.clip.encode_text([PROMPT])).sum()
    loss.backward()
    assert w_plus.grad.isfinite().all() and w_plus.grad.any()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_inference_mode_works_and_breaks_no_later_gradient(right, call):
    toy = fresh_toy()
    with torch.inference_mode():
        found = make(call, toy)
    assert equal(found, right[call])
    check_gradients(toy)
    for later in CALLS:
        assert equal(make(later, toy), right[later]), later


@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_gradients_works(right, call):
    with torch.no_grad():
        assert equal(make(call, fresh_toy()), right[call])


def test_a_domain_that_was_loaded_in_inference_mode_has_gradients():
    with torch.inference_mode():
        domain = load_domain("avatars", "cpu")
        domain.clip.encode_text([PROMPT])
        domain.clip.encode_image(torch.zeros(1, 3, 32, 32))  # it is resized
        assert domain.w_space and linear_model(domain) and domain.swept_directions(928).any()
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    domain.clip.encode_image(image).sum().backward()
    assert image.grad.any()
    check_gradients(domain)
    w_plus = random_w_plus(domain, 1, seed=1)
    edited, _ = optimize_latent(domain, w_plus, PROMPT, steps=2)
    assert edited.isfinite().all() and not edited.is_inference()


@pytest.mark.parametrize("call", CALLS)
def test_nobody_is_handed_what_a_domain_keeps(right, call):
    """What a call gives may be changed; all later calls give what they gave."""
    toy = fresh_toy()
    for tensor in make(call, toy):
        tensor.mul_(2).add_(1)
    for later in (call, "swept_directions", "style_statistics", "derivative_lengths",
                  "channel_relevance", "global_direction", "linear_model"):
        assert equal(make(later, toy), right[later]), later


def test_what_is_given_stays_as_it_is(toy):
    w_plus = random_w_plus(toy, 12, seed=1)
    s, image = toy.generator.styles(w_plus), toy.generator(w_plus).clamp(-1, 1)
    before = [values.clone() for values in (w_plus, s, image)]
    optimize_latent(toy, w_plus, PROMPT, objective="paper", steps=3)
    optimize_latent(toy, w_plus, PROMPT, steps=3)
    train_mapper(toy, PROMPT, w_plus, steps=3)
    apply_mapper(toy, new_mapper(toy), w_plus)
    alpha_for(toy, s, toy.neutral, PROMPT)
    invert(toy, image, steps=3, start=w_plus)
    assert equal([w_plus, s, image], before)
    assert not w_plus.requires_grad and not image.requires_grad


def test_sentences_that_clip_keeps_are_not_handed_out(domain):
    first = domain.clip.encode_text([PROMPT])
    before = first.clone()
    first.zero_()
    assert torch.equal(domain.clip.encode_text([PROMPT]), before)


def test_half_precision_ends_with_the_block_even_in_an_error(toy):
    with pytest.raises(ZeroDivisionError), HalfPrecision(toy.generator):
        assert 1 / 0
    assert toy.generator.precision is None


@pytest.mark.parametrize("used", [False, True])
def test_a_domain_can_be_pickled_and_computes_the_same(used):
    toy = fresh_toy()
    expected = {call: make(call, fresh_toy()) for call in CALLS}
    if used:
        for call in CALLS:
            make(call, toy)
    again = pickle.loads(pickle.dumps(toy))
    for call in CALLS:
        assert equal(make(call, again), expected[call]), call


def test_a_domain_is_read_by_another_process(domain, tmp_path, faces):
    path, result = tmp_path / "domain", tmp_path / "result"
    path.write_bytes(pickle.dumps(domain))
    script = ("import pickle, sys, torch\n"
              "domain = pickle.load(open(sys.argv[1], 'rb'))\n"
              "w_plus = torch.load(sys.argv[2])\n"
              "from helpers.methods.optimization import optimize_latent\n"
              f"edited, _ = optimize_latent(domain, w_plus, {PROMPT!r}, steps=3)\n"
              "torch.save((domain.generator(edited), domain.neutral), sys.argv[3])\n")
    torch.save(faces[:1], tmp_path / "faces")
    subprocess.run([sys.executable, "-c", script, path, tmp_path / "faces", result], check=True,
                   cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    image, neutral = torch.load(result)
    edited, _ = optimize_latent(domain, faces[:1], PROMPT, steps=3)
    assert neutral == domain.neutral
    torch.testing.assert_close(image, domain.generator(edited), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_leaves_random_numbers_alone(right, call):
    toy = fresh_toy()
    torch.manual_seed(11)
    python_random.seed(11)
    np.random.seed(11)
    before = torch.get_rng_state()
    numbers = python_random.getstate(), np.random.get_state()[1].tolist()
    found = make(call, toy)
    assert torch.equal(torch.get_rng_state(), before)
    assert (python_random.getstate(), np.random.get_state()[1].tolist()) == numbers
    assert equal(found, right[call])  # and they do not change what it finds


@pytest.mark.parametrize("call", ["new_mapper", "train_mapper", "train_mapper, paper"])
def test_a_mapper_does_not_seed_the_gpu(monkeypatch, call):
    """`torch.manual_seed` would seed every GPU, and `fork_rng(devices=[])` restores none."""
    toy, seeds = fresh_toy(), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    make(call, toy)
    assert seeds == []
