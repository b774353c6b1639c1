"""The generator of photographs: names and shapes on a small one, its reader, and damaged files."""

import math
import xml.etree.ElementTree as Xml
from functools import partial

import pytest
import torch

from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.openvino import from_openvino, read_openvino
from helpers.domains.formats.safetensors_files import save_module
from helpers.domains.formats.torch_files import Refused
from helpers.mobile_stylegan import MobileGenerator, Readout, from_ffhq_rows, haar, inverse_haar

CHANNELS = [16, 16, 8]


@pytest.fixture(scope="module")
def small():
    """32 px, with an early stop at 16."""
    torch.manual_seed(0)
    generator = MobileGenerator(CHANNELS, z_dim=12, w_dim=12, mapping_layers=2, readouts=[16])
    return generator.eval().requires_grad_(False)


def test_shapes_and_names_are_those_of_the_other_generator(small):
    w_plus = small.broadcast(small.map(torch.randn(3, 12), truncation=0.7))
    s = small.styles(w_plus)
    assert w_plus.shape == (3, small.num_layers, 12) and s.shape == (3, small.style_dim)
    assert small(w_plus).shape == (3, 3, 32, 32) and small.synthesize(s, 16).shape == (3, 3, 16, 16)
    assert [(part.name, part.resolution, part.kind) for part in small.style_layout] == [
        ("b4.conv1", 4, "conv"), ("b8.up", 8, "up"), ("b8.conv0", 8, "conv"),
        ("b8.conv1", 8, "conv"), ("b16.up", 16, "up"), ("b16.conv0", 16, "conv"),
        ("b16.conv1", 16, "conv"), ("b32.torgb", 32, "toRGB")]
    assert small.style_layout[-1].stop == small.style_dim and small.resolutions == (16, 32)


def test_rows_of_w_plus_act_on_their_layers(small):
    w_plus = small.broadcast(small.map(torch.randn(1, 12)))
    s = small.styles(w_plus)
    for row, names in ((0, ["b4.conv1"]), (1, ["b8.up", "b8.conv0"]), (4, ["b16.conv1"]),
                       (5, ["b32.torgb"])):
        other = w_plus.clone()
        other[:, row] += 1
        difference = (small.styles(other) - s).abs()
        changed = [part.name for part in small.style_layout if difference[:, part.slice].max() > 0]
        assert changed == names


def test_haar_is_orthogonal_up_to_scale_and_its_low_pass_is_the_average():
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(inverse_haar(haar(image)), image)
    torch.testing.assert_close(haar(image)[:, :3], torch.nn.functional.avg_pool2d(image, 2))


def test_an_unknown_early_stop_is_named(small):
    with pytest.raises(ValueError, match="one of 16, 32, got 64"):
        small.synthesize(torch.zeros(1, small.style_dim), 64)


def test_an_early_stop_answers_to_the_styles_it_leaves_out(small):
    torch.manual_seed(1)
    readout = Readout(16, 30)
    x = torch.randn(1, 16, 4, 4)
    assert readout(x, torch.zeros(1, 30)).shape == (1, 3, 8, 8)
    assert (readout(x, torch.zeros(1, 30)) - readout(x, torch.ones(1, 30))).abs().max() > 1e-3


def test_gradients_reach_every_style_channel(small):
    s = small.styles(small.broadcast(small.map(torch.randn(1, 12)))).requires_grad_()
    small.synthesize(s).square().sum().backward()
    assert (s.grad != 0).all()


def test_noise_can_be_left_out_or_drawn(small):
    generator = MobileGenerator(CHANNELS, z_dim=12, w_dim=12, mapping_layers=2)
    for part in generator.style_layout:
        if part.kind == "conv":
            part.layer.noise.normal_()
    s = generator.styles(generator.broadcast(generator.map(torch.randn(1, 12))))
    with torch.no_grad():
        constant, none, random = (generator.synthesize(s, noise=kind)
                                  for kind in ("constant", "none", "random"))
    assert not torch.equal(constant, none) and not torch.equal(constant, random)


def loud(seed):
    """A generator of 32 px whose random weights draw images of about 1."""
    torch.manual_seed(seed)
    generator = MobileGenerator(CHANNELS, z_dim=12, w_dim=12, mapping_layers=2)
    generator.requires_grad_(False)
    for part in generator.style_layout:
        part.layer.affine.bias.add_(2)
    return generator


