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
    image = training.to_image(pixels)
    assert (training.to_pixels(image) == pixels).all() and training.to_pixels(image[:1] * 9).max() == 255
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


WORDNET = {  # as WordNet 3.1's files are written, shortened; the colour is the second sense of "ginger" here
    "n": """  1 licence
00000001 13 n 01 ginger 0 001 @ 00000002 n 0000 | dried root used as a spice
00000002 13 n 02 spice 0 spicery 0 000 | a flavouring; "it needs spice"
00000003 08 n 03 beard 0 face_fungus 0 whiskers 0 001 @ 00000004 n 0000 | the hair on a man's face
00000004 08 n 01 facial_hair 0 000 | hair on the face
00000007 15 n 02 Maine 0 ME 0 000 | a state in New England
""",
    "a": "00000005 00 s 01 ginger 0 001 & 00000006 a 0000 | (used especially of hair) orange-brown; \"ginger hair\"\n"
         "00000006 00 a 01 coloured(a) 0 000 | having colour\n",
}


@pytest.fixture
def word_vectors(monkeypatch, tmp_path):
    """data/word_vectors.py with a short WordNet."""
    module = pytest.importorskip("word_vectors")
    for part, text in WORDNET.items():
        (tmp_path / f"data.{part}").write_text(text)
    monkeypatch.setattr(module, "PARTS_OF_SPEECH", {part: tmp_path / f"data.{part}" for part in WORDNET})
    monkeypatch.setattr(module, "fetch", lambda sources: sources[0])
    return module


def test_senses_are_read_from_wordnet(word_vectors):
    senses = word_vectors.senses()
    assert senses["ginger"] == [(["ginger"], "dried root used as a spice", ["spice", "spicery"]),
                                (["ginger"], "orange-brown", ["coloured"])]
    assert senses["whiskers"] == senses["face fungus"] == [
        (["beard", "face fungus", "whiskers"], "the hair on a man's face", ["facial hair"])]
    assert senses["spice"][0].definition == "a flavouring" and set(senses) >= {"coloured", "facial hair"}
    assert not {"me", "ME", "maine"} & set(senses)


def test_a_word_means_what_captions_speak_of(word_vectors, monkeypatch, tmp_path):
    axes = dict(zip(("orange-brown", "a flavouring", "the hair on a man's face", "beard", "facial hair", "coloured"),
                    torch.eye(6)))
    axes |= {"orange hair": axes["orange-brown"], "a beard": axes["beard"]}
    monkeypatch.setattr(word_vectors, "text_vectors", lambda folder, words: torch.stack(
        [axes.get(word, torch.zeros(6)) for word in words]))
    found = word_vectors.meanings(["ginger", "whiskers", "unheard"], torch.eye(6)[[1, 1, 1]], tmp_path, ["beard"],
                                  ["orange hair", "a beard"])
    wanted = torch.tensor([[1.0, 1, 0, 0, 0, 1], [0, 1, 1, 2, 1, 0], [0, 1, 0, 0, 0, 0]])
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted))


def test_the_pieces_of_words_add_up_where_captions_say_the_like(word_vectors, monkeypatch, tmp_path):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(49408, 6, generator=random)
    said = {}

    def meanings(words, vectors, *_):
        said.update(zip(words, torch.nn.functional.normalize(torch.randn(len(words), 6, generator=random))))
        return torch.stack([said[word] for word in words])

    monkeypatch.setattr(word_vectors, "token_vectors", lambda folder: tokens)
    monkeypatch.setattr(word_vectors, "text_vectors", lambda folder, words: torch.eye(6)[[0] * len(words)])
    monkeypatch.setattr(word_vectors, "meanings", meanings)
    tokenizer, model = word_vectors.SimpleTokenizer(), torch.nn.Module()
    linear = torch.randn(6, 4, generator=random)
    model.token_embedding = torch.nn.Embedding.from_pretrained((tokens - tokens.mean(0)) @ linear)
    before = model.token_embedding.weight.clone()

    word_vectors.teach_words(model, tmp_path, ["red"], ["red hair"], at_least=3000)

    table = model.token_embedding.weight
    pieces = {word: tokenizer.encode(word) for word in said}
    wanted = {word: (vector - tokens.mean(0)) @ linear for word, vector in said.items()}
    cut = [word for word, parts in pieces.items() if len(parts) > 1]
    assert len(cut) > 100 and "red" not in pieces and len(pieces) - len(cut) > 1000
    near, far = ([word for word in cut if (said[word][0] > 0.5) == is_near] for is_near in (True, False))
    off = {name: torch.stack([rows[pieces[word]].sum(0) - wanted[word] for word in words]).norm(dim=1).mean()
           for name, rows, words in (("before", before, near), ("after", table, near), ("far", table, far))}
    assert off["after"] < 0.3 * off["before"] and off["after"] < 0.7 * off["far"], off
    in_cut = {piece for word in cut for piece in pieces[word]}
    alone = [word for word, parts in pieces.items() if not in_cut & set(parts)]
    assert len(alone) > 100 and all(torch.allclose(table[pieces[word][0]], wanted[word], atol=1e-4) for word in alone)
    changed = (table != before).any(1)
    assert set(changed.nonzero()[:, 0].tolist()) <= {piece for parts in pieces.values() for piece in parts}
    assert not changed[tokenizer.encode("red")].any() and not changed[tokenizer.encode("has")].any()
