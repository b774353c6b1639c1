"""A domain so small that its numbers can be computed by hand: its networks are linear."""

import zlib

import torch
import torch.nn.functional as F
from torch import nn

from helpers.domains import Domain
from helpers.settings import (
    DirectionSettings,
    EncodingSettings,
    LinearModelSettings,
    MapperSettings,
    OptimizationSettings,
    Settings,
    TuningSettings,
)
from helpers.stylegan2 import EqualLinear, StyleGenerator

W_DIM, ROWS, SIDE = 4, 3, 32


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Layer(nn.Module):
    """Its style is its row of w_plus."""

    def __init__(self):
        super().__init__()
        self.affine = EqualLinear(W_DIM, W_DIM)
        self.affine.weight.data = torch.eye(W_DIM) / self.affine.weight_gain


class ToyGenerator(StyleGenerator):
    """image = weight * sum of s_c * picture_c, where weight is 1 until it is tuned.

    `drawn` lists the s [N, S] of all images that were asked for.

    S = 12: the channels of a row of 4 each, in two convolutions and one layer to colours.
    """

    def __init__(self):
        super().__init__(SIDE, W_DIM, W_DIM)
        self.num_layers, self.resolutions, self.drawn = ROWS, (16, SIDE), []
        self.mapping = nn.ModuleList([EqualLinear(W_DIM, W_DIM)])
        self.mapping[0].weight.data = random(W_DIM, W_DIM, seed=1)
        self.layers = nn.ModuleList(Layer() for _ in range(ROWS))
        for row, (side, kind) in enumerate(((8, "conv"), (16, "conv"), (16, "toRGB"))):
            self._add_layer(f"row {row}", side, kind, row, self.layers[row])
        coarse = random(self.style_dim, 3, 4, 4, seed=2) / 10
        pictures = F.interpolate(coarse, size=SIDE, mode="bilinear")
        self.register_buffer("pictures", pictures)  # [S, 3, SIDE, SIDE]
        self.weight = nn.Parameter(torch.ones(3, SIDE, SIDE))
        self.register_buffer("w_avg", torch.zeros(W_DIM))
        with torch.no_grad():
            self.w_avg += self.map(random(1000, W_DIM, seed=3)).mean(dim=0)
        self.requires_grad_(False)

    def _draw(self, s, resolution, noise):
        self.drawn.append(s.detach().clone())
        image = self.weight * torch.einsum("ns,schw->nchw", s, self.pictures)
        return F.adaptive_avg_pool2d(image, resolution)


class ToyNetwork(nn.Module):
    """image [N, 3, R, R] -> [N, D], linear in its pixels, then a unit vector if `unit`."""

    def __init__(self, dim, seed, unit=True):
        super().__init__()
        self.unit = unit
        self.register_buffer("matrix", random(3 * 16 * 16, dim, seed=seed) / 16)

    def forward(self, image):
        x = F.adaptive_avg_pool2d(image, 16).flatten(1) @ self.matrix
        return x / x.norm(dim=1, keepdim=True) if self.unit else x


class ToyClip(ToyNetwork):
    """Sentences are the mean of their words' random vectors; `asked` lists all of them."""

    def __init__(self, unit=True):
        super().__init__(5, seed=4, unit=unit)
        self.asked = []

    def encode_image(self, image):
        return self(image)

    def encode_text(self, texts, **options):
        self.asked += texts
        vectors = [torch.stack([random(5, seed=zlib.crc32(word.encode())) for word in text.split()])
                   for text in texts]
        return F.normalize(torch.stack([words.mean(dim=0) for words in vectors]), dim=1)

    def caution(self, text):
        return ""


SETTINGS = Settings(
    EncodingSettings(steps=12, lr=0.1, features=0.2, prior=0.01, prior_rows=0.01, jitter=0.3,
                     preview_share=0.5, origin={}),
    TuningSettings(steps=6, lr=0.1, noise_lr=0.2, levels=3, strength=1.5, slack=0.04,
                   match=1.2, alpha_most=1.5, features=0.3, origin={}),
    LinearModelSettings(samples=60, psi=0.8, share=0.05, axes=3, ridge=2, lambda_orthogonal=2,
                        min_remaining=0.1, lambda_id=3, origin={}),
    OptimizationSettings(steps=8, lr=0.1, lambda_l2=0.01, lambda_id=0.5, start=0.8, goal=1.3,
                         lambda_orthogonal=0.1, augmentations=4, augmentations_per_step=2,
                         origin={}),
    MapperSettings(steps=6, lr=0.1, lambda_l2=0.03, lambda_id=0.5, start=0.8, goal=1.5,
                   lambda_orthogonal=0.2, augmentations=3, batch=2, training_latents=12,
                   last_layer_scale=0.1, origin={}),
    DirectionSettings(method="linear", alpha=2.0, channels=3, images=5, gradient_images=6,
                      origin={}))


def toy_domain(unit=True, **parts):
    """A `Domain` of toys; `unit`: does its CLIP give unit vectors? `parts` replace its own."""
    return Domain(**dict(
        name="toy", generator=ToyGenerator(), clip=ToyClip(unit), identity=ToyNetwork(6, seed=5),
        neutral="a person", prompts=("a person with glasses",), psi=0.7,
        rows={"coarse": slice(0, 1), "medium": slice(1, 2), "fine": slice(2, 3)},
        fingerprint="toy", licence="", settings=SETTINGS, clip_fingerprint="toy clip") | parts)
