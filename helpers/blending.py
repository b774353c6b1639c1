"""How an edited face goes back into its photograph: masks, colours, what lies behind the head.

All of it runs on the CPU.
"""

import torch
import torch.nn.functional as F
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
    return gaussian_blur(x, 2 * round(reach * sigma) + 1, sigma=sigma)


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


def head_mask(settings, solid=None):
    """The head, a little larger and with a soft edge: [1, 1, 256, 256] from 0 to 1.

    Args: settings: `BlendingSettings`; solid: of `solid_head`; without it, an ellipse where FFHQ's
        heads are.
    """
    if solid is None:
        edge = settings.ellipse_edge
        return 1 - _rise(_from_middle(settings), 1 - edge, 1 + edge)
    return _blurred(_grown(solid, settings.margin), settings.edge_blur)


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
    mask = head_mask(settings, solid) * _blurred(changed, settings.mask_blur)
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


def _mirrored(outer, known, settings):
    """The photograph beyond the edge of what is known, as in a mirror that stands on that edge; and
    how much of it to take, less and less with the distance from there.

    Args: outer, known: as of `background`. Returns: for the square in the middle, image
        [1, 3, R, R] and share [1, 1, 256, 256] from 0 to 1.
    """
    size, edge = 2 * MASK_SIDE, MASK_SIDE // 2
    beside = ((known > 0.99) & (_grown(1 - known, 3) > 0.01))[0, 0].nonzero()  # [E, 2] row, column
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[edge:-edge, edge:-edge] = True
    unknown = ((known[0, 0] <= 0.99) & inside).nonzero()  # [U, 2]
    offset = torch.zeros(1, 2, size, size)
    if len(beside) and len(unknown):
        nearest = torch.cdist(unknown.float(), beside.float()).argmin(dim=1)  # [U]
        row, column = unknown.T
        offset[0, :, row, column] = (beside[nearest] - unknown).T.float()
    distance = offset.square().sum(dim=1, keepdim=True).sqrt()  # [1, 1, 512, 512]
    offset = _blurred(offset, settings.edge_blur)
    place = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    down, along = 2 * offset[0] * 2 / size  # from where it is to its mirror image
    grid = torch.stack([x + along, y + down])[None]  # [1, 2, 512, 512]
    there = F.grid_sample(known, grid.permute(0, 2, 3, 1), align_corners=False)
    share = _blurred(there, settings.edge_blur)
    share = share * (1 - _rise(distance, settings.mirror / 2, settings.mirror))
    grid, share = grid[..., edge:-edge, edge:-edge], share[..., edge:-edge, edge:-edge]
    grid = F.interpolate(grid, outer.shape[-1] // 2, mode="bilinear").permute(0, 2, 3, 1)
    return F.grid_sample(outer, grid, padding_mode="border", align_corners=False), share


def _above(height, settings):
    """1 above a height of the square, 0 below it, with a soft edge: [1, 1, 256, 256]."""
    place = (torch.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    above = 1 - _rise(place, height - settings.mouth_edge, height)
    return above[:, None].expand(1, 1, -1, MASK_SIDE)


def background(outer, known, settings):
    """What the photograph may show behind the head: image [1, 3, R, R] of the square.

    Above the mouth it goes on as in a mirror from what lies around the head; below it, and far from
    all that is known, it is a mean of that.

    Args: outer [1, 3, 2 R, 2 R], a square of the photograph twice as large around the same middle;
        known [1, 1, 512, 512], from 0 where the head is in it to 1; settings: `BlendingSettings`.
    """
    edge = MASK_SIDE // 2
    mean = _spread(F.adaptive_avg_pool2d(outer, 2 * MASK_SIDE), known)[..., edge:-edge, edge:-edge]
    mirrored, share = _mirrored(outer, known, settings)
    layers = torch.cat([mean, share * _above(settings.mouth, settings)], dim=1)  # [1, 4, 256, 256]
    mean, share = F.interpolate(layers, mirrored.shape[-1], mode="bilinear").split([3, 1], dim=1)
    return mean.lerp(mirrored, share)


def with_own_background(edited, image, behind, heads, settings):
    """The edited image with the photograph's background beside the head: in what the edit uncovers,
    and where the generator draws another one; and where that was put, [1, 1, R, R] from 0 to 1.

    A hat covers what hair did. Below the mouth nothing counts as uncovered, since there the
    generator draws neck and clothes.

    Args: edited, image [1, 3, R, R]; behind: of `background`; heads: three of `solid_head`: before
        the edit, after it, and head and hat together after it; settings: `BlendingSettings`.
    """
    head, edited_head, covered = heads
    before, after = head_mask(settings, head), head_mask(settings, edited_head)
    outside = (1 - torch.maximum(before, after)).clamp(0, 1)  # [1, 1, 256, 256]
    apart = _rise(_amount(image - edited), settings.other / 2, settings.other)
    other = _blurred(_spread(apart, outside), settings.near)
    uncovered = _shrunk(head * (1 - covered), settings.inner)
    uncovered = _grown(_grown(uncovered, settings.inner), settings.margin) * apart
    uncovered = _blurred(uncovered, settings.edge_blur)
    uncovered = uncovered * _above(settings.mouth, settings)
    own = torch.maximum(other, uncovered)
    own = own * (1 - _blurred(_shrunk(covered, settings.inner), settings.edge_blur))
    layers = F.interpolate(torch.cat([before, own], dim=1), image.shape[-1], mode="bilinear")
    before, own = layers.split([1, 1], dim=1)  # each [1, 1, R, R]
    return edited.lerp(image.lerp(behind, before), own), own


def in_front(image, drawn, settings):
    """What is held in front of the chin, as a hand: [1, 1, R, R] from 0 to 1.

    It is where, low in the square, the photograph differs much from the face as it was encoded: the
    generator can draw a face, and nothing in front of it.

    Args: image, drawn [1, 3, R, R], of the photograph and as it was encoded; settings:
        `BlendingSettings`.
    """
    found = _rise(_amount(image - drawn), settings.foreign / 2, settings.foreign)
    found = _grown(_shrunk(found, settings.inner), settings.inner)
    found = _blurred(found * (1 - _above(settings.front, settings)), settings.edge_blur)
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
    noise = noise / _fine(noise, settings).square().mean().sqrt()
    return after + place * (grain**2 - there.square()).clamp(min=0).sqrt() * noise


def head_beyond(outer, solid, settings):
    """Where a head goes on above the square, as hair that rises higher: [1, 1, 512, 512] from 0 to
    1, and 0 in the square itself.

    There the photograph is like the head rather than like what lies beside it, from the square
    upwards. Columns that still look like the head at the top of the search (`reach`) are left out.

    Args: outer: as of `background`; solid: of `solid_head`; settings: `BlendingSettings`.
    """
    edge, rows = MASK_SIDE // 2, round(settings.reach * MASK_SIDE)
    outer = F.adaptive_avg_pool2d(outer, 2 * MASK_SIDE)
    square = F.pad(torch.ones(1, 1, MASK_SIDE, MASK_SIDE), [edge] * 4)
    solid = F.pad(solid, [edge] * 4)
    to_head, to_other = ((outer - _spread(outer, known)).abs().amax(dim=1, keepdim=True)
                         for known in (solid, square - solid))  # each [1, 1, 512, 512]
    alike = _rise(to_other / (to_head + to_other + 1e-3), settings.alike, (1 + settings.alike) / 2)
    upwards = torch.cat([solid[:, :, edge:edge + 1], alike[:, :, :edge].flip(2)], dim=2)
    goes_on = upwards[:, :, :rows].cumprod(dim=2)  # [1, 1, rows, 512]
    goes_on = goes_on * (1 - _grown(goes_on[:, :, -1:], settings.margin))
    beyond = F.pad(goes_on.flip(2), [0, 0, edge - rows + 1, 2 * MASK_SIDE - edge - 1])
    beyond = _blurred(_grown(beyond, settings.inner), settings.edge_blur)
    return beyond * (1 - square)


def where_put_back(border, beyond, settings):
    """What a mask is multiplied with, [1, 1, 512, 512]: in the square its border, above it where
    the head goes on. Near such hair the mask does not end at the square's edge."""
    padding = [MASK_SIDE // 2] * 4
    inside = F.pad(torch.ones_like(border), padding)
    goes_on = _grown(beyond, settings.margin) * inside
    return torch.maximum(F.pad(border, padding), goes_on) + beyond


def continued(layers, whole):
    """Layers of the square [1, C, R, R] and around them what they go on as, averaged from inside;
    the last of them, a mask, times `whole` [1, 1, 512, 512]: [1, C, 3 R / 2, 3 R / 2]. R is a
    multiple of 4."""
    square = F.pad(torch.ones(1, 1, MASK_SIDE, MASK_SIDE), [MASK_SIDE // 2] * 4)
    small = F.pad(F.adaptive_avg_pool2d(layers, MASK_SIDE), [MASK_SIDE // 2] * 4)
    both = torch.cat([_spread(small, square), whole], dim=1)
    edge, side = MASK_SIDE // 4, layers.shape[-1]
    both = F.interpolate(both[..., edge:-edge, edge:-edge], side + 2 * (side // 4), mode="bilinear")
    around, whole = both.split([layers.shape[1], 1], dim=1)
    around[..., side // 4:-(side // 4), side // 4:-(side // 4)] = layers
    around[:, -1:] *= whole
    return around
