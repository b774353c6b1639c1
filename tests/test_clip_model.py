import pytest
import torch

from helpers.clip_model import CLIP, area_matrix, check_prompt, tokenize


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_resize_equals_the_authors_pixels_repeated_then_averaged(side):
    torch.manual_seed(0)
    image = torch.randn(1, 1, side, side, dtype=torch.float64)
    rows = image.repeat_interleave(7, dim=2)  # one axis at a time keeps the test small; the operation is separable
    right = torch.nn.functional.avg_pool2d(rows, (side // 32, 1))
    right = torch.nn.functional.avg_pool2d(right.repeat_interleave(7, dim=3), (1, side // 32))
    matrix = area_matrix(side, 224)
    assert (matrix @ image @ matrix.T - right).abs().max() < 1e-10


def test_features_are_unit_vectors_and_cached_per_sentence(domain, faces):
    text = domain.clip.encode_text(["a person with glasses", "a bald person"])
    image = domain.clip.encode_image(domain.generator(faces))
    assert text.shape == (2, image.shape[1])
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(image.norm(dim=1), torch.ones(4))
    assert torch.equal(domain.clip.encode_text(["a bald person"])[0], text[1])


def test_any_resolution_goes_in(domain):
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    large = image.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(domain.clip.encode_image(large), domain.clip.encode_image(image), atol=1e-5, rtol=0)


def test_bad_prompts_get_one_sentence(domain):
    with pytest.raises(ValueError, match="prompt is empty"):
        domain.clip.encode_text(["  "])
    with pytest.raises(ValueError, match=r"has \d+ tokens and CLIP reads 77"):
        domain.clip.encode_text(["glasses " * 80])
    with pytest.raises(TypeError, match="list of sentences"):
        domain.clip.encode_text("a person")
    assert check_prompt("glasses " * 75)


def test_a_prompt_with_no_known_word_is_warned_of(domain, recwarn):
    domain.clip.encode_text(["a person with glasses", domain.neutral])
    assert not [w for w in recwarn if "met no word" in str(w.message)]
    with pytest.warns(UserWarning, match="met no word.*sunglasses"):
        domain.clip.encode_text(["zyzzyva quixotry"])


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")
def test_is_openais_package(domain):
    import clip
    assert clip.model.CLIP is CLIP and isinstance(domain.clip.model, CLIP)
    for text in ("a person with glasses", "Crème brûlée, don't!"):
        assert torch.equal(tokenize(text), clip.tokenize([text])[0])
