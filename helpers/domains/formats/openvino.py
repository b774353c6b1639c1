"""MobileStyleGAN's generator as the package `random-face` carries it: OpenVINO's IR, read as data.

An IR is an XML file that says where in a .bin file each constant lies. Nothing of the package is
imported or run.
"""

import math
import re
import zipfile

import torch
from defusedxml import DefusedXmlException, ElementTree

from ...mobile_stylegan import MobileGenerator
from .builder import fill_generator, set_mean_w
from .safetensors_files import fill, first_line, lost_drive, read_safetensors
from .torch_files import Refused

MAX_FLOATS = 2**26  # numbers in one file: ten times what is needed
MEAN_SAMPLES = 50_000  # of w; the package carries no mean
NETWORKS = ("random_face/data/MappingNetwork", "random_face/data/SynthesisNetwork")


def read_members(path, names, limit=200_000_000):
    """{name: bytes} of some files in a zip, such as a wheel.

    Raises: ValueError if one is missing, damaged or encrypted, or if they unpack to over `limit`;
        OSError for a lost drive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [archive.getinfo(name) for name in names]
            if sum(member.file_size for member in members) > limit:
                raise ValueError(f"{', '.join(names)} are larger than {limit} bytes")
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("its compression is unusual")
            return {member.filename: archive.open(member).read(member.file_size)
                    for member in members}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile has many kinds for a damaged file
        lost = lost_drive(path, error)
        if lost:
            raise lost from None
        raise ValueError(f"{path} cannot be read ({first_line(error)}): "
                         "delete it and fetch it again.") from None


def read_openvino(xml, content, name="The model"):
    """The fp32 constants of an IR: {layer name: tensor}, in the order of the file.

    Args: xml, content: the bytes of the .xml and of the .bin file; name: of the model, for errors.
    Raises: ValueError for XML that is none, that declares entities or external references, or that
        speaks of constants which are not in the .bin file.
    """
    try:
        root = ElementTree.fromstring(xml, forbid_dtd=True)
    except DefusedXmlException as error:
        kind = type(error).__name__
        raise Refused(f"{name} was refused: its XML holds {kind}, which no model needs.") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{name} is no OpenVINO model ({error}): fetch it again.") from None
    constants, total = {}, 0
    for layer in root.findall("./layers/layer[@type='Const']"):
        damaged = f"{name} is damaged: its constant {layer.get('name')}"
        try:
            data = layer.find("data").attrib
            if data["element_type"] != "f32":
                continue
            shape = [int(side) for side in data["shape"].split(",")]
            start, size = int(data["offset"]), int(data["size"])  # bytes
        except (AttributeError, KeyError, ValueError):
            raise ValueError(f"{damaged} has no readable shape.") from None
        total += size // 4
        inside = 0 <= start and start + size <= len(content) and total <= MAX_FLOATS
        if min(shape) < 1 or math.prod(shape) * 4 != size or not inside:
            raise ValueError(f"{damaged} does not fit its file of weights.")
        values = torch.frombuffer(bytearray(content[start:start + size]), dtype=torch.float32)
        if not values.isfinite().all():
            raise ValueError(f"{damaged} is not finite.")
        constants[layer.get("name")] = values.reshape(shape)
    return constants


def read_mobile_stylegan(path):
    """The generator in the wheel of `random-face`. Raises: ValueError, for others too."""
    files = read_members(path, [name + kind for name in NETWORKS for kind in (".xml", ".bin")])
    constants = [read_openvino(files[name + ".xml"], files[name + ".bin"], f"{path}: {name}")
                 for name in NETWORKS]
    return from_openvino(*constants)


def from_openvino(mapping, synthesis):
    """MobileStyleGAN's generator from the constants of its two networks; every size is inferred.

    Args: mapping, synthesis: {layer name: tensor} of `read_openvino`.
    Raises: ValueError if these are other networks, or sizes contradict one another.
    """
    try:
        state, config = _mobile_state(mapping, synthesis)
        generator = fill_generator(MobileGenerator, state, **config)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ValueError("These are no networks of MobileStyleGAN's generator, or damaged ones "
                         f"({line}).") from None
    set_mean_w(generator, MEAN_SAMPLES, torch.Generator().manual_seed(0))
    return generator


def _mobile_state(mapping, synthesis):
    """`MobileGenerator`'s tensors, {name: tensor of as many numbers}, and its config."""
    matrices = [value for value in mapping.values() if value.ndim == 2 and min(value.shape) > 1]
    biases = [value for value in mapping.values() if value.ndim == 1 and len(value) > 1]
    # Weights and noise images have no names of their own; they stand in the order of the layers.
    weights = [value for name, value in synthesis.items() if re.fullmatch(r"Mul_\d+_copy", name)]
    noises = [value for value in synthesis.values()
              if value.ndim == 4 and value.shape[:2] == (1, 1) and value.shape[2] >= 4]
    blocks = len(weights) // 2
    if not matrices or not weights or not len(weights) == len(noises) == 2 * blocks + 1:
        raise ValueError("layers are missing")
    ours = ["first", *(f"blocks.{i}.conv{j}" for i in range(blocks) for j in (0, 1))]
    theirs = ["conv1", *(f"layers.{i}.conv{j}" for i in range(blocks) for j in (1, 2))]
    last = f"layers.{blocks - 1}.to_img"
    styles = {layer: f"{their}.conv" for layer, their in zip(ours, theirs)}  # {our layer: theirs}
    styles |= {f"blocks.{i}.up": f"layers.{i}.up" for i in range(blocks)}
    styles["to_image"] = f"{last}.conv"
    w_dim, z_dim = matrices[0].shape
    state = {"w_avg": torch.zeros(w_dim), "constant": synthesis["m.input.input"]}
    for i, (weight, bias) in enumerate(zip(matrices, biases, strict=True)):
        state |= {f"mapping.{i}.weight": weight, f"mapping.{i}.bias": bias}
    for layer, their in styles.items():
        state |= {f"{layer}.affine.weight": synthesis[f"m.{their}.modulation.weight"],
                  f"{layer}.affine.bias": synthesis[f"m.{their}.modulation.bias"][0]}
    for layer, their, weight, noise in zip(ours, theirs, weights, noises):
        state |= {f"{layer}.weight": weight, f"{layer}.noise": noise,
                  f"{layer}.bias": synthesis[f"m.{their}.bias"].flatten()}
        if layer != "first":
            state[f"{layer}.depthwise"] = synthesis[f"m.{their}.conv.weight_dw"]
    state |= {"to_image.weight": synthesis[f"m.{last}.conv.weight"],
              "to_image.bias": synthesis[f"m.{last}.bias"].flatten()}
    channels = [len(state[f"{layer}.bias"]) for layer in ours[::2]]
    for i, before in enumerate(ours[:-1:2]):  # what lies around an inverse Haar transform
        for name in (before, f"blocks.{i}.up.affine"):
            _reorder(state, name, channels[i])
    _reorder(state, "to_image", 12)
    return state, dict(channels=channels, z_dim=z_dim, w_dim=w_dim, mapping_layers=len(matrices))


def _reorder(state, layer, channels):
    """Sort a layer's rows from the file's [low pass, (C / 4, 3) details] to ours.

    Ours are [low pass, first details, second, third], C / 4 rows each, of C `channels`.
    """
    low = channels // 4
    details = torch.arange(low, channels).view(low, 3).T.flatten()
    order = torch.cat([torch.arange(low), details])
    for name in (f"{layer}.weight", f"{layer}.bias"):
        state[name] = state[name][order]


def add_readouts(generator, path):
    """Give a `MobileGenerator` the early stops in a safetensors file. Raises: ValueError."""
    state, header = read_safetensors(path, needs=["sides"])
    generator.set_readouts(header["sides"])
    fill(generator.readouts, state, path)
