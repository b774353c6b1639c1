from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import golden
from pretend_gpu import pretend_gpu

from helpers.checkpoints import from_nvidia_state, load_generator, save_module
from helpers.stylegan2 import Activation, Generator, HalfPrecision, fold, half_type, modulated_layer, upsample


def tiny(**options):
    torch.manual_seed(0)
    return Generator(16, {4: 8, 8: 8, 16: 4}, z_dim=6, w_dim=5, mapping_layers=2, **options)


@pytest.mark.parametrize("name", ["stylegan2_32px", "stylegan2_64px_fullmap"])
def test_agrees_with_nvidia(name):
    right = golden(name)
    generator = from_nvidia_state({key[6:]: value for key, value in right.items() if key.startswith("state/")})
    w_plus = generator.broadcast(generator.map(right["z"]))
    truncated = generator.broadcast(generator.map(right["z"], truncation=0.7))
    s = generator.styles(w_plus)
    pairs = {"w": w_plus, "w_truncated": truncated, "image": generator(w_plus), "image_truncated": generator(truncated),
             "image_no_noise": generator(w_plus, noise="none"), "image_w_plus": generator(right["w_plus"])}
    pairs |= {f"style/{part.name}": s[:, part.slice] for part in generator.style_layout}
    assert sum(key.startswith("style/") for key in right) == len(generator.style_layout)
    for key, ours in pairs.items():
        assert (ours - right[key]).abs().max() <= 1e-4, key


def test_random_noise_has_nvidias_size():
    right = golden("stylegan2_32px")
    generator = from_nvidia_state({key[6:]: value for key, value in right.items() if key.startswith("state/")})
    torch.manual_seed(0)
    first, second = (generator(right["w_plus"], noise="random") for _ in range(2))
    fixed, still = right["image_w_plus"], right["image_no_noise"]
    assert (first - second).std() > 0
    assert (first - second).std() == pytest.approx(((fixed - still).std() * 2**0.5).item(), rel=0.5)


