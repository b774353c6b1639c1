"""Photographs: a face is cut out, edited and put back; all else stays, bit for bit."""

from dataclasses import asdict, replace
from shutil import copy

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from helpers.blending import (
    border_mask,
    change_mask,
    covered_head,
    face_region,
    head_beyond,
    head_mask,
    in_front,
    masks_of_edit,
    matched,
    solid_head,
    with_background,
    with_grain,
)
from helpers.domains import align
from helpers.domains.align import cut_square
from helpers.images import to_tensor
from helpers.photographs import Photograph, extents, open_photograph
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


def with_hat(head, hat=0):
    """As a `HeadReader` reads them: [1, 2, r, r] of head [1, 1, r, r] and a hat."""
    return torch.cat([head, hat + 0 * head], dim=1)


def solid(head):
    """`solid_head` with the usual settings."""
    return solid_head(FFHQ_BLENDING, head)


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
    border = border_mask(FFHQ_BLENDING, whole.open_sides())[0, 0]
    assert border[128, 0] == 1 and border[-1, 128] == 1
    assert border[128, -1] == 0 and border[0, 128] == 0


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
    assert change_mask(face, FFHQ_BLENDING, solid(hair)).max() == 0
    assert change_mask(away, FFHQ_BLENDING, solid(hair)).max() > 0.9
    assert change_mask(torch.ones(1, 3, SIDE, SIDE), FFHQ_BLENDING)[0, 0, 128, 128] > 0.999


def test_a_head_is_solid_and_without_specks():
    ring = disc(0.3) - disc(0.03) + disc(0.015, at=(0.1, 0.1))
    mask = head_mask(FFHQ_BLENDING, solid(ring))
    assert mask.shape == (1, 1, 256, 256) and mask[0, 0, 140, 128] > 0.99
    assert mask[0, 0, :60, :40].max() < 0.01 and mask[0, 0, 140, 206] > 0.5  # a little larger
    small = avg_pool2d(disc(0.3), 4)  # as it is read, at 64 px
    read = head_mask(FFHQ_BLENDING, solid(small))
    assert (read - head_mask(FFHQ_BLENDING, solid(disc(0.3)))).abs().mean() < 0.02


def test_what_lies_beside_a_head_is_none():
    """An edit may draw something like hair that does not hang together with the head."""
    head, beside = disc(0.2), disc(0.08, at=(0.9, 0.55))
    mask = head_mask(FFHQ_BLENDING, solid(head + beside))
    assert mask[0, 0, 140, 230] == 0 and mask[0, 0, 140, 128] > 0.99
    assert torch.equal(mask, head_mask(FFHQ_BLENDING, solid(head)))
    assert head_mask(FFHQ_BLENDING, solid(beside)).max() == 0


def test_what_an_edit_uncovers_has_the_colour_of_what_lies_around_it():
    """An edit that makes all brighter, under a mask: at its edge nothing of that is left, in the
    middle it is. What differs by much outside is another thing, and moves nothing."""
    image = torch.zeros(1, 3, SIDE, SIDE)
    mask, border = disc(0.35), border_mask(FFHQ_BLENDING, [True] * 4)
    result = matched(image + 0.2, image, mask, border, FFHQ_BLENDING)
    assert result[0, 0, 140, 128] > 0.19 and result[0, 0, 140, 128 + 88].abs() < 0.12
    assert (matched(image + 0.8, image, mask, border, FFHQ_BLENDING) - 0.8).abs().max() < 1e-6
    assert torch.equal(matched(image, image, mask, border, FFHQ_BLENDING), image)


def test_what_is_kept_of_a_head_is_of_that_head():
    """One photograph put back with two heads in turn gives each time what a fresh one gives."""
    edited = (photograph().image + 0.4 * disc(0.3)).clamp(-1, 1)
    mine = photograph()
    for radius in (0.35, 0.2, 0.35):
        heads = with_hat(disc(radius)), with_hat(disc(0.15))
        fresh = photograph().put_back(edited, None, *heads)
        assert np.array_equal(np.asarray(mine.put_back(edited, None, *heads)), np.asarray(fresh))


