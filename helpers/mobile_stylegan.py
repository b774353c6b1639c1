"""MobileStyleGAN's generator in plain PyTorch (Belousov, arXiv 2104.04767): z -> w -> w+ -> s -> image.

It was distilled from NVIDIA's StyleGAN2 for FFHQ and shares its mapping network, so W is FFHQ's own. Convolutions are
split in two (each channel by itself, then 1x1), and pictures grow by an inverse Haar transform instead of a
transposed convolution. Tensors have the names and shapes of `helpers.stylegan2`.
"""

from itertools import pairwise
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import nn

from .stylegan2 import SLOPE, StyleGenerator, fold

FFHQ_ROWS = 18  # of StyleGAN2 at 1024 px


def from_ffhq_rows(w_plus):
    """FFHQ's w_plus [..., 18, 512], or a direction in it, as this generator's [..., 16, 512].

    The rows do the same in both; the two of 1024 px have no counterpart here and are dropped. So directions, e4e's
    latents and mappers that were published for StyleGAN2 on FFHQ act on this generator too. Raises: ValueError.
    """
    if w_plus.shape[-2] != FFHQ_ROWS:
        raise ValueError(f"FFHQ's w_plus has {FFHQ_ROWS} rows, this has {w_plus.shape[-2]}: give [..., 18, 512].")
    return w_plus[..., :-2, :]


