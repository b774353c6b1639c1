"""Photographs: a face is cut out, edited and put back; all else stays, bit for bit."""

from dataclasses import asdict, replace
from shutil import copy

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from helpers.domains import align
from helpers.domains.align import cut_square
from helpers.images import to_tensor
from helpers.photographs import (
    Photograph,
    change_mask,
    head_mask,
    matched,
    open_photograph,
    with_own_background,
)
from helpers.settings import FFHQ_BLENDING

SIDE = 256


def photograph(turn=0.3, width=300):
    """A smooth photograph of 900 x 700 pixels, with a square that is turned (in radians)."""
    y, x = np.mgrid[0:700, 0:900] / 900
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], axis=-1)
    picture = Image.fromarray((pixels * 255).astype(np.uint8))
    across = width / 2 * np.array([np.cos(turn), np.sin(turn)])
    down = np.array([-across[1], across[0]])
    middle = np.array([420.0, 330.0])
    corners = np.stack([middle - across - down, middle - across + down,
                        middle + across + down, middle + across - down])
    image = to_tensor(cut_square(picture, corners, SIDE, print))
    return Photograph(picture, image, corners)


def disc(radius, at=(0.5, 0.55)):
    """1 in a disc of an image [1, 1, SIDE, SIDE], 0 elsewhere."""
    place = (torch.arange(SIDE) + 0.5) / SIDE
    x, y = place[None, :] - at[0], place[:, None] - at[1]
    return ((x.square() + y.square()).sqrt() < radius).float()[None, None]


@pytest.mark.parametrize("width", (120, 300, 560))  # smaller and larger than the image
def test_without_an_edit_it_is_the_photograph_bit_for_bit(width):
    mine = photograph(width=width)
    drawn = (mine.image + 0.1 * torch.randn(mine.image.shape)).clamp(-1, 1)
    for result in (mine.put_back(mine.image), mine.put_back(drawn, drawn)):
        assert np.array_equal(np.asarray(result), np.asarray(mine.picture))


@pytest.mark.parametrize("width", (120, 300, 560))
@pytest.mark.parametrize("turn", (0.0, 0.3, -2.0))
def test_an_edit_comes_back_where_it_was_cut_out(turn, width):
    """Cut out again, the photograph shows the edit; outside its square nothing is touched."""
    mine = photograph(turn, width)
    edited = (mine.image + 0.4 * disc(0.2)).clamp(-1, 1)
    result = mine.put_back(edited)
    again = to_tensor(cut_square(result, mine.corners, SIDE, print))
    middle = disc(0.15).bool().expand(1, 3, -1, -1)
    assert (again - edited).abs()[middle].max() < 0.05
    assert (again - mine.image).abs()[(disc(0.3) == 0).expand(1, 3, -1, -1)].max() < 0.02
    changed = (np.asarray(result) != np.asarray(mine.picture)).any(axis=-1)
    y, x = changed.nonzero()
    away = np.hypot(x - mine.corners[:, 0].mean(), y - mine.corners[:, 1].mean())
    assert away.max() < 0.4 * width


def test_where_the_photograph_ends_the_edit_goes_to_its_edge():
    """A face that fills the picture: nothing of the former hair is left along its edges."""
    mine = photograph(turn=0, width=300)
    assert mine.open_sides() == [True] * 4
    left, upper = mine.corners.min(axis=0).astype(int)
    whole = Photograph(mine.picture.crop((int(left), 0, 900, int(upper) + 300)), mine.image,
                       mine.corners - [left, 0])
    assert whole.open_sides() == [False, False, True, True]
    everywhere = change_mask(torch.ones(1, 3, SIDE, SIDE), FFHQ_BLENDING, disc(2.0),
                             whole.open_sides())[0, 0]
    assert everywhere[128, 0] > 0.9 and everywhere[-1, 128] > 0.9
    assert everywhere[128, -1] == 0 and everywhere[0, 128] == 0


