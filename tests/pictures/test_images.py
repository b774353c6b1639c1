"""Pictures that people bring, and pictures that are shown and saved."""

import errno
import os
import struct
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from helpers.images import (
    files_in,
    labelled_grid,
    open_image,
    to_gif,
    to_jpeg,
    to_pil,
    to_png,
    to_tensor,
    write_new,
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


@pytest.mark.parametrize("mode,kind", [
    ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")])
def test_every_mode_becomes_rgb(mode, kind):
    image = open_image(content(halves(mode), kind), 32)
    assert image.shape == (1, 3, 32, 32) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1
    if mode not in ("L", "1"):
        assert image[0, 0, 16, 4] > 0.8 and image[0, 2, 16, 28] > 0.8 and image[0, 0, 16, 28] < -0.6


def test_sixteen_bit_grey_is_scaled_not_cut():
    ramp, said = Image.fromarray(ramp_to(65535, np.uint16)), []
    image = open_image(content(ramp), 32, said.append)
    assert image[0, 0, 0, 0] < -0.95 and image[0, 0, -1, -1] > 0.95 and abs(image.mean()) < 0.05
    assert said == []


def ramp_to(top, kind):
    return np.linspace(0, top, 1024).reshape(32, 32).astype(kind)


@pytest.mark.parametrize("top,kind,file", [
    (4095, np.uint16, "PNG"), (255, np.int32, "TIFF"), (1.0, np.float32, "TIFF"),
    (700.0, np.float32, "TIFF")])
def test_numbers_that_do_not_fill_their_type_are_scaled_and_said(top, kind, file):
    said = []
    image = open_image(content(Image.fromarray(ramp_to(top, kind)), file), 32, said.append)
    assert image[0, 0, 0, 0] < -0.95 and image[0, 0, -1, -1] > 0.95 and abs(image.mean()) < 0.05
    assert said == [f"The picture's numbers are scaled from 0 (black) to {top:g} (white)."]


def test_what_is_no_number_is_black_and_the_rest_is_scaled():
    values, said = ramp_to(1.0, np.float32), []
    values[3, 3], values[4, 4] = np.nan, np.inf
    image = open_image(content(Image.fromarray(values), "TIFF"), 32, said.append)
    assert image[0, 0, -1, -1] > 0.95 and image[0, 0, 3, 3] == -1 and abs(image.mean()) < 0.05
    assert len(said) == 1
    values[:] = np.nan
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        open_image(content(Image.fromarray(values), "TIFF"), 32)


def test_numbers_below_zero_are_shown_too():
    image = open_image(content(Image.fromarray(ramp_to(2, np.float32) - 1), "TIFF"), 32)
    assert image[0, 0, 0, 0] < -0.95 and image[0, 0, -1, -1] > 0.95 and abs(image.mean()) < 0.05


def test_transparent_parts_become_white():
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 20))
    image = open_image(content(picture), 20)
    assert torch.all(image[0, :, 10, 15] == 1)
    assert image[0, 2, 10, 5] == 1 and image[0, 0, 10, 5] == -1


def test_turned_as_the_camera_noted():
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    image = open_image(content(halves(), "PNG", exif=exif), 32)
    assert image[0, 2, 16, 4] > 0.9 and image[0, 0, 16, 28] > 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_to_hold_a_camera(orientation):
    exif, picture = Image.Exif(), Image.effect_noise((40, 40), 90)
    exif[0x0112] = orientation
    turned = Image.open(BytesIO(content(picture, exif=exif)))
    assert torch.equal(open_image(content(picture, exif=exif), 40),
                       to_tensor(ImageOps.exif_transpose(turned)))


def test_a_broken_exif_does_not_keep_a_picture_from_being_turned():
    """Entries that can be read and not be written again, such as a rational below zero."""
    for kind, value in ((10, struct.pack("<ll", -5, 1)), (11, struct.pack("<f", -1.5)),
                        (9, struct.pack("<l", -72)), (7, b"abcd")):
        held = struct.pack("<HHLL", 0x0112, 3, 1, 6)  # a quarter turn
        count = 4 if kind == 7 else 1
        where = value if len(value) == 4 else struct.pack("<L", 8 + 2 + 2 * 12 + 4)
        resolution = struct.pack("<HHL", 0x011A, kind, count) + where
        exif = (b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + held + resolution
                + struct.pack("<L", 0) + value)
        image = open_image(content(halves(size=(80, 40)), "JPEG", exif=exif), 32, lambda text: None)
        assert image[0, 0, 4, 16] > 0.8 and image[0, 2, 28, 16] > 0.8, kind
    image = open_image(content(halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff"), 32)
    assert image[0, 0, 16, 4] > 0.8


def exchanged():
    """The sRGB profile with the colours of red and green exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_converted(mode):
    picture = Image.new("RGB", (20, 20), "red").convert(mode)
    said = []
    image = open_image(content(picture, icc_profile=exchanged()), 20, said.append)
    assert image[0, 1].min() > 0.95 and image[0, 0].max() < -0.9 and said == []
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = open_image(content(picture, icc_profile=srgb), 20, said.append)
    assert image[0, 0].min() > 0.98 and image[0, 1].max() < -0.98 and said == []


@pytest.mark.parametrize("profile", [b"no profile", exchanged()[:300]])
def test_a_broken_colour_profile_is_ignored_and_said(profile):
    said = []
    image = open_image(content(halves(), icc_profile=profile), 20, said.append)
    assert image[0, 0, 10, 4] == 1 and image[0, 2, 10, 15] == 1
    assert said == ["The picture's colour profile cannot be read and is ignored."]
    said.clear()  # a profile of colours in a grey picture
    image = open_image(content(halves("L"), icc_profile=exchanged()), 20, said.append)
    assert len(said) == 1 and image.shape == (1, 3, 20, 20)


def test_cropping_is_said():
    said = []
    image = open_image(content(halves(size=(80, 40))), 20, said.append)
    assert image.shape == (1, 3, 20, 20)
    assert said == ["Cropped to the 40 x 40 square in the middle of 80 x 40 pixels."]


def test_a_huge_photograph_is_read_small():
    image = open_image(content(halves(size=(6000, 6000)), "JPEG"), 64)
    assert image.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("bad", [
    b"", b"<html>quota exceeded</html>", content(Image.effect_noise((90, 90), 9))[:-700]])
def test_what_is_no_picture_gets_one_sentence(bad):
    with pytest.raises(ValueError, match="not a picture that|cannot be read") as error:
        open_image(bad, 32)
    assert "\n" not in str(error.value)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    bomb = content(Image.new("1", (10_000, 5_100)))
    assert len(bomb) < 20_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load",
                        lambda picture: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="smaller than 50 megapixels") as error:
        open_image(bomb, 32)
    assert "\n" not in str(error.value)


def test_formats_that_start_programs_are_not_opened(monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript",
                        lambda *arguments, **options: pytest.fail("it was started"))
    with pytest.raises(ValueError, match="is not a picture that is read here"):
        open_image(content(halves(), "EPS"), 32)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_common_formats_are_opened(kind):
    image = open_image(content(halves(), kind), 40)
    assert image[0, 0, 20, 5] > 0.8 and image[0, 2, 20, 35] > 0.8


def test_a_heic_picture_is_refused_with_the_remedy(tmp_path):
    heic = struct.pack(">L", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)
    (tmp_path / "a.heic").write_bytes(heic)
    for source in (heic, tmp_path / "a.heic"):
        with pytest.raises(ValueError, match="is a HEIC picture.*export it as JPEG") as caught:
            open_image(source, 32)
        assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_on_a_lost_drive(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "nothing.png", 32)

    def lost(*arguments, **options):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr("PIL.Image.open", lost)
    with pytest.raises(OSError, match="a.png cannot be read .*its drive is not connected"):
        open_image(tmp_path / "a.png", 32)


@pytest.mark.parametrize("error", [struct.error, IndexError, OverflowError, MemoryError])
def test_whatever_a_decoder_raises_becomes_one_sentence(monkeypatch, error):
    def fails(picture):
        raise error("odd")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    with pytest.raises(ValueError, match=r"The file cannot be read as a picture \(odd\)"):
        open_image(content(halves()), 32)


def test_nothing_is_written_over(tmp_path):
    paths = [write_new(tmp_path, "face", "png", bytes([i])) for i in range(3)]
    assert [path.name for path in paths] == ["face.png", "face-2.png", "face-3.png"]
    assert [path.read_bytes() for path in paths] == [b"\0", b"\1", b"\2"]
    (tmp_path / ".hidden").touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in files_in(tmp_path)] == ["face-2.png", "face-3.png", "face.png"]


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