def inverse_haar(x):
    """One step of the inverse Haar transform: [N, 4 C, H, W], low pass first, then details -> [N, C, 2H, 2W].

    In the order of channels_last a pixel's channels lie side by side, so that two neighbours are one longer pixel:
    the result is put together without a transposition.
    """
    low, vertical, horizontal, diagonal = x.permute(0, 2, 3, 1).chunk(4, dim=-1)
    upper, lower = low + vertical, low - vertical
    inner, outer = horizontal + diagonal, horizontal - diagonal
    rows = [torch.cat([upper + inner, upper - inner], -1), torch.cat([lower + outer, lower - outer], -1)]
    n, h, w, c = low.shape
    return torch.stack(rows, dim=2).view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def haar(image):
    """The Haar transform that `inverse_haar` undoes: [N, C, 2H, 2W] -> [N, 4 C, H, W]."""
    a, b, c, d = (image[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 4


class Affine(nn.Linear):
    """A row of w_plus [N, w_dim] -> a layer's style channels [N, inputs]."""


class Up(nn.Module):
    """Modulation, then an inverse Haar transform: [N, C, H, W] -> [N, C / 4, 2H, 2W]."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = Affine(w_dim, inputs)

    def forward(self, x, style):
        return inverse_haar(x * (style / 2).to(x.dtype)[:, :, None, None])


class ConvLayer(nn.Module):
    """Modulated convolution (3x3, or each channel by itself and then 1x1), noise, bias, leaky ReLU.

    Demodulation does not depend on the style here; it is part of the weights.
    """

    def __init__(self, inputs, outputs, w_dim, resolution, separable=True):
        super().__init__()
        self.affine = Affine(w_dim, inputs)
        self.depthwise = nn.Parameter(torch.randn(inputs, 1, 3, 3)) if separable else None
        side = 1 if separable else 3
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(resolution, resolution))
        self.gain = 1 / sqrt(9 * inputs)

    def forward(self, x, style, noise="constant"):
        x, weight = fold(x, self.weight if self.depthwise is None else self.depthwise, style * self.gain)
        if self.depthwise is not None:
            x, weight = F.conv2d(x, weight, padding=1, groups=x.shape[1]), self.weight.to(x.dtype)
        x = F.conv2d(x, weight, self.bias.to(x.dtype), padding=weight.shape[-1] // 2)
        if noise == "constant":
            x.add_(self.noise.to(x.dtype))
        elif noise == "random":  # as strong as the constant noise
            x.add_(torch.randn_like(x[:, :1]) * self.noise.std().to(x.dtype))
        return F.leaky_relu_(x, SLOPE)  # a convolution needs its result no more; leaky ReLU goes backward from its own


class Readout(nn.Module):
    """An early stop: feature maps [N, C, H, W] -> the image at twice their side that the rest would have led to.

    Modulated as `ToImage` is, by the styles of all layers that are left out, through one hidden layer of 1x1
    convolutions; it was fitted to full pictures, area-averaged (data/faces/recipe).
    """

    def __init__(self, inputs, styles, hidden=64):
        super().__init__()
        self.affine = nn.ModuleList([Affine(styles, inputs), Affine(styles, hidden), Affine(styles, 12)])
        self.reduce = nn.Conv2d(inputs, hidden, 1)
        self.spread = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.expand = nn.Conv2d(hidden, 12, 1)
        self.linear = nn.Conv2d(inputs, 12, 1)

    def forward(self, x, styles):
        first, second, last = (affine(styles).to(x.dtype)[:, :, None, None] for affine in self.affine)

        def convolve(conv, x):
            return F.conv2d(x, conv.weight.to(x.dtype), conv.bias.to(x.dtype), 1, conv.padding, groups=conv.groups)

        x = x * first
        hidden = F.leaky_relu(convolve(self.spread, convolve(self.reduce, x)), SLOPE) * second
        return inverse_haar((convolve(self.linear, x) + convolve(self.expand, hidden) + last).float())


class ToImage(nn.Module):
    """Modulated 1x1 convolution to the twelve Haar channels of an image of twice the side."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = Affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(12, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))
        self.gain = 1 / sqrt(inputs)

    def forward(self, x, style):
        x, weight = fold(x, self.weight / 2, style * self.gain)
        return inverse_haar(F.conv2d(x, weight, self.bias.to(x.dtype) / 2).float())


class MobileGenerator(StyleGenerator):
    """MobileStyleGAN's generator, which answers to the names of `stylegan2.Generator`.

    Args:
        channels: feature maps at 4, 8, ... px; the image is twice as large as the last.
        z_dim, w_dim: sizes of z and w.
        mapping_layers: depth of the mapping network.
        readouts: sides of images below `resolution` at which synthesis may stop.

    `precision` and `precision_from` choose a half type for the layers from a resolution upward; with `full_exact` for
    early stops only, so that whole pictures stay in fp32.
    """

    def __init__(self, channels, *, z_dim=512, w_dim=512, mapping_layers=8, readouts=()):
        super().__init__()
        self.config = dict(channels=list(channels), z_dim=z_dim, w_dim=w_dim, mapping_layers=mapping_layers,
                           readouts=list(readouts))
        self.resolution, self.z_dim, self.w_dim = 4 * 2 ** len(channels), z_dim, w_dim
        self.precision, self.precision_from, self.full_exact = None, self.resolution, False
        self.mapping = nn.ModuleList(nn.Linear(z_dim if i == 0 else w_dim, w_dim) for i in range(mapping_layers))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.randn(channels[0], 4, 4))
        self.first = ConvLayer(channels[0], channels[0], w_dim, 4, separable=False)
        self.blocks = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(channels)):
            side = 8 * 2**i
            self.blocks.append(nn.ModuleDict({
                "up": Up(before, w_dim), "conv0": ConvLayer(before // 4, after, w_dim, side),
                "conv1": ConvLayer(after, after, w_dim, side)}))
        self.to_image = ToImage(channels[-1], w_dim)
        self.num_layers = 2 * len(self.blocks) + 2
        self._set_steps(self._plan())
        self.readouts = nn.ModuleDict()
        self.set_readouts(readouts)

    def set_readouts(self, sides):
        """Have untrained early stops at these sides of an image."""
        self.config["readouts"], self.resolutions = list(sides), (*sides, self.resolution)
        for side in sides:
            later = self.style_dim - next(part.start for part in self.style_layout if part.resolution >= side)
            self.readouts[str(side)] = Readout(self.config["channels"][int(log2(side)) - 3], later)

    def _plan(self):
        steps = [("b4.conv1", 4, "conv", 0, self.first)]
        for i, block in enumerate(self.blocks):
            for name, row in (("up", 2 * i + 1), ("conv0", 2 * i + 1), ("conv1", 2 * i + 2)):
                steps.append((f"b{8 * 2**i}.{name}", 8 * 2**i, "up" if name == "up" else "conv", row, block[name]))
        steps.append((f"b{self.resolution}.torgb", self.resolution, "toRGB", self.num_layers - 1, self.to_image))
        return steps

    def _draw(self, s, resolution, noise):
        """s [N, S] -> image [N, 3, resolution, resolution]."""
        x = self.constant.expand(len(s), -1, -1, -1)
        precision = None if self.full_exact and resolution == self.resolution else self.precision
        for part, (*_, kind, _, module) in zip(self.style_layout, self._steps):
            if part.resolution >= resolution:
                if resolution < self.resolution:
                    return self.readouts[str(resolution)](x, s[:, part.start:])
                return module(x, s[:, part.slice])
            half = precision is not None and part.resolution >= self.precision_from
            x = x.to(precision if half else s.dtype).contiguous(memory_format=torch.channels_last)
            x = module(x, s[:, part.slice], noise) if kind == "conv" else module(x, s[:, part.slice])
