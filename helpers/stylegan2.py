"""StyleGAN2's generator in plain PyTorch (Karras et al., arXiv 1912.04958): z -> w -> w+ -> s -> image.

| name   | shape          | meaning                                             |
|--------|----------------|-----------------------------------------------------|
| z      | [N, z_dim]     | Gaussian noise                                      |
| w      | [N, w_dim]     | after the mapping network                           |
| w_plus | [N, L, w_dim]  | one w per synthesis layer                           |
| s      | [N, S]         | the style channels of all layers, side by side      |
| image  | [N, 3, R, R]   | RGB, about -1 to 1                                  |

Parameters: `mapping.<i>`, `w_avg`, `constant`, `layers.<i>` (two convolutions per resolution, one at
4 px) and `to_rgb.<i>` (one per resolution), each layer with `affine`, `weight`, `bias`.
"""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

SLOPE, ACTIVATION_GAIN = 0.2, sqrt(2)  # leaky ReLU about halves the variance of its input; the gain restores it


@dataclass(frozen=True)
class StyleSlice:
    """Where one layer's style channels lie in s: `s[:, start:stop]`."""

    name: str
    resolution: int
    kind: str  # "conv" or "toRGB"
    start: int
    stop: int

    @property
    def slice(self):
        return slice(self.start, self.stop)


@cache
def keep_freed_memory():
    """Have Linux's C library keep freed blocks of any size for the next tensor, in all threads.

    It gives a block above 32 MB back at once, and the system hands out zeroed pages for the next tensor, which takes a
    third of the time of a step at 1024 px. Other systems are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # options by their numbers in malloc.h
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks up to this size come out of what was freed
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what was freed stays
        mallopt(-8, 1)  # M_ARENA_MAX: a thread of its own would have an arena of its own, which holds no large block


def half_type(device):
    """The half precision that a processor or GPU computes with; None where it would only convert to and fro."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else None
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # a Colab may have none
    native = device.type == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if native else None


class HalfPrecision:
    """`with HalfPrecision(generator):` its layers run in the `half_type` of its device, if there is one."""

    def __init__(self, generator):
        self.generator, self.before = generator, (generator.precision, generator.precision_from)

    def __enter__(self):
        kind = half_type(self.generator.w_avg.device)
        if kind is not None:
            self.generator.precision, self.generator.precision_from = kind, 4

    def __exit__(self, *error):
        self.generator.precision, self.generator.precision_from = self.before


