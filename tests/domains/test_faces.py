"""The domain of photographs.

Its generator comes from the package index. Where that cannot be had, what needs it is skipped, and
the last line of the tests says so.
"""

import csv
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import golden

from data.faces.recipe import captions
from helpers import photographs
from helpers.domains import DATA, load_domain, loading
from helpers.domains.download import Unavailable, fetch
from helpers.domains.published import RANDOM_FACE
from helpers.images import open_image, to_pil
from helpers.inversion import invert, tuned_domain
from helpers.latents import random_w_plus
from helpers.methods.directions import global_direction
from helpers.methods.linear_model import fit_linear_model
from helpers.methods.optimization import optimize_latent
from helpers.photographs import LearntPicture, Photograph
from helpers.settings import FFHQ_BLENDING

GLASSES = captions.NAMES.index("glasses")


def recipe(name):
    """A module of the recipe; the test is skipped where a package of requirements-dev.txt lacks."""
    return pytest.importorskip(f"data.faces.recipe.{name}")


@pytest.fixture(scope="module")
def faces_domain():
    try:
        fetch((RANDOM_FACE,))
    except Unavailable as error:
        pytest.skip(f"the generator of faces cannot be had: {error}")
    return load_domain("faces", "cpu")


@pytest.fixture(scope="module")
def latents(faces_domain):
    """Four faces that nothing was trained on, [4, 16, 512]."""
    return random_w_plus(faces_domain, 4, seed=6006, truncation=0.7)


def test_agrees_with_openvino(faces_domain):
    theirs, generator = golden("faces_mobile"), faces_domain.generator
    with torch.no_grad():
        w = generator.map(theirs["z"])
        assert (w - theirs["w"]).abs().max() < 1e-5
        image = generator(generator.broadcast(w))[..., ::4, ::4]
        assert (image - theirs["image"]).abs().max() < 1e-3


def test_is_complete(faces_domain):
    generator = faces_domain.generator
    assert (generator.resolution, generator.num_layers, generator.style_dim) == (1024, 16, 6752)
    assert {256, 512} < set(generator.resolutions)
    assert faces_domain.align and faces_domain.classifier and faces_domain.encoder
    assert len(faces_domain.samples) >= 16 and len(faces_domain.prompts) >= 10
    assert len(faces_domain.sample_latents) == len(faces_domain.samples)
    size = sum(path.stat().st_size for path in (DATA / "faces").rglob("*")
               if path.is_file() and path.suffix != ".pyc")
    assert size < 30_000_000


