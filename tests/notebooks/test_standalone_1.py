"""Notebook 1's cell to copy: alone, beside the authors' schedule, and beside helpers' objective."""

from dataclasses import replace

import pytest
import torch
from conftest import golden, standalone_cell, standalone_imports
from toy import toy_domain

from helpers.clip_model import ClipModel
from helpers.latents import random_w_plus
from helpers.methods.optimization import optimize_paper
from helpers.settings import PAPER_OPTIMIZATION

NOTEBOOK = "01_latent_optimization.ipynb"
PROMPT = "a person with glasses"


@pytest.fixture(scope="module")
def styleclip_optimize():
    """The function, from an empty namespace."""
    namespace = {}
    exec(compile(standalone_cell(NOTEBOOK), "standalone", "exec"), namespace)
    return namespace["styleclip_optimize"]


def test_it_is_short_and_takes_nothing_of_this_repository():
    assert standalone_imports(NOTEBOOK) == {"math", "clip", "torch"}


@pytest.mark.parametrize("with_person", [True, False])
def test_on_a_toy_it_is_helpers_objective(styleclip_optimize, small_clip, with_person):
    toy = toy_domain(clip=ClipModel(small_clip))
    toy.identity = toy.identity if with_person else None
    source = random_w_plus(toy, 2, seed=8)
    settings = replace(PAPER_OPTIMIZATION, steps=12, lambda_id=0.5)
    expected, _ = optimize_paper(toy, source, PROMPT, settings)
    found = styleclip_optimize(toy.generator, small_clip, source, PROMPT, toy.identity, steps=12,
                               lambda_id=0.5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - source).flatten(1).norm(dim=1).max() > 0.1


def test_a_generator_it_never_saw_moves_towards_the_text(styleclip_optimize, small_clip):
    """Any function will do that draws, and each image of a batch keeps its own best latent."""
    pictures = torch.randn(3 * 4, 3, 40, 40, generator=torch.Generator().manual_seed(1)) / 4
    source = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(2))
    clip = ClipModel(small_clip)
    text = clip.encode_text([PROMPT])  # [1, D]

    def generate(w):
        return torch.einsum("ns,schw->nchw", w.flatten(1), pictures).tanh()

    def cosine(w):
        return (clip.encode_image(generate(w)) * text).sum(dim=1)

    found = styleclip_optimize(generate, small_clip, source, PROMPT, steps=30)
    assert (cosine(found) > cosine(source) + 1e-3).all()
    assert torch.equal(styleclip_optimize(generate, small_clip, source, PROMPT, steps=0), source)


def test_its_learning_rate_is_the_authors(styleclip_optimize, small_clip, monkeypatch):
    rates, known = [], golden("learning_rate", tensors=False)

    class Adam(torch.optim.Adam):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            return super().step()

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    styleclip_optimize(lambda w: torch.einsum("nls,schw->nchw", w, pictures), small_clip,
                       torch.ones(1, 1, 4), PROMPT)
    assert len(rates) == 300
    assert rates == pytest.approx(known["lr"].tolist(), abs=1e-8)


def test_on_avatars_it_is_helpers_objective(styleclip_optimize, domain, faces):
    expected, _ = optimize_paper(domain, faces[:2], PROMPT, replace(PAPER_OPTIMIZATION, steps=20))
    found = styleclip_optimize(domain.generator, domain.clip.model, faces[:2], PROMPT,
                               domain.identity, steps=20)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert (found - faces[:2]).abs().max() > 0.05
