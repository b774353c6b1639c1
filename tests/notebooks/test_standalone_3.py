"""Notebook 3's cell to copy: alone, beside the authors' relevance, and beside helpers' method 3."""

import pytest
import torch
from conftest import golden, standalone_cell, standalone_imports
from toy import toy_domain

from helpers.clip_model import ClipModel
from helpers.losses import text_direction
from helpers.methods import directions

NOTEBOOK = "03_global_directions.ipynb"
NEUTRAL, TARGET = "a person", "a person with glasses"
TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "a {} on a screen.")


@pytest.fixture(scope="module")
def standalone():
    """What the cell defines, from an empty namespace."""
    namespace = {}
    exec(compile(standalone_cell(NOTEBOOK), "standalone", "exec"), namespace)
    return namespace


def swept(domain, standalone, count, channels, monkeypatch):
    """Delta-i [C, D] of some channels by the cell and by helpers, from the same images [N, S]."""
    monkeypatch.setattr(directions, "half_type", lambda device: None)  # the cell has full precision
    base = directions.sweep_images(domain, count)
    mean, std = directions.style_statistics(domain)
    mine = standalone["sweep"](domain.generator.synthesize, domain.clip.model, base, mean, std,
                               channels)
    theirs = [directions.channel_direction(domain, base, channel) for channel in channels.tolist()]
    return mine, torch.stack(theirs)


def test_it_is_short_and_takes_nothing_of_this_repository():
    assert standalone_imports(NOTEBOOK) == {"clip", "torch"}


@pytest.mark.parametrize("beta", [0.05, 0.15, 0.25])
def test_it_agrees_with_the_authors_directions(standalone, beta):
    right = golden("channel_relevance")
    delta_i = right["delta_i"]  # [C, D], in float64
    channels = torch.arange(len(delta_i)).flip(0) + 3  # in an order, and at places, of its own
    std = torch.linspace(0.5, 2, len(delta_i) + 7, dtype=delta_i.dtype)  # [S]
    found = standalone["global_direction"](delta_i, right["delta_t"], std, channels, beta)
    torch.testing.assert_close(found[channels], std[channels] * right[f"delta_s_{beta}"],
                               atol=1e-6, rtol=1e-5)
    others = torch.ones(len(std), dtype=bool)
    others[channels] = False
    assert not found[others].any()


def test_its_beta_is_the_papers(standalone):
    assert standalone["global_direction"].__defaults__ == (0.15,)
    with pytest.raises(AssertionError, match="beta 0.9 leaves no channel: the largest is 0.5"):
        standalone["global_direction"](torch.eye(2), torch.tensor([0.5, -0.2]), torch.ones(4),
                                       torch.tensor([1, 3]), beta=0.9)


def test_on_a_toy_it_is_helpers_method(standalone, small_clip, monkeypatch):
    toy = toy_domain(clip=ClipModel(small_clip))
    channels = directions.swept_channels(toy.generator)
    mine, theirs = swept(toy, standalone, 3, channels, monkeypatch)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    # helpers' phrasings bring the article along, which the cell leaves in the sentence
    phrased = [template.replace("a {}", "{}") for template in TEMPLATES]
    delta_t = standalone["text_direction"](small_clip, NEUTRAL, TARGET, phrased)
    torch.testing.assert_close(delta_t, text_direction(toy.clip, NEUTRAL, TARGET, TEMPLATES),
                               atol=1e-5, rtol=1e-4)
    _, std = directions.style_statistics(toy)
    relevance = mine @ delta_t
    found = standalone["global_direction"](mine, delta_t, std, channels, 0.1)
    expected = std[channels] * directions.select(relevance, 0.1)
    torch.testing.assert_close(found[channels], expected)


def test_on_avatars_it_is_helpers_sweep(standalone, domain, monkeypatch):
    channels = directions.swept_channels(domain.generator)[::200]
    mine, theirs = swept(domain, standalone, 4, channels, monkeypatch)
    assert ((mine * theirs).sum(dim=1) > 0.999).all()


def test_a_generator_it_never_saw_moves_towards_the_text(standalone, small_clip):
    """Any function will do that draws from one row of styles; the base styles stay as they are."""
    pictures = torch.randn(12, 3, 40, 40, generator=torch.Generator().manual_seed(1)) / 8
    many = torch.randn(200, 12, generator=torch.Generator().manual_seed(2))  # s [N, S]

    def synthesize(s):
        return torch.einsum("ns,schw->nchw", s, pictures).tanh()

    small_clip.requires_grad_(True)  # as OpenAI's is when it is loaded
    mean, std, channels = many.mean(dim=0), many.std(dim=0), torch.arange(2, 12)
    s = many[:8].clone()
    delta_i = standalone["sweep"](synthesize, small_clip, s, mean, std, channels)
    assert torch.equal(s, many[:8]) and not delta_i.requires_grad
    torch.testing.assert_close(delta_i.norm(dim=1), torch.ones(10))
    delta_t = standalone["text_direction"](small_clip, NEUTRAL, TARGET)
    delta_s = standalone["global_direction"](delta_i, delta_t, std, channels, beta=0)
    assert not delta_s[:2].any()
    clip = ClipModel(small_clip)
    along = [clip.encode_image(synthesize(s + alpha * delta_s)) @ delta_t for alpha in (-3, 0, 3)]
    assert along[0].mean() < along[1].mean() < along[2].mean()
