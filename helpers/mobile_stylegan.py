"""MobileStyleGAN's generator (Belousov, arXiv 2104.04767): z -> w -> w+ -> s -> image.

It was distilled from NVIDIA's StyleGAN2 for FFHQ and shares its mapping network, so W is the same
space. Convolutions are separable (depthwise 3x3, then 1x1), and images grow by an inverse Haar
transform instead of a transposed convolution. Tensors have the names and shapes of stylegan2.py.
"""

from itertools import pairwise
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import nn

from .fused_ops import SLOPE, fold
from .stylegan2 import StyleGenerator

FFHQ_ROWS = 18  # of w_plus, in StyleGAN2 at 1024 px


def from_ffhq_rows(w_plus):
    """FFHQ's w_plus [..., 18, 512], or a direction in it, as this generator's [..., 16, 512].

    The rows do the same in both; the two of 1024 px have no counterpart here and are dropped. So
    directions, e4e's latents and mappers published for StyleGAN2 on FFHQ act on this generator too.

    Raises: ValueError for another number of rows.
    """
    if w_plus.shape[-2] != FFHQ_ROWS:
        raise ValueError(f"FFHQ's w_plus has {FFHQ_ROWS} rows, this has {w_plus.shape[-2]}: "
                         "give [..., 18, 512].")
    return w_plus[..., :-2, :]


def inverse_haar(x):
    """One step of the inverse Haar transform: [N, 4 C, H, W] -> [N, C, 2H, 2W].

    The 4 C channels are C of the low pass, then three times C of details (vertical, horizontal,
    diagonal). In channels_last order, the channels of a pixel lie side by side, so two neighbours
    are one longer pixel: the result is put together without a transposition.
    """
    low, vertical, horizontal, diagonal = x.permute(0, 2, 3, 1).chunk(4, dim=-1)  # [N, H, W, C]
    upper, lower = low + vertical, low - vertical
    inner, outer = horizontal + diagonal, horizontal - diagonal
    upper_row = torch.cat([upper + inner, upper - inner], dim=-1)  # [N, H, W, 2 C], two pixels
    lower_row = torch.cat([lower + outer, lower - outer], dim=-1)
    n, h, w, c = low.shape
    image = torch.stack([upper_row, lower_row], dim=2).view(n, 2 * h, 2 * w, c)
    return image.permute(0, 3, 1, 2)  # [N, C, 2H, 2W]


def haar(image):
    """The Haar transform that `inverse_haar` undoes: [N, C, 2H, 2W] -> [N, 4 C, H, W]."""
    a, b = image[..., 0::2, 0::2], image[..., 0::2, 1::2]  # upper left and right: [N, C, H, W]
    c, d = image[..., 1::2, 0::2], image[..., 1::2, 1::2]  # lower left and right
    low, vertical = a + b + c + d, a + b - c - d
    horizontal, diagonal = a - b + c - d, a - b - c + d
    return torch.cat([low, vertical, horizontal, diagonal], dim=1) / 4


class Up(nn.Module):
    """Modulation, then an inverse Haar transform: [N, inputs, H, W] -> [N, inputs / 4, 2H, 2W]."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = nn.Linear(w_dim, inputs)

    def forward(self, x, style):
        return inverse_haar(x * (style / 2).to(x.dtype)[:, :, None, None])


class MobileConvLayer(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU: [N, inputs, H, W] -> [N, outputs, H, W].

    The convolution is separable, or 3x3 without `separable`. Demodulation does not depend on the
    style here; it is part of the weights.
    """

    def __init__(self, inputs, outputs, w_dim, resolution, separable=True):
        super().__init__()
        self.affine = nn.Linear(w_dim, inputs)
        self.depthwise = nn.Parameter(torch.randn(inputs, 1, 3, 3)) if separable else None
        side = 1 if separable else 3
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(resolution, resolution))
        self.gain = 1 / sqrt(9 * inputs)

    def forward(self, x, style, noise="constant"):
        """x [N, inputs, H, W], style [N, inputs]; `noise` as of `StyleGenerator.synthesize`."""
        style = style * self.gain
        if self.depthwise is None:
            x, weight = fold(x, self.weight, style)  # conv(x * style, weight)
            x = F.conv2d(x, weight, self.bias.to(x.dtype), padding=1)  # [N, outputs, H, W]
        else:
            x, depthwise = fold(x, self.depthwise, style)
            x = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])  # [N, inputs, H, W]
            x = F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype))  # [N, outputs, H, W]
        # In place from here: the gradient needs the result of leaky ReLU, not those before it.
        if noise == "constant":
            x.add_(self.noise.to(x.dtype))
        elif noise == "random":  # as strong as the constant noise
            x.add_(torch.randn_like(x[:, :1]) * self.noise.std().to(x.dtype))
        return F.leaky_relu_(x, SLOPE)


