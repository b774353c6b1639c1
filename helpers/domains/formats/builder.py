"""A generator from tensors. Sizes are inferred, and checked before memory is taken for them."""

import torch

from ...mobile_stylegan import MobileGenerator
from ...stylegan2 import Generator
from .safetensors_files import first_line

MAX_RESOLUTION, MAX_DEPTH = 4096, 64  # pixels and mapping layers; more than any network has
MEAN_SAMPLES = 4096  # of w, where a file lacks its mean; as StyleCLIP's code takes
LINEAR = ("weight", "bias")  # the tensors of a mapping layer ...
TO_RGB = ("affine.weight", "affine.bias", "weight", "bias")  # ... of a toRGB ...
CONV = (*TO_RGB, "noise_strength", "noise")  # ... and of a convolution


def names_of(kind, layers, parts, their_parts):
    """{our name: their name} of a list of layers, which we call `kind`.0, `kind`.1 and so on.

    Args: layers: their names of these layers; parts, their_parts: names of the tensors in one.
    """
    return {f"{kind}.{i}.{part}": f"{layer}.{their_part}" for i, layer in enumerate(layers)
            for part, their_part in zip(parts, their_parts)}


def check_sizes(resolution, mapping_layers):
    """Raises: ValueError for a resolution in pixels or a depth that no generator has."""
    if not (8 <= resolution <= MAX_RESOLUTION and 0 < mapping_layers <= MAX_DEPTH):
        raise ValueError(f"A generator of {resolution} px with {mapping_layers} mapping layers is "
                         f"not read: up to {MAX_RESOLUTION} px and {MAX_DEPTH} layers are.")


def build_generator(state, names, depth, blocks, random, **options):
    """StyleGAN2's generator from foreign tensors; without a mean of w, that is computed.

    Args: state: {their name: tensor}; names: {our name: their name}, all that `Generator` has;
        depth: of the mapping network; blocks: resolutions from 4 px on; random: torch.Generator
        that draws z for the mean; options: arguments that cannot be inferred, clamp and mapping_lr.
    Raises: ValueError if tensors are missing, or their sizes contradict one another.
    """
    missing = [name for name in names.values() if name not in state and name != names["w_avg"]]
    if missing:
        raise ValueError(f"The generator's weights lack {missing[0]} ({len(missing)} in all).")
    w_dim, z_dim = state[names["mapping.0.weight"]].shape
    channels = {4 * 2**i: state[names[f"to_rgb.{i}.affine.bias"]].numel() for i in range(blocks)}
    ours = {"w_avg": torch.zeros(w_dim)}
    ours |= {name: state[theirs] for name, theirs in names.items() if theirs in state}
    generator = fill_generator(Generator, ours, resolution=2 * 2**blocks, channels=channels,
                               z_dim=z_dim, w_dim=w_dim, mapping_layers=depth, **options)
    if names["w_avg"] not in state:
        set_mean_w(generator, MEAN_SAMPLES, random)
    return generator


def fill_generator(kind, state, **config):
    """A generator, `Generator` or `MobileGenerator`, of this config, ready to be used.

    Args: state: {our name: tensor of as many numbers}. Raises: ValueError if they do not fit.
    """
    mobile = kind is MobileGenerator
    resolution = 4 * 2 ** len(config["channels"]) if mobile else config["resolution"]
    check_sizes(resolution, config["mapping_layers"])
    with torch.device("meta"):  # no memory is taken for sizes that the tensors do not have
        generator = kind(**config)
    try:
        tensors = {}
        for name, value in generator.state_dict().items():
            tensor = state[name].float().reshape(value.shape)
            tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
        generator.load_state_dict(tensors, assign=True)
    except (RuntimeError, KeyError) as error:
        raise ValueError("The sizes of the generator's weights contradict one another "
                         f"({first_line(error)}).") from None
    return generator.eval().requires_grad_(False)


def set_mean_w(generator, samples, random):
    """Set `w_avg` [w_dim] to the mean of w over z of a torch.Generator, so many of them."""
    z = torch.randn(samples, generator.z_dim, generator=random)  # [samples, z_dim]
    with torch.no_grad():
        w = torch.cat([generator.map(part) for part in z.split(5000)])  # [samples, w_dim]
        generator.w_avg.copy_(w.mean(dim=0))
