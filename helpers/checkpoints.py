"""Weights on disk <-> networks, as data: nothing in a file is ever executed."""

import io
import json
import math
import pickle
import pickletools
import re
import secrets
import shutil
import struct
import textwrap
import time
import zipfile
from argparse import Namespace
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from defusedxml import DefusedXmlException, ElementTree
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from .mobile_stylegan import MobileGenerator
from .stylegan2 import Generator

PART = "." + 8 * "[0-9a-f]" + ".part"  # how the name of an unfinished file goes on, as a pattern
MAX_RESOLUTION, MAX_DEPTH = 4096, 64  # pixels, and mapping layers: larger than any network, smaller than any memory
SHARED = ("affine.weight", "affine.bias", "weight", "bias")  # what every synthesis layer has


def from_nvidia_state(state, clamp=None, mapping_lr=0.01):
    """A generator from plain tensors under NVIDIA's names (stylegan2-ada-pytorch); every size is inferred.

    Args:
        state: {"mapping.fc0.weight": tensor, "synthesis.b4.const": tensor, ...}.
        clamp: bound on activations that the network was trained with (their `conv_clamp`), or None.
        mapping_lr: learning-rate multiplier of the mapping network, which scales its weights.

    Raises: ValueError if these are other weights, some are missing, or the generator is one of several classes.
    """
    resolutions = sorted({int(key.split(".")[1][1:]) for key in state if key.startswith("synthesis.b")})
    depth = sum(key.startswith("mapping.fc") and key.endswith("weight") for key in state)
    if not resolutions or not depth:
        raise ValueError("These are not the weights of a StyleGAN2 generator in NVIDIA's format.")
    if "mapping.embed.weight" in state:
        raise ValueError("This generator draws several classes of pictures, by a label; only those without are read.")
    names = {"w_avg": "mapping.w_avg", "constant": "synthesis.b4.const"}
    for i in range(depth):
        names |= {f"mapping.{i}.{kind}": f"mapping.fc{i}.{kind}" for kind in ("weight", "bias")}
    for block, r in enumerate(resolutions):
        for conv, i in (("conv0", 2 * block - 1), ("conv1", 2 * block)):
            if i >= 0:
                names |= {f"layers.{i}.{part}": f"synthesis.b{r}.{conv}.{part}" for part in (*SHARED, "noise_strength")}
                names[f"layers.{i}.noise"] = f"synthesis.b{r}.{conv}.noise_const"
        names |= {f"to_rgb.{block}.{part}": f"synthesis.b{r}.torgb.{part}" for part in SHARED}
    return _build(state, names, clamp=clamp, mapping_lr=mapping_lr)


