import hashlib
import shutil
from io import BytesIO
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import domains, images
from helpers.images import (
    align_face,
    face_landmarks,
    face_square,
    labelled_grid,
    open_image,
    to_gif,
    to_jpeg,
    to_pil,
    to_png,
    to_tensor,
)


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
    with pytest.raises(ValueError, match="not a picture that|cannot be read") as error:
        open_image(bad, 32)
    assert "\n" not in str(error.value)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    bomb = content(Image.new("1", (10_000, 5_100)))
    assert len(bomb) < 20_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda picture: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="smaller than 50 megapixels") as error:
        open_image(bomb, 32)
    assert "\n" not in str(error.value)


def test_formats_that_start_programs_are_not_opened(monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **options: pytest.fail("it was started"))
    with pytest.raises(ValueError, match="is not a picture that is read here"):
        open_image(content(halves(), "EPS"), 32)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_opened(kind):
    image = open_image(content(halves(), kind), 40)
    assert image[0, 0, 20, 5] > 0.8 and image[0, 2, 20, 35] > 0.8


def test_round_trip_and_layout():
    image = open_image(content(halves()), 40)
    assert torch.equal(to_tensor(to_pil(image)), image)
    assert torch.equal(to_tensor(Image.open(BytesIO(to_png(image)))), image)
    sheet = labelled_grid(image.repeat(6, 1, 1, 1), ["one", "two"], range(3), 80)
    assert sheet.width > 240 and sheet.height > 160  # room for the labels
    with pytest.raises(ValueError, match="need 6 images, got 5"):
        labelled_grid(image.repeat(5, 1, 1, 1), ["one", "two"], range(3))
    assert Image.open(BytesIO(to_jpeg(image, 80))).size == (80, 80)
    frames = torch.cat([image * i / 3 for i in range(4)])
    assert Image.open(BytesIO(to_gif(frames))).n_frames == 6  # there and back


# Faces in photographs


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A portrait that comes with matplotlib, in the public domain; the landmarks' model from a package, by its hash."""
    package = pytest.importorskip("face_recognition_models")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLECLIP_CACHE", str(folder))
        shutil.copy(package.pose_predictor_model_location(), domains.LANDMARKS[0].path)
        images._face_finder.cache_clear()
        yield Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB")
    images._face_finder.cache_clear()


def off_square(picture):
    """How far the square that FFHQ would cut out of a square picture is from the whole, as a share of its side."""
    side = picture.size[0]
    return np.abs(face_square(face_landmarks(picture)) - side * np.array([[0, 0], [0, 1], [1, 1], [1, 0]])).max() / side


@pytest.mark.parametrize("turn,scale", [(0, 1), (20, 1), (-15, 0.6), (0, 2)])
def test_a_face_is_cut_out_as_ffhqs_are(photograph, turn, scale):
    sheet = Image.new("RGB", (1000, 1000), "gray")
    sheet.paste(photograph, (200, 200))
    moved = sheet.rotate(turn, Image.Resampling.BICUBIC).resize([round(1000 * scale)] * 2, Image.Resampling.LANCZOS)
    face = align_face(moved, 256)
    assert face.size == (256, 256)
    assert off_square(face) < 0.08 and off_square(moved) > 0.2  # an aligned face asks for no square but its own
    eyes = [face_landmarks(face)[part].mean(axis=0) for part in (slice(36, 42), slice(42, 48))]
    assert abs(eyes[0][1] - eyes[1][1]) < 8 and eyes[0][0] < 128 < eyes[1][0]


def test_what_is_beyond_the_edge_is_mirrored_and_said(photograph):
    said = []
    face = align_face(photograph.crop((150, 60, 400, 400)), 128, said.append)
    assert face.size == (128, 128) and "mirrored" in said[0]


def test_no_face_and_several_faces_get_one_sentence(photograph):
    with pytest.raises(ValueError, match="No face was found"):
        open_image(content(halves(size=(300, 300))), 64, align=True)
    pair, said = Image.new("RGB", (1100, 600)), []
    pair.paste(photograph, (0, 0))
    pair.paste(photograph.resize((256, 300)), (700, 100))
    assert face_landmarks(pair, said.append)[:, 0].max() < 512
    assert said == ["2 faces were found, and the largest is taken: crop the picture to choose another."]


def test_an_aligned_picture_can_be_opened_as_it_is(photograph):
    face = align_face(photograph, 64, say=lambda text: None)
    assert torch.equal(open_image(content(face), 64, align=False), to_tensor(face))
    assert open_image(content(photograph, "JPEG"), 64, lambda text: None, align=True).shape == (1, 3, 64, 64)


def test_the_landmarks_are_the_published_file(photograph):
    assert hashlib.sha256(Path(domains.LANDMARKS[0].path).read_bytes()).hexdigest() == domains.LANDMARKS[0].sha256
