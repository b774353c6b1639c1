"""StyleGAN2's generator (Karras et al., arXiv 1912.04958): z -> w -> w+ -> s -> image.

| name   | shape          | meaning                                             |
|--------|----------------|-----------------------------------------------------|
| z      | [N, z_dim]     | Gaussian noise                                      |
| w      | [N, w_dim]     | after the mapping network                           |
| w_plus | [N, L, w_dim]  | one w per synthesis layer                           |
| s      | [N, S]         | the style channels of all layers, side by side      |
| image  | [N, 3, R, R]   | RGB, about -1 to 1                                  |

Parameters: `mapping.<i>`, `w_avg`, `constant`, `layers.<i>` (two convolutions per resolution, one
at 4 px) and `to_rgb.<i>` (one per resolution), each layer with `affine`, `weight`, `bias`.

The modulated convolution is fused_ops.modulated_layer; fused_ops.plain_modulated_layer is the same
in plain PyTorch.
"""

from dataclasses import dataclass, field
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import nn

from .fused_ops import GAIN, SLOPE, fold, keep_freed_memory, modulated_layer


class EqualLinear(nn.Module):
    """A linear layer, [N, inputs] -> [N, outputs], whose weight is scaled at run time.

    So all layers learn at the same speed: the equalized learning rate (arXiv 1710.10196, section
    4.1). `lr_multiplier` slows a layer down; `bias` is the initial bias.
    """

    def __init__(self, inputs, outputs, *, bias=0.0, lr_multiplier=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.weight_gain, self.bias_gain = lr_multiplier / sqrt(inputs), lr_multiplier

    def forward(self, x):
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class ConvLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU (section 2.2 and figure 2).

    `affine` turns a row of w_plus into a style [N, inputs]. The style gives image n a weight of its
    own, between input channel i and output channel o:

        W'[n, o, i]  = style[n, i] * W[o, i]                        modulation
        W''[n, o, i] = W'[n, o, i] / sqrt(sum W'[n, o]^2 + 1e-8)    demodulation
        y[n] = sqrt(2) * leaky_relu(conv(x[n], W''[n]) + noise_strength * noise + bias)

    The sum is over the input channels and the 3x3 places of the kernel.
    """

    def __init__(self, inputs, outputs, w_dim, resolution, up):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.up = up

    def forward(self, x, style, noise="constant", clamp=None):
        """x [N, inputs, H, H], style [N, inputs] -> [N, outputs, R, R]; R = 2H with `up`, or H."""
        if noise == "none":
            noise_map = None
        elif noise == "random":
            noise_map = torch.randn(len(x), 1, *self.noise.shape, device=x.device)  # [N, 1, R, R]
            noise_map = noise_map * self.noise_strength
        else:
            noise_map = self.noise[None, None] * self.noise_strength  # [1, 1, R, R]
        return modulated_layer(x, self.weight, style, self.bias, noise_map, up=self.up, clamp=clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three colours, without demodulation."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x, style, clamp=None):
        """x [N, inputs, H, W], style [N, inputs] -> [N, 3, H, W], fp32 at least."""
        x, weight = fold(x, self.weight, style / sqrt(style.shape[1]))  # conv(x * style, weight)
        x = F.conv2d(x, weight, self.bias.to(x.dtype))  # [N, 3, H, W]
        x = x if clamp is None else x.clamp(-clamp, clamp)
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def upsample(image):
    """Twice the size, through the low-pass filter [1, 3, 3, 1]: [N, 3, H, W] -> [N, 3, 2H, 2W].

    Bilinear interpolation is that filter; NVIDIA's code sees zeros around an image.
    """
    framed = F.pad(image, [1] * 4)  # [N, 3, H + 2, W + 2]
    large = F.interpolate(framed, scale_factor=2, mode="bilinear", align_corners=False)
    return large[..., 2:-2, 2:-2]


@dataclass(frozen=True)
class StyleSlice:
    """Where one layer takes its style: from a row of w_plus, or from `s[:, start:stop]`."""

    name: str  # in NVIDIA's code, such as "b64.conv0"
    resolution: int  # in pixels, of what the layer puts out
    kind: str  # "conv", "toRGB", or "up" in MobileStyleGAN
    row: int  # of w_plus
    start: int
    stop: int
    layer: nn.Module = field(repr=False, compare=False)

    @property
    def slice(self):
        return slice(self.start, self.stop)


class StyleGenerator(nn.Module):
    """What every generator here has in common: the way from z through w, w+ and s to an image.

    A generator sets `mapping`, `w_avg`, `num_layers` (L) and `resolutions` (in pixels, where
    synthesis may stop), calls `_add_layer` for each layer that has a style, and draws in `_draw`.

    `precision` and `precision_from` choose a half type (torch.float16, torch.bfloat16) for the
    layers from a resolution upward, as NVIDIA's code does; colours add up in fp32.
    """

    def __init__(self, resolution, z_dim, w_dim):
        super().__init__()
        keep_freed_memory()
        self.resolution, self.z_dim, self.w_dim = resolution, z_dim, w_dim
        self.precision, self.precision_from = None, resolution
        self.full_exact = False  # see MobileGenerator
        self.style_layout, self.style_dim = (), 0
        # How many images are drawn at once where gradients are needed: so few that a GPU of 16 GB
        # is enough.
        self.batch = min(8, max(1, 8 * 256**2 // resolution**2))

    def _add_layer(self, name, resolution, kind, row, layer):
        """Append the style channels of a layer to s; the arguments are those of `StyleSlice`."""
        start, stop = self.style_dim, self.style_dim + layer.affine.weight.shape[0]
        part = StyleSlice(name, resolution, kind, row, start, stop, layer)
        self.style_layout, self.style_dim = (*self.style_layout, part), stop

    def map(self, z, truncation=1.0):
        """The mapping network: z [N, z_dim] -> w [N, w_dim].

        Args: truncation: psi; below 1 it pulls w towards the mean, w_avg (arXiv 1812.04948,
            appendix B).
        Raises: ValueError for another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be [N, {self.z_dim}], got {list(z.shape)}.")
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)  # [N, z_dim]
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), SLOPE) * GAIN  # [N, w_dim]
        return w if truncation == 1 else self.w_avg.lerp(w, truncation)

    def broadcast(self, w):
        """w [N, w_dim] -> w_plus [N, L, w_dim], the same w for each layer."""
        return w[:, None].repeat(1, self.num_layers, 1)

    def check_w_plus(self, w_plus):
        """w_plus as [N, L, w_dim]; that of one image, [L, w_dim], gets its batch dimension.

        Raises: ValueError for another shape, for no images, and for what are no finite numbers.
        """
        if not isinstance(w_plus, torch.Tensor) or not w_plus.is_floating_point():
            kind = getattr(w_plus, "dtype", type(w_plus).__name__)
            raise ValueError(f"w_plus must be a tensor of floating-point numbers, not {kind}; "
                             "helpers.inversion.invert makes one from an image.")
        if w_plus.ndim == 2:
            w_plus = w_plus[None]
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_layers, self.w_dim):
            raise ValueError(f"w_plus must be [N, {self.num_layers}, {self.w_dim}] for this "
                             f"generator, got {list(w_plus.shape)}; does it belong to another "
                             "generator?")
        if not len(w_plus):
            raise ValueError("w_plus holds no images: it must be [N, L, w_dim] with N from 1.")
        if not w_plus.isfinite().all():
            raise ValueError("w_plus holds values that are NaN or infinite.")
        return w_plus.to(self.w_avg.dtype)

    def styles(self, w_plus):
        """w_plus [N, L, w_dim] -> s [N, S], the StyleSpace of arXiv 2011.12799.

        Raises: ValueError for another shape.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_layers, self.w_dim):
            w_plus = self.check_w_plus(w_plus)  # not every time: it waits for a GPU
        parts = [part.layer.affine(w_plus[:, part.row]) for part in self.style_layout]
        return torch.cat(parts, dim=1)  # [N, S]

    def synthesize(self, s, resolution=None, *, noise="constant"):
        """s [N, S] -> image [N, 3, R, R]. Without gradients, a large batch is drawn in parts.

        Args:
            resolution: R, one of `resolutions`, to stop early with a small image; None: full size.
            noise: "constant" (the same each time), "random", or "none".
        Raises: ValueError for another shape, resolution or noise.
        """
        resolution = resolution or self.resolution
        if s.ndim != 2 or s.shape[1] != self.style_dim:
            raise ValueError(f"s must be [N, {self.style_dim}] for this generator, "
                             f"got {list(s.shape)}.")
        if noise not in ("constant", "random", "none"):
            raise ValueError(f'noise must be "constant", "random" or "none", got {noise!r}.')
        if resolution not in self.resolutions:
            known = ", ".join(map(str, self.resolutions))
            raise ValueError(f"resolution must be one of {known}, got {resolution}.")
        if torch.is_grad_enabled() and s.requires_grad:
            return self._draw(s, resolution, noise)
        parts = s.split(max(8, 64 * 256**2 // resolution**2))  # 2 GB at 1024 px
        return torch.cat([self._draw(part, resolution, noise) for part in parts])

    def forward(self, w_plus, **options):
        """w_plus [N, L, w_dim] -> image [N, 3, R, R]; options and errors as of `synthesize`."""
        return self.synthesize(self.styles(w_plus), **options)


class Generator(StyleGenerator):
    """StyleGAN2's generator: a constant goes through `layers`, and `to_rgb` images are added up.

    Args:
        resolution: side of the image in pixels, a power of two from 8.
        channels: {resolution: feature maps} for 4, 8, ... up to `resolution`.
        z_dim, w_dim: sizes of z and w.
        mapping_layers: depth of the mapping network.
        mapping_lr: learning-rate multiplier of the mapping network.
        clamp: bound on activations that the network was trained with, or None; NVIDIA's
            `conv_clamp`.
    Raises: ValueError if `channels` does not fit `resolution`.
    """

    def __init__(self, resolution, channels, *, z_dim=512, w_dim=512, mapping_layers=8,
                 mapping_lr=0.01, clamp=None):
        super().__init__(resolution, z_dim, w_dim)
        resolutions = [2**i for i in range(2, int(log2(resolution)) + 1)]
        if (resolutions[-1] != resolution or len(resolutions) < 2
                or sorted(channels) != resolutions):
            raise ValueError(f"resolution {resolution} needs channels for {resolutions}, "
                             f"got {sorted(channels)}.")
        self.config = dict(resolution=resolution, channels=channels, z_dim=z_dim, w_dim=w_dim,
                           mapping_layers=mapping_layers, mapping_lr=mapping_lr, clamp=clamp)
        self.resolutions, self.clamp = tuple(resolutions), clamp
        self.mapping = nn.ModuleList()
        for i in range(mapping_layers):
            inputs = z_dim if i == 0 else w_dim
            self.mapping.append(EqualLinear(inputs, w_dim, lr_multiplier=mapping_lr))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.randn(channels[4], 4, 4))
        self.layers, self.to_rgb = nn.ModuleList(), nn.ModuleList()
        for r in resolutions:
            if r > 4:
                up = ConvLayer(channels[r // 2], channels[r], w_dim, r, up=True)
                self._add_layer(f"b{r}.conv0", r, "conv", len(self.layers), up)
                self.layers.append(up)
            conv = ConvLayer(channels[r], channels[r], w_dim, r, up=False)
            self._add_layer(f"b{r}.conv1", r, "conv", len(self.layers), conv)
            self.layers.append(conv)
            # toRGB shares its row of w+ with the first convolution of the next resolution.
            rgb = ToRGB(channels[r], w_dim)
            self._add_layer(f"b{r}.torgb", r, "toRGB", len(self.layers), rgb)
            self.to_rgb.append(rgb)
        self.num_layers = len(self.layers) + 1  # the last toRGB has a row of w+ to itself

    def _draw(self, s, resolution, noise):
        """s [N, S] -> image [N, 3, R, R]; R = resolution, in pixels."""
        x, image = self.constant.expand(len(s), -1, -1, -1), None  # [N, C, 4, 4]
        for part in self.style_layout:
            if part.resolution > resolution:
                break
            style = s[:, part.slice]  # [N, C]
            if part.kind == "conv":
                half = self.precision is not None and part.resolution >= self.precision_from
                x = x.to(self.precision if half else s.dtype)
                x = x.contiguous(memory_format=torch.channels_last)  # the faster order
                x = part.layer(x, style, noise, self.clamp)  # [N, C', r, r]
            else:
                rgb = part.layer(x, style, self.clamp)  # [N, 3, r, r]
                image = rgb if image is None else upsample(image) + rgb
        return image