def from_rosinality_state(state):
    """A generator from plain tensors under rosinality's names, the format StyleCLIP uses; every size is inferred.

    Args: state: {"style.1.weight": tensor, "conv1.conv.weight": tensor, ...}, and "latent_avg" if it is known;
        without it, the mean of w is taken over 4,096 samples, as StyleCLIP's code does. Noise images that are
        missing are drawn, from seed 0.

    Raises: ValueError if these are other weights, or some are missing.
    """
    depth = sum(re.fullmatch(r"style\.\d+\.weight", key) is not None for key in state)
    blocks = 1 + sum(re.fullmatch(r"to_rgbs\.\d+\.bias", key) is not None for key in state)
    if not depth or "conv1.conv.weight" not in state:
        raise ValueError("These are not the weights of a StyleGAN2 generator in rosinality's format.")
    state = dict(state)
    names = {"w_avg": "latent_avg", "constant": "input.input"}
    for i in range(depth):
        names |= {f"mapping.{i}.{kind}": f"style.{i + 1}.{kind}" for kind in ("weight", "bias")}
    _check_sizes(2 ** (blocks + 1), depth)
    theirs = ("conv.modulation.weight", "conv.modulation.bias", "conv.weight", "activate.bias")
    random = torch.Generator().manual_seed(0)
    for i in range(2 * blocks - 1):
        layer, side = "conv1" if i == 0 else f"convs.{i - 1}", 2 ** ((i + 5) // 2)
        names |= {f"layers.{i}.{part}": f"{layer}.{name}" for part, name in zip(SHARED, theirs)}
        names |= {f"layers.{i}.noise_strength": f"{layer}.noise.weight", f"layers.{i}.noise": f"noises.noise_{i}"}
        if f"noises.noise_{i}" not in state:
            state[f"noises.noise_{i}"] = torch.randn(side, side, generator=random)
    for i in range(blocks):
        layer = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        names |= {f"to_rgb.{i}.{part}": f"{layer}.{name}" for part, name in zip(SHARED, (*theirs[:3], "bias"))}
    average = state.setdefault("latent_avg", torch.full([len(state["style.1.bias"])], float("nan")))
    generator = _build(state, names)
    if average.isnan().any():
        with torch.no_grad():
            generator.w_avg.copy_(generator.map(torch.randn(4096, generator.z_dim, generator=random)).mean(dim=0))
    return generator


def _build(state, names, **options):
    """A generator from {their name: tensor} and {our name: their name}; tensors take our shapes."""
    missing = [name for name in names.values() if name not in state]
    if missing:
        raise ValueError(f"The generator's weights lack {missing[0]} ({len(missing)} missing in all).")
    blocks = sum(re.fullmatch(r"to_rgb\.\d+\.bias", name) is not None for name in names)
    depth = sum(re.fullmatch(r"mapping\.\d+\.bias", name) is not None for name in names)
    channels = {2 ** (i + 2): state[names[f"to_rgb.{i}.affine.bias"]].numel() for i in range(blocks)}
    w_dim, z_dim = state[names["mapping.0.weight"]].shape
    return _filled({ours: state[name] for ours, name in names.items()}, resolution=2 ** (blocks + 1),
                   channels=channels, z_dim=z_dim, w_dim=w_dim, mapping_layers=depth, **options)


def _check_sizes(resolution, mapping_layers):
    if not (8 <= resolution <= MAX_RESOLUTION and 0 < mapping_layers <= MAX_DEPTH):
        raise ValueError(f"A generator of {resolution} px with {mapping_layers} mapping layers is not read: the sizes "
                         f"go up to {MAX_RESOLUTION} px and {MAX_DEPTH} layers.")


def _filled(state, kind=Generator, **config):
    """A generator of this config and {our name: tensor of as many numbers}. Raises ValueError if they do not fit.

    No memory is taken for sizes that the tensors do not have.
    """
    _check_sizes(config["resolution"] if kind is Generator else 4 * 2 ** len(config["channels"]),
                 config["mapping_layers"])
    with torch.device("meta"):
        generator = kind(**config)
    try:
        generator.load_state_dict({
            name: state[name].float().reshape(value.shape).clone(memory_format=torch.contiguous_format)
            for name, value in generator.state_dict().items()}, assign=True)
    except (RuntimeError, KeyError) as error:  # a size that does not fit the others
        raise ValueError(f"The sizes of the generator's weights contradict one another ({_line(error)}).") from None
    return generator.eval().requires_grad_(False)


def _line(error):
    """An exception's kind and first line."""
    return f"{type(error).__name__}: {[*str(error).splitlines(), ''][0]}"


def fill(module, state, name):
    """The module with all of a file's tensors, ready to be used.

    Args: state: {name: tensor}, as the file has them; name: of the file, for the error.

    Raises: ValueError, in one sentence, if some are missing, unknown, of other sizes, or no tensors at all.
    """
    try:
        module.load_state_dict(state)
    except Exception as error:  # of the many that a foreign file can cause
        raise ValueError(f"{name} does not hold the weights of a network of the kind {type(module).__name__} "
                         f"({what_does_not_fit(error)}): delete it and fetch it again.") from None
    return module.eval().requires_grad_(False)


def what_does_not_fit(error):
    """What is wrong with a network's tensors, in a few words; the first of torch's many lines says nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    return textwrap.shorten(lines[1] if len(lines) > 1 else _line(error), 120, placeholder=" ...").rstrip(".: ")


class Refused(ValueError):
    """A file asks for more than weights; the message names what."""


# NVIDIA's pickles: every network is its `__dict__`, with the source code of its class beside it. What they ask for is
# answered by the functions below, which only build lists of numbers; the source code is skipped.

def _network(meta):
    """In place of `torch_utils.persistence._reconstruct_persistent_obj`: the object's dict, not the object."""
    return meta["state"]


def _parameter(data, *_):
    return data


def _storage(content):
    """In place of `torch.storage._load_from_bytes`, which would unpickle whatever it is given."""
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused(f"among its numbers, {_complaint(error)}") from None
    if not isinstance(storage, (torch.TypedStorage, torch.UntypedStorage)):  # a function of torch's, say
        raise Refused("among its numbers, it holds more than weights")
    return storage


def _number(kind, content):
    """A numpy scalar as a Python float; NVIDIA's gains are such."""
    formats = {"f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q"}
    if kind not in formats:
        raise Refused(f"it holds numpy values of type {kind}")
    return struct.unpack(formats[kind], content)[0]


class _NumpyType(str):
    """In place of `numpy.dtype`: its name; what the pickle goes on to say, the byte order, is of no interest."""

    def __new__(cls, name, *_):
        return super().__new__(cls, name)

    def __setstate__(self, state):
        pass


KNOWN_GLOBALS = {
    "torch_utils.persistence._reconstruct_persistent_obj": _network,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": dict,
    "builtins.set": set, "__builtin__.set": set,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # how protocol 2 spells bytes
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _number, "numpy._core.multiarray.scalar": _number,
}


class _Unpickler(pickle.Unpickler):
    """Accepts the few globals NVIDIA's files name, each answered by a harmless function of ours."""

    def find_class(self, module, name):
        if f"{module}.{name}" not in KNOWN_GLOBALS:
            raise Refused(f"it asks for {module}.{name}, which is not part of a network's weights")
        known = KNOWN_GLOBALS[f"{module}.{name}"]
        if known in (dict, set, OrderedDict):  # nothing can be set on these
            return known
        return lambda *arguments: known(*arguments)  # a fresh one: a pickle may set a function's attributes (BUILD)


def read_nvidia_pickle(path):
    """The generator (`G_ema`) of one of NVIDIA's .pkl files: its tensors, clamp and mapping_lr (`from_nvidia_state`).

    Nothing in the file is executed. Raises: ValueError, naming what the file asks for, if that is more than weights;
    or if it is damaged, or no such file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            network = _Unpickler(file).load()["G_ema"]
        state = dict(_tensors(network))
        _check_numbers(state)
        clamp = network["_modules"]["synthesis"]["_modules"]["b4"]["_modules"]["conv1"].get("conv_clamp")
        clamp = None if clamp is None else float(clamp)
        mapping_lr = float(network["_modules"]["mapping"]["_modules"]["fc0"].get("bias_gain", 0.01))
    except Refused as error:
        raise Refused(f"{path} was refused: {error}.") from None
    except OSError:
        raise
    except Exception as error:  # a damaged file can make a pickle do anything that is harmless
        raise ValueError(f"{path} is damaged or no network of NVIDIA's ({_line(error)}): delete it and fetch it "
                         "again.") from None
    return state, clamp, mapping_lr


def _tensors(module, prefix=""):
    """The (name, tensor) pairs of a module given as its `__dict__`."""
    for kind in ("_parameters", "_buffers"):
        yield from ((prefix + name, value) for name, value in module[kind].items() if value is not None)
    for name, child in module["_modules"].items():
        yield from _tensors(child, f"{prefix}{name}.")


def _complaint(error):
    """What torch's weights-only reader did not accept, in a few words; its own message is a page long."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        return f"it asks for {asked[1]}, which is not part of a network's weights"
    return "it holds more than weights"


def _check_numbers(content):
    """Raise ValueError if a tensor in nested dicts and lists is NaN or infinite, or claims more than is stored."""
    parts = content.items() if isinstance(content, dict) else enumerate(content)
    for name, part in parts:
        if isinstance(part, (dict, list, tuple)):
            _check_numbers(part)
        elif isinstance(part, torch.Tensor):
            if part.numel() * part.element_size() > part.untyped_storage().nbytes():
                raise ValueError(f"{name} is larger than what is stored of it")
            if not part.isfinite().all():
                raise ValueError(f"{name} holds values that are NaN or infinite")


def read_torch(path):
    """What a .pt or .pth file of `torch.save` holds: tensors, numbers and texts in lists and dicts, nothing else.

    Raises: ValueError, naming what the file asks for, if that is more; or if it is damaged, or unpacks to more than
        its size (torch does not compress).
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                    raise Refused(f"{path} was refused: it unpacks to more than its size.")
        with torch.serialization.safe_globals([Namespace]):  # options of a training run, often kept beside the weights
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_numbers({"it": content})
        return content
    except pickle.UnpicklingError as error:
        raise Refused(f"{path} was refused: {_complaint(error)}.") from None
    except (FileNotFoundError, Refused):
        raise
    except Exception as error:  # torch has many ways to say that a file is damaged, OSError among them
        raise ValueError(f"{path} is not a whole file of weights ({_line(error)}): delete it and fetch it "
                         "again.") from None


def read_array(path):
    """A .npy file of numbers as fp32 tensor; nothing in it is executed. Raises ValueError, in one sentence."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: of a size that the file has
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it is no array of numbers")
        values = torch.from_numpy(array.astype(np.float32))
        _check_numbers({"it": values})
        return values
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers ({_line(error)}).") from None


def read_members(path, names, limit=200_000_000):
    """{name: bytes} of some files in a zip, such as a wheel, of `limit` bytes in all; nothing is written to disk.

    Raises: ValueError, in one sentence, if one is missing, damaged or encrypted, or they unpack to more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(name) for name in names}
            if sum(member.file_size for member in members.values()) > limit:
                raise ValueError(f"{', '.join(names)} are larger than {limit} bytes")
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                   for member in members.values()):
                raise ValueError("its compression is unusual")
            return {name: archive.open(member).read(member.file_size) for name, member in members.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile has many ways to say that a file is damaged
        raise ValueError(f"{path} cannot be read ({_line(error)}): delete it and fetch it again.") from None


def is_whole(path, kind):
    """Is it a whole file of the kind that a suffix says? Of other kinds, anything but nothing; nothing is executed."""
    try:
        with open(path, "rb") as file:
            if kind == ".safetensors":
                read_safetensors(path, only_header=True)
            elif kind == ".npy":
                read_array(path)
            elif kind in (".pt", ".pth"):
                start = file.read(6)  # of torch.save, new and old
                return start[:2] == b"PK" and zipfile.is_zipfile(path) or start[2:] == b"\x8a\x0al\xfc"
            elif kind == ".pkl":
                return any(code.name == "STOP" for code, *_ in pickletools.genops(file)) and not file.read(1)
            return bool(file.read(1))
    except Exception:  # of the many that a damaged file can cause
        return False


def part_of(path):
    """A name of its own for a file on its way to `path`; what killed writers left in that folder a day ago goes."""
    for left in path.parent.glob("*" + PART):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.stat().st_mtime > 24 * 3600:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


def save_tensors(path, tensors, **header):
    """Write {name: tensor} and a header as safetensors; an old file stays until the new one is whole.

    Raises: OSError, for example of a full disk; nothing half-written is left then.
    """
    path = Path(path)
    content = save({name: value.contiguous() for name, value in tensors.items()},
                   {key: json.dumps(value) for key, value in header.items()})
    part = part_of(path)  # `save_file` would leave temporary files when it is killed, and ignore the umask
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise OSError(f"{path.name} could not be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)


def save_module(path, module, *, half=False, **notes):
    """Write a module's tensors and its `config`.

    Args: half: store in half the space, as float16; notes: what else to keep in the file's header.
    """
    state = {name: value.half() if half and value.is_floating_point() else value
             for name, value in module.state_dict().items()}
    save_tensors(path, state, config=module.config, **notes)


def read_safetensors(path, only_header=False, needs=()):
    """A safetensors file as ({name: fp32 tensor}, {key: value of the header}).

    Args:
        only_header: return the header alone, after the check that the file is whole.
        needs: what must be there, as a tensor or in the header, for the file to be of the kind that is wanted.

    Raises: ValueError, in one sentence, if it is damaged, or lacks what is needed.
    """
    try:
        if only_header:
            with safe_open(path, "pt") as file:
                names, notes = file.keys(), file.metadata()
        else:
            content = Path(path).read_bytes()  # once: `safe_open` opens a file twice, the second may be another's
            state = load(content)
            names, notes = state, json.loads(content[8:8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
            _check_numbers(state)
        header = {key: _parsed(value) for key, value in (notes or {}).items() if key != "format"}
        if missing := [name for name in needs if name not in header and name not in names]:
            raise ValueError(f"it lacks {missing[0]}")
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a whole safetensors file of this kind ({_line(error)}): delete it and fetch "
                         "it again.") from None
    if only_header:
        return header
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, header


def _parsed(value):
    """What `save_tensors` wrote into a header; the text itself, if another program wrote it."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def load_generator(path):
    """The generator in a file of any of the supported formats, told apart by their content.

    Args: path: safetensors (of `save_module`, or plain tensors under NVIDIA's or rosinality's names), one of NVIDIA's
        pickles, or a .pt file in rosinality's format.

    Raises: FileNotFoundError; ValueError if the file is damaged, asks for more than weights, or holds something else.
    """
    try:
        return _read_generator(Path(path))
    except OSError:
        raise
    except Exception as error:  # of the many that odd names, sizes and headers can cause
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} does not hold a generator that can be read ({_line(error)}).") from None


