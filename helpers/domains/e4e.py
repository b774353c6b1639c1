"""A first guess of a photograph's w_plus in one pass: e4e (Tov et al., arXiv 2102.02766) for FFHQ.

Parameters have the names of the published weights. What it finds is a start for `inversion.invert`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..face_networks import IR_SE50, trunk
from ..stylegan2 import EqualLinear
from .download import fetch
from .formats.safetensors_files import fill
from .formats.torch_files import read_torch

COARSE, MEDIUM, ROWS = 3, 7, 18  # rows of w_plus read from maps of 16 px, then 32 px, then 64 px


class StyleBlock(nn.Module):
    """A feature map [N, 512, side, side] -> a row of w_plus [N, 512]."""

    def __init__(self, side, dim=512):
        super().__init__()
        layers = []
        while side > 1:
            layers += [nn.Conv2d(dim, dim, 3, 2, 1), nn.LeakyReLU(0.01)]
            side //= 2
        self.convs, self.linear = nn.Sequential(*layers), EqualLinear(dim, dim)

    def forward(self, x):
        return self.linear(self.convs(x).flatten(1))


class E4eEncoder(nn.Module):
    """image [N, 3, R, R] in [-1, 1] -> w_plus [N, 18, 512], for FFHQ's generator of 1024 px."""

    def __init__(self):
        super().__init__()
        self.input_layer, self.body = trunk(IR_SE50)
        sides = [16] * COARSE + [32] * (MEDIUM - COARSE) + [64] * (ROWS - MEDIUM)
        self.styles = nn.ModuleList(StyleBlock(side) for side in sides)
        self.latlayer1, self.latlayer2 = nn.Conv2d(256, 512, 1), nn.Conv2d(128, 512, 1)
        self.register_buffer("latent_avg", torch.zeros(ROWS, 512))  # the mean w

    def forward(self, image):
        x = self.input_layer(F.adaptive_avg_pool2d(image.to(self.latent_avg.device), 256))
        second = self.body[:7](x)  # [N, 128, 64, 64], after the second stage
        third = self.body[7:21](second)  # [N, 256, 32, 32]
        coarse = self.body[21:](third)  # [N, 512, 16, 16]
        medium = _enlarged(coarse, 32) + self.latlayer1(third)
        fine = _enlarged(medium, 64) + self.latlayer2(second)
        levels = [coarse] * COARSE + [medium] * (MEDIUM - COARSE) + [fine] * (ROWS - MEDIUM)
        rows = [block(level) for block, level in zip(self.styles, levels)]
        offsets = [rows[0], *(rows[0] + row for row in rows[1:])]  # each row beside the first
        return torch.stack(offsets, dim=1) + self.latent_avg


def _enlarged(x, side):
    """A feature map [N, C, H, W] at [N, C, side, side]."""
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)


def load_encoder(domain):
    """The `E4eEncoder` of a domain; its weights are fetched.

    Raises: ValueError if none was published for the domain, or the file holds something else;
        Unavailable if it cannot be fetched.
    """
    if not domain.e4e:
        raise ValueError(f"There is no published encoder for {domain.name}: use invert without a "
                         "start.")
    path = fetch(domain.e4e)
    content = read_torch(path)
    parts = content if isinstance(content, dict) else {}
    weights, mean = parts.get("state_dict"), parts.get("latent_avg")  # [512] or [18, 512]
    has_mean = isinstance(mean, torch.Tensor) and mean.shape in ((512,), (ROWS, 512))
    if not isinstance(weights, dict) or not has_mean:
        raise ValueError(f"{path} does not hold an e4e encoder and its mean w: delete it and fetch "
                         "it again.")
    state = {name.removeprefix("encoder."): value for name, value in weights.items()
             if name.startswith("encoder.")}
    state["latent_avg"] = mean.expand(ROWS, 512)
    return fill(E4eEncoder(), state, path).to(domain.device)