def plain_layer(x, weight, style, bias, noise, up, clamp):
    """The layer as the paper describes it, one image after the other, each with weights of its own."""
    images = []
    for one, factor, field in zip(x, style, noise.expand(len(x), -1, -1, -1)):
        own = weight * factor[:, None, None]
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            y = F.conv_transpose2d(one[None], own.transpose(0, 1), stride=2)
            taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 4
            y = F.conv2d(y, torch.outer(taps, taps).expand(len(own), 1, 4, 4), padding=1, groups=len(own))
        else:
            y = F.conv2d(one[None], own, padding=1)
        images.append(F.leaky_relu(y + bias[:, None, None] + field, 0.2) * 2**0.5)
    return torch.cat(images) if clamp is None else torch.cat(images).clamp(-clamp, clamp)


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("up, clamp", [(False, None), (True, None), (False, 1.0)])
def test_the_layer_and_its_gradients_are_those_of_each_samples_own_weights(batch, up, clamp):
    torch.manual_seed(batch)
    side = 16  # more numbers in one image than in the weight, and style 0 once
    x, weight, style, bias = torch.randn(batch, 4, 8, 8), torch.randn(5, 4, 3, 3), torch.randn(batch, 4), torch.randn(5)
    noise = torch.randn(batch, 1, *[side if up else side // 2] * 2)
    style[0, 0] = 0
    results = []
    for layer in (plain_layer, modulated_layer):
        inputs = [value.double().requires_grad_() for value in (x, weight, style, bias, noise)]
        y = layer(*inputs, up=up, clamp=clamp)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        results.append([y, *(value.grad for value in inputs)])
    for right, ours in zip(*results):
        torch.testing.assert_close(ours, right, atol=1e-9, rtol=1e-7)


def test_the_activation_in_double_precision():
    torch.manual_seed(0)
    x, norm, bias, noise = torch.randn(2, 3, 4, 4), torch.rand(2, 3) + 0.5, torch.randn(3), torch.randn(1, 1, 4, 4)
    inputs = [value.double().requires_grad_() for value in (x, norm, bias, noise)]
    for given, others in ((inputs, (None,)), (inputs, (1.5,)), (inputs[:3], (None, None))):  # noise, clamp
        activate = partial(lambda others, x, *rest: Activation.apply(x.clone(), *rest, *others), others)
        assert torch.autograd.gradcheck(activate, given)


@pytest.mark.parametrize("shape, groups", [((4, 3, 3, 3), 1), ((3, 1, 3, 3), 3)])
def test_a_folded_scale_in_double_precision(shape, groups):
    torch.manual_seed(0)
    x, scale = (torch.randn(1, 3, *side, dtype=torch.float64, requires_grad=True) for side in ((8, 8), ()))
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def convolve(x, weight, scale):
        x, weight = fold(x, weight, scale)
        return F.conv2d(x, weight, groups=groups)

    assert torch.autograd.gradcheck(convolve, (x, weight, scale))
    assert fold(x, weight, scale)[0].data_ptr() == x.data_ptr()


@pytest.mark.parametrize("noise", ["constant", "none"])
def test_batches_agree_with_single_images(noise):
    generator = tiny().requires_grad_(False)
    for layer in generator.layers:
        layer.noise_strength.fill_(0.1)
    w_plus = torch.randn(8, generator.num_layers, 5)

    def image_and_gradient(w_plus):
        w_plus = w_plus.clone().requires_grad_()
        image = generator(w_plus, noise=noise)
        image.square().sum().backward()
        return image.detach(), w_plus.grad

    images, gradients = zip(*(image_and_gradient(one[None]) for one in w_plus))
    for count in (2, 8):
        image, gradient = image_and_gradient(w_plus[:count])
        torch.testing.assert_close(image, torch.cat(images[:count]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradient, torch.cat(gradients[:count]), atol=1e-3, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(generator(w_plus[:1], noise=noise), images[0], atol=0, rtol=0)


def test_upsampling_is_the_four_tap_filter():
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    spread = torch.zeros(1, 3, 10, 10, dtype=torch.float64)
    spread[..., ::2, ::2] = x
    taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 4
    right = torch.nn.functional.conv2d(torch.nn.functional.pad(spread, (2, 1, 2, 1)),
                                       torch.outer(taps, taps).expand(3, 1, 4, 4), groups=3)
    torch.testing.assert_close(upsample(x), right)


def test_gradients_in_double_precision():
    generator = tiny().double()
    for layer in generator.layers:
        layer.noise_strength.data.fill_(0.1)
    w_plus = torch.randn(2, generator.num_layers, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: generator(w).mean(dim=(2, 3)), w_plus, atol=1e-6)
    parameters = [p.detach().clone().requires_grad_() for p in (generator.layers[1].weight, generator.constant)]

    def image(weight, constant):
        return torch.func.functional_call(generator, {"layers.1.weight": weight, "constant": constant},
                                          w_plus.detach()[:1]).mean(dim=(2, 3))

    assert torch.autograd.gradcheck(image, parameters, atol=1e-6)


def test_early_stop_is_the_sum_of_the_first_rgb_layers():
    generator = tiny()
    s = generator.styles(generator.broadcast(torch.randn(2, 5)))
    small = generator.synthesize(s, resolution=8)
    assert small.shape == (2, 3, 8, 8)
    without = s.clone()
    last = [part for part in generator.style_layout if part.resolution == 16 and part.kind == "toRGB"][0]
    without[:, last.slice] = 0  # the last toRGB then adds its bias, which is 0
    torch.testing.assert_close(generator.synthesize(without), upsample(small), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(precision):
    generator = tiny()
    w_plus = generator.broadcast(generator.map(torch.randn(2, 6)))
    full = generator(w_plus)
    generator.precision, generator.precision_from, generator.clamp = precision, 8, 256.0
    half = generator(w_plus)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.03 * full.abs().max()


def test_half_precision_where_the_machine_computes_with_it(monkeypatch):
    generator = tiny()
    for able, kind in (({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16),
                       ({"avx2": True, "avx512_bf16": False}, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert half_type(torch.device("cpu")) == kind
        with HalfPrecision(generator):
            assert generator.precision == kind
        assert generator.precision is None and generator.precision_from == 16
    assert half_type(torch.device("mps")) is None
    for bfloat16, version, kind in ((True, (8, 0), torch.bfloat16), (False, (7, 5), torch.float16),
                                    (False, (6, 1), None)):  # a GTX 1080 Ti has float16, 64 times as slow
        with pretend_gpu(bfloat16):
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, version=version: version)
            assert half_type(torch.device("cuda")) == kind


def test_style_layout_counts():
    sides = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    with torch.device("meta"):
        generator = Generator(1024, sides)
    kinds = {kind: sum(p.stop - p.start for p in generator.style_layout if p.kind == kind)
             for kind in ("conv", "toRGB")}
    assert (len(generator.style_layout), generator.style_dim, generator.num_layers) == (26, 9088, 18)
    assert kinds == {"conv": 6048, "toRGB": 3040}


def test_one_latent_without_a_batch_is_one_image():
    generator = tiny()
    w_plus = torch.randn(generator.num_layers, 5)
    torch.testing.assert_close(generator(w_plus), generator(w_plus[None]))


@pytest.mark.parametrize("shape", [(1, 3, 5), (6, 7), (2, 6, 512), (5,)])
def test_a_latent_of_another_generator_is_refused(shape):
    generator = tiny()
    with pytest.raises(ValueError, match=r"must be \[N, 6, 5\].*another generator"):
        generator(torch.zeros(shape))


def test_wrong_requests_are_refused():
    generator = tiny()
    s = generator.styles(generator.broadcast(torch.zeros(1, 5)))
    with pytest.raises(ValueError, match="one of 4, 8, 16, got 12"):
        generator.synthesize(s, resolution=12)
    with pytest.raises(ValueError, match="noise"):
        generator.synthesize(s, noise="loud")
    with pytest.raises(ValueError, match=r"s must be \[N"):
        generator.synthesize(s[:, 1:])
    with pytest.raises(ValueError, match="needs channels"):
        Generator(12, {4: 8, 8: 8})


def test_safetensors_round_trip(tmp_path):
    generator = tiny()
    save_module(tmp_path / "g.safetensors", generator)
    again = load_generator(tmp_path / "g.safetensors")
    w_plus = torch.randn(1, generator.num_layers, 5)
    assert torch.equal(again(w_plus), generator(w_plus))
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_unusable_weight_files_get_one_sentence(tmp_path):
    from helpers.identity import IdentityNetwork
    save_module(tmp_path / "whole.safetensors", tiny())
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    save_module(tmp_path / "other.safetensors", IdentityNetwork(((16, 1),), size=8, dim=4, crop=None))
    with pytest.raises(ValueError, match="not a whole safetensors"):
        load_generator(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="does not hold a generator"):
        load_generator(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="NVIDIA"):
        from_nvidia_state({"weights": torch.zeros(1)})
