"""StyleGAN2's generator in NVIDIA's format (stylegan2-ada-pytorch), its pickles read as data.

In such a pickle every network is its `__dict__`, with the source code of its class beside it. What
a pickle asks for is answered by functions that only build numbers and lists; the code is skipped.
"""

import io
import pickle
import struct
from collections import OrderedDict
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch

from .builder import CONV, LINEAR, TO_RGB, build_generator, names_of
from .safetensors_files import check_numbers, first_line
from .torch_files import Refused, what_is_asked

# Text that is in every file of a kind that is not read, and what such a file is.
OTHER_KINDS = (
    (b"dnnlib.tflib.network", "a pickle of the TensorFlow era (StyleGAN or StyleGAN2): convert it "
     "first, with legacy.py of NVIDIA's stylegan2-ada-pytorch"),
    (b"class SynthesisInput(", "a StyleGAN3 network, whose layers are of another kind: choose a "
     "StyleGAN2 file"))


def from_nvidia_state(state, clamp=None, mapping_lr=0.01):
    """A generator from plain tensors; every size is inferred.

    Args:
        state: {"mapping.fc0.weight": tensor, "synthesis.b4.const": tensor, ...}. Without
            "mapping.w_avg" the mean of w is computed.
        clamp: bound on activations that it was trained with (their `conv_clamp`), or None.
        mapping_lr: learning-rate multiplier of the mapping network, which scales its weights.
    Raises: ValueError if these are other weights, some are missing, or labels are needed.
    """
    blocks = {name.split(".")[1] for name in state if name.startswith("synthesis.b")}
    sides = sorted(int(block[1:]) for block in blocks)  # "b4" -> 4
    depth = sum(name.startswith("mapping.fc") and name.endswith("weight") for name in state)
    if not sides or not depth:
        raise ValueError("These are no weights of a StyleGAN2 generator in NVIDIA's format.")
    if "mapping.embed.weight" in state:
        raise ValueError("This generator draws several classes of pictures, by a label; only those "
                         "without are read.")
    convs = ["synthesis.b4.conv1"]
    for side in sides[1:]:
        convs += [f"synthesis.b{side}.conv0", f"synthesis.b{side}.conv1"]
    names = {"w_avg": "mapping.w_avg", "constant": "synthesis.b4.const"}
    names |= names_of("mapping", [f"mapping.fc{i}" for i in range(depth)], LINEAR, LINEAR)
    names |= names_of("layers", convs, CONV, (*TO_RGB, "noise_strength", "noise_const"))
    names |= names_of("to_rgb", [f"synthesis.b{side}.torgb" for side in sides], TO_RGB, TO_RGB)
    return build_generator(state, names, depth, len(sides), torch.Generator().manual_seed(0),
                           clamp=clamp, mapping_lr=mapping_lr)


def _storage(content):
    """In place of `torch.storage._load_from_bytes`, which would unpickle whatever it is given."""
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused(f"among its numbers, {what_is_asked(error)}") from None
    if not isinstance(storage, (torch.TypedStorage, torch.UntypedStorage)):
        raise Refused("among its numbers, it holds more than weights")  # a function of torch's, say
    return storage


class _NumpyType(str):
    """In place of `numpy.dtype`: its name; the byte order, which is set later, is dropped."""

    def __new__(cls, name, *_):
        return super().__new__(cls, name)

    def __setstate__(self, state):
        pass


def _number(kind, content):
    """In place of a numpy scalar, as NVIDIA's gains are: a Python float."""
    formats = {"f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q"}
    if kind not in formats:
        raise Refused(f"it holds numpy values of type {kind}")
    return struct.unpack(formats[kind], content)[0]


# The whitelist: what a pickle may ask for, and what it gets instead. All else is refused.
KNOWN_GLOBALS = {
    "torch_utils.persistence._reconstruct_persistent_obj": itemgetter("state"),  # the `__dict__`
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": dict,
    "builtins.set": set, "__builtin__.set": set,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # how protocol 2 spells bytes
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _number, "numpy._core.multiarray.scalar": _number,
}


class _Unpickler(pickle.Unpickler):
    """Finds what is in `KNOWN_GLOBALS`, and nothing else."""

    def find_class(self, module, name):
        asked = f"{module}.{name}"
        if asked not in KNOWN_GLOBALS:
            raise Refused(f"it asks for {asked}, which is not part of a network's weights")
        known = KNOWN_GLOBALS[asked]
        if known in (dict, set, OrderedDict):  # a pickle cannot set attributes of these
            return known
        return partial(known)  # a new object each time: a pickle may set attributes of it (BUILD)


def read_nvidia_pickle(path):
    """The generator (`G_ema`) of a .pkl file: the arguments of `from_nvidia_state`.

    Raises: Refused, a ValueError that names what the file asks for, if that is more than weights;
        ValueError if it is damaged or of another kind; OSError if it cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            network = _Unpickler(file).load()["G_ema"]
        state = dict(_tensors(network))
        check_numbers(state)
        conv = network["_modules"]["synthesis"]["_modules"]["b4"]["_modules"]["conv1"]
        clamp = conv.get("conv_clamp")
        clamp = None if clamp is None else float(clamp)
        mapping_lr = float(network["_modules"]["mapping"]["_modules"]["fc0"].get("bias_gain", 0.01))
        return state, clamp, mapping_lr
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise any kind, and nothing worse
        content = path.read_bytes()
        for text, kind in OTHER_KINDS:
            if text in content:
                raise ValueError(f"{path} is {kind}.") from None
        if isinstance(error, Refused):
            raise Refused(f"{path} was refused: {error}.") from None
        raise ValueError(f"{path} is damaged or no network of NVIDIA's ({first_line(error)}): "
                         "delete it and fetch it again.") from None


def _tensors(module, prefix=""):
    """The (name, tensor) pairs of a module that is given as its `__dict__`."""
    for kind in ("_parameters", "_buffers"):
        for name, value in module[kind].items():
            if value is not None:
                yield prefix + name, value
    for name, child in module["_modules"].items():
        yield from _tensors(child, f"{prefix}{name}.")
