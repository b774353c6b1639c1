"""What makes the generators fast: fused operations, half precision, and memory that is kept.

Beside each fast operation stands `plain_...`, the same in plain PyTorch, to be read first.
tests/networks/test_fused_ops.py shows that results and gradients agree.
"""

import ctypes
import sys
from functools import cache
from math import sqrt

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

SLOPE = 0.2  # of leaky ReLU below 0
GAIN = sqrt(2)  # leaky ReLU about halves the variance of its input; the gain restores it


def plain_fold(x, weight, scale):
    """x [N, I, H, W], its channels scaled by [N, I], and the weight to convolve the result with."""
    return x * scale[:, :, None, None], weight


def fold(x, weight, scale):
    """As `plain_fold`; of one image and its own weight, the smaller is scaled.

    conv(x * scale, weight) = conv(x, weight * scale) of one image.

    Args:
        x: [N, I, H, W].
        weight: [O, I, K, K], or [I, 1, K, K] of a depthwise convolution.
        scale: [N, I], of the input channels.
    Returns: x' [N, I, H, W] and weight', of weight's shape, both in the dtype of x.
    """
    if len(x) > 1 or x.numel() < weight.numel():  # a batch has one weight for all of its images
        return x * scale.to(x.dtype)[:, :, None, None], weight.to(x.dtype)
    smallest = torch.finfo(torch.float16 if x.dtype == torch.float16 else scale.dtype).eps
    scale = scale + 2 * smallest * (scale.abs() < smallest)  # FoldedScale divides by it
    shape = (-1, 1, 1, 1) if weight.shape[1] == 1 else (1, -1, 1, 1)
    return FoldedScale.apply(x, scale), (weight * scale.detach().view(shape)).to(x.dtype)


class FoldedScale(torch.autograd.Function):
    """x [1, I, H, W] unchanged; backward, the gradient of a scale [1, I] folded into the weight.

    With g = dL/dx = scale * dL/d(scale * x), the sum of x * g over a channel is scale * dL/dscale.
    Neither scale * x nor a gradient of the weight, as costly as a convolution, is computed.
    """

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x.detach()  # a view would lose the order of channels_last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        return grad, (x * grad).sum(dim=(2, 3), dtype=scale.dtype) / scale  # [1, I, H, W], [1, I]


def plain_activation(x, scale, bias, noise, clamp):
    """leaky_relu(x * scale + bias + noise), clamped where `clamp` is not None: [N, C, H, W].

    Args: x [N, C, H, W]; scale [N, C]; bias [C]; noise [1 or N, 1, H, W] or None.
    """
    x = x * scale[:, :, None, None] + bias[:, None, None]  # [N, C, H, W]
    y = F.leaky_relu(x if noise is None else x + noise, SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


class Activation(torch.autograd.Function):
    """`plain_activation` in the memory of x, which is overwritten; only the result y is kept.

    Leaky ReLU has slope y / input, so the sum of input * dL/dinput is that of y * dL/dy. That sum
    less what is due to bias and noise is scale * dL/dscale.
    """

    @staticmethod
    def forward(ctx, x, scale, bias, noise, clamp):
        x.mul_(scale.to(x.dtype)[:, :, None, None]).add_(bias.to(x.dtype)[:, None, None])
        if noise is not None:
            x.add_(noise.to(x.dtype))  # adding a tensor of another dtype is several times as slow
        y = F.leaky_relu_(x, SLOPE)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y, scale, bias, noise)
        ctx.clamp = clamp
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, scale, bias, noise = ctx.saved_tensors
        if ctx.clamp is not None:
            grad = grad.masked_fill(y.abs() >= ctx.clamp, 0)
        inner = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)  # [N, C, H, W]
        total, by_noise = inner.sum(dim=(2, 3), dtype=scale.dtype), None  # [N, C]
        by_scale = (grad * y).sum(dim=(2, 3), dtype=scale.dtype) - total * bias  # [N, C]
        if noise is not None:
            by_scale -= torch.einsum("nchw,nhw->nc", inner, noise[:, 0].to(inner.dtype))
            if ctx.needs_input_grad[3]:
                by_noise = inner.sum(dim=1, keepdim=True, dtype=noise.dtype)  # [N, 1, H, W]
                by_noise = by_noise.sum_to_size(noise.shape)
        by_x = inner.mul_(scale.to(inner.dtype)[:, :, None, None])
        return by_x, by_scale / scale, total.sum(dim=0), by_noise, None