class EqualLinear(nn.Module):
    """A linear layer whose weight is scaled at run time, so that all layers learn at one speed (1710.10196)."""

    def __init__(self, inputs, outputs, *, bias=0.0, lr_multiplier=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.weight_gain, self.bias_gain = lr_multiplier / sqrt(inputs), lr_multiplier

    def forward(self, x):
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class FoldedScale(torch.autograd.Function):
    """x [1, C, H, W] unchanged; backward, the gradient of a scale [1, C] that was folded into the weight behind it.

    With the scale inside the weight, x's gradient g is scale * dL/d(scale * x), so that the sum of x * g over a channel
    is scale * dL/dscale. Neither scale * x nor a weight's gradient, which costs as much as a convolution, is computed.
    """

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x.detach()  # a view would lose the order of channels_last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        return grad, (x * grad).sum(dim=(2, 3), dtype=scale.dtype) / scale


def fold(x, weight, scale):
    """(x', weight') in x's dtype with conv(x', weight') = conv(x * scale, weight).

    Of one image and its own weight, the smaller is scaled; a batch has one weight for all of its images.

    Args: x [N, I, H, W]; weight [O, I, K, K], or [I, 1, K, K] of a convolution of each channel by itself; scale [N, I].
    """
    if len(x) > 1 or x.numel() < weight.numel():
        return x * scale.to(x.dtype)[:, :, None, None], weight.to(x.dtype)
    smallest = torch.finfo(torch.float16 if x.dtype == torch.float16 else scale.dtype).eps
    scale = scale + 2 * smallest * (scale.abs() < smallest)  # FoldedScale divides by it
    shape = (-1, 1, 1, 1) if weight.shape[1] == 1 else (1, -1, 1, 1)
    return FoldedScale.apply(x, scale), (weight * scale.detach().view(shape)).to(x.dtype)


class Activation(torch.autograd.Function):
    """leaky_relu(x * norm + bias + noise), in the memory of x, clamped where `clamp` is not None.

    Only the result y is kept: leaky ReLU has slope y / input, so that the sum of input * dL/dinput is that of
    y * dL/dy. Args: x [N, C, H, W]; norm [N, C]; bias [C]; noise [1 or N, 1, H, W] or None.
    """

    @staticmethod
    def forward(ctx, x, norm, bias, noise, clamp):
        x.mul_(norm.to(x.dtype)[:, :, None, None]).add_(bias.to(x.dtype)[:, None, None])
        if noise is not None:
            x.add_(noise.to(x.dtype))  # of one dtype: adding another is several times as slow
        y = F.leaky_relu_(x, SLOPE)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y, norm, bias, noise)
        ctx.clamp = clamp
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, norm, bias, noise = ctx.saved_tensors
        if ctx.clamp is not None:
            grad = grad.masked_fill(y.abs() >= ctx.clamp, 0)
        inner = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        total, by_noise = inner.sum(dim=(2, 3), dtype=norm.dtype), None
        by_norm = (grad * y).sum(dim=(2, 3), dtype=norm.dtype) - total * bias
        if noise is not None:
            by_norm -= torch.einsum("nchw,nhw->nc", inner, noise[:, 0].to(inner.dtype))
            if ctx.needs_input_grad[3]:
                by_noise = inner.sum(dim=1, keepdim=True, dtype=noise.dtype).sum_to_size(noise.shape)
        return inner.mul_(norm.to(inner.dtype)[:, :, None, None]), by_norm / norm, total.sum(dim=0), by_noise, None


def modulated_layer(x, weight, style, bias, noise=None, *, up=False, clamp=None):
    """Convolve each image with its own weights, W' = style * W, rescaled to unit norm (1912.04958, section 2.2); then
    noise, bias and leaky ReLU.

    Scaling the input by the style and the output by the norm is the same as scaling the weights, and needs one ordinary
    convolution for the whole batch.

    Args: x [N, I, H, W]; weight [O, I, 3, 3]; style [N, I]; bias [O]; noise [1 or N, 1, H', W'] or None.
    Returns [N, O, H', W'], where H' = H, or 2H with `up`.
    """
    if x.dtype == torch.float16:  # keep the intermediate result inside half precision's range
        weight = weight / weight.abs().amax(dim=(1, 2, 3), keepdim=True)
        style = style / style.abs().amax(dim=1, keepdim=True)
    norm = torch.rsqrt(style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8)
    x, weight = fold(x, weight, style)
    if up:
        x = smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
    else:
        x = F.conv2d(x, weight, padding=1)
    # The gain comes before leaky ReLU, which it passes unchanged, on what is small.
    noise = None if noise is None else noise * ACTIVATION_GAIN
    return Activation.apply(x, norm * ACTIVATION_GAIN, bias * ACTIVATION_GAIN, noise, clamp)


def smooth(x):
    """The low-pass filter [1, 3, 3, 1] / 4 along both axes, [N, C, 2H + 1, 2W + 1] -> [N, C, 2H, 2W]."""
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype, device=x.device) / 4
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def upsample(image):
    """Twice the size, through the same filter: [N, 3, H, W] -> [N, 3, 2H, 2W].

    Bilinear interpolation is that filter; the border of zeros is what NVIDIA's code sees around an image.
    """
    return F.interpolate(F.pad(image, [1] * 4), scale_factor=2, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]


class ConvLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs, outputs, w_dim, resolution, up):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.up = up

    def forward(self, x, style, noise="constant", clamp=None):
        field = {"constant": self.noise[None, None], "none": None}.get(noise)
        if noise == "random":
            field = torch.randn(len(x), 1, *self.noise.shape, device=x.device)
        field = None if field is None else field * self.noise_strength
        return modulated_layer(x, self.weight, style, self.bias, field, up=self.up, clamp=clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three colours, without demodulation."""

    def __init__(self, inputs, w_dim):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x, style, clamp=None):
        x, weight = fold(x, self.weight, style / sqrt(style.shape[1]))
        x = F.conv2d(x, weight, self.bias.to(x.dtype))
        x = x if clamp is None else x.clamp(-clamp, clamp)
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class StyleGenerator(nn.Module):
    """What every generator here has in common: the way from z through w, w+ and s to an image.

    A generator sets `mapping`, `w_avg`, `resolution`, `z_dim`, `w_dim`, `num_layers` and `resolutions` (where synthesis
    may stop), calls `_set_steps`, and draws in `_draw`.
    """

    def _set_steps(self, steps):
        """The layers in StyleSpace's order: (name, resolution, kind, row of w+, module)."""
        keep_freed_memory()
        self._steps, layout, start = steps, [], 0
        for name, resolution, kind, _, module in steps:
            stop = start + module.affine.weight.shape[0]
            layout.append(StyleSlice(name, resolution, kind, start, stop))
            start = stop
        self.style_layout, self.style_dim = tuple(layout), start
        # How many images are drawn at once where gradients are needed, so that a GPU of 16 GB is enough.
        self.batch = min(8, max(1, 8 * 256**2 // self.resolution**2))

    def map(self, z, truncation=1.0):
        """z [N, z_dim] -> w [N, w_dim]; truncation psi below 1 pulls w towards the mean (1912.04958)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be [N, {self.z_dim}], got {list(z.shape)}.")
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), SLOPE) * ACTIVATION_GAIN
        return w if truncation == 1 else self.w_avg.lerp(w, truncation)

    def broadcast(self, w):
        """w [N, w_dim] -> w_plus [N, L, w_dim], the same w for each layer."""
        return w[:, None].repeat(1, self.num_layers, 1)

    def check_w_plus(self, w_plus):
        """w_plus as [N, L, w_dim]; one image's [L, w_dim] gets its batch dimension, other shapes a ValueError."""
        if w_plus.ndim == 2:
            w_plus = w_plus[None]
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_layers, self.w_dim):
            raise ValueError(f"w_plus must be [N, {self.num_layers}, {self.w_dim}] for this generator, got "
                             f"{list(w_plus.shape)}; does it belong to another generator?")
        return w_plus

    def styles(self, w_plus):
        """w_plus [N, L, w_dim] -> s [N, S], every layer's style channels (StyleSpace, arXiv 2011.12799)."""
        w_plus = self.check_w_plus(w_plus)
        return torch.cat([module.affine(w_plus[:, row]) for *_, row, module in self._steps], dim=1)

    def synthesize(self, s, resolution=None, *, noise="constant"):
        """s [N, S] -> image [N, 3, R, R]. Without gradients, a large batch is drawn in parts, to save memory.

        Args:
            resolution: stop early, at one of `resolutions`, with a small image; full size if none is given.
            noise: "constant" (the same each time), "random", or "none".
        """
        resolution = resolution or self.resolution
        if s.ndim != 2 or s.shape[1] != self.style_dim:
            raise ValueError(f"s must be [N, {self.style_dim}] for this generator, got {list(s.shape)}.")
        if noise not in ("constant", "random", "none"):
            raise ValueError(f'noise must be "constant", "random" or "none", got {noise!r}.')
        if resolution not in self.resolutions:
            raise ValueError(f"resolution must be one of {', '.join(map(str, self.resolutions))}, got {resolution}.")
        if torch.is_grad_enabled() and s.requires_grad:
            return self._draw(s, resolution, noise)
        parts = s.split(max(8, 64 * 256**2 // resolution**2))  # 2 GB at 1024 px
        return torch.cat([self._draw(part, resolution, noise) for part in parts])

    def forward(self, w_plus, **options):
        """w_plus [N, L, w_dim] -> image [N, 3, R, R]; options as in `synthesize`."""
        return self.synthesize(self.styles(w_plus), **options)


class Generator(StyleGenerator):
    """StyleGAN2's generator.

    Args:
        resolution: side of the image in pixels, a power of two from 8.
        channels: {resolution: feature maps} for 4, 8, ... up to `resolution`.
        z_dim, w_dim: sizes of z and w.
        mapping_layers: depth of the mapping network.
        mapping_lr: learning-rate multiplier of the mapping network.
        clamp: bound on activations, where the network was trained with one (NVIDIA's `conv_clamp`).

    `precision` and `precision_from` choose a half type (torch.float16, torch.bfloat16) for the layers from
    a resolution upward, as NVIDIA's code does; colours add up in fp32.
    """

    def __init__(self, resolution, channels, *, z_dim=512, w_dim=512, mapping_layers=8, mapping_lr=0.01,
                 clamp=None):
        super().__init__()
        resolutions = [2**i for i in range(2, int(log2(resolution)) + 1)]
        if resolutions[-1] != resolution or len(resolutions) < 2 or sorted(channels) != resolutions:
            raise ValueError(f"resolution {resolution} needs channels for {resolutions}, got {sorted(channels)}.")
        self.config = dict(resolution=resolution, channels=channels, z_dim=z_dim, w_dim=w_dim,
                           mapping_layers=mapping_layers, mapping_lr=mapping_lr, clamp=clamp)
        self.resolution, self.z_dim, self.w_dim = resolution, z_dim, w_dim
        self.precision, self.precision_from, self.clamp = None, resolution, clamp

        self.mapping = nn.ModuleList(EqualLinear(z_dim if i == 0 else w_dim, w_dim, lr_multiplier=mapping_lr)
                                     for i in range(mapping_layers))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.randn(channels[4], 4, 4))
        self.layers, self.to_rgb = nn.ModuleList(), nn.ModuleList()
        for r in resolutions:
            if r > 4:
                self.layers.append(ConvLayer(channels[r // 2], channels[r], w_dim, r, up=True))
            self.layers.append(ConvLayer(channels[r], channels[r], w_dim, r, up=False))
            self.to_rgb.append(ToRGB(channels[r], w_dim))
        self.num_layers = len(self.layers) + 1  # the last toRGB has a row of w+ to itself
        self.resolutions = tuple(resolutions)
        self._set_steps(self._plan(resolutions))

    def _plan(self, resolutions):
        steps = []
        for block, r in enumerate(resolutions):
            convs = [2 * block - 1, 2 * block] if block else [0]
            for name, row in zip(("conv0", "conv1")[-len(convs):], convs):
                steps.append((f"b{r}.{name}", r, "conv", row, self.layers[row]))
            # toRGB shares its row of w+ with the first convolution of the next resolution.
            steps.append((f"b{r}.torgb", r, "toRGB", convs[-1] + 1, self.to_rgb[block]))
        return steps

    def _draw(self, s, resolution, noise):
        """The sum of the RGB layers up to a resolution: s [N, S] -> image [N, 3, resolution, resolution]."""
        x, image = self.constant.expand(len(s), -1, -1, -1), None
        for part, (*_, module) in zip(self.style_layout, self._steps):
            if part.resolution > resolution:
                break
            style = s[:, part.slice]
            if part.kind == "conv":
                half = self.precision is not None and part.resolution >= self.precision_from
                x = x.to(self.precision if half else s.dtype)
                x = module(x.contiguous(memory_format=torch.channels_last), style, noise, self.clamp)
            else:
                rgb = module(x, style, self.clamp)
                image = rgb if image is None else upsample(image) + rgb
        return image
