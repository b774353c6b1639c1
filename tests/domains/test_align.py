"""Faces in photographs: found, chosen, and cut out as FFHQ's are."""

import shutil
import sys
from io import BytesIO

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.domains import DATA, align
from helpers.domains.align import align_face, face_landmarks, face_square, is_aligned
from helpers.domains.download import sha256_of
from helpers.images import open_image, to_pil, to_tensor


def jpeg(picture):
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A portrait in the public domain, which comes with matplotlib; landmarks are in the cache."""
    package = pytest.importorskip("face_recognition_models")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLECLIP_CACHE", str(folder))
        shutil.copy(package.pose_predictor_model_location(), align.LANDMARKS[0].path)
        yield Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB")


def off_square(picture):
    """How far FFHQ's square in a square picture is from the whole, as a share of its side."""
    square = face_square(face_landmarks(picture)) / picture.size[0]
    return np.abs(square - [[0, 0], [0, 1], [1, 1], [1, 0]]).max()


@pytest.mark.parametrize("turn,scale", [(0, 1), (20, 1), (-15, 0.6), (0, 2)])
def test_a_face_is_cut_out_as_ffhqs_are(photograph, turn, scale):
    sheet = Image.new("RGB", (1000, 1000), "gray")
    sheet.paste(photograph, (200, 200))
    moved = sheet.rotate(turn, Image.Resampling.BICUBIC)
    moved = moved.resize([round(1000 * scale)] * 2, Image.Resampling.LANCZOS)
    face = align_face(moved, 256)
    assert face.size == (256, 256)
    assert off_square(face) < 0.08 and off_square(moved) > 0.2  # aligned, it asks for itself
    assert is_aligned(face) and not is_aligned(moved)
    landmarks = face_landmarks(face)
    left, right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    assert abs(left[1] - right[1]) < 8 and left[0] < 128 < right[0]


@pytest.mark.parametrize("turn,words", [
    (90, "lies on its side"), (180, "is upside down"), (270, "lies on its side")])
def test_a_photograph_on_its_side_or_upside_down_is_turned(photograph, turn, words):
    """It is found in all turns, and the same square is cut out of it."""
    turned, said = photograph.rotate(turn, expand=True), []
    face = align_face(turned, 32, said.append)
    assert said == [f"The picture {words}: it is turned."]
    assert (to_tensor(face) - to_tensor(align_face(photograph, 32))).abs().mean() < 0.05
    expected, width = face_landmarks(photograph), photograph.width
    for _ in range(turn // 90):  # a turn to the left: what was right is above
        expected = np.stack([expected[:, 1], width - 1 - expected[:, 0]], axis=1)
        width = photograph.height if width == photograph.width else photograph.width
    assert np.abs(face_landmarks(turned, said.append) - expected).max() < 1


def test_what_is_beyond_the_edge_is_mirrored_and_said(photograph):
    said = []
    face = align_face(photograph.crop((150, 60, 400, 400)), 128, said.append)
    assert face.size == (128, 128) and "mirrored" in said[0]


def test_no_face_and_several_faces_get_one_sentence(photograph):
    with pytest.raises(ValueError, match="No face was found"):
        open_image(jpeg(Image.new("RGB", (300, 300), "red")), 64, align=True)
    pair, said = Image.new("RGB", (1100, 600)), []
    pair.paste(photograph, (0, 0))
    pair.paste(photograph.resize((256, 300)), (700, 100))
    assert face_landmarks(pair, said.append)[:, 0].max() < 512
    assert said == ["2 faces were found, and the largest is taken: face=2 takes the next."]
    said.clear()
    assert face_landmarks(pair, said.append, face=2)[:, 0].min() > 700 and said == []
    image = open_image(jpeg(pair), 16, said.append, align=True, face=2)
    assert (image - to_tensor(align_face(pair, 16, face=2))).abs().mean() < 0.1
    for face in (0, 3):
        with pytest.raises(ValueError, match=f"There is no face={face} in the picture: 2 can be"):
            face_landmarks(pair, said.append, face)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_a_line_of_pixels_shows_no_face(photograph, size):
    """Nor does dlib take such a picture."""
    with pytest.raises(ValueError, match="No face was found"):
        open_image(jpeg(Image.new("RGB", size)), 64, align=True)


def test_a_face_that_is_small_or_partly_outside_gets_one_sentence(photograph):
    for picture, why in ((photograph.resize((128, 150)), "The face is [3-5]. pixels wide"),
                         (photograph.crop((240, 0, 512, 600)), "partly outside"),
                         (photograph.crop((270, 0, 512, 600)), "No face was found")):
        with pytest.raises(ValueError, match=why) as caught:
            face_landmarks(picture)
        assert "\n" not in str(caught.value)
    assert len(face_landmarks(photograph.resize((180, 211)))) == 68


def test_an_aligned_picture_can_be_opened_as_it_is(photograph):
    face = align_face(photograph, 64, say=lambda text: None)
    buffer = BytesIO()
    face.save(buffer, "PNG")
    assert torch.equal(open_image(buffer.getvalue(), 64, align=False), to_tensor(face))
    image = open_image(jpeg(photograph), 64, lambda text: None, align=True)
    assert image.shape == (1, 3, 64, 64)


def test_where_faces_sit_is_told_without_the_landmarks():
    samples = sorted((DATA / "faces" / "samples").glob("*.*g"))[::3]
    assert len(samples) >= 5
    assert all(is_aligned(to_pil(open_image(path, 256))) for path in samples)
    assert not is_aligned(Image.new("RGB", (300, 300), "red"))


def test_without_dlib_nothing_is_fetched_and_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.setattr(align, "fetch", lambda sources: pytest.fail("it was fetched"))
    with pytest.raises(ImportError, match="pip install dlib-bin, or .*align=False"):
        face_landmarks(Image.new("RGB", (300, 300)))


def test_the_landmarks_are_the_published_file(photograph):
    assert sha256_of(align.LANDMARKS[0].path) == align.SHA256