@torch.no_grad()
def test_an_edit_is_drawn_in_one_place_only():
    """Everywhere: the edit, by the other generator. Nowhere: the image of this one. Around a head
    that is not there: the edit's maps in the styles of before. In a corner: only near it."""
    mine, other = loud(3), loud(4)
    s, edited = mine.styles(mine.broadcast(mine.map(torch.randn(2, 12)))).split(1)
    image = mine.synthesize(s)
    close = partial(torch.testing.assert_close, atol=1e-3, rtol=1e-3)
    assert image.std() > 0.1 and (mine.synthesize(edited) - image).std() > 0.1
    here, nothing = torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    images = mine.blended(s, other, edited, head=here, around=here, blend_from=8,
                          styled_from=8)
    close(images, other.synthesize(torch.cat([edited, s])))
    images = mine.blended(s, other, edited, head=here, around=nothing, blend_from=8,
                          styled_from=8)
    close(images, image.expand(2, -1, -1, -1))
    images = mine.blended(s, mine, edited, head=nothing, around=here, blend_from=4,
                          styled_from=4)
    close(images, image.expand(2, -1, -1, -1))
    later = mine.blended(s, mine, edited, head=nothing, around=here, blend_from=4,
                          styled_from=16)  # the maps of 8 px are the edit's
    assert (later[:1] - image).abs().max() > 0.1 > 1e-3 > (later[1:] - image).abs().max()
    corner = nothing.clone()
    corner[..., :16, :16] = 1
    with_edit, without = mine.blended(s, mine, edited, head=here, around=corner, blend_from=16,
                          styled_from=16).split(1)
    assert (with_edit - image)[..., 20:, 20:].abs().max() < 1e-3
    assert (with_edit - image)[..., :8, :8].abs().max() > 0.1
    close(without, image)
    same, again = mine.blended(s, other, s, head=corner, around=here, blend_from=8,
                               styled_from=16).split(1)
    close(same, again)  # no edit, no change; and yet the other's in the corner
    assert (same - image)[..., :8, :8].abs().max() > 0.1


def test_half_precision_stays_near(small):
    s = small.styles(small.broadcast(small.map(torch.randn(2, 12), truncation=0.7)))
    whole = small.synthesize(s)
    small.precision, small.precision_from = torch.bfloat16, 8
    half = small.synthesize(s)
    small.precision = None
    assert half.dtype == torch.float32 and (half - whole).abs().mean() < 0.03 * whole.abs().mean()


def test_ffhq_rows_lose_the_last_two():
    direction = torch.randn(18, 512)
    assert torch.equal(from_ffhq_rows(direction), direction[:16])
    assert from_ffhq_rows(torch.zeros(3, 18, 512)).shape == (3, 16, 512)  # as e4e gives them
    with pytest.raises(ValueError, match="18 rows, this has 16"):
        from_ffhq_rows(direction[:16])


def test_file_and_back(small, tmp_path):
    save_module(tmp_path / "generator.safetensors", small)
    again = load_generator(tmp_path / "generator.safetensors")
    s = small.styles(small.broadcast(small.map(torch.randn(1, 12))))
    assert again.resolutions == small.resolutions
    assert torch.equal(again.synthesize(s), small.synthesize(s))


def file_order(value):
    """[low, three details] -> the file's [low, (C / 4, 3) details]."""
    low = len(value) // 4
    details = value[low:].view(3, low, *value.shape[1:]).transpose(0, 1)
    return torch.cat([value[:low], details.reshape(3 * low, *value.shape[1:])])


def openvino_files(generator):
    """A generator as OpenVINO IR in the layout of the package: (xml, bin) of its two networks."""
    state, mapping, synthesis = generator.state_dict(), {}, {}
    for i in range(len(generator.mapping)):
        mapping |= {f"matrix{i}": state[f"mapping.{i}.weight"],
                    f"bias{i}": state[f"mapping.{i}.bias"]}
    blocks = len(generator.blocks)
    layers = [("first", "conv1")]
    for i in range(blocks):
        layers += [(f"blocks.{i}.conv{j}", f"layers.{i}.conv{j + 1}") for j in (0, 1)]
    for number, (ours, theirs) in enumerate(layers):
        weight, bias = state[f"{ours}.weight"], state[f"{ours}.bias"]
        last = ours == f"blocks.{blocks - 1}.conv1"
        if (ours == "first" or ours.endswith("conv1")) and not last:  # an inverse Haar follows
            weight, bias = file_order(weight), file_order(bias)
        synthesis[f"m.{theirs}.conv.modulation.weight"] = state[f"{ours}.affine.weight"]
        synthesis[f"m.{theirs}.conv.modulation.bias"] = state[f"{ours}.affine.bias"][None]
        if ours != "first":
            synthesis[f"m.{theirs}.conv.weight_dw"] = state[f"{ours}.depthwise"][:, :, None]
        synthesis[f"Mul_{number}_copy"] = weight
        synthesis[f"noise{number}"] = state[f"{ours}.noise"][None, None]
        synthesis[f"m.{theirs}.bias"] = bias[None, :, None, None]
    for i in range(blocks):
        theirs, affine = f"m.layers.{i}.up.modulation", f"blocks.{i}.up.affine"
        synthesis[f"{theirs}.weight"] = file_order(state[f"{affine}.weight"])
        synthesis[f"{theirs}.bias"] = file_order(state[f"{affine}.bias"])[None]
    theirs = f"m.layers.{blocks - 1}.to_img"
    synthesis["m.input.input"] = state["constant"][None]
    synthesis[f"{theirs}.conv.modulation.weight"] = state["to_image.affine.weight"]
    synthesis[f"{theirs}.conv.modulation.bias"] = state["to_image.affine.bias"][None]
    synthesis[f"{theirs}.conv.weight"] = file_order(state["to_image.weight"])
    synthesis[f"{theirs}.bias"] = file_order(state["to_image.bias"])[None, :, None, None]
    return [as_ir(constants) for constants in (mapping, synthesis)]


