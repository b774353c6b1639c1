"""The generator of faces beside OpenVINO's own runtime on the same files: agreement, and times.

    pip install openvino; python -m tests.bench.mobile

openvino is no dependency of this project. Result: generator_MACHINE.
"""

import argparse
import tempfile
from pathlib import Path

import openvino
import torch

from helpers.domains import DATA
from helpers.domains.download import fetch
from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.openvino import add_readouts, read_members
from helpers.domains.published import RANDOM_FACE
from helpers.fused_ops import half_type

from .results import add_keep, kind_of_machine, save
from .timing import median_seconds

COUNT, SEED = 20, 20  # of z
SIDES = (1024, 256)


class OpenVino:
    """One of the package's networks, compiled by OpenVINO, with as many threads as torch has."""

    def __init__(self, wheel, name):
        names = [f"random_face/data/{name}{kind}" for kind in (".xml", ".bin")]
        files, core = read_members(wheel, names), openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    "INFERENCE_PRECISION_HINT": "f32"}
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                Path(folder, Path(path).name).write_bytes(content)
            network = core.read_model(Path(folder, f"{name}.xml"))
            self.model = core.compile_model(network, "CPU", settings)

    def __call__(self, x):
        """The network's output for a tensor."""
        return torch.from_numpy(self.model(x.numpy())[0].copy())


def differences(generator, mapping, synthesis):
    """The largest differences of w and image on random z."""
    random, worst = torch.Generator().manual_seed(SEED), {"w": 0.0, "image": 0.0}
    for z in torch.randn(COUNT, 1, 512, generator=random):
        w = generator.map(z)
        image = generator(generator.broadcast(w))
        worst["w"] = max(worst["w"], (w - mapping(z)).abs().max().item())
        worst["image"] = max(worst["image"], (image - synthesis(w)).abs().max().item())
    return worst


def draw(generator, s, side):
    """Draw s [1, S] at `side` px; backward, too, if s asks for its gradient."""
    image = generator.synthesize(s, side)
    if s.requires_grad:
        image.square().mean().backward()


def times(generator, synthesis, w):
    """{what: {"forward", "forward and backward": milliseconds}}, once."""
    s = generator.styles(generator.broadcast(w))
    leaf = s.clone().requires_grad_()
    found = {"OpenVINO, fp32, 1024 px": {"forward": 1000 * median_seconds(synthesis, w, repeat=5)}}
    precisions = {"fp32": None}
    if half_type(s.device) is not None:  # elsewhere bfloat16 would take minutes
        precisions["bfloat16"] = half_type(s.device)
    for name, precision in precisions.items():
        generator.precision, generator.precision_from = precision, 8
        for side in SIDES:
            found[f"{name}, {side} px"] = {
                "forward": 1000 * median_seconds(draw, generator, s, side, repeat=5),
                "forward and backward": 1000 * median_seconds(draw, generator, leaf, side)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_keep(parser)
    options = parser.parse_args()
    wheel = fetch((RANDOM_FACE,))
    generator = load_generator(wheel)
    add_readouts(generator, DATA / "faces" / "readouts.safetensors")
    mapping, synthesis = OpenVino(wheel, "MappingNetwork"), OpenVino(wheel, "SynthesisNetwork")
    worst = differences(generator, mapping, synthesis)
    print(f"{COUNT} random z, largest difference: w {worst['w']:.1e}, image {worst['image']:.1e}")
    w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(SEED)))
    first, second = times(generator, synthesis, w), times(generator, synthesis, w)
    rows = {}
    for name, ways in first.items():
        rows[name] = {way: sorted([round(value, 1), round(second[name][way], 1)])
                      for way, value in ways.items()}
        print(name, rows[name])
    save(f"generator_{kind_of_machine()}", keep=options.keep, faces=COUNT, seed=SEED,
         difference=worst, milliseconds=rows, note="[least, most] of two rounds' medians")


if __name__ == "__main__":
    main()