def plain_modulated_layer(x, weight, style, bias, noise=None, *, up=False, clamp=None):
    """Modulated convolution, noise, bias and leaky ReLU (arXiv 1912.04958, section 2.2).

    Args:
        x: [N, I, H, W].
        weight: [O, I, 3, 3].
        style: [N, I].
        bias: [O].
        noise: [1 or N, 1, H', W'] or None.
        up: double the side.
        clamp: bound on the result's absolute value, or None.
    Returns: [N, O, H', W'], where H' = H, or 2H with `up`.
    """
    images = []
    for image, factors in zip(x, style):
        own = weight * factors[:, None, None]  # [O, I, 3, 3], the weight of this image: modulated,
        own = own * torch.rsqrt(own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)  # demodulated
        if up:
            image = F.conv_transpose2d(image[None], own.transpose(0, 1), stride=2)
            images.append(smooth(image))  # [1, O, 2H, 2W]
        else:
            images.append(F.conv2d(image[None], own, padding=1))  # [1, O, H, W]
    y = torch.cat(images) + bias[:, None, None]  # [N, O, H', W']
    y = F.leaky_relu(y if noise is None else y + noise, SLOPE) * GAIN
    return y if clamp is None else y.clamp(-clamp, clamp)


def modulated_layer(x, weight, style, bias, noise=None, *, up=False, clamp=None):
    """As `plain_modulated_layer`, by one ordinary convolution for the whole batch.

    Scaling the input by the style, and the output by 1 / norm, is the same as scaling the weight.
    """
    if x.dtype == torch.float16:  # keep the intermediate result inside half precision's range
        weight = weight / weight.abs().amax(dim=(1, 2, 3), keepdim=True)
        style = style / style.abs().amax(dim=1, keepdim=True)
    squares = weight.square().sum(dim=(2, 3))  # [O, I]
    demodulation = torch.rsqrt(style.square() @ squares.T + 1e-8)  # [N, O]
    x, weight = fold(x, weight, style)
    if up:
        x = smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))  # [N, O, 2H, 2W]
    else:
        x = F.conv2d(x, weight, padding=1)  # [N, O, H, W]
    # The gain comes before leaky ReLU, which it passes unchanged, on what is small.
    noise = None if noise is None else noise * GAIN
    return Activation.apply(x, demodulation * GAIN, bias * GAIN, noise, clamp)


def smooth(x):
    """The filter [1, 3, 3, 1] / 4 along both axes: [N, C, 2H + 1, 2W + 1] -> [N, C, 2H, 2W]."""
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype, device=x.device) / 4
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)  # the same for every channel
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def half_type(device):
    """The half type that a torch.device computes with, or None where it would only convert."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        fast = torch.cuda.get_device_capability(device) >= (7, 0)  # has tensor cores
        return torch.float16 if fast else None
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # torch may be older
        return None
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None


class HalfPrecision:
    """`with HalfPrecision(generator):` its layers run in the `half_type` of its device, if any,
    those of full images too."""

    def __init__(self, generator):
        self.generator = generator
        self.before = generator.precision, generator.precision_from, generator.full_exact

    def __enter__(self):
        kind = half_type(self.generator.w_avg.device)
        if kind is not None:
            self.generator.precision, self.generator.precision_from = kind, 4
            self.generator.full_exact = False

    def __exit__(self, *error):
        generator = self.generator
        generator.precision, generator.precision_from, generator.full_exact = self.before


@cache
def keep_freed_memory():
    """Have Linux's C library keep freed blocks of any size for the next tensor, in all threads.

    By default, it returns a block above 32 MB at once, and the next tensor gets zeroed pages from
    the system: a third of the time of a step at 1024 px. Other systems are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # options by their numbers in malloc.h
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks up to this size come out of what was freed
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what was freed stays
        mallopt(-8, 1)  # M_ARENA_MAX: an arena of a thread's own would hold no large block