def test_an_edit_is_drawn_on_the_head_and_a_little_around_it():
    """On the head after it; around both heads, but not where something is held before them."""
    head, less, card = disc(0.35), disc(0.2), disc(0.1, at=(0.5, 0.85))
    settings = FFHQ_BLENDING
    after, around = masks_of_edit(settings, solid(head), solid(less), card)
    assert after[0, 0, 140, 128] > 0.99 and after[0, 0, 140, 195] < 0.01
    assert around[0, 0, 140, 195] > 0.99 and around[0, 0, 140, 235] < 0.01
    assert around[0, 0, 218, 128] < 0.01
    _, more = masks_of_edit(settings, solid(less), solid(head), 0 * card)
    assert more[0, 0, 140, 195] > 0.99 and more[0, 0, 218, 128] > 0.99


def test_what_an_edit_uncovers_has_the_colour_of_the_wall():
    """Above the mouth. The head itself, and an edit that uncovers nothing, stay."""
    mine, head = tall_hair(radius=130)  # its wall is of grey 200
    less, edited = solid(disc(0.2)), torch.zeros(1, 3, SIDE, SIDE)
    _, _, behind = mine.head_before(with_hat(head), FFHQ_BLENDING)
    ended = (solid(head) - less).clamp(min=0)
    result = with_background(edited, behind, ended, FFHQ_BLENDING)
    assert (result[0, 0, 40:70, 118:138] - (200 / 127.5 - 1)).abs().max() < 0.1
    assert result[0, 0, 130:150, 118:138].abs().max() < 1e-6 and result[0, 0, 200:].abs().max() == 0
    assert torch.equal(with_background(edited, behind, 0 * ended, FFHQ_BLENDING), edited)


def test_a_hat_belongs_to_the_head_if_it_surely_is_one():
    head, hat = disc(0.2), disc(0.35) * (torch.arange(SIDE)[:, None] < 100)
    for read, there in ((1.0, True), (0.7, False)):
        covered = covered_head(FFHQ_BLENDING, with_hat(head, read * hat))
        assert (covered[0, 0, 70, 128] > 0.99) == there
        assert covered[0, 0, 140, 128] > 0.99 and covered[0, 0, 140, 210] == 0
    mine, edited = photograph(), (photograph().image + 0.9 * hat).clamp(-1, 1)
    result = mine.put_back(edited, None, with_hat(head), with_hat(head, hat))
    again = to_tensor(cut_square(result, mine.corners, SIDE, print))
    assert (again - mine.image)[..., 62:75, 120:136].abs().mean() > 0.4


def test_what_is_held_before_the_chin_stays():
    """A card before the chin, which the encoding lacks; another look of the eyes is no card."""
    drawn = torch.zeros(1, 3, SIDE, SIDE)
    card = disc(0.1, at=(0.5, 0.88))
    face = disc(0.06, at=(0.5, 0.47)) + disc(0.04, at=(0.5, 0.75))  # eyes, and a mouth
    found = in_front(drawn + 0.8 * card + 0.8 * face, drawn, FFHQ_BLENDING)
    assert found[0, 0, 230, 128] > 0.95 and found[0, 0, :195].max() < 0.01
    mine = photograph()
    edited = (mine.image + 0.5 * disc(0.4, at=(0.5, 0.7))).clamp(-1, 1)
    with_card, without = mine.put_back(edited, covers=found), mine.put_back(edited)
    assert not np.array_equal(np.asarray(with_card), np.asarray(without))
    again = to_tensor(cut_square(with_card, mine.corners, SIDE, print))
    assert (again - mine.image)[..., 225:240, 118:138].abs().max() < 0.03


def test_a_cap_that_the_generator_cannot_draw_stays():
    """Another colour of the hair as a whole is a cap; of single hairs it is none."""
    drawn, cap = torch.zeros(1, 3, SIDE, SIDE), disc(0.12, at=(0.5, 0.15))
    found = in_front(drawn + 1.2 * cap, drawn, FFHQ_BLENDING)
    assert found[0, 0, 38, 128] > 0.95 and found[0, 0, 120:].max() == 0
    hairs = 1.2 * cap * (torch.arange(SIDE) % 4 == 0)
    assert in_front(drawn + hairs, drawn, FFHQ_BLENDING).max() < 0.1


