from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.images import grid, open_image, to_gif, to_jpeg, to_pil, to_png, to_tensor


def content(picture, kind="PNG", **options):
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode="RGB", size=(40, 40)):
    """Left half red, right half blue."""
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2, 0, size[0], size[1]))
    return picture.convert(mode)


@pytest.mark.parametrize("mode,kind", [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")])
def test_every_mode_becomes_rgb(mode, kind):
    image = open_image(content(halves(mode), kind), 32)
    assert image.shape == (1, 3, 32, 32) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1
    if mode not in ("L", "1"):
        assert image[0, 0, 16, 4] > 0.8 and image[0, 2, 16, 28] > 0.8 and image[0, 0, 16, 28] < -0.6


def test_sixteen_bit_grey_is_scaled_not_cut():
    ramp = Image.fromarray((np.linspace(0, 65535, 1024).reshape(32, 32)).astype(np.uint16))
    image = open_image(content(ramp), 32)
    assert image[0, 0, 0, 0] < -0.95 and image[0, 0, -1, -1] > 0.95 and abs(image.mean()) < 0.05


def test_transparent_parts_become_white():
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 20))
    image = open_image(content(picture), 20)
    assert torch.all(image[0, :, 10, 15] == 1) and image[0, 2, 10, 5] == 1 and image[0, 0, 10, 5] == -1


def test_turned_as_the_camera_noted():
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    image = open_image(content(halves(), "PNG", exif=exif), 32)
    assert image[0, 2, 16, 4] > 0.9 and image[0, 0, 16, 28] > 0.9


def test_cropping_is_said():
    said = []
    image = open_image(content(halves(size=(80, 40))), 20, said.append)
    assert image.shape == (1, 3, 20, 20)
    assert said == ["Cropped to the 40 x 40 square in the middle of 80 x 40 pixels."]


def test_a_huge_photograph_is_read_small():
    image = open_image(content(halves(size=(6000, 6000)), "JPEG"), 64)
    assert image.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("bad", [b"", b"<html>quota exceeded</html>", content(Image.effect_noise((90, 90), 9))[:-700]])
def test_what_is_no_picture_gets_one_sentence(bad):
    with pytest.raises(ValueError, match="not a picture|cannot be read") as error:
        open_image(bad, 32)
    assert "\n" not in str(error.value)


def test_a_picture_of_too_many_pixels_gets_one_sentence(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too many pixels"):
        open_image(content(halves()), 32)


def test_round_trip_and_layout():
    image = open_image(content(halves()), 40)
    assert torch.equal(to_tensor(to_pil(image)), image)
    assert torch.equal(to_tensor(Image.open(BytesIO(to_png(image)))), image)
    assert grid(image.repeat(5, 1, 1, 1), columns=3, size=10).size == (30, 20)
    assert Image.open(BytesIO(to_jpeg(image, 80))).size == (80, 80)
    frames = torch.cat([image * i / 3 for i in range(4)])
    assert Image.open(BytesIO(to_gif(frames))).n_frames == 6  # there and back
