"""CLIP: OpenAI's numbers, unit vectors, bad sentences, and what is kept between calls."""

import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from helpers.clip_model import CLIP, ClipModel, area_matrix, check_prompt, tokenize
from helpers.losses import text_direction

SENTENCES = ["a person with glasses", "a bald person"]


@pytest.fixture
def fresh(domain):
    """The CLIP of avatars, with nothing kept."""
    return ClipModel(domain.clip.model, domain.clip.words)


@pytest.fixture
def images():
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_resize_equals_the_authors_pixels_repeated_then_averaged(side):
    torch.manual_seed(0)
    image = torch.randn(1, 1, side, side, dtype=torch.float64)
    rows = image.repeat_interleave(7, dim=2)  # an axis at a time keeps the test small
    right = F.avg_pool2d(rows, (side // 32, 1))
    right = F.avg_pool2d(right.repeat_interleave(7, dim=3), (1, side // 32))
    matrix = area_matrix(side, 224)
    assert (matrix @ image @ matrix.T - right).abs().max() < 1e-10


def test_features_are_unit_vectors_and_cached_per_sentence(domain, faces):
    text = domain.clip.encode_text(SENTENCES)
    image = domain.clip.encode_image(domain.generator(faces))
    assert text.shape == (2, image.shape[1])
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(image.norm(dim=1), torch.ones(4))
    assert torch.equal(domain.clip.encode_text(["a bald person"])[0], text[1])


def test_any_resolution_goes_in(domain):
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    large = image.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(domain.clip.encode_image(large), domain.clip.encode_image(image),
                               atol=1e-5, rtol=0)


def test_bad_prompts_get_one_sentence(domain):
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="prompt is empty"):
            domain.clip.encode_text([empty])
    with pytest.raises(ValueError, match=r"has \d+ tokens and CLIP reads 77"):
        domain.clip.encode_text(["glasses " * 80])
    with pytest.raises(ValueError, match="empty list"):
        domain.clip.encode_text([])
    assert check_prompt("glasses " * 75)


@pytest.mark.parametrize("texts", ["a person", b"a person", None, 3, 1.5, {"a person": 1}])
def test_what_is_no_list_is_refused(domain, texts):
    with pytest.raises(TypeError, match="^encode_text takes a list of sentences.*, not ") as caught:
        domain.clip.encode_text(texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"a person", None, 3, ["a person"]])
def test_what_is_no_sentence_is_refused(domain, text):
    with pytest.raises(TypeError, match="^A prompt is a sentence.*, not ") as caught:
        domain.clip.encode_text(["a person", text])
    assert "\n" not in str(caught.value)


def test_unknown_words_are_named_and_what_they_act_like(fresh):
    """What users typed; the known words in between are not named."""
    assert fresh.caution("a person with glasses") == fresh.caution("a bald person.") == ""
    assert fresh.caution("A person, who is NOT bald") == ""
    said = fresh.caution("a person with spectacles and a monocle")
    assert '"spectacles"' in said and '"monocle"' in said and '"person"' not in said
    assert said.count("\n") == 0 and "ViT-B/32" in said
    assert fresh.unknown_words("a zyzzyva with two quixotries") == ["zyzzyva", "two", "quixotries"]
    assert "no word" in fresh.caution("\N{GRINNING FACE}")
    assert ClipModel(fresh.model).caution("a zyzzyva") == ""  # OpenAI's own, which knows all words


def test_a_word_acts_like_the_one_whose_vector_it_nearly_has(fresh):
    fresh.words = fresh.words - {"blond"}
    assert fresh.acts_like("a person with blond hair", "blond") == "blonde"
    assert '"blond" (it acts like "blonde")' in fresh.caution("a person with blond hair")
    assert fresh.acts_like("a zyzzyva", "zyzzyva") == ""


def test_a_caution_is_a_warning_once_and_never_for_a_phrasing(fresh, recwarn):
    fresh.encode_text(["a person with glasses", "a person"])
    text_direction(fresh, "a person", "a bald person")  # in 79 phrasings: sculptures, origami
    assert not [one for one in recwarn if "Unknown" in str(one.message)]
    with pytest.warns(UserWarning, match='Unknown to this small CLIP: "zyzzyva"') as caught:
        fresh.encode_text(["a zyzzyva"])
    assert caught[0].filename == __file__  # of the caller
    fresh.encode_text(["a zyzzyva"])
    assert not [one for one in recwarn if "zyzzyva" in str(one.message)]


@pytest.mark.parametrize("text", [
    "A person with GLASSES", " a  person\twith glasses ", "a person with glasses.",
    "a\u200b person with gl\u00adasses", "a\u00a0person with glasses ."])
def test_what_looks_the_same_is_the_same_sentence(domain, text):
    assert check_prompt(text) == "a person with glasses"
    right = domain.clip.encode_text(["a person with glasses"])
    assert torch.equal(domain.clip.encode_text([text]), right)
    with pytest.raises(ValueError, match="says the same"):
        text_direction(domain.clip, "a person with glasses", text)


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")
def test_is_openais_package(domain, images):
    import clip
    assert isinstance(domain.clip.model, CLIP)
    assert sys.modules[CLIP.__module__].__file__ == clip.model.__file__
    theirs = clip.model.build_model(dict(domain.clip.model.state_dict())).float()
    with torch.no_grad():
        right = ClipModel(theirs).encode_image(images)
    torch.testing.assert_close(domain.clip.encode_image(images), right, atol=2e-3, rtol=0)  # halved
    for text in ("a person with glasses", "Crème brûlée, don't!"):
        assert torch.equal(tokenize(text), clip.tokenize([text])[0])


def test_what_was_computed_in_inference_mode_takes_part_in_gradients(fresh, images):
    with torch.inference_mode():
        text, vectors = fresh.encode_text(SENTENCES), fresh.encode_image(images)
    image = images.clone().requires_grad_()
    again = fresh.encode_image(image)
    (again @ fresh.encode_text(SENTENCES).T).sum().backward()
    assert torch.equal(again, vectors) and torch.equal(fresh.encode_text(SENTENCES), text)
    assert image.grad.abs().max() > 0


def test_what_is_handed_out_is_a_copy(fresh, images):
    before, vectors = fresh.encode_text(SENTENCES), fresh.encode_image(images)
    right = before.clone()
    before.mul_(2)
    fresh.encode_text(SENTENCES[:1]).zero_()
    fresh.preprocess(images).zero_()
    assert torch.equal(fresh.encode_text(SENTENCES), right)
    assert torch.equal(fresh.encode_image(images), vectors)


def test_a_kept_sentence_follows_the_network(fresh):
    fresh.encode_text(SENTENCES)
    assert fresh.double().encode_text(SENTENCES).dtype == torch.float64
    fresh.float()


READ = """
import pickle, sys, torch
clip, images = pickle.load(open(sys.argv[1], "rb"))
assert not {"clip", "clip.model", "torchvision", "pkg_resources"} & set(sys.modules)
torch.save([clip.encode_text(["a bald person", "an old person"]), clip.encode_image(images)],
           sys.argv[2])
"""


def test_it_can_be_pickled_and_read_by_another_process(fresh, images, tmp_path):
    """That process imports neither OpenAI's whole package nor torchvision."""
    fresh.encode_text(SENTENCES)
    right = [fresh.encode_text(["a bald person", "an old person"]), fresh.encode_image(images)]
    again = pickle.loads(pickle.dumps(fresh))
    assert torch.equal(again.encode_text(["a bald person", "an old person"]), right[0])
    assert torch.equal(again.encode_image(images), right[1])
    path, result = tmp_path / "clip.pkl", tmp_path / "result.pt"
    path.write_bytes(pickle.dumps((fresh, images)))
    subprocess.run([sys.executable, "-c", READ, path, result], check=True, cwd=ROOT)
    for theirs, ours in zip(torch.load(result), right, strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)
