"""The three distances of StyleCLIP's objective (arXiv 2103.17249, equations 1 and 2), one number per image, and how
far an image moved along a sentence's direction."""

import torch
import torch.nn.functional as F

PHRASINGS = ("{}", "a picture of {}", "a photo of {}", "a drawing of {}", "an image of {}")


def clip_distance(image_features, text_features):
    """D_CLIP = 1 - cosine, of unit vectors [N, D] and [D] or [N, D] -> [N]."""
    return 1 - (image_features * text_features).sum(dim=-1)


def identity_distance(features, source_features):
    """L_ID = 1 - <R(G(w_s)), R(G(w))>, of unit vectors [N, D] -> [N]."""
    return 1 - (features * source_features).sum(dim=-1)


def latent_distance(w_plus, source):
    """||w - w_s||^2 summed over all layers and channels, as the authors' code has it: [N, L, w_dim] -> [N]."""
    return (w_plus - source).square().flatten(1).sum(dim=1)


def text_direction(domain, prompt):
    """From the neutral sentence to the prompt, each averaged over phrasings: a unit vector [D]."""
    ends = [domain.clip.encode_text([phrase.format(text) for phrase in PHRASINGS]).mean(dim=0)
            for text in (prompt, domain.neutral)]
    return F.normalize(F.normalize(ends[0], dim=0) - F.normalize(ends[1], dim=0), dim=0)


AMOUNT = 0.08  # of an augmentation: turned up to 5 degrees (in radians), zoomed and shifted up to 8 %


def augment(image, seed):
    """image [N, 3, R, R], turned, zoomed and shifted a little; each seed is one augmentation, the same for all."""
    random = torch.rand(4, generator=torch.Generator().manual_seed(seed))
    turn, zoom, x, y = (random * 2 - 1).mul(AMOUNT).tolist()
    matrix = torch.tensor([[1 + zoom, -turn, x], [turn, 1 + zoom, y]], device=image.device)
    flow = F.affine_grid(matrix.expand(len(image), 2, 3), image.shape, align_corners=False)
    return F.grid_sample(image, flow, padding_mode="border", align_corners=False)


def change_distance(moved, direction, goal, sideways):
    """How far a change of CLIP's vector [N, D] is from `goal` [N] along the direction [D] and from 0 sideways -> [N].

    Both parts are counted in goals, so that their weights mean the same whatever a sentence's goal is.
    """
    along = moved @ direction
    return F.relu(goal - along) / goal + sideways * (moved.square().sum(dim=-1) - along.square()) / goal**2