def test_an_early_stop_is_the_small_picture(faces_domain, latents):
    """30 dB and more are usual (data/faces/evaluation.json); 24 is below the worst face of 32."""
    with torch.no_grad():
        full = faces_domain.generator(latents).clamp(-1, 1)
        for side in (256, 512):
            small = faces_domain.generator(latents, resolution=side).clamp(-1, 1)
            error = small - torch.nn.functional.avg_pool2d(full, 1024 // side)
            assert (10 * torch.log10(4 / error.square().mean(dim=(1, 2, 3))) > 24).all()
            assert error.mean(dim=(2, 3)).abs().max() < 0.12  # colours


def test_clip_tells_what_it_sees(faces_domain):
    """Some generated faces that were labelled by eye and that nothing was trained on."""
    labels, pools = recipe("labels"), recipe("pools")
    numbers, seen = labels.by_eye("test")
    generator, clip = faces_domain.generator, faces_domain.clip
    w = pools.latents(generator, "test")
    asked = (("sex", "man", "a man", "a woman"),
             ("glasses", "glasses", "a person with glasses", "a person with no glasses"),
             # a word in no caption, in two pieces
             ("expression", "smile", "a grinning person", "a person"))
    for attribute, choice, yes, no in asked:
        column = seen[:, captions.NAMES.index(attribute)]
        wanted = captions.ATTRIBUTES[attribute].index(choice)
        scores = []
        for shown in (wanted, 0 if wanted else 1):
            part = w[numbers[column == shown][:12]]
            with torch.no_grad():
                image = generator(generator.broadcast(part), resolution=256)
                difference = clip.encode_text([yes, no]).T @ torch.tensor([1.0, -1.0])  # [D]
                scores.append(clip.encode_image(image) @ difference)
        auc = (scores[0][:, None] > scores[1][None]).float().mean()  # under the ROC curve
        assert auc > 0.8, (attribute, auc)


def test_labels_by_eye_are_of_faces_that_can_be_drawn():
    labels, pools = recipe("labels"), recipe("pools")
    looks = {}
    for name in ("labels.csv", "looked_again.csv"):
        with labels.TABLE.with_name(name).open(newline="") as file:
            for row in csv.DictReader(file):
                assert int(row["number"]) < pools.POOLS[row["pool"]].drawn, row
                for attribute, choices in captions.ATTRIBUTES.items():
                    known = (*choices, "other", "hidden", "none", "?", "")
                    assert row[attribute] in known, row
                look = row["pool"], int(row["number"]), row.get("look", "1")
                looks.setdefault(look, []).append(row)
    assert all(len(rows) == 1 for rows in looks.values())
    assert {key for key in looks if key[0] == "test-more"} == {
        ("test-more", number, look) for number in range(576) for look in "12"}
    seen = labels.pooled("test", pools.POOLS["test"].drawn).choices
    agreed = labels.certain_by_eye("glasses", ("glasses", "sunglasses"))
    assert len(agreed) == len(seen) >= 895 and (agreed < 0).mean() < 0.02
    first = seen[:, GLASSES] > 0
    assert (first[agreed >= 0] == agreed[agreed >= 0]).all()


def test_who_was_not_asked_is_told_by_a_probe(monkeypatch):
    labels, rng = recipe("labels"), np.random.default_rng(0)
    shows = np.arange(200) % 2 == 0
    values = np.where(shows, 2.0, -2.0)[:, None] + rng.normal(size=(200, 3)) / 4
    seen = np.full((120, len(captions.NAMES)), labels.NOT_ASKED)
    glasses, none = map(captions.ATTRIBUTES["glasses"].index, ("glasses", "none"))
    seen[:100, GLASSES] = np.where(shows[:100], glasses, none)
    seen[100, GLASSES] = labels.NOT_TOLD  # asked, and it could not be told
    looked = labels.Looked(np.arange(120), seen, np.full(120, True))
    monkeypatch.setattr(labels, "pooled", lambda pool, first: looked)
    choices, beliefs, report = labels.spread([labels.View(values, 1.0)], "train")
    assert set(report) == {("glasses", "glasses"), ("glasses", "none")}
    assert (choices[:100, GLASSES] == seen[:100, GLASSES]).all() and choices[100, GLASSES] == -1
    assert (choices[101:, GLASSES] == np.where(shows, glasses, none)[101:]).all()
    assert (np.delete(choices, GLASSES, axis=1) == -1).all()
    assert np.allclose(beliefs["glasses"].sum(axis=1), 1) and not beliefs["hair"].any()


def test_a_price_on_changing_the_person_keeps_more_of_them(faces_domain, latents):
    """Method 3, five sentences. On six sets of four faces the identity similarity was higher by
    0.04 to 0.07."""
    generator, settings = faces_domain.generator, faces_domain.settings
    free = replace(settings.linear_model, lambda_id=0)
    careless = replace(faces_domain, settings=replace(settings, linear_model=free))
    s, alike = generator.styles(latents), []
    with torch.no_grad():
        before = faces_domain.identity(generator.synthesize(s, resolution=256))
        for domain in (careless, faces_domain):
            cosines = []
            for prompt in domain.prompts[:5]:
                direction = global_direction(domain, domain.neutral, prompt)
                image = generator.synthesize(s + settings.directions.alpha * direction,
                                             resolution=256)
                cosines.append((faces_domain.identity(image) * before).sum(dim=1))
            alike.append(torch.cat(cosines).mean().item())
    assert alike[1] > alike[0] + 0.01, alike


def test_a_picture_is_found_again(faces_domain):
    image, steps = open_image(faces_domain.samples[0], 1024), []
    w_plus, history = invert(faces_domain, image, steps=12,
                             callback=lambda state: steps.append(state["image"].shape[-1]))
    assert w_plus.shape == (1, 16, 512) and steps == [256] * 11 + [1024]
    assert min(history["loss"][:11]) < history["loss"][0]


def test_with_another_clip_the_methods_work_and_the_sweep_is_left_alone(faces_domain, domain,
                                                                        monkeypatch):
    """As with ViT-B/32, whose weights cannot be had here: the avatars' CLIP in its place."""
    monkeypatch.setattr(loading, "_published_clip", lambda name: domain.clip)
    other = load_domain("faces", "cpu", clip="ViT-B/32")
    assert other.linear_model_tensors is None
    assert not other.has_sweep() and faces_domain.has_sweep()
    assert other.settings.mapper.origin == {"all": "guess, as on faces"}
    for part in ("encoding", "tuning"):  # these hardly depend on CLIP
        assert getattr(other.settings, part) == getattr(faces_domain.settings, part)
    assert other.keep_defaults == faces_domain.keep_defaults
    few = replace(other.settings.linear_model, samples=24)
    other.settings = replace(other.settings, linear_model=few)
    assert set(fit_linear_model(other)) == {"clip", "clip model", "identity model"}
    w_plus = random_w_plus(other, 1, seed=1)
    edited, history = optimize_latent(other, w_plus, "a person with glasses", steps=2)
    assert edited.shape == w_plus.shape and len(history["loss"]) == 2
    assert global_direction(other, other.neutral, "a person with glasses").shape == (6752,)
    with pytest.raises(ValueError, match="no sweep of faces yet"):
        global_direction(other, other.neutral, "a person with glasses", method="sweep")


def test_captions_say_only_what_is_so():
    rng = random.Random(1)
    choices = [[rng.randrange(-1, len(of)) for of in captions.ATTRIBUTES.values()]
               for _ in range(500)]
    for seen in choices:
        if max(seen) < 0:
            continue
        text, said = captions.caption(seen, rng)
        assert text.strip() and said and all(seen[k] == choice for k, choice in said.items())


def test_every_choice_has_its_phrases():
    assert set(captions.PHRASES) == {
        (name, choice) for name, of in captions.ATTRIBUTES.items() for choice in of}


def test_words_that_count_as_unseen_are_in_no_caption():
    evaluate, make = recipe("evaluate"), recipe("make")
    said = {word for kinds in captions.PHRASES.values() for phrases in kinds.values()
            for phrase in phrases for word in phrase.lower().split()}
    asked = [question.yes for question in [*evaluate.UNSEEN, *evaluate.more_unseen()]]
    assert len(asked) > 90
    for sentence in asked:
        assert set(sentence.split()) - said - make.PLAIN - {"person"}, sentence


@torch.no_grad()
def test_the_head_is_read_from_the_generators_maps(faces_domain, latents):
    """Of FFHQ's faces the middle is face, and the upper corners are mostly what is behind them."""
    generator, reader = faces_domain.generator, faces_domain.head
    s = generator.styles(latents)  # [4, S]
    heads = reader(generator.maps(s, reader.side))  # [4, 2, 64, 64]
    assert heads[:, 0, 24:48, 24:40].mean() > 0.9
    assert heads[:, 0, :4, :4].mean() < 0.2 and heads[:, 0, :4, -4:].mean() < 0.2
    assert heads[:, 1, 32:].max() == 0 and heads[:, 1, :, :8].max() == 0  # no hat is there
    learnt = LearntPicture(None, faces_domain, latents[:1])
    assert torch.allclose(learnt.head, heads[:1], atol=1e-3)
    assert torch.equal(learnt.drawn, generator(latents[:1]))


def as_photograph(image):
    """A `Photograph` that shows nothing but a face: image [1, 3, R, R]."""
    side = image.shape[-1]
    corners = np.array([[0.0, 0.0], [0.0, side], [side, side], [side, 0.0]])
    return Photograph(to_pil(image), image, corners)


@torch.no_grad()
def test_what_the_generator_cannot_draw_is_in_front_of_the_face(faces_domain, latents):
    """A green card at the chin of a face that the generator knows."""
    image = faces_domain.generator(latents[:1]).clamp(-1, 1)
    image[..., 900:1000, 400:600] = torch.tensor([-0.8, 0.9, -0.8])[:, None, None]
    learnt = LearntPicture(as_photograph(image), tuned_domain(faces_domain, {}), latents[:1])
    assert learnt.covers[0, 0, 930:980, 430:570].min() > 0.9
    assert learnt.covers[0, 0, :700].max() == 0
    s = faces_domain.generator.styles(latents[:1])
    assert learnt.picture(s).tobytes() == learnt.photograph.picture.tobytes()
    edited = s + 3 * (s - faces_domain.generator.styles(latents[1:2]))
    again = learnt.photograph.cut_out(learnt.picture(edited))
    assert torch.equal(learnt.face(edited), again) and not torch.equal(learnt.face(s), again)


@torch.no_grad()
def test_an_edit_changes_the_head_and_not_what_is_behind_it(faces_domain, latents, monkeypatch):
    """Its step changes all of the picture; in the photograph the corners stay, bit for bit."""
    image = faces_domain.generator(latents[:1]).clamp(-1, 1)
    bias = {"to_image.bias": faces_domain.generator.to_image.bias + 0.2}
    learnt = LearntPicture(as_photograph(image), tuned_domain(faces_domain, bias), latents[:1])
    s, other = faces_domain.generator.styles(latents[:2]).split(1)
    edited = s + 0.7 * (other - s)
    plain = learnt.draw(edited)
    corners = (..., slice(0, 60), slice(0, 60)), (..., slice(0, 60), slice(-60, None))
    assert all((plain - image)[corner].abs().mean() > 0.05 for corner in corners)
    result = learnt.photograph.cut_out(learnt.picture(edited))
    kept = learnt.photograph.cut_out(learnt.photograph.picture)
    assert all(torch.equal(result[corner], kept[corner]) for corner in corners)
    middle = (..., slice(350, 750), slice(350, 680))
    before, after = (plain - image)[middle].abs().mean(), (result - image)[middle].abs().mean()
    assert after > 0.6 * before > 0.03
    assert learnt.picture(s).tobytes() == learnt.photograph.picture.tobytes()
    # Every setting of how it is drawn counts.
    usual = FFHQ_BLENDING
    for name, value in (("blend_from", 64), ("styled_from", 256), ("drawn_margin", 31),
                        ("drawn_blur", 9.0)):
        monkeypatch.setattr(photographs, "FFHQ_BLENDING", replace(usual, **{name: value}))
        assert not torch.equal(learnt.face(edited), result), name


# Of the first face, in shares of the side: jaw, brows, and what else dlib finds.
JAW = [(0.5 - 0.2 * np.cos(a), 0.47 + 0.38 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
LANDMARKS = np.array(JAW + [(x, 0.42) for x in np.linspace(0.34, 0.66, 10)] + [(0.5, 0.6)] * 41)


@torch.no_grad()
def test_an_edit_changes_as_little_as_clip_needs(faces_domain, latents):
    """Glasses change the face alone, and blonde hair the colours of the whole head; another person
    needs all of it. The pixels outside stay, bit for bit."""
    image = faces_domain.generator(latents[:1]).clamp(-1, 1)
    photograph = replace(as_photograph(image), landmarks=1024 * LANDMARKS)
    learnt = LearntPicture(photograph, tuned_domain(faces_domain, {}), latents[:1])
    glasses, blonde = (learnt.s + 3.5 * global_direction(faces_domain, "a person", prompt)
                       for prompt in ("a person with glasses", "a person with blonde hair"))
    face, colours, whole = learnt.extents
    assert learnt.extent_of(glasses) is face and learnt.extent_of(blonde) is colours
    assert learnt.drawn_within(colours, blonde)[1] is learnt.head  # the shape is kept
    kept, result = photograph.cut_out(photograph.picture), learnt.face(glasses)
    outside = (face.stays == 1).expand_as(result)
    assert torch.equal(result[outside], kept[outside]) and outside.float().mean() > 0.6
    assert (result - kept)[..., 440:540, 330:690].abs().mean() > 0.1  # where glasses are
    other = faces_domain.generator.styles(latents[1:2])
    assert learnt.extent_of(other) is whole
    assert learnt.extent_of(learnt.s + 0.5 * (other - learnt.s)) is whole  # as it was found