def as_ir(constants):
    """{name: tensor} as an XML that lists constants, and the .bin with their numbers."""
    net, content = Xml.Element("net"), b""
    layers = Xml.SubElement(net, "layers")
    for name, value in constants.items():
        numbers = value.contiguous().numpy().tobytes()
        layer = Xml.SubElement(layers, "layer", name=name, type="Const")
        shape = ", ".join(map(str, value.shape))
        Xml.SubElement(layer, "data", element_type="f32", shape=shape, offset=str(len(content)),
                       size=str(len(numbers)))
        content += numbers
    return Xml.tostring(net), content


def test_the_openvino_reader_gives_the_generator_back(small):
    plain = MobileGenerator(CHANNELS, z_dim=12, w_dim=12, mapping_layers=2)
    again = from_openvino(*(read_openvino(*files) for files in openvino_files(plain)))
    s = plain.styles(plain.broadcast(plain.map(torch.randn(2, 12))))
    with torch.no_grad():
        # The order of Haar channels is the same again, so the style vectors are, too.
        torch.testing.assert_close(again.synthesize(s), plain.synthesize(s))
    z = torch.randn(50_000, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.w_avg, again.map(z).mean(dim=0), atol=1e-5, rtol=0)


ENTITIES = (b'<!DOCTYPE net [<!ENTITY a "lots"><!ENTITY b "&a;&a;&a;">]>'
            b"<net><layers>&b;</layers></net>")
OUTSIDE = (b'<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
           b"<net><layers>&a;</layers></net>")


@pytest.mark.parametrize("xml", [ENTITIES, OUTSIDE])
def test_xml_with_entities_is_refused(xml):
    with pytest.raises(Refused, match="refused: its XML holds"):
        read_openvino(xml, b"")


def constant(**changes):
    data = {"element_type": "f32", "shape": "2, 2", "offset": "0", "size": "16"} | changes
    attributes = " ".join(f'{key}="{value}"' for key, value in data.items())
    layer = f'<layer name="one" type="Const"><data {attributes}/></layer>'
    return f"<net><layers>{layer}</layers></net>".encode()


@pytest.mark.parametrize("xml, content", [
    (constant(), b"\0" * 12),  # the .bin is cut
    (constant(offset="-8"), b"\0" * 64),
    (constant(size="20"), b"\0" * 64),
    (constant(shape="-2, -2"), b"\0" * 64),
    (constant(shape="99999999999, 99999999999"), b"\0" * 64),
    (constant(shape="two"), b"\0" * 64),
    (constant(), b"\0\0\xc0\x7f" * 4),  # NaN
    (b'<net><layers><layer name="one" type="Const"/></layers></net>', b""),
    (b"\x89PNG", b""),
    (b"<net><layers>", b"")])
def test_a_damaged_openvino_file_is_named_in_one_sentence(xml, content):
    message = "The model is (damaged|no OpenVINO model)"
    with pytest.raises(ValueError, match=message) as caught:
        read_openvino(xml, content)
    assert "\n" not in str(caught.value)


def test_another_network_is_no_generator(small):
    mapping, synthesis = (read_openvino(*files) for files in openvino_files(small))
    without_image = {name: value for name, value in synthesis.items() if "to_img" not in name}
    other_constant = synthesis | {"m.input.input": torch.zeros(1, 3, 4, 4)}
    for pair in ((mapping, mapping), ({}, synthesis), (mapping, without_image),
                 (mapping, other_constant)):
        with pytest.raises(ValueError, match="no(t the)? networks of MobileStyleGAN"):
            from_openvino(*pair)


def test_full_exact_keeps_full_images_in_fp32(small):
    s = small.styles(small.broadcast(small.map(torch.randn(2, 12), truncation=0.7)))
    full, early = small.synthesize(s), small.synthesize(s, 16)
    small.precision, small.precision_from, small.full_exact = torch.bfloat16, 8, True
    assert torch.equal(small.synthesize(s), full)
    assert not torch.equal(small.synthesize(s, 16), early)
    small.precision, small.full_exact = None, False


def test_gradients_flow_after_inference_mode(small):
    s = small.styles(small.broadcast(small.map(torch.randn(1, 12))))
    with torch.inference_mode():
        before = small.synthesize(s)
    s = s.clone().requires_grad_()
    image = small.synthesize(s)
    image.sum().backward()
    assert torch.equal(image, before) and s.grad.abs().max() > 0


def test_sizes_of_the_published_network():
    with torch.device("meta"):
        generator = MobileGenerator([512, 512, 512, 512, 512, 256, 128, 64])
    assert (generator.resolution, generator.num_layers, generator.style_dim) == (1024, 16, 6752)
    assert math.prod(generator.first.weight.shape) == 512 * 512 * 9
