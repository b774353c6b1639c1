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

# Of a picture that is aligned as FFHQ's are, in shares of its side: the middle of a face and half
# its width and height, ears and forehead among them.
MIDDLE, HALF = (0.5, 0.54), (0.27, 0.36)
REACH = 1.7  # so many times as far from the middle, nothing is put back: beyond long hair
# How much a pixel must change to be put back, of 2 from black to white: on the face, and at REACH.
LEAST, LEAST_OUTSIDE = 0.04, 0.3
MUCH = 0.5  # a change from which the edited picture itself takes the photograph's place
MASK_SIDE = 256  # pixels


def _rise(x, low, high):
    """0 below `low`, 1 above `high`, smooth between them."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def change_mask(change):
    """Where an edit is put back: [1, 1, R, R], from 0 to 1 with a soft edge.

    It follows what the edit changed of face and hair. Far from the face a change must be larger to
    count, since edits shift the background a little; at the edge of the square the mask is 0.

    Args: change [1, 3, R, R], the edited image less the one before.
    """
    amount = F.adaptive_avg_pool2d(change, MASK_SIDE).abs().amax(dim=1, keepdim=True)
    amount = gaussian_blur(amount, 13, sigma=3.0)  # [1, 1, 256, 256]
    place = (torch.arange(MASK_SIDE, device=change.device) + 0.5) / MASK_SIDE
    x, y = (place - MIDDLE[0]) / HALF[0], (place - MIDDLE[1]) / HALF[1]
    distance = (x.square()[None, :] + y.square()[:, None]).sqrt()  # 1 on the edge of the face
    outside = ((distance - 1) / (REACH - 1)).clamp(0, 1)
    least = LEAST + (LEAST_OUTSIDE - LEAST) * outside
    mask = _rise(amount, least, 2 * least)
    mask = F.max_pool2d(mask, 9, stride=1, padding=4)  # a little beyond, so that its edge is soft
    mask = gaussian_blur(mask, 21, sigma=5.0) * (1 - _rise(distance, 0.85 * REACH, REACH))
    edge = torch.minimum(place, 1 - place)
    edge = _rise(torch.minimum(edge[None, :], edge[:, None]), 0.01, 0.06)
    mask = mask * edge
    return F.interpolate(mask, change.shape[-1], mode="bilinear")


@dataclass(eq=False)
class Photograph:
    """A photograph, and the face that was found in it."""

    picture: Image.Image  # the whole of it: upright, sRGB
    image: torch.Tensor  # [1, 3, R, R] in [-1, 1], the face cut out as FFHQ's are
    corners: np.ndarray  # [4, 2], where that square lies: upper left, lower left, ... in pixels

    def put_back(self, edited, drawn=None):
        """The whole photograph with the face edited: a PIL picture of its full size.

        What the edit changed is added to the photograph, so that all detail stays that no edit
        touched; where it changed much, the edited image itself is put there. Pixels that the edit
        left alone are the photograph's, bit for bit.

        Args:
            edited: image [1, 3, R, R].
            drawn: what the generator draws without the edit, [1, 3, R, R]; without it, the face as
                it was cut out.
        Raises: ValueError for images of another size.
        """
        drawn = self.image if drawn is None else drawn
        if not edited.shape == drawn.shape == self.image.shape:
            raise ValueError(f"edited and drawn must be {list(self.image.shape)}, as the face is, "
                             f"got {list(edited.shape)} and {list(drawn.shape)}.")
        edited, drawn = edited.detach().cpu().clamp(-1, 1), drawn.detach().cpu().clamp(-1, 1)
        change = edited - drawn
        layers = torch.cat([change, edited, change_mask(change)], dim=1)  # [1, 7, R, R]
        left, top = np.floor(self.corners.min(axis=0)).astype(int).clip(0)
        right, bottom = np.ceil(self.corners.max(axis=0)).astype(int).clip(0, self.picture.size)
        layers = self._in_place(layers, (left, top, right, bottom))  # [1, 7, H, W]
        change, edited, mask = layers.split([3, 3, 1], dim=1)
        box = (int(left), int(top), int(right), int(bottom))
        before = to_tensor(self.picture.crop(box))  # [1, 3, H, W]
        much = _rise(gaussian_blur(change.abs().amax(dim=1, keepdim=True), 9), MUCH / 2, MUCH)
        after = before + mask * ((1 - much) * change + much * (edited - before))
        result = self.picture.copy()
        touched = Image.fromarray((mask[0, 0] > 0).numpy())
        result.paste(to_pil(after), box[:2], touched)
        return result

    def _in_place(self, layers, box):
        """Layers of the square [1, C, R, R], turned and scaled to a box of the picture."""
        left, top, right, bottom = box
        across = self.corners[3] - self.corners[0]  # the upper edge of the square, in pixels
        side, size = np.hypot(*across), layers.shape[-1]
        if side < size:  # averages, as a smaller picture of it would show
            layers = F.interpolate(layers, max(1, round(side)), mode="bilinear", antialias=True)
        x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        offset = np.stack([x, y], axis=-1) - self.corners[0]  # [H, W, 2]
        along = offset @ across / side**2  # from 0 at the left edge of the square to 1
        down = offset @ np.array([-across[1], across[0]]) / side**2
        grid = torch.from_numpy(np.stack([along, down], axis=-1) * 2 - 1).float()  # [H, W, 2]
        return F.grid_sample(layers, grid[None], padding_mode="zeros", align_corners=False)


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
    drawn: torch.Tensor  # [1, 3, R, R], without an edit

    @torch.no_grad()
    def edited(self, s, edited):
        """The image [1, 3, R, R] of an edit from s to edited [1, S], as far as CLIP would see it on
        the generator that was not tuned."""
        strength = tuned_strength(self.domain, s, edited)
        return self.domain.generator.synthesize(s + strength * (edited - s))

    def picture(self, edited):
        """An edited image [1, 3, R, R] as a PIL picture, in its photograph if it is from one."""
        if self.photograph is None:
            return to_pil(edited)
        return self.photograph.put_back(edited, self.drawn)


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
    with torch.no_grad():
        return LearntPicture(photograph, tuned, w_plus, tuned.generator(w_plus))
