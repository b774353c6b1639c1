"""StyleGAN2's generator: NVIDIA's numbers, gradients, early stops, refusals."""

import copy

import pytest
import torch
from conftest import golden

from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.nvidia import from_nvidia_state
from helpers.domains.formats.safetensors_files import save_module
from helpers.face_networks import IdentityNetwork
from helpers.stylegan2 import Generator, upsample


def tiny(**options):
    torch.manual_seed(0)
    return Generator(16, {4: 8, 8: 8, 16: 4}, z_dim=6, w_dim=5, mapping_layers=2, **options)


def nvidias(right):
    """The generator whose weights stand in a golden file as `state/...`."""
    return from_nvidia_state({key.removeprefix("state/"): value for key, value in right.items()
                              if key.startswith("state/")})


@pytest.mark.parametrize("name", ["stylegan2_32px", "stylegan2_64px_fullmap"])
def test_agrees_with_nvidia(name):
    right = golden(name)
    generator = nvidias(right)
    w_plus = generator.broadcast(generator.map(right["z"]))
    truncated = generator.broadcast(generator.map(right["z"], truncation=0.7))
    s = generator.styles(w_plus)
    pairs = {"w": w_plus, "w_truncated": truncated, "image": generator(w_plus),
             "image_truncated": generator(truncated),
             "image_no_noise": generator(w_plus, noise="none"),
             "image_w_plus": generator(right["w_plus"])}
    pairs |= {f"style/{part.name}": s[:, part.slice] for part in generator.style_layout}
    assert sum(key.startswith("style/") for key in right) == len(generator.style_layout)
    for key, ours in pairs.items():
        assert (ours - right[key]).abs().max() <= 1e-4, key


def test_random_noise_has_nvidias_size():
    right = golden("stylegan2_32px")
    generator = nvidias(right)
    torch.manual_seed(0)
    first, second = (generator(right["w_plus"], noise="random") for _ in range(2))
    fixed, still = right["image_w_plus"], right["image_no_noise"]
    assert (first - second).std() > 0
    assert (first - second).std() == pytest.approx(((fixed - still).std() * 2**0.5).item(), rel=0.5)


def image_and_gradient(generator, w_plus, noise):
    w_plus = w_plus.clone().requires_grad_()
    image = generator(w_plus, noise=noise)
    image.square().sum().backward()
    return image.detach(), w_plus.grad


@pytest.mark.parametrize("noise", ["constant", "none"])
def test_batches_agree_with_single_images(noise):
    generator = tiny().requires_grad_(False)
    for layer in generator.layers:
        layer.noise_strength.fill_(0.1)
    w_plus = torch.randn(8, generator.num_layers, 5)

    singles = [image_and_gradient(generator, one[None], noise) for one in w_plus]
    images, gradients = zip(*singles)
    for count in (2, 8):
        image, gradient = image_and_gradient(generator, w_plus[:count], noise)
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
    parameters = [p.detach().clone().requires_grad_()
                  for p in (generator.layers[1].weight, generator.constant)]

    def image(weight, constant):
        changed = {"layers.1.weight": weight, "constant": constant}
        image = torch.func.functional_call(generator, changed, w_plus.detach()[:1])
        return image.mean(dim=(2, 3))

    assert torch.autograd.gradcheck(image, parameters, atol=1e-6)


def test_early_stop_is_the_sum_of_the_first_rgb_layers():
    generator = tiny()
    s = generator.styles(generator.broadcast(torch.randn(2, 5)))
    small = generator.synthesize(s, resolution=8)
    assert small.shape == (2, 3, 8, 8)
    without = s.clone()
    last = generator.style_layout[-1]
    assert (last.resolution, last.kind) == (16, "toRGB")
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


def test_style_layout_counts():
    sides = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    with torch.device("meta"):
        generator = Generator(1024, sides)
    kinds = {kind: sum(p.stop - p.start for p in generator.style_layout if p.kind == kind)
             for kind in ("conv", "toRGB")}
    assert len(generator.style_layout) == 26
    assert (generator.style_dim, generator.num_layers) == (9088, 18)
    assert kinds == {"conv": 6048, "toRGB": 3040}


def test_rows_of_w_plus_act_on_their_layers():
    generator = tiny()
    w_plus = torch.randn(1, generator.num_layers, 5)
    s = generator.styles(w_plus)
    assert [part.name for part in generator.style_layout] == [
        "b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb", "b16.conv0", "b16.conv1",
        "b16.torgb"]
    for row in range(generator.num_layers):
        other = w_plus.clone()
        other[:, row] += 1
        changed = (generator.styles(other) - s).abs()
        for part in generator.style_layout:
            assert (changed[:, part.slice].max() > 0) == (part.row == row), part.name


def test_a_copy_has_layers_of_its_own():
    generator = tiny().requires_grad_(False)
    w_plus = torch.randn(1, generator.num_layers, 5)
    before = generator(w_plus)
    other = copy.deepcopy(generator)
    assert torch.equal(other(w_plus), before)
    for parameter in other.parameters():
        parameter.add_(0.5)
    assert torch.equal(generator(w_plus), before) and not torch.equal(other(w_plus), before)


def test_gradients_flow_after_inference_mode():
    generator = tiny().requires_grad_(False)
    w_plus = torch.randn(1, generator.num_layers, 5)
    with torch.inference_mode():
        before = generator(w_plus)
    w_plus.requires_grad_()
    image = generator(w_plus)
    image.sum().backward()
    assert torch.equal(image, before) and w_plus.grad.abs().max() > 0


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
    save_module(tmp_path / "whole.safetensors", tiny())
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    network = IdentityNetwork(((16, 1),), size=8, dim=4, crop=None)
    save_module(tmp_path / "other.safetensors", network)
    with pytest.raises(ValueError, match="not a whole safetensors"):
        load_generator(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="does not hold a generator"):
        load_generator(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="NVIDIA"):
        from_nvidia_state({"weights": torch.zeros(1)})
