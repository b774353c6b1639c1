"""How an edited face goes back into its photograph: where it is drawn, masks, colours, grain.

It runs on the CPU; `MobileGenerator.blended` draws where the generator is.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torchvision.transforms.functional import gaussian_blur

MASK_SIDE = 256  # pixels; the sizes in `BlendingSettings` are of a mask of this side


def _rise(x, low, high):
    """0 below `low`, 1 above `high`, smooth between them."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _grown(mask, size):
    """The largest value within a square of `size` pixels around each, [1, 1, H, W]."""
    rows = F.max_pool2d(mask, (size, 1), stride=1, padding=(size // 2, 0))
    return F.max_pool2d(rows, (1, size), stride=1, padding=(0, size // 2))


def _shrunk(mask, size):
    """The least value within a square of `size` pixels around each, [1, 1, H, W]."""
    return -_grown(-mask, size)


def _blurred(x, sigma, reach=2):
    """A Gaussian blur of x [1, C, H, W], cut off at `reach` sigmas."""
    size = min(2 * round(reach * sigma) + 1, 2 * min(x.shape[-2:]) - 1)  # it reflects at the edge
    return gaussian_blur(x, size, sigma=sigma)


def _from_middle(settings):
    """How far each pixel of a mask is from a head's middle, [1, 1, 256, 256]: 1 on the ellipse
    where FFHQ's heads are."""
    place = (torch.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    x = (place - 0.5) / settings.half_width
    y = (place - settings.middle) / settings.half_height
    return (x.square()[None, :] + y.square()[:, None]).sqrt()[None, None]


def _one_piece(head, settings):
    """head [1, 1, 256, 256] without what does not hang together with the middle of that ellipse:
    an edit may draw something like hair beside the head."""
    inside = (_grown(head, settings.gap) > 0.5).float()
    reached = inside * (_from_middle(settings) < settings.core)
    while True:
        further = inside * _grown(reached, 3)
        if torch.equal(further, reached):
            return head * reached
        reached = further


def solid_head(settings, head):
    """The head without holes, specks and what lies beside it: [1, 1, 256, 256] from 0 to 1.

    Args: settings: `BlendingSettings`; head [1, 1, r, r], how likely it is the head
        (`face_networks.HeadReader`).
    """
    head = F.interpolate(head.detach().cpu(), MASK_SIDE, mode="bilinear")
    head = _one_piece(head, settings)
    solid = _shrunk(_grown(head, settings.holes), settings.holes)
    solid = _grown(_shrunk(solid, settings.specks), settings.specks)
    return _rise(solid, 0.5 - settings.head_edge, 0.5 + settings.head_edge)


def covered_head(settings, heads):
    """As `solid_head`, of a head and the hat on it, if it surely is one.

    Args: heads [1, 2, r, r], how likely it is the head, or a hat (`face_networks.HeadReader`).
    """
    head, hat = heads.detach().cpu().split(1, dim=1)
    return solid_head(settings, torch.maximum(head, _rise(hat, settings.hat, 1)))


def head_mask(settings, solid=None):
    """The head, a little larger and with a soft edge: [1, 1, 256, 256] from 0 to 1.

    Args: settings: `BlendingSettings`; solid: of `solid_head`; without it, an ellipse where FFHQ's
        heads are.
    """
    if solid is None:
        edge = settings.ellipse_edge
        return 1 - _rise(_from_middle(settings), 1 - edge, 1 + edge)
    return _blurred(_grown(solid, settings.margin), settings.edge_blur)


def face_region(settings, landmarks):
    """The face without hair and ears: [1, 1, 256, 256] from 0 to 1.

    Args: settings: `BlendingSettings`; landmarks [68, 2], of `align.face_landmarks`, in shares of
        the square's side.
    """
    brows = landmarks[17:27]
    forehead = brows + settings.face_rise * (brows.mean(axis=0) - landmarks[8])
    outline = MASK_SIDE * np.concatenate([landmarks[:17], forehead[::-1]])  # [27, 2]
    drawing = Image.new("L", (MASK_SIDE, MASK_SIDE))
    ImageDraw.Draw(drawing).polygon([tuple(point) for point in outline], fill=1)
    face = torch.from_numpy(np.array(drawing)).float()[None, None]
    return _blurred(_grown(face, settings.face_margin), settings.face_blur)


def masks_of_edit(settings, solid, after, covers):
    """Where an edit is drawn (`MobileGenerator.blended`), each [1, 1, 256, 256] from 0 to 1: the
    head after it, and both heads with a little around them.

    Args: settings: `BlendingSettings`; solid, after: the head before it, of `solid_head`, and after
        it, of `covered_head`; covers [1, 1, R, R] from 0 to 1, of `in_front`, are left out.
    """
    around = head_mask(settings, torch.maximum(solid, after))
    around = around * (1 - F.adaptive_avg_pool2d(covers, MASK_SIDE))
    return _blurred(_grown(after, settings.drawn_margin), settings.drawn_blur), around


def _amount(change):
    """How much each pixel of a mask changed, of 2 from black to white: [1, 1, 256, 256]."""
    return F.adaptive_avg_pool2d(change, MASK_SIDE).abs().amax(dim=1, keepdim=True)


def border_mask(settings, sides):
    """1 inside the square, 0 at those sides where the photograph goes on: [1, 1, 256, 256].

    Args: sides: of the left, lower, right and upper one, does the photograph go on beyond it?
    """
    place = (torch.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    x, y = place.expand(MASK_SIDE, -1), place[:, None].expand(-1, MASK_SIDE)
    inner = torch.ones(MASK_SIDE, MASK_SIDE)
    for distance, goes_on in zip((x, 1 - y, 1 - x, y), sides):
        if goes_on:
            inner = inner.minimum(_rise(distance, settings.border_from, settings.border_to))
    return inner[None, None]


def change_mask(change, settings, solid=None):
    """Where an edit is put back: [1, 1, R, R], from 0 to 1 with a soft edge.

    It follows what the edit changed of the head: not what it shifted behind it.

    Args: change [1, 3, R, R], the edited image less the one before; settings:
        `BlendingSettings`; solid: as of `head_mask`.
    """
    amount = _blurred(_amount(change), settings.change_blur)  # [1, 1, 256, 256]
    changed = _rise(amount, settings.least, 2 * settings.least)
    changed = _grown(changed, settings.margin)  # so its soft edge lies outside
    head = head_mask(settings)
    if solid is not None:
        head = _blurred(_grown(solid, settings.put_margin), settings.edge_blur)
    mask = head * _blurred(changed, settings.mask_blur)
    return F.interpolate(mask, change.shape[-1], mode="bilinear")


def matched(edited, image, mask, border, settings):
    """The edited image with the colours just outside the mask as they are in the photograph.

    Near the mask's edge it is moved by the difference of both images just outside; deep inside it
    stays. So what an edit uncovers beside the head has no edge to what lies around it.

    Args: edited, image [1, 3, R, R]; mask [1, 1, R, R]; border: of `border_mask`; settings:
        `BlendingSettings`.
    """
    small = F.adaptive_avg_pool2d(torch.cat([image - edited, mask], dim=1), MASK_SIDE)
    apart, inside = small.split([3, 1], dim=1)
    most = apart.abs().amax(dim=1, keepdim=True)  # [1, 1, 256, 256]
    known = (1 - inside) * (1 - _rise(most, settings.like / 2, settings.like))
    known = known * border
    near = _blurred(known * apart, settings.near, reach=3)
    offset = near / (_blurred(known, settings.near, reach=3) + settings.stay)
    return edited + F.interpolate(offset, edited.shape[-1], mode="bilinear")


def _spread(x, known):
    """x [1, C, S, S] where it is known, [1, 1, S, S] from 0 to 1; elsewhere a mean of what is known
    nearby, from coarser and coarser averages. S is a power of two."""
    if x.shape[-1] == 1:
        return x * known
    share = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(x * known, 2) / share.clamp(min=1e-3)
    coarse = _spread(mean, (4 * share).clamp(max=1))
    return known * x + (1 - known) * F.interpolate(coarse, x.shape[-1], mode="bilinear")


def _above(height, settings):
    """1 above a height of the square, 0 below it, with a soft edge: [1, 1, 256, 256]."""
    place = (torch.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    above = 1 - _rise(place, height - settings.front_edge, height)
    return above[:, None].expand(1, 1, -1, MASK_SIDE)


def with_background(edited, behind, ended, settings):
    """The edited image with what is behind the head where the head ends earlier after the edit.

    Below the mouth it stays, since there the generator draws neck and clothes.

    Args: edited [1, 3, R, R]; behind: of `behind_head`; ended [1, 1, 256, 256] from 0 to 1, where
        the head was before the edit and is not after it; settings: `BlendingSettings`.
    """
    edge = MASK_SIDE // 2
    place = _blurred(ended, settings.edge_blur) * _above(settings.mouth, settings)
    layers = torch.cat([behind[..., edge:-edge, edge:-edge], place], dim=1)  # [1, 4, 256, 256]
    layers = F.interpolate(layers, edited.shape[-1], mode="bilinear")
    behind, place = layers.split([3, 1], dim=1)
    return edited.lerp(behind, place)


def in_front(image, drawn, settings):
    """What no edit may change: what is held in front of the chin, as a hand, and a cap that is like
    none the generator can draw: [1, 1, R, R] from 0 to 1.

    It is where the photograph differs much from the face as it was encoded: low in the square, or
    above the forehead over a larger area, since single hairs differ as much.

    Args: image, drawn [1, 3, R, R], of the photograph and as it was encoded; settings:
        `BlendingSettings`.
    """
    amount = _amount(image - drawn)  # [1, 1, 256, 256]
    held = _rise(amount, settings.foreign / 2, settings.foreign)
    held = _grown(_shrunk(held, settings.inner), settings.inner)
    held = held * (1 - _above(settings.front, settings))
    cap = _rise(_blurred(amount, settings.cap_blur), settings.cap / 2, settings.cap)
    cap = _grown(_shrunk(cap, settings.specks), settings.specks)
    cap = cap * _above(settings.forehead, settings) * head_mask(settings)
    found = _blurred(torch.maximum(held, cap), settings.edge_blur)
    return F.interpolate(found, image.shape[-1], mode="bilinear")


def much_changed(change, settings):
    """Where the edited image itself takes the photograph's place, [1, 1, R, R] from 0 to 1: a
    little more than where it changed much, so that no outline of what was there is left."""
    much = _rise(_blurred(_amount(change), settings.much_blur), settings.much / 2, settings.much)
    much = _blurred(_grown(much, settings.margin), settings.edge_blur)
    return F.interpolate(much, change.shape[-1], mode="bilinear")


def _fine(x, settings):
    """What a blur takes away from the luminance of x [1, 3, H, W]: its grain and finest detail,
    [1, 1, H, W]."""
    grey = x.mean(dim=1, keepdim=True)
    return grey - _blurred(grey, settings.grain_blur)


def _strength(fine, settings):
    """Root mean square of fine detail [1, 1, H, W] nearby, [1, 1, H, W]."""
    return _blurred(fine.square(), settings.grain_near).clamp(min=0).sqrt()


def with_grain(after, before, place, settings):
    """The edited picture with the photograph's grain where it has less.

    The photograph's grain is the fine detail of its smoothest parts. A generator draws little of
    it, and a background that is spread over what was uncovered has none.

    Args: after, before [1, 3, H, W], the photograph with the edit and without it; place
        [1, 1, H, W] from 0 to 1, how much of a pixel is new; settings: `BlendingSettings`.
    """
    some = _strength(_fine(before, settings), settings)[..., ::4, ::4]
    grain = some.flatten().quantile(settings.grain_share)
    there = _strength(_fine(after, settings), settings)  # [1, 1, H, W]
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(after[:, :1].shape, generator=random)  # [1, 1, H, W]
    noise = noise / _fine(noise, settings).square().mean().sqrt().clamp(min=1e-6)
    return after + place * (grain**2 - there.square()).clamp(min=0).sqrt() * noise


def head_beyond(outer, solid, settings):
    """Where a head goes on above the square, as hair that rises higher: [1, 1, 512, 512] from 0 to
    1, and 0 in the square itself.

    There the photograph is like the head rather than like what lies beside it, from the square
    upwards, and not as smooth as what is out of focus behind it. Columns that still look like the
    head at the top of the search (`reach`) are left out, and so is what is narrow.

    Args: outer [1, 3, 2 R, 2 R], a square of the photograph twice as large around the same middle;
        solid: of `solid_head`; settings: `BlendingSettings`.
    """
    edge, rows = MASK_SIDE // 2, round(settings.reach * MASK_SIDE)
    outer = F.adaptive_avg_pool2d(outer, 2 * MASK_SIDE)
    square = F.pad(torch.ones(1, 1, MASK_SIDE, MASK_SIDE), [edge] * 4)
    solid = F.pad(solid, [edge] * 4)
    to_head, to_other = ((outer - _spread(outer, known)).abs().amax(dim=1, keepdim=True)
                         for known in (solid, square - solid))  # each [1, 1, 512, 512]
    alike = _rise(to_other / (to_head + to_other + 1e-3), settings.alike, (1 + settings.alike) / 2)
    alike = alike * _textured(outer, solid[:, :, edge:2 * edge], settings)
    upwards = torch.cat([solid[:, :, edge:edge + 1], alike[:, :, :edge].flip(2)], dim=2)
    goes_on = upwards[:, :, :rows].cumprod(dim=2)  # [1, 1, rows, 512]
    goes_on = goes_on * (1 - _grown(goes_on[:, :, -1:], settings.margin))
    beyond = F.pad(goes_on.flip(2), [0, 0, edge - rows + 1, 2 * MASK_SIDE - edge - 1])
    whole = torch.maximum(solid, beyond)
    beyond = _grown(_shrunk(whole, settings.specks), settings.specks) * (1 - square)
    beyond = _blurred(_grown(beyond, settings.inner), settings.edge_blur)
    return beyond * (1 - square)


def _textured(outer, upper, settings):
    """Where a photograph has about as much fine detail as the hair, [1, 1, 512, 512] from 0 to 1.

    Args: outer [1, 3, 512, 512]; upper [1, 1, 128, 512]: of `solid_head`, the upper half of the
        square.
    """
    edge = MASK_SIDE // 2
    detail = _strength(_fine(outer, settings), settings)  # [1, 1, 512, 512]
    hair = (detail[:, :, edge:2 * edge] * upper).sum() / upper.sum().clamp(min=1)
    share = (detail + 1e-3) / (hair + 1e-3)  # 1 where neither has any
    return _rise(share, settings.texture / 2, settings.texture)


def _all_of(beyond, settings):
    """What `head_beyond` found, with its soft edge and a little more: [1, 1, 512, 512], 0 or 1."""
    return _grown((beyond > 0).float(), settings.margin)


def behind_head(outer, solid, beyond, settings):
    """What may be behind a head: a mean of what lies around it in the photograph,
    [1, 3, 512, 512].

    Args: outer, solid: as of `head_beyond`, which found beyond; settings: `BlendingSettings`.
    """
    head = F.pad(head_mask(settings, solid), [MASK_SIDE // 2] * 4)
    known = (1 - head) * (1 - _all_of(beyond, settings))
    return _spread(F.adaptive_avg_pool2d(outer, 2 * MASK_SIDE), known.clamp(min=0))


def where_put_back(border, beyond, settings):
    """What a mask is multiplied with, [1, 1, 512, 512]: in the square its border, above it where
    the head goes on. Near such hair the mask does not end at the square's edge."""
    padding = [MASK_SIDE // 2] * 4
    inside = F.pad(torch.ones_like(border), padding)
    goes_on = _grown(beyond, settings.margin) * inside
    return torch.maximum(F.pad(border, padding), goes_on) + beyond


def continued(layers, whole, settings, ended=None, behind=None):
    """Layers of the square and what they go on as around it, [1, 8, 3 R / 2, 3 R / 2].

    Colours go on as a mean from inside, masks as they are at the edge. Above a head that ends in
    the square after the edit, the edited image goes on as what is behind it. R is a multiple of 4.

    Args: layers [1, 8, R, R]: the change, the edited image, how much of it is put there itself, and
        the mask, which is multiplied with whole [1, 1, 512, 512]; settings: `BlendingSettings`;
        ended [1, 1, 256, 256] from 0 to 1, where the head was before the edit and is not after it;
        behind: of `behind_head`. Without these two the head goes on.
    """
    padding, edge, side = [MASK_SIDE // 2] * 4, MASK_SIDE // 4, layers.shape[-1]
    colours, masks = F.adaptive_avg_pool2d(layers, MASK_SIDE).split([6, 2], dim=1)
    ended = torch.zeros_like(masks[:, :1]) if ended is None else ended
    square = F.pad(torch.ones_like(ended), padding)
    change, edited = _spread(F.pad(colours, padding), square).split(3, dim=1)
    masks = F.pad(torch.cat([masks, ended], dim=1), padding, mode="replicate")  # [1, 3, 512, 512]
    much, mask, ended = masks.split(1, dim=1)
    if behind is not None:
        ended = _grown(ended, settings.margin)  # so that nothing of the former hair is left
        edited = edited.lerp(behind, ended)
        beyond = _all_of(whole * (1 - square), settings) * (1 - square)
        whole = torch.maximum(whole, beyond * ended)
    spread = torch.cat([change, edited, torch.maximum(much, ended), mask, whole], dim=1)
    spread = spread[..., edge:-edge, edge:-edge]
    spread = F.interpolate(spread, side + 2 * (side // 4), mode="bilinear")
    around, whole = spread.split([8, 1], dim=1)
    around[..., side // 4:-(side // 4), side // 4:-(side // 4)] = layers
    around[:, -1:] *= whole
    return around
