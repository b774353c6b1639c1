"""A photograph of one's own: the face in it is found, edited as an image, and put back."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .blending import (
    MASK_SIDE,
    behind_head,
    border_mask,
    change_mask,
    continued,
    covered_head,
    face_region,
    head_beyond,
    in_front,
    masks_of_edit,
    matched,
    much_changed,
    solid_head,
    where_put_back,
    with_background,
    with_grain,
)
from .domains import Domain
from .domains.align import cut_square, face_landmarks, face_square
from .images import open_image, open_picture, to_pil, to_tensor
from .inversion import invert, partly_tuned, tune_generator, tuned_strength
from .settings import FFHQ_BLENDING

SAME = 0.99  # cosine above which two edits of one picture go in the same direction


@dataclass(eq=False)
class Photograph:
    """A photograph, and the face that was found in it."""

    picture: Image.Image  # the whole of it: upright, sRGB
    image: torch.Tensor  # [1, 3, R, R] in [-1, 1], the face cut out as FFHQ's are
    corners: np.ndarray  # [4, 2], where that square lies: upper left, lower left, ... in pixels
    landmarks: np.ndarray | None = None  # [68, 2] of the face, in pixels
    kept: tuple | None = field(default=None, init=False, repr=False)  # of `head_before`

    def put_back(self, edited, drawn=None, head=None, edited_head=None, covers=None,
                 settings=FFHQ_BLENDING):
        """The whole photograph with the face edited: a PIL picture of its full size.

        What the edit changed is added to the photograph, so that all detail stays that no edit
        touched; where it changed much, the edited image itself is put there. Pixels that the edit
        left alone are the photograph's, bit for bit.

        Args:
            edited: image [1, 3, R, R].
            drawn: what the generator draws without the edit, [1, 3, R, R]; without it, the face as
                it was cut out.
            head, edited_head: [1, 2, r, r], how likely it is the head, or a hat
                (`face_networks.HeadReader`), before the edit and after it; nothing is put back
                outside of the head before it, and of head and hat after it. Both or none.
            covers: [1, 1, R, R] from 0 to 1, what is in front of the face, or a cap
                (`blending.in_front`), and stays as it is.
            settings: `BlendingSettings`.
        Raises: ValueError for images of another size or with NaN, or one head without the other.
        """
        drawn = self.image if drawn is None else drawn
        if not edited.shape == drawn.shape == self.image.shape:
            raise ValueError(f"edited and drawn must be {list(self.image.shape)}, as the face is, "
                             f"got {list(edited.shape)} and {list(drawn.shape)}.")
        if (head is None) != (edited_head is None):
            raise ValueError("head and edited_head go together: give both of them, or none.")
        edited, drawn = edited.detach().cpu().clamp(-1, 1), drawn.detach().cpu().clamp(-1, 1)
        if not (edited.isfinite().all() and drawn.isfinite().all()):
            raise ValueError("edited or drawn holds values that are NaN or infinite.")
        change = edited - drawn
        border = border_mask(settings, self.open_sides())  # [1, 1, 256, 256]
        where = F.pad(border, [MASK_SIDE // 2] * 4)  # [1, 1, 512, 512]
        ended = behind = None
        if head is None:
            mask = change_mask(change, settings)  # [1, 1, R, R]
        else:
            solid, beyond, behind = self.head_before(head, settings)
            after = covered_head(settings, edited_head)
            mask = change_mask(change, settings, torch.maximum(solid, after))
            ended = (solid - after).clamp(min=0)
            edited = with_background(edited, behind, ended, settings)
            where = where_put_back(border, beyond, settings)
        if covers is not None:
            mask = mask * (1 - covers.detach().cpu())
        edited = matched(edited, self.image, mask, border, settings)
        layers = torch.cat([change, edited, much_changed(change, settings), mask], dim=1)
        layers = continued(layers, where, settings, ended, behind)
        corners = self.scaled(1.5)  # of the layers
        box = box_of(layers[:, -1:], corners, self.picture.size)
        if box is None:
            return self.picture.copy()
        layers = in_place(layers, corners, box, settings.samples)
        change, edited, much, mask = layers.split([3, 3, 1, 1], dim=1)  # each [1, _, H, W]
        before = to_tensor(self.picture.crop(box))  # [1, 3, H, W]
        after = before + mask * ((1 - much) * change + much * (edited - before))
        after = with_grain(after, before, mask * much, settings)
        result = self.picture.copy()
        touched = Image.fromarray((mask[0, 0] > 0).numpy())
        result.paste(to_pil(after), box[:2], touched)
        return result

    def head_before(self, head, settings):
        """The head before an edit, as `solid_head`; where it goes on above the square, and what may
        be behind all of it (`head_beyond`, `behind_head`).

        Kept, since a slider asks for the same again and again.
        """
        if self.kept is None or self.kept[0] is not head or self.kept[1] is not settings:
            solid = solid_head(settings, head[:, :1])
            outer = self.around(2, 2 * self.image.shape[-1])
            beyond = head_beyond(outer, solid, settings)  # [1, 1, 512, 512]
            behind = behind_head(outer, solid, beyond, settings)
            self.kept = head, settings, (solid, beyond, behind)
        return self.kept[2]

    def beside_face(self, settings):
        """All but the face itself, [1, 1, R, R] from 0 to 1; None without its landmarks."""
        if self.landmarks is None:
            return None
        sides = np.stack([self.corners[3] - self.corners[0], self.corners[1] - self.corners[0]])
        places = (self.landmarks - self.corners[0]) @ np.linalg.inv(sides)  # [68, 2]
        region = face_region(settings, places)
        return 1 - F.interpolate(region, self.image.shape[-1], mode="bilinear")

    def cut_out(self, picture):
        """The face of a PIL picture that `put_back` made: image [1, 3, R, R]."""
        return to_tensor(cut_square(picture, self.corners, self.image.shape[-1], lambda _: None))

    def around(self, times, size):
        """A square so many times as large around the same middle: image [1, 3, size, size]."""
        return to_tensor(cut_square(self.picture, self.scaled(times), size, lambda _: None))

    def scaled(self, times):
        """The corners [4, 2] of a square so many times as large around the same middle."""
        middle = self.corners.mean(axis=0)
        return middle + times * (self.corners - middle)

    def open_sides(self):
        """Of the left, lower, right and upper side of the square: does the photograph go on beyond
        it? Four bool."""
        found, middle = [], self.corners.mean(axis=0)
        for start, end in zip(self.corners, np.roll(self.corners, -1, axis=0)):
            outwards = 0.01 * ((start + end) / 2 - middle)
            points = start + np.array([[0.25], [0.5], [0.75]]) * (end - start) + outwards  # [3, 2]
            found.append(bool(((points >= 0) & (points < self.picture.size)).all(axis=1).any()))
        return found


def box_of(mask, corners, size):
    """The box of a picture, (left, upper, right, lower) in pixels, in which a mask is above 0; None
    if there is none.

    Args: mask [1, 1, R, R] of a square; corners [4, 2], as of `Photograph`; size: of the picture.
    """
    rows, columns = (mask[0, 0] > 0).nonzero(as_tuple=True)
    if not len(rows):
        return None
    side = mask.shape[-1]
    across, down = corners[3] - corners[0], corners[1] - corners[0]
    points = np.array([corners[0] + x / side * across + y / side * down
                       for x in (columns.min().item() - 1, columns.max().item() + 2)
                       for y in (rows.min().item() - 1, rows.max().item() + 2)])  # [4, 2]
    left, top = np.floor(points.min(axis=0)).astype(int).clip(0, size)
    right, bottom = np.ceil(points.max(axis=0)).astype(int).clip(0, size)
    if left == right or top == bottom:
        return None
    return int(left), int(top), int(right), int(bottom)


def in_place(layers, corners, box, samples):
    """Layers of a square [1, C, R, R], turned and scaled to a box of the picture: [1, C, H, W]. A
    coarser picture is sampled so many times across a pixel, then averaged: sharper.

    Args: corners [4, 2], as of `Photograph`; box: left, upper, right and lower edge, in pixels.
    """
    left, top, right, bottom = box
    across = corners[3] - corners[0]  # the upper edge of the square, in pixels
    side, size = np.hypot(*across), layers.shape[-1]
    finer = samples if side < size else 1
    if finer * side < size:
        layers = F.interpolate(layers, max(1, round(finer * side)), mode="bilinear", antialias=True)
    x, y = np.meshgrid(left + (np.arange(finer * (right - left)) + 0.5) / finer,
                       top + (np.arange(finer * (bottom - top)) + 0.5) / finer)
    offset = np.stack([x, y], axis=-1) - corners[0]  # [finer H, finer W, 2]
    along = offset @ across / side**2  # from 0 at the left edge of the square to 1
    down = offset @ np.array([-across[1], across[0]]) / side**2
    grid = torch.from_numpy(np.stack([along, down], axis=-1) * 2 - 1).float()  # the same
    placed = F.grid_sample(layers, grid[None], padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(placed, finer) if finer > 1 else placed


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
    image = to_tensor(cut_square(picture, corners, resolution, say))
    return Photograph(picture, image, corners, landmarks)


@dataclass(frozen=True, eq=False)
class Extent:
    """How much of a photograph an edit may change."""

    stays: torch.Tensor  # [1, 1, R, R] from 0 to 1, what stays as it is
    styles_from: int  # side in pixels of the first maps whose styles are edited
    enough: float  # it is taken if CLIP sees this share of the whole edit in it


def extents(photograph, covers, settings):
    """The `Extent`s that an edit may have, the smallest first: the face alone; the whole head, but
    not its shape, which is in the styles of the first layers; all of the head.

    Args: covers [1, 1, R, R] from 0 to 1, what stays in any case; settings: `BlendingSettings`.
    """
    found = [Extent(covers, settings.colours_from, settings.shape_enough), Extent(covers, 0, 1)]
    beside = photograph.beside_face(settings)
    if beside is not None:
        found.insert(0, Extent(torch.maximum(covers, beside), 0, settings.face_enough))
    return found


@dataclass(eq=False)
class LearntPicture:
    """A picture of one's own with its latent, and the domain whose generator draws its edits.

    The edits of a photograph are put back into it, so that its own detail stays; they are drawn by
    a generator that is tuned only partly (`inversion.partly_tuned`), and what lies around by the
    tuned one. Each edit changes as little of the photograph as CLIP needs (`Extent`). Other
    pictures have no such detail, and the tuned generator draws them.
    """

    photograph: Photograph | None  # in which the face was found; None where no face is looked for
    tuned: Domain  # tuned to the picture
    w_plus: torch.Tensor  # [1, L, w_dim]
    domain: Domain = field(init=False)  # draws the edits

    @torch.no_grad()
    def __post_init__(self):
        self.domain, self.covers = self.tuned, None
        if self.photograph is not None and self.tuned.tuned_from is not None:
            self.domain = partly_tuned(self.tuned)
        self.s = self.domain.generator.styles(self.w_plus)  # [1, S]
        self.drawn = self.draw(self.s)  # [1, 3, R, R], without an edit
        self.head = self.head_of(self.s)  # [1, 2, r, r], where it is before an edit; or None
        if self.photograph is not None:
            first = self.domain.tuned_from or self.domain
            encoded = first.generator.synthesize(self.s).cpu().clamp(-1, 1)
            self.covers = in_front(self.photograph.image, encoded, FFHQ_BLENDING)
            self.extents = extents(self.photograph, self.covers, FFHQ_BLENDING)
            self.direction = torch.zeros_like(self.s)  # of the edit whose extent was found last

    @torch.no_grad()
    def draw(self, s):
        """s [1, S] -> image [1, 3, R, R], as the generator draws all of it."""
        return self.domain.generator.synthesize(s)

    @torch.no_grad()
    def head_of(self, s):
        """Where the head is in the image of s [1, S], and a hat: [1, 2, r, r], or None where the
        domain cannot read it."""
        reader = self.domain.head
        return None if reader is None else reader(self.domain.generator.maps(s, reader.side))

    @torch.no_grad()
    def boost(self, edited):
        """How much longer the step to edited [1, S] has to be, for CLIP to see in the picture what
        it sees on the first generator (`inversion.tuned_strength`)."""
        first = self.domain.tuned_from
        if first is None:
            return 1.0
        before = self.photograph.image if self.photograph else self.drawn
        pictures = torch.cat([before.to(edited), self.face(edited).to(edited)])
        return tuned_strength(first, self.s, edited, pictures)

    def edited(self, edited):
        """The edit to edited [1, S], so much longer (`boost`): s [1, S]."""
        return self.s + self.boost(edited) * (edited - self.s)

    def picture(self, s):
        """The image of s [1, S] as a PIL picture, in its photograph if it is from one."""
        if self.photograph is None:
            return to_pil(self.draw(s))
        if self.head is None:
            return self.photograph.put_back(self.draw(s), self.drawn, covers=self.covers,
                                            settings=FFHQ_BLENDING)
        extent = self.extent_of(s)
        pair, head = self.drawn_within(extent, s)
        edited, drawn = pair.split(1)
        return self.photograph.put_back(edited, drawn, self.head, head, extent.stays, FFHQ_BLENDING)

    @torch.no_grad()
    def extent_of(self, s):
        """The smallest of `extents` in which CLIP sees enough of the edit to s [1, S].

        Found once for each direction, and not again as a slider moves.
        """
        direction = F.normalize(s - self.s)
        if (direction * self.direction).sum() > SAME:
            return self.extent
        seen = [self.domain.clip.encode_image(self.drawn_within(extent, s)[0])
                for extent in self.extents]
        changes = [after - before for after, before in seen]  # [D] each
        whole = changes[-1]
        for extent, change in zip(self.extents, changes):
            if change @ whole >= extent.enough * whole @ whole:
                break
        self.direction, self.extent = direction, extent
        return extent

    @torch.no_grad()
    def drawn_within(self, extent, s):
        """The edit to s [1, S] drawn within an extent, and the same without it, images
        [2, 3, R, R]; and its head, as of `head_of`."""
        settings, edited = FFHQ_BLENDING, self.s.clone()
        for part in self.domain.generator.style_layout:
            if part.resolution >= extent.styles_from:
                edited[:, part.slice] = s[:, part.slice]
        # Where shapes are kept nothing is uncovered, even if the head is read a little smaller.
        head = self.head if extent.styles_from else self.head_of(edited)
        solid = self.photograph.head_before(self.head, settings)[0]
        masks = masks_of_edit(settings, solid, covered_head(settings, head), extent.stays)
        on_head, around = (mask.to(s) for mask in masks)
        pair = self.tuned.generator.blended(
            self.s, self.domain.generator, edited, head=on_head, around=around,
            blend_from=settings.blend_from, styled_from=settings.styled_from)
        return pair, head

    def face(self, s):
        """The image [1, 3, R, R] of s [1, S]; of a photograph, the face cut out after the edit."""
        if self.photograph is None:
            return self.draw(s)
        return self.photograph.cut_out(self.picture(s))


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
