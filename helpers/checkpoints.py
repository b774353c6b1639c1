"""Weights on disk <-> networks, as data: nothing in a file is ever executed."""

import json
from math import log2
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .stylegan2 import Generator


def from_nvidia_state(state):
    """A generator from plain tensors under NVIDIA's names (stylegan2-ada-pytorch); every size is inferred.

    Args: state: {"mapping.fc0.weight": tensor, "synthesis.b4.const": tensor, ...}.
    """
    resolutions = sorted({int(key.split(".")[1][1:]) for key in state if key.startswith("synthesis.b")})
    depth = sum(key.startswith("mapping.fc") and key.endswith("weight") for key in state)
    if not resolutions or not depth:
        raise ValueError("These are not the weights of a StyleGAN2 generator in NVIDIA's format.")
    channels = {r: state[f"synthesis.b{r}.conv1.weight"].shape[0] for r in resolutions}
    w_dim, z_dim = state["mapping.fc0.weight"].shape
    generator = Generator(resolutions[-1], channels, z_dim=z_dim, w_dim=w_dim, mapping_layers=depth)

    names = {"w_avg": "mapping.w_avg", "constant": "synthesis.b4.const"}
    for i in range(depth):
        names |= {f"mapping.{i}.{kind}": f"mapping.fc{i}.{kind}" for kind in ("weight", "bias")}
    shared = ("affine.weight", "affine.bias", "weight", "bias")
    for r in resolutions:
        block = int(log2(r)) - 2
        for conv, i in (("conv0", 2 * block - 1), ("conv1", 2 * block)):
            if i >= 0:
                names |= {f"layers.{i}.{part}": f"synthesis.b{r}.{conv}.{part}" for part in (*shared, "noise_strength")}
                names[f"layers.{i}.noise"] = f"synthesis.b{r}.{conv}.noise_const"
        names |= {f"to_rgb.{block}.{part}": f"synthesis.b{r}.torgb.{part}" for part in shared}
    missing = [name for name in names.values() if name not in state]
    if missing:
        raise ValueError(f"The generator's weights lack {missing[0]} ({len(missing)} missing in all).")
    generator.load_state_dict({ours: state[theirs].float() for ours, theirs in names.items()})
    return generator.eval().requires_grad_(False)


def save_tensors(path, tensors, **header):
    """Write {name: tensor} and a header as safetensors; an old file stays until the new one is whole.

    Raises: OSError, for example of a full disk; nothing half-written is left then.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part,
                  metadata={key: json.dumps(value) for key, value in header.items()})
        part.replace(path)
    except SafetensorError as error:  # what the library makes of a failed write
        raise OSError(f"{path.name} could not be written ({error})") from None
    finally:
        part.unlink(missing_ok=True)


def save_module(path, module, *, half=False, **notes):
    """Write a module's tensors and its `config`.

    Args: half: store in half the space, as float16; notes: what else to keep in the file's header.
    """
    state = {name: value.half() if half and value.is_floating_point() else value
             for name, value in module.state_dict().items()}
    save_tensors(path, state, config=module.config, **notes)


def read_safetensors(path):
    """A safetensors file as ({name: fp32 tensor}, {key: value of the header}); a ValueError if it is none."""
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items() if key != "format"}
    except SafetensorError as error:
        raise ValueError(f"{Path(path).name} is not a whole safetensors file ({error}); fetch it again.") from None
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, header


def load_generator(path):
    """The generator in a .safetensors file that `save_module` wrote.

    Raises: FileNotFoundError; ValueError if the file is damaged or holds something else.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name}: only .safetensors files of this project are read; for plain tensors under "
                         "NVIDIA's names use from_nvidia_state.")
    state, header = read_safetensors(path)
    config = header.get("config", {})
    if "mapping_layers" not in config:
        raise ValueError(f"{path.name} does not hold a generator.")
    config["channels"] = {int(side): maps for side, maps in config["channels"].items()}
    generator = Generator(**config)
    generator.load_state_dict(state)
    return generator.eval().requires_grad_(False)
