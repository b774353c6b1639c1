"""A first guess of a photograph's w_plus in one pass: the e4e encoder (Tov et al., arXiv 2102.02766) for FFHQ.

Parameters have the names of the published weights. What it finds is a start for `inversion.invert`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .checkpoints import fill, read_torch
from .fetching import fetch
from .identity import IR_SE50, trunk
from .stylegan2 import EqualLinear

LEVELS = ((3, 16), (7, 32), (18, 64))  # rows of w_plus before ..., and the side of the feature map they are read from


class StyleBlock(nn.Module):
    """A feature map [N, 512, side, side] -> a row of w_plus [N, 512]."""

    def __init__(self, side, dim=512):
        super().__init__()
        halvings = side.bit_length() - 1
        self.convs = nn.Sequential(*(part for _ in range(halvings)
                                     for part in (nn.Conv2d(dim, dim, 3, 2, 1), nn.LeakyReLU(0.01))))
        self.linear = EqualLinear(dim, dim)

    def forward(self, x):
        return self.linear(self.convs(x).flatten(1))


class Encoder(nn.Module):
    """image [N, 3, R, R] in [-1, 1] -> w_plus [N, 18, 512], less the mean w, for a generator of 1024 px."""

    def __init__(self):
        super().__init__()
        self.input_layer, self.body = trunk(IR_SE50)
        self.styles = nn.ModuleList(StyleBlock(next(side for last, side in LEVELS if row < last)) for row in range(18))
        self.latlayer1, self.latlayer2 = nn.Conv2d(256, 512, 1), nn.Conv2d(128, 512, 1)

    def forward(self, image):
        x, kept = self.input_layer(F.adaptive_avg_pool2d(image, 256)), {}
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in (6, 20):  # the last of the second and of the third stage
                kept[i] = x
        levels = [x]
        for lateral in (self.latlayer1(kept[20]), self.latlayer2(kept[6])):
            larger = F.interpolate(levels[-1], size=lateral.shape[2:], mode="bilinear", align_corners=True)
            levels.append(larger + lateral)
        of_row = [next(level for level, (last, _) in zip(levels, LEVELS) if row < last) for row in range(18)]
        rows = [block(features) for block, features in zip(self.styles, of_row)]
        return torch.stack([rows[0], *(rows[0] + row for row in rows[1:])], dim=1)


def load_encoder(domain):
    """A function image [N, 3, R, R] -> w_plus [N, L, w_dim] for `invert(..., start=...)`; the weights are fetched.

    Raises: ValueError if no encoder was published for the domain, or the file holds something else; Unavailable if it
        cannot be fetched.
    """
    if not domain.e4e:
        raise ValueError(f"There is no published encoder for {domain.name}: use invert without a start.")
    path = fetch(domain.e4e)
    content = read_torch(path)
    parts = content if isinstance(content, dict) else {}
    state, average = parts.get("state_dict"), parts.get("latent_avg")
    if not isinstance(state, dict) or not isinstance(average, torch.Tensor) or average.shape[-1:] != (512,):
        raise ValueError(f"{path} does not hold an e4e encoder and its mean w: delete it and fetch it again.")
    encoder = fill(Encoder(), {name.removeprefix("encoder."): value for name, value in state.items()
                               if name.startswith("encoder.")}, path).to(domain.device)
    average = average.to(domain.device)  # [512], or the same for each row [18, 512]

    @torch.no_grad()
    def encode(image):
        return encoder(image.to(domain.device)) + average

    return encode
