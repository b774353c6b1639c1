"""StyleGAN2's generator under the names of rosinality's code, the format that StyleCLIP uses."""

import re

import torch

from .builder import CONV, LINEAR, TO_RGB, build_generator, check_sizes, names_of

MODULATED = ("conv.modulation.weight", "conv.modulation.bias", "conv.weight")


def from_rosinality_state(state):
    """A generator from plain tensors; every size is inferred.

    Args: state: {"style.1.weight": tensor, "conv1.conv.weight": tensor, ...}. Without "latent_avg"
        the mean of w is computed; noise images that are missing are drawn, from seed 0.
    Raises: ValueError if these are other weights, or some are missing.
    """
    depth = sum(re.fullmatch(r"style\.\d+\.weight", key) is not None for key in state)
    blocks = 1 + sum(re.fullmatch(r"to_rgbs\.\d+\.bias", key) is not None for key in state)
    if not depth or "conv1.conv.weight" not in state:
        raise ValueError("These are no weights of a StyleGAN2 generator in rosinality's format.")
    check_sizes(2 * 2**blocks, depth)
    convs = ["conv1", *(f"convs.{i}" for i in range(2 * blocks - 2))]
    to_rgb = ["to_rgb1", *(f"to_rgbs.{i}" for i in range(blocks - 1))]
    noises = {f"layers.{i}.noise": f"noises.noise_{i}" for i in range(len(convs))}
    names = {"w_avg": "latent_avg", "constant": "input.input"}
    names |= names_of("mapping", [f"style.{i + 1}" for i in range(depth)], LINEAR, LINEAR)
    names |= names_of("layers", convs, CONV, (*MODULATED, "activate.bias", "noise.weight")) | noises
    names |= names_of("to_rgb", to_rgb, TO_RGB, (*MODULATED, "bias"))
    state, random = dict(state), torch.Generator().manual_seed(0)
    for i, name in enumerate(noises.values()):
        side = 2 ** ((i + 5) // 2)  # 4, 8, 8, 16, 16, ...
        if name not in state:
            state[name] = torch.randn(side, side, generator=random)
    return build_generator(state, names, depth, blocks, random)