class Readout(nn.Module):
    """An early stop: feature maps [N, inputs, H, W] -> the image they lead to, [N, 3, 2H, 2W].

    It is modulated, as `ToImage` is, by the styles of all layers that are left out, and has one
    hidden layer. It was fitted to area-averaged full images (data/faces/recipe).
    """

    def __init__(self, inputs, styles, hidden=64):
        super().__init__()
        self.affine = nn.ModuleList([nn.Linear(styles, inputs), nn.Linear(styles, hidden),
                                     nn.Linear(styles, 12)])
        self.reduce = nn.Conv2d(inputs, hidden, 1)
        self.spread = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.expand = nn.Conv2d(hidden, 12, 1)
        self.linear = nn.Conv2d(inputs, 12, 1)

    def forward(self, x, styles):
        """x [N, inputs, H, W], styles [N, styles] -> [N, 3, 2H, 2W]."""
        first, second, last = (affine(styles).to(x.dtype)[:, :, None, None]
                               for affine in self.affine)
        x = x * first
        hidden = convolve(self.spread, convolve(self.reduce, x))  # [N, hidden, H, W]
        hidden = F.leaky_relu(hidden, SLOPE) * second
        bands = convolve(self.linear, x) + convolve(self.expand, hidden) + last  # [N, 12, H, W]
        return inverse_haar(bands.float())


def convolve(conv, x):
    """conv(x) of an `nn.Conv2d`, in the dtype of x."""
    weight, bias = conv.weight.to(x.dtype), conv.bias.to(x.dtype)
    return F.conv2d(x, weight, bias, padding=conv.padding, groups=conv.groups)