# Of a face as FFHQ's are cut out, in shares of the side: jaw, brows, nose, eyes, mouth.
JAW = [(0.5 - 0.22 * np.cos(a), 0.47 + 0.37 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
BROWS = [(x, 0.4) for x in np.linspace(0.32, 0.68, 10)]
OF_EXTENT = ("face_rise", "face_margin", "face_blur", "colours_from", "face_enough",
             "shape_enough")  # settings
LANDMARKS = np.array(JAW + BROWS + [(0.5, 0.55)] * 9 + [(0.4, 0.47)] * 6 + [(0.6, 0.47)] * 6
                     + [(0.5, 0.7)] * 20)  # [68, 2]


def test_the_face_is_where_its_landmarks_are():
    """Without hair and what is around it; turned and scaled as the square is."""
    face = face_region(FFHQ_BLENDING, LANDMARKS)[0, 0]
    assert face[115:185, 95:161].min() > 0.95 and face[200, 128] > 0.95  # down to the chin
    assert face[:60].max() < 0.02 and face[245:].max() < 0.02 and face[:, :40].max() < 0.02
    mine = photograph()
    assert mine.beside_face(FFHQ_BLENDING) is None
    across, down = mine.corners[3] - mine.corners[0], mine.corners[1] - mine.corners[0]
    places = mine.corners[0] + LANDMARKS @ np.stack([across, down])
    mine = replace(mine, landmarks=places)
    assert torch.allclose(mine.beside_face(FFHQ_BLENDING)[0, 0], 1 - face, atol=1e-4)
    small, shape, whole = extents(mine, disc(0.1), FFHQ_BLENDING)
    assert torch.equal(small.stays, torch.maximum(disc(0.1), 1 - face))
    assert torch.equal(shape.stays, whole.stays) and torch.equal(whole.stays, disc(0.1))
    assert small.styles_from == whole.styles_from == 0 < shape.styles_from
    assert len(extents(photograph(), disc(0.1), FFHQ_BLENDING)) == 2  # no landmarks, no face alone
    for name in OF_EXTENT:
        other = replace(FFHQ_BLENDING, **{name: 2 * getattr(FFHQ_BLENDING, name) - 1})
        pairs = zip(extents(mine, disc(0.1), other), (small, shape, whole))
        assert any(not torch.equal(found.stays, usual.stays) or found.enough != usual.enough
                   or found.styles_from != usual.styles_from for found, usual in pairs), name


def tall_hair(radius, tip=40):
    """A dark head before a light wall, its top (of another grey) above the square, with a dark coat
    below: a photograph, and where the head is in its square."""
    y, x = np.mgrid[0:700, 0:900]
    pixels = np.where((np.hypot(x - 420, y - 240) < radius) | (y > 440), 40, 200)
    pixels = np.where((pixels == 40) & (y < 140), tip, pixels)
    hair = np.random.default_rng(2).integers(-8, 9, pixels.shape) * (pixels != 200)
    pixels = (pixels + hair).astype(np.uint8)
    corners = np.array([[270.0, 150.0], [270.0, 450.0], [570.0, 450.0], [570.0, 150.0]])
    picture = Image.fromarray(np.stack([pixels] * 3, axis=-1))
    image = to_tensor(cut_square(picture, corners, SIDE, print))
    head = (image[:, :1] < 0).float() * (torch.arange(SIDE)[:, None] < 190)
    return Photograph(picture, image, corners), head


def test_hair_that_rises_above_the_square_is_edited_there_too():
    """It becomes light as a whole, and neither the wall nor the coat is touched. What goes on and
    on is no hair."""
    mine, head = tall_hair(radius=130)
    beyond = head_beyond(mine.around(2, 2 * SIDE), solid(head), FFHQ_BLENDING)[0, 0]
    assert beyond[122, 256] > 0.9 and beyond[100:120, :150].max() < 0.05  # above it; the wall
    assert beyond[384:].max() == 0 and beyond[128:384, 128:384].max() == 0
    heads = [with_hat(head)] * 2
    result = np.asarray(mine.put_back(mine.image + 0.8 * head, mine.image, *heads))[..., 0]
    above, below = result[136:144, 410:430].mean(), result[196:204, 410:430].mean()
    assert abs(above - below) < 15 and above > 120
    y, x = np.mgrid[0:700, 0:900]
    untouched = (y > 460) | (np.hypot(x - 420, y - 240) > 165)
    assert np.array_equal(result[untouched], np.asarray(mine.picture)[..., 0][untouched])
    # An edit after which the hair ends in the square: above it there is the wall.
    wall = mine.image.amax()
    shorter = mine.image * (1 - head) + wall * head
    result = np.asarray(mine.put_back(shorter, mine.image, with_hat(head), with_hat(disc(0.15))))
    assert np.abs(result[115:145, 400:440, 0].astype(int) - 200).max() < 25
    tower, head = tall_hair(radius=200)
    assert head_beyond(tower.around(2, 2 * SIDE), solid(head), FFHQ_BLENDING)[..., 256].max() == 0


def test_grain_is_as_strong_as_the_photographs():
    """What is put back has the grain of the photograph's smooth parts; a smooth one has none."""
    random = torch.Generator().manual_seed(2)
    smooth = torch.zeros(1, 3, SIDE, SIDE)
    grainy = smooth + 0.03 * torch.randn(1, 1, SIDE, SIDE, generator=random)
    place = disc(0.3)
    inside = place.bool().expand(1, 3, -1, -1)
    result = with_grain(grainy.lerp(smooth, place), grainy, place, FFHQ_BLENDING)
    assert 0.7 < result[inside].std() / grainy[~inside].std() < 1.1
    assert torch.equal(result[~inside], grainy[~inside])
    assert torch.equal(with_grain(smooth, smooth, place, FFHQ_BLENDING), smooth)


def test_other_sizes_are_refused():
    mine = photograph()
    with pytest.raises(ValueError, match=r"must be \[1, 3, 256, 256\]"):
        mine.put_back(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="NaN or infinite"):
        mine.put_back(mine.image * float("nan"))
    with pytest.raises(ValueError, match="head and edited_head go together"):
        mine.put_back(mine.image, head=disc(0.3))


def blended(settings):
    """A small photograph with an edit put back that changes all of it, here little and there much,
    with a head that becomes smaller, without one that was read, and with such that have a hole and
    a strand and reach the edge, lie off the middle, or have a piece nearby: one after the other.
    Then two with hair that rises above the square."""
    mine, noise = photograph(width=100), torch.Generator().manual_seed(1)
    pixels = np.asarray(mine.picture)
    grain = np.random.default_rng(1).integers(-9, 10, (*pixels.shape[:2], 1))
    mine.picture = Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
    change = interpolate(torch.randn(1, 3, 9, 9, generator=noise), SIDE, mode="bicubic")
    more = torch.linspace(0, 1, SIDE) ** 2  # to the right
    edited = (mine.image + 0.3 * more * change).clamp(-1, 1)
    parts = [disc(0.5, (0.6, 0.6)) - disc(0.055, (0.5, 0.6))]
    parts += [disc(0.042, (x, x)) for x in (0.1, 0.14, 0.18, 0.22)]
    head = torch.stack(parts).amax(dim=0)
    off, less = disc(0.06, (0.776, 0.54)), disc(0.4, (0.6, 0.6))
    near = disc(0.18) + disc(0.06, (0.771, 0.55))  # eight pixels away
    for read in ((head, less), (None, None), (head, head), (off, off), (near, near)):
        read = [part if part is None else with_hat(avg_pool2d(part, 4)) for part in read]
        drawn = 0.4 * mine.image - 0.8 * disc(0.2, (0.5, 0.4))
        covers = in_front(mine.image, drawn, settings)
        result = mine.put_back(edited, None, *read, covers, settings)
        yield np.asarray(result)[270:390, 360:480]
    for tall, head in (tall_hair(radius=130, tip=90), tall_hair(radius=165)):
        heads = [with_hat(head)] * 2
        yield np.asarray(tall.put_back(tall.image + 0.8 * head, tall.image, *heads,
                                       settings=settings))


DRAWING = "blend_from", "styled_from", "drawn_margin", "drawn_blur"  # in test_faces.py


def test_every_setting_counts():
    usual = list(blended(FFHQ_BLENDING))
    for name, value in asdict(FFHQ_BLENDING).items():
        if name not in ("origin", *DRAWING, *OF_EXTENT):
            other = value + 6 if isinstance(value, int) else 1.4 * value
            changed = blended(replace(FFHQ_BLENDING, **{name: other}))
            assert any(not np.array_equal(*pair) for pair in zip(changed, usual)), name


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