def _read_generator(path):
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        state, header = read_safetensors(path)
        config = header.get("config", {})
        if "readouts" in config:
            return _filled(state, MobileGenerator, **config)
        if "mapping_layers" in config:
            config["channels"] = {int(side): maps for side, maps in config["channels"].items()}
            return _filled(state, **config)
    elif path.suffix == ".whl":
        return read_mobile_stylegan(path)
    elif start[:4] == b"PK\x03\x04" or start[2:6] == b"\x8a\x0al\xfc":  # torch.save, new and old
        content = read_torch(path)
        state = content if isinstance(content, dict) else {}
        if "g_ema" in state:
            state = state["g_ema"] | {name: state[name] for name in ("latent_avg",) if name in state}
    elif start[:1] == b"\x80":
        return from_nvidia_state(*read_nvidia_pickle(path))
    else:
        raise ValueError(f"{path} is neither safetensors nor a .pkl, .pt or .pth file of weights: delete it and fetch "
                         "it again.")
    if "synthesis.b4.const" in state:
        return from_nvidia_state(state)
    if "conv1.conv.weight" in state:
        return from_rosinality_state(state)
    raise ValueError(f"{path} does not hold a generator.")


# MobileStyleGAN, as the package `random-face` carries it: OpenVINO's IR, an XML that says where in a .bin each constant
# lies. Nothing of the package is imported or run.

