"""A photograph of one's own: the face in it is found, edited as an image, and put back."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.functional import gaussian_blur

from .domains import Domain
from .domains.align import cut_square, face_landmarks, face_square
from .images import open_image, open_picture, to_pil, to_tensor
from .inversion import invert, tune_generator, tuned_strength
from .settings import FFHQ_BLENDING

MASK_SIDE = 256  # pixels; the sizes in `BlendingSettings` are of a mask of this side


def _rise(x, low, high):
    """0 below `low`, 1 above `high`, smooth between them."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _grown(mask, size):
    """The largest value within a square of `size` pixels around each, [1, 1, H, W]."""
    return F.max_pool2d(mask, size, stride=1, padding=size // 2)


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


def _solid_head(settings, head):
    """The head without holes, specks and what lies beside it: [1, 1, 256, 256] from 0 to 1.

    Args: as of `head_mask`.
    """
    head = _one_piece(F.interpolate(head.detach().cpu(), MASK_SIDE, mode="bilinear"), settings)
    solid = _shrunk(_grown(head, settings.holes), settings.holes)
    solid = _grown(_shrunk(solid, settings.specks), settings.specks)
    return _rise(solid, 0.5 - settings.head_edge, 0.5 + settings.head_edge)


def head_mask(settings, head=None):
    """The head, solid and a little larger, with a soft edge: [1, 1, 256, 256] from 0 to 1.

    Args: settings: `BlendingSettings`; head [1, 1, r, r], how likely it is the head
        (`face_networks.HeadReader`); without it, an ellipse where FFHQ's heads are.
    """
    if head is None:
        edge = settings.ellipse_edge
        return 1 - _rise(_from_middle(settings), 1 - edge, 1 + edge)
    solid = _solid_head(settings, head)
    return _blurred(_grown(solid, settings.margin), settings.edge_blur)


def _amount(change):
    """How much each pixel of a mask changed, of 2 from black to white: [1, 1, 256, 256]."""
    return F.adaptive_avg_pool2d(change, MASK_SIDE).abs().amax(dim=1, keepdim=True)


ALL_SIDES = (True, True, True, True)  # left, lower, right, upper


def _inner(settings, sides):
    """1 inside the square, 0 at its `sides`: [1, 1, 256, 256].

    Args: sides: of the left, lower, right and upper one, does the photograph go on beyond it?
    """
    place = (torch.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    x, y = place.expand(MASK_SIDE, -1), place[:, None].expand(-1, MASK_SIDE)
    inner = torch.ones(MASK_SIDE, MASK_SIDE)
    for distance, goes_on in zip((x, 1 - y, 1 - x, y), sides):
        if goes_on:
            inner = inner.minimum(_rise(distance, settings.border_from, settings.border_to))
    return inner[None, None]


def change_mask(change, settings, head=None, sides=ALL_SIDES):
    """Where an edit is put back: [1, 1, R, R], from 0 to 1 with a soft edge.

    It follows what the edit changed of the head: not what it shifted behind it. At the edge of the
    square the mask is 0, where the photograph goes on.

    Args: change [1, 3, R, R], the edited image less the one before; settings:
        `BlendingSettings`; head: as of `head_mask`; sides: as of `_inner`.
    """
    amount = _blurred(_amount(change), settings.change_blur)  # [1, 1, 256, 256]
    changed = _rise(amount, settings.least, 2 * settings.least)
    changed = _grown(changed, settings.margin)  # so its soft edge lies outside
    mask = head_mask(settings, head) * _blurred(changed, settings.mask_blur)
    mask = mask * _inner(settings, sides)
    return F.interpolate(mask, change.shape[-1], mode="bilinear")


def matched(edited, image, mask, settings, sides=ALL_SIDES):
    """The edited image with the colours just outside the mask as they are in the photograph.

    Near the mask's edge it is moved by what parts both images outside; deep inside it stays. So
    what an edit uncovers beside the head has no edge to what lies around it.

    Args: edited, image [1, 3, R, R]; mask [1, 1, R, R]; settings: `BlendingSettings`; sides: as of
        `_inner`.
    """
    small = F.adaptive_avg_pool2d(torch.cat([image - edited, mask], dim=1), MASK_SIDE)
    apart, inside = small.split([3, 1], dim=1)
    most = apart.abs().amax(dim=1, keepdim=True)  # [1, 1, 256, 256]
    known = (1 - inside) * (1 - _rise(most, settings.like / 2, settings.like))
    known = known * _inner(settings, sides)
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


def with_own_background(edited, image, head, edited_head, settings):
    """The edited image with the photograph's background beside the head, where the generator draws
    another one; and where that was put, [1, 1, R, R] from 0 to 1.

    What an edit uncovers of the background is spread there from what lies around the head. Where
    the generator draws what the photograph shows, the edited image stays.

    Args: edited, image [1, 3, R, R]; head, edited_head: as `head` of `head_mask`, before the edit
        and after it; settings: `BlendingSettings`.
    """
    before, after = head_mask(settings, head), head_mask(settings, edited_head)
    outside = (1 - torch.maximum(before, after)).clamp(0, 1)  # [1, 1, 256, 256]
    apart = _rise(_amount(image - edited), settings.other / 2, settings.other)
    other = _blurred(_spread(apart, outside), settings.near)
    kept = _blurred(_shrunk(_solid_head(settings, edited_head), settings.inner), settings.edge_blur)
    behind = _spread(F.adaptive_avg_pool2d(image, MASK_SIDE), (1 - before).clamp(0, 1))
    layers = torch.cat([behind, before, other * (1 - kept)], dim=1)  # [1, 5, 256, 256]
    layers = F.interpolate(layers, image.shape[-1], mode="bilinear")  # [1, 5, R, R]
    behind, before, own = layers.split([3, 1, 1], dim=1)
    return edited.lerp(image.lerp(behind, before), own), own


def much_changed(change, settings):
    """Where the edited image itself takes the photograph's place, [1, 1, R, R] from 0 to 1: a
    little more than where it changed much, so that no outline of what was there is left."""
    much = _rise(_blurred(_amount(change), settings.much_blur), settings.much / 2, settings.much)
    much = _blurred(_grown(much, settings.margin), settings.edge_blur)
    return F.interpolate(much, change.shape[-1], mode="bilinear")


@dataclass(eq=False)
class Photograph:
    """A photograph, and the face that was found in it."""

    picture: Image.Image  # the whole of it: upright, sRGB
    image: torch.Tensor  # [1, 3, R, R] in [-1, 1], the face cut out as FFHQ's are
    corners: np.ndarray  # [4, 2], where that square lies: upper left, lower left, ... in pixels

    def put_back(self, edited, drawn=None, head=None, edited_head=None, settings=FFHQ_BLENDING):
        """The whole photograph with the face edited: a PIL picture of its full size.

        What the edit changed is added to the photograph, so that all detail stays that no edit
        touched; where it changed much, the edited image itself is put there. Pixels that the edit
        left alone are the photograph's, bit for bit.

        Args:
            edited: image [1, 3, R, R].
            drawn: what the generator draws without the edit, [1, 3, R, R]; without it, the face as
                it was cut out.
            head, edited_head: as `head` of `head_mask`, before the edit and after it; nothing is
                put back beyond them. Both or none.
            settings: `BlendingSettings`.
        Raises: ValueError for images of another size, or one head without the other.
        """
        drawn = self.image if drawn is None else drawn
        if not edited.shape == drawn.shape == self.image.shape:
            raise ValueError(f"edited and drawn must be {list(self.image.shape)}, as the face is, "
                             f"got {list(edited.shape)} and {list(drawn.shape)}.")
        if (head is None) != (edited_head is None):
            raise ValueError("head and edited_head go together: give both of them, or none.")
        edited, drawn = edited.detach().cpu().clamp(-1, 1), drawn.detach().cpu().clamp(-1, 1)
        change, own = edited - drawn, torch.zeros(1)
        both = head if head is None else torch.maximum(head, edited_head)  # hair may have grown
        sides = self.open_sides()
        mask = change_mask(change, settings, both, sides)  # [1, 1, R, R]
        if head is not None:
            edited, own = with_own_background(edited, self.image, head, edited_head, settings)
        edited = matched(edited, self.image, mask, settings, sides)
        much = torch.maximum(much_changed(change, settings), own)
        layers = torch.cat([change, edited, much, mask], dim=1)  # [1, 8, R, R]
        left, top = np.floor(self.corners.min(axis=0)).astype(int).clip(0)
        right, bottom = np.ceil(self.corners.max(axis=0)).astype(int).clip(0, self.picture.size)
        layers = self._in_place(layers, (left, top, right, bottom), settings.samples)
        change, edited, much, mask = layers.split([3, 3, 1, 1], dim=1)  # each [1, _, H, W]
        box = (int(left), int(top), int(right), int(bottom))
        before = to_tensor(self.picture.crop(box))  # [1, 3, H, W]
        after = before + mask * ((1 - much) * change + much * (edited - before))
        result = self.picture.copy()
        touched = Image.fromarray((mask[0, 0] > 0).numpy())
        result.paste(to_pil(after), box[:2], touched)
        return result

    def open_sides(self):
        """Of the left, lower, right and upper side of the square: does the photograph go on beyond
        it? Four bool."""
        found, middle = [], self.corners.mean(axis=0)
        for start, end in zip(self.corners, np.roll(self.corners, -1, axis=0)):
            outwards = 0.01 * ((start + end) / 2 - middle)
            points = start + np.array([[0.25], [0.5], [0.75]]) * (end - start) + outwards  # [3, 2]
            found.append(bool(((points >= 0) & (points < self.picture.size)).all(axis=1).any()))
        return found

    def _in_place(self, layers, box, samples):
        """Layers of the square [1, C, R, R], turned and scaled to a box of the picture: [1, C, H,
        W]. A coarser picture is sampled so many times across a pixel, then averaged: sharper."""
        left, top, right, bottom = box
        across = self.corners[3] - self.corners[0]  # the upper edge of the square, in pixels
        side, size = np.hypot(*across), layers.shape[-1]
        finer = samples if side < size else 1
        if finer * side < size:
            layers = F.interpolate(layers, max(1, round(finer * side)), mode="bilinear",
                                   antialias=True)
        x, y = np.meshgrid(left + (np.arange(finer * (right - left)) + 0.5) / finer,
                           top + (np.arange(finer * (bottom - top)) + 0.5) / finer)
        offset = np.stack([x, y], axis=-1) - self.corners[0]  # [H, W, 2]
        along = offset @ across / side**2  # from 0 at the left edge of the square to 1
        down = offset @ np.array([-across[1], across[0]]) / side**2
        grid = torch.from_numpy(np.stack([along, down], axis=-1) * 2 - 1).float()  # [H, W, 2]
        placed = F.grid_sample(layers, grid[None], padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(placed, finer)


def open_photograph(source, resolution=1024, say=print, face=1):
    """Find a face in a photograph: a `Photograph`.

    Args:
        source: path, or the file's bytes.
        resolution: R, of the face as it is cut out, in pixels: the generator's.
        say: gets a sentence on what was found or changed.
        face: which one, where there are several: 1 for the largest, 2 for the next, ...
    Raises: as `images.open_image` with `align`.
    """
    picture = open_picture(source, say)
    landmarks = face_landmarks(picture, say, face)  # [68, 2]
    corners = face_square(landmarks)
    return Photograph(picture, to_tensor(cut_square(picture, corners, resolution, say)), corners)


@dataclass(eq=False)
class LearntPicture:
    """A picture of one's own with its latent, and the domain whose generator draws it."""

    photograph: Photograph | None  # in which the face was found; None where no face is looked for
    domain: Domain  # tuned to the picture
    w_plus: torch.Tensor  # [1, L, w_dim]

    def __post_init__(self):
        s = self.domain.generator.styles(self.w_plus)
        self.drawn = self.draw(s)  # [1, 3, R, R], without an edit
        self.head = self.head_of(s)  # [1, 1, r, r], where it is before an edit; or None

    @torch.no_grad()
    def draw(self, s):
        """s [1, S] -> image [1, 3, R, R] by the tuned generator."""
        return self.domain.generator.synthesize(s)

    @torch.no_grad()
    def head_of(self, s):
        """Where the head is in the image of s [1, S]: [1, 1, r, r], or None where the domain cannot
        read it."""
        reader = self.domain.head
        return None if reader is None else reader(self.domain.generator.maps(s, reader.side))

    @torch.no_grad()
    def edited(self, s, edited):
        """An edit from s to edited [1, S], as long as it has to be on the tuned generator for CLIP
        to see as much as on the first one: s [1, S]."""
        return s + tuned_strength(self.domain, s, edited) * (edited - s)

    def picture(self, s):
        """The image of s [1, S] as a PIL picture, in its photograph if it is from one."""
        image = self.draw(s)
        if self.photograph is None:
            return to_pil(image)
        return self.photograph.put_back(image, self.drawn, self.head, self.head_of(s))


def learn_picture(domain, source, say=print, callback=None):
    """Open a picture of one's own, encode it, and tune the generator to it: a `LearntPicture`.

    Args: source: path, or the file's bytes; callback: as of `invert` and `tune_generator`.
    Raises: as `images.open_image`.
    """
    side, photograph = domain.generator.resolution, None
    if domain.align:
        photograph = open_photograph(source, side, say)
    image = photograph.image if photograph else open_image(source, side, say)
    w_plus, _ = invert(domain, image, callback=callback)
    tuned = tune_generator(domain, image, w_plus, callback=callback)
    return LearntPicture(photograph, tuned, w_plus)
