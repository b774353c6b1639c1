"""Each fast operation agrees with its plain form, results and gradients; half precision."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pretend_gpu import pretend_gpu

from helpers import stylegan2
from helpers.fused_ops import (
    Activation,
    HalfPrecision,
    fold,
    half_type,
    modulated_layer,
    plain_activation,
    plain_fold,
    plain_modulated_layer,
    smooth,
)
from helpers.stylegan2 import Generator


def tiny():
    torch.manual_seed(0)
    return Generator(16, {4: 8, 8: 8, 16: 4}, z_dim=6, w_dim=5, mapping_layers=2)


def result_and_gradients(layer, inputs):
    """What a layer gives and the gradients of its inputs, for a loss that weighs every number."""
    inputs = [None if value is None else value.clone().requires_grad_() for value in inputs]
    y = layer(*inputs)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
    (y.double() * weights).sum().backward()
    return [y.detach(), *(value.grad for value in inputs if value is not None)]


def relative_error(value, right):
    """How far a tensor is from another, as a share of its norm."""
    return (value.float() - right).norm() / right.norm()


def layer_inputs(batch, up):
    """x, weight, style, bias, noise; x of one image has more numbers than the weight."""
    torch.manual_seed(batch)
    x, weight, style = torch.randn(batch, 4, 8, 8), torch.randn(5, 4, 3, 3), torch.randn(batch, 4)
    style[0, 0] = 0
    side = 16 if up else 8
    return [x, weight, style, torch.randn(5), torch.randn(batch, 1, side, side)]


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("up, clamp", [(False, None), (True, None), (False, 1.0)])
@pytest.mark.parametrize("dtype, atol, rtol", [
    (torch.float64, 1e-9, 1e-7), (torch.float32, 1e-4, 1e-4)])
def test_the_layer_is_the_plain_one(batch, up, clamp, dtype, atol, rtol):
    inputs = [value.to(dtype) for value in layer_inputs(batch, up)]
    right = result_and_gradients(partial(plain_modulated_layer, up=up, clamp=clamp), inputs)
    ours = result_and_gradients(partial(modulated_layer, up=up, clamp=clamp), inputs)
    for theirs, value in zip(right, ours, strict=True):
        torch.testing.assert_close(value, theirs, atol=atol, rtol=rtol)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("dtype, share", [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_the_layer_in_half_precision_is_near_the_plain_one(batch, up, dtype, share):
    x, *others = layer_inputs(batch, up)
    x = x.to(dtype)
    right = result_and_gradients(partial(plain_modulated_layer, up=up), [x.float(), *others])
    ours = result_and_gradients(partial(modulated_layer, up=up), [x, *others])
    assert ours[0].dtype == ours[1].dtype == dtype and ours[2].dtype == torch.float32
    for theirs, value in zip(right, ours, strict=True):
        assert relative_error(value, theirs) < share


def test_without_noise_the_layer_is_the_plain_one():
    inputs = [*layer_inputs(2, False)[:4], None]
    right = result_and_gradients(plain_modulated_layer, inputs)
    for theirs, value in zip(right, result_and_gradients(modulated_layer, inputs), strict=True):
        torch.testing.assert_close(value, theirs, atol=1e-4, rtol=1e-4)


def test_a_generator_of_plain_layers_draws_the_same(monkeypatch):
    generator = tiny()
    for layer in generator.layers:
        layer.noise_strength.data.fill_(0.1)
    w_plus = torch.randn(2, generator.num_layers, 5)
    ours = result_and_gradients(generator, [w_plus])
    monkeypatch.setattr(stylegan2, "modulated_layer", plain_modulated_layer)
    monkeypatch.setattr(stylegan2, "fold", plain_fold)
    for theirs, value in zip(result_and_gradients(generator, [w_plus]), ours, strict=True):
        torch.testing.assert_close(value, theirs, atol=1e-4, rtol=1e-4)


def activation_inputs():
    """x, scale, bias, noise, in fp32."""
    torch.manual_seed(0)
    x, scale = torch.randn(2, 3, 4, 4), torch.rand(2, 3) + 0.5
    return [x, scale, torch.randn(3), torch.randn(1, 1, 4, 4)]


def activate(x, scale, bias, noise, clamp):
    return Activation.apply(x.clone(), scale, bias, noise, clamp)


@pytest.mark.parametrize("clamp", [None, 1.5])
@pytest.mark.parametrize("with_noise", [True, False])
def test_the_activation_is_the_plain_one(clamp, with_noise):
    inputs = activation_inputs()
    inputs[3] = inputs[3] if with_noise else None
    right = result_and_gradients(partial(plain_activation, clamp=clamp), inputs)
    ours = result_and_gradients(partial(activate, clamp=clamp), inputs)
    for theirs, value in zip(right, ours, strict=True):
        torch.testing.assert_close(value, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype, share", [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_the_activation_in_half_precision_is_near_the_plain_one(dtype, share):
    x, *others = activation_inputs()
    x = x.to(dtype)
    right = result_and_gradients(partial(plain_activation, clamp=None), [x.float(), *others])
    ours = result_and_gradients(partial(activate, clamp=None), [x, *others])
    assert ours[0].dtype == ours[1].dtype == dtype
    for theirs, value in zip(right, ours, strict=True):
        assert relative_error(value, theirs) < share


def test_the_activation_in_double_precision():
    inputs = [value.double().requires_grad_() for value in activation_inputs()]
    assert torch.autograd.gradcheck(partial(activate, clamp=None), inputs)
    assert torch.autograd.gradcheck(partial(activate, clamp=1.5), inputs)
    assert torch.autograd.gradcheck(partial(activate, noise=None, clamp=None), inputs[:3])


def convolve(folding, groups, x, weight, scale):
    return F.conv2d(*folding(x, weight, scale), groups=groups)


SHAPES = pytest.mark.parametrize("shape, groups", [((4, 3, 3, 3), 1), ((3, 1, 3, 3), 3)])


@SHAPES
@pytest.mark.parametrize("batch", [1, 2])
def test_a_folded_scale_is_the_plain_one(shape, groups, batch):
    torch.manual_seed(0)
    inputs = [torch.randn(batch, 3, 16, 16), torch.randn(shape), torch.randn(batch, 3)]
    right = result_and_gradients(partial(convolve, plain_fold, groups), inputs)
    ours = result_and_gradients(partial(convolve, fold, groups), inputs)
    for theirs, value in zip(right, ours, strict=True):
        torch.testing.assert_close(value, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype, share", [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_a_folded_scale_in_half_precision_is_near_the_plain_one(dtype, share):
    torch.manual_seed(0)
    x, weight, scale = torch.randn(1, 3, 16, 16), torch.randn(4, 3, 3, 3), torch.randn(1, 3)
    x = x.to(dtype)
    right = result_and_gradients(partial(convolve, plain_fold, 1), [x.float(), weight, scale])
    ours = result_and_gradients(partial(convolve, fold, 1), [x, weight, scale])
    assert ours[0].dtype == ours[1].dtype == dtype
    for theirs, value in zip(right, ours, strict=True):
        assert relative_error(value, theirs) < share


@SHAPES
def test_a_folded_scale_in_double_precision(shape, groups):
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(partial(convolve, fold, groups), (x, weight, scale))
    assert fold(x, weight, scale)[0].data_ptr() == x.data_ptr()


def test_smoothing_is_the_four_tap_filter():
    """Each axis by itself: a pixel is (1, 3, 3, 1) / 4 of its four neighbours, zeros around."""
    x = torch.randn(1, 2, 7, 7, dtype=torch.float64)
    framed = F.pad(x, [1] * 4)
    taps = (0.25, 0.75, 0.75, 0.25)
    rows = sum(tap * framed[:, :, i:i + 6] for i, tap in enumerate(taps))  # [1, 2, 6, 9]
    right = sum(tap * rows[..., i:i + 6] for i, tap in enumerate(taps))  # [1, 2, 6, 6]
    torch.testing.assert_close(smooth(x), right)


def test_half_precision_where_the_machine_computes_with_it(monkeypatch):
    generator = tiny()
    for able, kind in (({"avx512_bf16": True}, torch.bfloat16),
                       ({"amx_bf16": True}, torch.bfloat16),
                       ({"avx2": True, "avx512_bf16": False}, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert half_type(torch.device("cpu")) == kind
        with HalfPrecision(generator):
            assert generator.precision == kind
        assert generator.precision is None and generator.precision_from == 16
    assert half_type(torch.device("mps")) is None
    for bfloat16, version, kind in ((True, (8, 0), torch.bfloat16), (False, (7, 5), torch.float16),
                                    (False, (6, 1), None)):  # GTX 1080 Ti: float16 64 times as slow
        with pretend_gpu(bfloat16):
            monkeypatch.setattr(torch.cuda, "get_device_capability",
                                lambda device, version=version: version)
            assert half_type(torch.device("cuda")) == kind


def test_an_older_torch_has_no_list_of_what_a_processor_can_do(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert half_type(torch.device("cpu")) is None