IR_FLOATS_MAX = 2**26  # numbers in one file: ten times what is needed


def read_openvino(xml, content, name="The model"):
    """The fp32 constants of an OpenVINO IR: {layer name: tensor}, in the order of the file.

    Args:
        xml, content: the bytes of the .xml and of the .bin file.
        name: what to call the model in an error.

    Raises: ValueError, in one sentence, for XML that is none, that declares entities or external references, or that
        speaks of constants which are not in the .bin file.
    """
    try:
        layers = ElementTree.fromstring(xml, forbid_dtd=True).findall("./layers/layer[@type='Const']")
    except DefusedXmlException as error:
        raise Refused(f"{name} was refused: its XML holds {type(error).__name__}, which no model needs.") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{name} is no OpenVINO model ({error}): fetch it again.") from None
    constants, total = {}, 0
    for layer in layers:
        try:
            data = layer.find("data").attrib
            if data["element_type"] != "f32":
                continue
            shape = [int(side) for side in data["shape"].split(",")]
            offset, size = int(data["offset"]), int(data["size"])
        except (AttributeError, KeyError, ValueError):
            raise ValueError(f"{name} is damaged: its constant {layer.get('name')} has no readable shape.") from None
        total += size // 4
        if min(shape) < 1 or math.prod(shape) * 4 != size or offset < 0 or offset + size > len(content) \
                or total > IR_FLOATS_MAX:
            raise ValueError(f"{name} is damaged: its constant {layer.get('name')} does not fit its file of weights.")
        values = torch.frombuffer(bytearray(content[offset:offset + size]), dtype=torch.float32).reshape(shape)
        if not values.isfinite().all():
            raise ValueError(f"{name} is damaged: its constant {layer.get('name')} is not finite.")
        constants[layer.get("name")] = values
    return constants


