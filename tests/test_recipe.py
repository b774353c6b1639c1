"""The embedded world's recipe: what it draws, says and wires."""

import random

import numpy as np
import pytest
import torch

world = pytest.importorskip("world")
captions = pytest.importorskip("captions")
train_generator = pytest.importorskip("train_generator")
training = pytest.importorskip("training")


def test_avatars_are_drawn_with_the_worlds_probabilities():
    choices, poses = world.draw(40_000, np.random.default_rng(0))
    for k, name in enumerate(world.ATTRIBUTES):
        share = np.bincount(choices[:, k]) / len(choices)
        assert np.abs(share - world.probabilities(name)).max() < 0.01
    assert np.abs(poses).max() <= 1


def test_a_render_shows_its_attributes(domain):
    choices, poses = world.draw(60, np.random.default_rng(123))
    pixels = np.stack([world.render(choice, pose, 64) for choice, pose in zip(choices, poses)])
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    read, truth = domain.classifier.read(image), world.labels(choices)
    right = np.mean([(read[name][0].numpy() == truth[:, k])[truth[:, k] >= 0].mean()
                     for k, name in enumerate(world.ATTRIBUTES)])
    assert right > 0.97


def test_captions_say_only_what_is_so():
    choices, _ = world.draw(500, np.random.default_rng(1))
    rng, attributes = random.Random(1), list(world.ATTRIBUTES)
    for choice in choices:
        text, said = captions.caption(choice, rng)
        assert text.strip() and all(choice[k] == value for k, value in said.items())
        if "sunglasses" in text or "dark glasses" in text:
            assert world.ATTRIBUTES["glasses"][choice[attributes.index("glasses")]] == "sunglasses"


def test_synonyms_that_measure_generalization_are_in_no_caption():
    evaluate = pytest.importorskip("evaluate")
    choices, _ = world.draw(20_000, np.random.default_rng(2))
    rng = random.Random(2)
    said = {word for choice in choices for word in captions.caption(choice, rng)[0].lower().split()}
    known = {"a", "an", "person", "with", "wearing", "hair"}
    for _, _, sentence in evaluate.SYNONYMS:
        assert not set(sentence.split()) - known & said - known, sentence


def test_the_computed_mapping_network_is_the_codebook():
    torch.manual_seed(0)
    model = train_generator.Synthesis().eval().requires_grad_(False)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    generator = train_generator.finish(model)
    z = torch.randn(500, train_generator.Z_DIM)
    right = model.codebook(*train_generator.partition(z))
    own = generator.broadcast(generator.map(z))
    # The shift of w is undone by the style biases, so equal styles mean an equal w.
    model.generator.load_state_dict(before)
    difference = (generator.styles(own) - model.generator.styles(model.generator.broadcast(right))).abs().amax(1)
    assert generator.map(z).min() > 0
    assert (difference < 1e-2).float().mean() > 0.9  # the rest lies on a ramp between two choices


@pytest.mark.parametrize("able, kind", [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)])
def test_recipes_take_half_precision_only_where_the_processor_has_it(able, kind, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able, raising=False)
    with training.autocast():
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == kind


def test_the_pieces_of_words_add_up(monkeypatch, tmp_path):
    small_clip = pytest.importorskip("small_clip")
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(49408, 6, generator=random)
    said = {}
    monkeypatch.setattr(small_clip, "token_vectors", lambda folder: tokens)
    monkeypatch.setattr(small_clip, "text_vectors", lambda folder, name, words: said.setdefault(
        tuple(words), torch.randn(len(words), 6, generator=random)))
    tokenizer, model = small_clip.SimpleTokenizer(), torch.nn.Module()
    linear = torch.randn(6, 4, generator=random)
    model.token_embedding = torch.nn.Embedding.from_pretrained((tokens - tokens.mean(0)) @ linear)
    before = model.token_embedding.weight.clone()

    small_clip.add_up_pieces(model, tmp_path, ["red"], at_least=3000)

    (words, vectors), = said.items()
    assert len(words) > 100 and all(len(tokenizer.encode(word)) > 1 for word in words)
    wanted = (vectors - tokens.mean(0)) @ linear
    off = {name: torch.stack([table[tokenizer.encode(word)].sum(0) for word in words]).sub(wanted).norm(dim=1).mean()
           for name, table in (("before", before), ("after", model.token_embedding.weight))}
    assert off["after"] < 0.5 * off["before"]
    changed = (model.token_embedding.weight != before).any(1)
    assert set(changed.nonzero()[:, 0].tolist()) <= {piece for word in words for piece in tokenizer.encode(word)}
    assert not changed[tokenizer.encode("red")].any()