def test_what_lies_outside_the_picture_is_left_out():
    mine = photograph()
    mine.corners = mine.corners - [330.0, 250.0]  # its middle at 90, 80
    edited = (mine.image + 0.5 * disc(0.3)).clamp(-1, 1)
    result = mine.put_back(edited)
    assert result.size == mine.picture.size
    assert np.asarray(result)[80, 90].astype(int).sum() > np.asarray(mine.picture)[80, 90].sum()


def test_what_an_edit_shifts_behind_the_head_is_not_put_back():
    face = 0.12 * disc(0.05, at=(0.6, 0.75)).expand(1, 3, -1, -1)
    away = disc(0.04, at=(0.1, 0.1)).expand(1, 3, -1, -1)
    # Where a head was read: from the middle to the corner.
    hair = torch.stack([disc(0.08, at=(0.1 + x, 0.1 + x)) for x in (0, 0.1, 0.2, 0.3)]).amax(dim=0)
    assert change_mask(face, FFHQ_BLENDING).max() > 0.9
    assert change_mask(away, FFHQ_BLENDING).max() < 1e-3
    assert change_mask(face, FFHQ_BLENDING, hair).max() == 0
    assert change_mask(away, FFHQ_BLENDING, hair).max() > 0.9
    everywhere = change_mask(torch.ones(1, 3, SIDE, SIDE), FFHQ_BLENDING)
    edge = torch.cat([everywhere[..., 0, :], everywhere[..., -1, :], everywhere[..., 0]], dim=-1)
    assert edge.max() == 0 and everywhere[0, 0, 128, 128] > 0.999


def test_a_head_is_solid_and_without_specks():
    ring = disc(0.3) - disc(0.03) + disc(0.015, at=(0.1, 0.1))
    mask = head_mask(FFHQ_BLENDING, ring)
    assert mask.shape == (1, 1, 256, 256) and mask[0, 0, 140, 128] > 0.99
    assert mask[0, 0, :60, :40].max() < 0.01 and mask[0, 0, 140, 206] > 0.5  # a little larger
    small = avg_pool2d(disc(0.3), 4)  # as it is read, at 64 px
    read = head_mask(FFHQ_BLENDING, small)
    assert (read - head_mask(FFHQ_BLENDING, disc(0.3))).abs().mean() < 0.02


def test_what_lies_beside_a_head_is_none():
    """An edit may draw something like hair that does not hang together with the head."""
    head, beside = disc(0.2), disc(0.08, at=(0.9, 0.55))
    mask = head_mask(FFHQ_BLENDING, head + beside)
    assert mask[0, 0, 140, 230] == 0 and mask[0, 0, 140, 128] > 0.99
    assert torch.equal(mask, head_mask(FFHQ_BLENDING, head))
    assert head_mask(FFHQ_BLENDING, beside).max() == 0


def test_what_an_edit_uncovers_is_the_photographs():
    """A head becomes smaller before a background that the generator draws in other colours: around
    it the photograph's own goes on. Where both draw the same, the edited image stays."""
    mine, head, less = photograph(), disc(0.35), disc(0.2)
    image = 0.6 * torch.ones(1, 3, SIDE, SIDE) * (1 - head)
    mine.image = image
    edited = -0.6 * torch.ones(1, 3, SIDE, SIDE) * (1 - less)
    result, own = with_own_background(edited, image, head, less, FFHQ_BLENDING)
    assert (result[0, :, 140, 195:] - 0.6).abs().max() < 0.1  # from inside the former head on
    assert own[0, 0, 140, 195:].min() > 0.99 and own[0, 0, 140, 128] < 0.01
    assert (result - edited)[..., 120:160, 110:150].abs().max() < 1e-6
    alike = image * (1 - less) + edited * less
    result, own = with_own_background(alike, image, head, less, FFHQ_BLENDING)
    assert torch.equal(result, alike) and not own.any()


