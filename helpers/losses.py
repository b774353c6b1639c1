"""The distances of StyleCLIP's objective (arXiv 2103.17249, equations 1 and 2), one number per
image; the direction of a text in CLIP's space, and how far an image moved along it."""

from pathlib import Path

import torch
import torch.nn.functional as F

from .clip_model import ClipModel, check_prompt

# The 79 ImageNet phrasings of the CLIP paper (arXiv 2103.00020), "many" left out as StyleCLIP's
# authors do.
TEMPLATES_FILE = Path(__file__).resolve().parent.parent / "data" / "imagenet_templates.txt"
IMAGENET_TEMPLATES = tuple(TEMPLATES_FILE.read_text("utf-8").splitlines())


def clip_loss(image_features, text_features):
    """D_CLIP of equation (1): 1 - cosine, of unit vectors [N, D] and [D] or [N, D] -> [N]."""
    return 1 - (image_features * text_features).sum(dim=-1)


def identity_loss(features, source_features):
    """L_ID of equation (2): 1 - <R(G(w_s)), R(G(w))>, of unit vectors [N, D] -> [N]."""
    return 1 - (features * source_features).sum(dim=-1)


def latent_loss(w_plus, source):
    """||w - w_s||^2, the *sum* over layers and channels as in the authors' code: [N, L, w_dim] ->
    [N]."""
    return (w_plus - source).square().flatten(1).sum(dim=1)


def directional_clip_loss(change, direction, goal, lambda_orthogonal):
    """How far a change of CLIP's vector is from `goal` along a text direction, and from 0
    orthogonal to it.

        relu(goal - <change, d>) / goal  +  lambda_orthogonal * |change - <change, d> d|^2 / goal^2

    Both parts are counted in goals, so that their weights mean the same for every sentence.

    Args: change: [N, D]; direction: d, a unit vector [D]; goal: [N], in cosine. Returns: [N].
    """
    along = change @ direction  # [N]
    orthogonal = change.square().sum(dim=-1) - along.square()  # Pythagoras
    return F.relu(goal - along) / goal + lambda_orthogonal * orthogonal / goal**2


def text_direction(clip: ClipModel, neutral, target, templates=IMAGENET_TEMPLATES):
    """Delta-t of section 6: from the neutral to the target sentence, a unit vector [D].

    Each sentence is the mean of CLIP's vectors over its phrasings.

    Args: templates: phrasings such as "a photo of a {}."; they bring their own article, so a
    sentence's is dropped.
    Raises: ValueError for a sentence that is empty or too long, or two that say the same; TypeError
    for no string.
    """
    clip.encode_text([neutral, target])  # names what is wrong with a sentence before it is phrased
    ends = []
    for text in (neutral, target):
        text = check_prompt(text).removeprefix("a ").removeprefix("an ").removeprefix("the ")
        phrases = [template.format(text) for template in templates]
        phrased = clip.encode_text(phrases, phrases=True)  # [T, D]
        ends.append(F.normalize(phrased.mean(dim=0), dim=0))
    if torch.equal(ends[0], ends[1]):
        raise ValueError(f'"{target}" says the same as the neutral sentence: '
                         "describe what should change.")
    return F.normalize(ends[1] - ends[0], dim=0)


AUGMENTATION = 0.08  # turned up to 5 degrees (in radians), zoomed and shifted up to 8 %


def augment(image, seed):
    """image [N, 3, R, R], turned, zoomed and shifted a little; each seed is one augmentation, the
    same for all."""
    random = torch.rand(4, generator=torch.Generator().manual_seed(seed))
    turn, zoom, x, y = (random * 2 - 1).mul(AUGMENTATION).tolist()
    matrix = torch.tensor([[1 + zoom, -turn, x], [turn, 1 + zoom, y]], device=image.device)
    flow = F.affine_grid(matrix.expand(len(image), 2, 3), image.shape, align_corners=False)
    return F.grid_sample(image, flow, padding_mode="border", align_corners=False)


def augmented_features(clip: ClipModel, image, seeds):
    """CLIP's vectors of an image [N, 3, R, R] in A augmentations, by their seeds: [A, N, D]."""
    return torch.stack([clip.encode_image(augment(image, seed)) for seed in seeds])