def read_mobile_stylegan(path):
    """The generator in the wheel of `random-face`. Raises: ValueError, in one sentence, if it is damaged or another."""
    names = [f"random_face/data/{network}Network" for network in ("Mapping", "Synthesis")]
    files = read_members(path, [name + kind for name in names for kind in (".xml", ".bin")])
    return from_openvino(*(read_openvino(files[name + ".xml"], files[name + ".bin"], f"{path}: {name}")
                           for name in names))


def from_openvino(mapping, synthesis):
    """MobileStyleGAN's generator from the constants of its two networks (`read_openvino`); every size is inferred.

    The file keeps Haar channels as [low pass, (C / 4, 3) details]; here they lie as [low, three details] of C / 4 each,
    so the layers around an inverse Haar transform are put in that order. The mean of w is taken over 50,000 samples.

    Raises: ValueError if these are other networks, or sizes contradict one another.
    """
    matrices = [value for value in mapping.values() if value.ndim == 2 and min(value.shape) > 1]
    biases = [value for value in mapping.values() if value.ndim == 1 and len(value) > 1]
    weights = [value for name, value in synthesis.items() if re.fullmatch(r"Mul_\d+_copy", name)]
    noises = [value[0, 0] for value in synthesis.values() if value.ndim == 4 and value.shape[:2] == (1, 1)
              and value.shape[2] >= 4]
    blocks = len(weights) // 2
    theirs = ["conv1", *(f"layers.{i}.conv{j}" for i in range(blocks) for j in (1, 2))]
    ours = ["first", *(f"blocks.{i}.conv{j}" for i in range(blocks) for j in (0, 1))]
    if not matrices or not weights or not len(weights) == len(noises) == len(theirs):
        raise ValueError("These are not the networks of MobileStyleGAN's generator.")
    state = {}
    try:
        for i, (weight, bias) in enumerate(zip(matrices, biases, strict=True)):
            state |= {f"mapping.{i}.weight": weight, f"mapping.{i}.bias": bias}
        for name, their, weight, noise in zip(ours, theirs, weights, noises):
            state |= {f"{name}.weight": weight, f"{name}.noise": noise,
                      f"{name}.bias": synthesis[f"m.{their}.bias"].flatten()}
            if name != "first":
                state[f"{name}.depthwise"] = synthesis[f"m.{their}.conv.weight_dw"].flatten(1, 2)
        last = f"layers.{blocks - 1}.to_img"
        state |= {"constant": synthesis["m.input.input"][0], "to_image.weight": synthesis[f"m.{last}.conv.weight"],
                  "to_image.bias": synthesis[f"m.{last}.bias"].flatten()}
        affines = {name: f"{their}.conv" for name, their in zip(ours, theirs)} | {"to_image": f"{last}.conv"}
        for name, their in (affines | {f"blocks.{i}.up": f"layers.{i}.up" for i in range(blocks)}).items():
            state |= {f"{name}.affine.weight": synthesis[f"m.{their}.modulation.weight"],
                      f"{name}.affine.bias": synthesis[f"m.{their}.modulation.bias"][0]}
        channels = [len(state["first.bias"]), *(len(state[f"blocks.{i}.conv1.bias"]) for i in range(blocks))]
        for i in range(blocks):
            before = "first" if i == 0 else f"blocks.{i - 1}.conv1"
            for name in (f"{before}.weight", f"{before}.bias", f"blocks.{i}.up.affine.weight",
                         f"blocks.{i}.up.affine.bias"):
                state[name] = state[name][_haar_order(channels[i])]
        for name in ("to_image.weight", "to_image.bias"):
            state[name] = state[name][_haar_order(12)]
        w_dim, z_dim = matrices[0].shape
        generator = _filled(state | {"w_avg": torch.zeros(w_dim)}, MobileGenerator, channels=channels, z_dim=z_dim,
                            w_dim=w_dim, mapping_layers=len(matrices))
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ValueError(f"These are no networks of MobileStyleGAN's generator, or damaged ones ({line}).") from None
    z = torch.randn(50_000, z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        generator.w_avg.copy_(torch.cat([generator.map(part) for part in z.split(5000)]).mean(dim=0))
    return generator


def add_readouts(generator, path):
    """Give a `MobileGenerator` the early stops in a safetensors file. Raises: ValueError if the file is damaged."""
    state, header = read_safetensors(path, needs=["sides"])
    generator.set_readouts(header["sides"])
    fill(generator.readouts, state, path)


def _haar_order(channels):
    """The places of [low, three details] in the file's [low, (channels / 4, 3) details]."""
    low = channels // 4
    return torch.cat([torch.arange(low), torch.arange(low, channels).view(low, 3).T.flatten()])