class ToImage(nn.Module):
    """Modulated 1x1 convolution to twelve Haar channels: [N, inputs, H, W] -> [N, 3, 2H, 2W]."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = nn.Linear(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(12, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))
        self.gain = 1 / sqrt(inputs)

    def forward(self, x, style):
        x, weight = fold(x, self.weight / 2, style * self.gain)
        bands = F.conv2d(x, weight, self.bias.to(x.dtype) / 2)  # [N, 12, H, W]
        return inverse_haar(bands.float())


class MobileGenerator(StyleGenerator):
    """MobileStyleGAN's generator.

    Args:
        channels: feature maps at 4, 8, ... px; the image is twice as large as the last.
        z_dim, w_dim: sizes of z and w.
        mapping_layers: depth of the mapping network.
        readouts: sides in pixels, below `resolution`, of images at which synthesis may stop.

    With `full_exact`, `precision` holds for early stops only, and full images are drawn in fp32.
    """

    def __init__(self, channels, *, z_dim=512, w_dim=512, mapping_layers=8, readouts=()):
        super().__init__(4 * 2 ** len(channels), z_dim, w_dim)
        self.config = dict(channels=list(channels), z_dim=z_dim, w_dim=w_dim,
                           mapping_layers=mapping_layers, readouts=list(readouts))
        self.mapping = nn.ModuleList()
        for i in range(mapping_layers):
            self.mapping.append(nn.Linear(z_dim if i == 0 else w_dim, w_dim))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.randn(channels[0], 4, 4))
        self.first = MobileConvLayer(channels[0], channels[0], w_dim, 4, separable=False)
        self._add_layer("b4.conv1", 4, "conv", 0, self.first)
        self.blocks = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(channels)):
            r = 8 * 2**i
            up = Up(before, w_dim)
            conv0 = MobileConvLayer(before // 4, after, w_dim, r)
            conv1 = MobileConvLayer(after, after, w_dim, r)
            self.blocks.append(nn.ModuleDict({"up": up, "conv0": conv0, "conv1": conv1}))
            self._add_layer(f"b{r}.up", r, "up", 2 * i + 1, up)
            self._add_layer(f"b{r}.conv0", r, "conv", 2 * i + 1, conv0)
            self._add_layer(f"b{r}.conv1", r, "conv", 2 * i + 2, conv1)
        self.to_image = ToImage(channels[-1], w_dim)
        self.num_layers = 2 * len(self.blocks) + 2
        last = self.num_layers - 1
        self._add_layer(f"b{self.resolution}.torgb", self.resolution, "toRGB", last, self.to_image)
        self.readouts = nn.ModuleDict()
        self.set_readouts(readouts)

    def set_readouts(self, sides):
        """Have untrained early stops at these sides of an image, in pixels."""
        self.config["readouts"], self.resolutions = list(sides), (*sides, self.resolution)
        for side in sides:
            left_out = [part for part in self.style_layout if part.resolution >= side]
            inputs = self.config["channels"][int(log2(side)) - 3]  # maps at half the side
            self.readouts[str(side)] = Readout(inputs, self.style_dim - left_out[0].start)

    def _draw(self, s, resolution, noise):
        """s [N, S] -> image [N, 3, R, R]; R = resolution, in pixels."""
        exact = self.precision is None or self.full_exact and resolution == self.resolution
        x = self._maps(s, resolution, noise, exact)  # [N, C, R / 2, R / 2]
        left_out = next(part for part in self.style_layout if part.resolution >= resolution)
        if resolution < self.resolution:
            return self.readouts[str(resolution)](x, s[:, left_out.start:])
        return self.to_image(x, s[:, left_out.slice])

    def maps(self, s, side):
        """s [N, S] -> the feature maps of a side in pixels, after all layers of it, in fp32:
        [N, C, side, side]."""
        return self._maps(s, 2 * side, "constant", exact=True)

    def _maps(self, s, resolution, noise, exact):
        """s [N, S] -> feature maps before the layers of a resolution, half its side."""
        x = self.constant.expand(len(s), -1, -1, -1)  # [N, C, 4, 4]
        for part in self.style_layout:
            if part.resolution >= resolution:
                break
            half = not exact and part.resolution >= self.precision_from
            x = run_layer(part, x.to(self.precision if half else s.dtype), s, noise)
        return x

    @torch.no_grad()
    def blended(self, s, other, edited, *, head, around, blend_from, styled_from):
        """An edit in one place, and the same without the edit: images [2, 3, R, R], in fp32.

        Feature maps are blended (Suzuki et al., arXiv 1811.10153): outside of `around` they are
        those of this generator and s, inside those of `other` and the edit. From `styled_from` px
        on `other` draws the head only, and beside it, in what the edit uncovers, this generator
        goes on from the same maps in the styles of s, so that it has the colours and the light of
        what is around it. Both images are made in this way, so without an edit they are the same.

        Args: s, edited [1, S]; other: a `MobileGenerator` of the same size; head, around
            [1, 1, r, r], from 0 to 1; blend_from, styled_from: sides in pixels of the first maps.
        """
        plain = self.constant.expand(1, -1, -1, -1)  # [1, C, 4, 4]
        maps = other.constant.expand(2, -1, -1, -1)  # [2, C, 4, 4]: with the edit and without it
        pair, masks = torch.cat([edited, s]), torch.cat([head, around], dim=1)
        for mine, others in zip(self.style_layout, other.style_layout):
            side = mine.resolution
            here = F.interpolate(masks, side, mode="bilinear", antialias=True)
            on_head, inside = here.split(1, dim=1)  # each [1, 1, side, side]
            drawn = run_layer(others, maps, pair)
            if side >= styled_from:
                beside = run_layer(mine, torch.cat([plain, maps]), s.expand(3, -1))
                plain, beside = beside.split([1, 2])
                maps = beside.lerp(drawn, on_head)
            else:
                plain, maps = run_layer(mine, plain, s), drawn
            if side >= blend_from:
                maps = plain.lerp(maps, inside)
        return maps


def run_layer(part, x, s, noise="constant"):
    """A `StyleSlice`'s layer of x [N, C, H, W] and s [N, S]: maps, or an image of the last one."""
    x = x.contiguous(memory_format=torch.channels_last)
    if part.kind == "conv":
        return part.layer(x, s[:, part.slice], noise)  # [N, C', r, r]
    return part.layer(x, s[:, part.slice])  # [N, C / 4, r, r], or [N, 3, R, R]
