"""`load_generator`: a generator from a file of any format that is read here."""

from pathlib import Path

from ...mobile_stylegan import MobileGenerator
from ...stylegan2 import Generator
from .builder import fill_generator
from .nvidia import from_nvidia_state, read_nvidia_pickle
from .openvino import read_mobile_stylegan
from .rosinality import from_rosinality_state
from .safetensors_files import OLD_TORCH, first_line, lost_drive, read_safetensors
from .torch_files import read_torch


def load_generator(path):
    """The generator in a file; formats are told apart by their content.

    Args: path: safetensors (of `save_module`, or plain tensors under NVIDIA's or rosinality's
        names), a pickle of NVIDIA's, a .pt file of rosinality's, or the wheel of `random-face`.
    Raises: FileNotFoundError; OSError if it cannot be read; ValueError, in one sentence, if it is
        damaged, asks for more than weights, or holds something else.
    """
    try:
        return _read(Path(path))
    except OSError as error:
        raise lost_drive(path, error) or error from None
    except Exception as error:  # odd names, sizes and headers can cause many kinds
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} does not hold a generator that can be read "
                         f"({first_line(error)}).") from None


def _read(path):
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        state, header = read_safetensors(path)
        config = header.get("config", {})
        if "readouts" in config:
            return fill_generator(MobileGenerator, state, **config)
        if "mapping_layers" in config:
            channels = {int(side): maps for side, maps in config["channels"].items()}
            return fill_generator(Generator, state, **config | {"channels": channels})
    elif path.suffix == ".whl":
        return read_mobile_stylegan(path)
    elif start[:4] == b"PK\x03\x04" or start[2:6] == OLD_TORCH:
        content = read_torch(path)
        state = content if isinstance(content, dict) else {}
        if "g_ema" in state:  # a whole training run: the mean of w lies beside the generator
            mean = {name: state[name] for name in ("latent_avg",) if name in state}
            state = state["g_ema"] | mean
    elif start[:1] == b"\x80":
        return from_nvidia_state(*read_nvidia_pickle(path))
    else:
        raise ValueError(f"{path} is neither safetensors nor a .pkl, .pt or .pth file of weights: "
                         "delete it and fetch it again.")
    if "synthesis.b4.const" in state:
        return from_nvidia_state(state)
    if "conv1.conv.weight" in state:
        return from_rosinality_state(state)
    raise ValueError(f"{path} does not hold a generator.")