def test_what_an_edit_uncovers_has_the_colour_of_what_lies_around_it():
    """An edit that makes all brighter, under a mask: at its edge nothing of that is left, in the
    middle it is. What differs by much outside is another thing, and moves nothing."""
    image = torch.zeros(1, 3, SIDE, SIDE)
    mask = disc(0.35)
    result = matched(image + 0.2, image, mask, FFHQ_BLENDING)
    assert result[0, 0, 140, 128] > 0.19 and result[0, 0, 140, 128 + 88].abs() < 0.12
    assert (matched(image + 0.8, image, mask, FFHQ_BLENDING) - 0.8).abs().max() < 1e-6
    assert torch.equal(matched(image, image, mask, FFHQ_BLENDING), image)


def test_other_sizes_are_refused():
    mine = photograph()
    with pytest.raises(ValueError, match=r"must be \[1, 3, 256, 256\]"):
        mine.put_back(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="head and edited_head go together"):
        mine.put_back(mine.image, head=disc(0.3))


def blended(settings):
    """A small photograph with an edit put back that changes all of it, here little and there much,
    without a head that was read, and with such that have a hole and a strand and reach the edge,
    lie off the middle, become smaller, or have a piece nearby."""
    mine, noise = photograph(width=100), torch.Generator().manual_seed(1)
    change = interpolate(torch.randn(1, 3, 9, 9, generator=noise), SIDE, mode="bicubic")
    more = torch.linspace(0, 1, SIDE) ** 2  # to the right
    edited = (mine.image + 0.3 * more * change).clamp(-1, 1)
    parts = [disc(0.5, (0.6, 0.6)) - disc(0.055, (0.5, 0.6))]
    parts += [disc(0.042, (x, x)) for x in (0.1, 0.14, 0.18, 0.22)]
    head = torch.stack(parts).amax(dim=0)
    off, less = disc(0.06, (0.776, 0.54)), disc(0.4, (0.6, 0.6))
    near = disc(0.18) + disc(0.06, (0.771, 0.55))  # eight pixels away
    cases = ((None, None), (head, head), (off, off), (head, less), (near, near))
    results = []
    for read in cases:
        read = [part if part is None else avg_pool2d(part, 4) for part in read]
        result = mine.put_back(edited, None, *read, settings)
        results.append(np.asarray(result)[270:390, 360:480])
    return results


def test_every_setting_counts():
    usual = blended(FFHQ_BLENDING)
    for name, value in asdict(FFHQ_BLENDING).items():
        if name != "origin":
            other = value + 6 if isinstance(value, int) else 1.4 * value
            assert not np.array_equal(blended(replace(FFHQ_BLENDING, **{name: other})), usual), name


def test_a_photograph_of_a_person(tmp_path, monkeypatch):
    """Found, turned upside down too, and put back into the whole picture."""
    package = pytest.importorskip("face_recognition_models")
    monkeypatch.setenv("STYLECLIP_CACHE", str(tmp_path))
    copy(package.pose_predictor_model_location(), align.LANDMARKS[0].path)
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg").name
    mine = open_photograph(path, SIDE)
    assert mine.image.shape == (1, 3, SIDE, SIDE) and mine.picture.size == (512, 600)
    said = []
    turned = tmp_path / "turned.png"
    mine.picture.rotate(180).save(turned)
    other = open_photograph(turned, SIDE, said.append)
    assert "upside down" in said[0]
    assert avg_pool2d(other.image - mine.image, 8).abs().mean() < 0.05
    result = other.put_back((other.image + disc(0.2)).clamp(-1, 1), other.image)
    assert result.size == (512, 600)
    changed = (np.asarray(result) != np.asarray(other.picture)).any(axis=-1)
    y, x = changed.nonzero()
    assert y.mean() > 300  # the face is below the middle of a picture that is upside down
