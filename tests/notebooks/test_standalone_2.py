"""Notebook 2's cell to copy: alone, beside the authors' mapper, and beside helpers' objective."""

from dataclasses import replace

import pytest
import torch
from authors_mapper import authors_state
from conftest import golden, standalone_cell, standalone_imports
from toy import toy_domain

from helpers.clip_model import ClipModel
from helpers.latents import random_w_plus
from helpers.methods.mapper import (
    MapperObjective,
    draw_batch,
    mapper_step,
    new_mapper,
    split_latents,
    training_loop,
)
from helpers.settings import PAPER_MAPPER
from helpers.training_state import TrainingRun

NOTEBOOK = "02_latent_mapper.ipynb"
PROMPT = "a person with glasses"


@pytest.fixture(scope="module")
def standalone():
    """What the cell defines, from an empty namespace."""
    namespace = {}
    exec(compile(standalone_cell(NOTEBOOK), "standalone", "exec"), namespace)
    return namespace


def set_weights(mapper, state, names):
    """Give a `StyleclipMapper` the weights in a state: names [groups][layers], without the end."""
    with torch.no_grad():
        for i, group in enumerate(names):
            for j, name in enumerate(group):
                mapper.weight[i, j] = state[f"{name}.weight"]
                mapper.bias[i, j] = state[f"{name}.bias"]


def compare(domain, standalone, latents, steps, monkeypatch):
    """Steps [N, L, w_dim]: before training, after helpers' training, and after the cell's, which
    begins at the same weights and takes the same batches."""
    settings = replace(PAPER_MAPPER, steps=steps, lambda_id=0.5)
    theirs, groups = new_mapper(domain, "paper"), domain.rows.values()
    ours = standalone["StyleclipMapper"](domain.generator.w_dim,
                                         [part.stop - part.start for part in groups])
    set_weights(ours, theirs.state_dict(),
                [[f"networks.{name}.layers.{i}" for i in range(4)] for name in domain.rows])
    before = ours(latents).detach()
    torch.testing.assert_close(before, mapper_step(domain, theirs, latents))
    run = TrainingRun(theirs, torch.optim.Adam(theirs.parameters(), lr=settings.lr))
    resolution = domain.generator.resolution
    training_loop(run, MapperObjective(domain, PROMPT, latents, settings, resolution), seed=0)
    training = split_latents(latents, settings.batch)[0]
    index = torch.stack([draw_batch(training, settings, 0, step)[0] for step in range(steps)])
    monkeypatch.setattr(torch, "randint", lambda high, size: index)
    standalone["styleclip_train"](ours, domain.generator, domain.clip.model, latents, PROMPT,
                                  domain.identity, steps=steps, lambda_id=0.5)
    return before, mapper_step(domain, theirs, latents).detach(), ours(latents).detach()


def test_it_is_short_and_takes_nothing_of_this_repository():
    assert standalone_imports(NOTEBOOK) == {"clip", "torch"}


def test_it_agrees_with_the_authors_mapper(standalone):
    right = golden("levels_mapper", tensors=False)
    state, mapper = authors_state(map(str, right["keys"])), standalone["StyleclipMapper"]()
    set_weights(mapper, state, [[f"mapper.{part}_mapping.mapping.{i}" for i in range(1, 5)]
                                for part in ("course", "medium", "fine")])
    step = mapper(torch.from_numpy(right["w"]))  # 0.1 M(w)
    torch.testing.assert_close(step, 0.1 * torch.from_numpy(right["delta"]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("with_person", [True, False])
def test_on_a_toy_it_is_helpers_objective(standalone, small_clip, with_person, monkeypatch):
    toy = toy_domain(clip=ClipModel(small_clip))
    toy.identity = toy.identity if with_person else None
    latents = random_w_plus(toy, 12, seed=8)
    before, theirs, ours = compare(toy, standalone, latents, 20, monkeypatch)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert (ours - before).norm() > 0.02 * before.norm()


def test_on_avatars_it_is_helpers_objective(standalone, domain, monkeypatch):
    latents = random_w_plus(domain, 12, seed=8)
    before, theirs, ours = compare(domain, standalone, latents, 5, monkeypatch)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert (ours - before).norm() > 0.02 * before.norm()


def test_a_generator_it_never_saw_moves_towards_the_text(standalone, small_clip):
    """Any function will do that draws; only the mapper gets gradients."""
    pictures = torch.randn(5 * 16, 3, 40, 40, generator=torch.Generator().manual_seed(1)) / 8
    latents = torch.randn(40, 5, 16, generator=torch.Generator().manual_seed(2))
    clip = ClipModel(small_clip)
    text = clip.encode_text([PROMPT])  # [1, D]
    small_clip.requires_grad_(True)  # as OpenAI's is when it is loaded

    def generate(w):
        return torch.einsum("ns,schw->nchw", w.flatten(1), pictures).tanh()

    torch.manual_seed(3)
    mapper = standalone["StyleclipMapper"](16, (1, 1, 3))
    unseen = latents[:8]
    before = mapper(unseen).detach()
    standalone["styleclip_train"](mapper, generate, small_clip, latents[8:], PROMPT, steps=150,
                                  lambda_l2=0)
    cosines = [(clip.encode_image(generate(unseen + step)) * text).sum(dim=1).mean()
               for step in (before, mapper(unseen))]
    assert cosines[1] > cosines[0] + 0.01
    assert all(parameter.grad is None for parameter in small_clip.parameters())
