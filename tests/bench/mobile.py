"""The generator of faces beside OpenVINO's own runtime on the same files: agreement, and seconds at 1024 px.

pip install openvino; python tests/bench/mobile.py          (openvino is no dependency of this project)
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import openvino
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.checkpoints import add_readouts, load_generator, read_members  # noqa: E402
from helpers.domains import DATA, RANDOM_FACE  # noqa: E402
from helpers.fetching import fetch  # noqa: E402
from helpers.stylegan2 import half_type  # noqa: E402

NETWORKS = [f"random_face/data/{name}Network" for name in ("Mapping", "Synthesis")]


def theirs(wheel):
    """OpenVINO's two compiled networks, as functions of arrays; with as many threads as torch has."""
    files, core = read_members(wheel, [name + kind for name in NETWORKS for kind in (".xml", ".bin")]), openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = []
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            path = Path(folder, Path(name).name)
            for kind in (".xml", ".bin"):
                path.with_suffix(kind).write_bytes(files[name + kind])
            compiled.append(core.compile_model(core.read_model(path.with_suffix(".xml")), "CPU", settings))
    return [lambda x, model=model: torch.from_numpy(model(x.numpy())[0].copy()) for model in compiled]


def seconds(run, repeat=5):
    """Median of several runs, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main():
    wheel = fetch((RANDOM_FACE,))
    generator = load_generator(wheel)
    add_readouts(generator, DATA / "faces" / "readouts.safetensors")
    mapping, synthesis = theirs(wheel)
    worst = [0.0, 0.0]
    for z in torch.randn(20, 1, 512, generator=torch.Generator().manual_seed(20)):
        w = generator.map(z)
        worst[0] = max(worst[0], (w - mapping(z)).abs().max().item())
        worst[1] = max(worst[1], (generator(generator.broadcast(w)) - synthesis(w)).abs().max().item())
    print(f"20 random z, largest difference: w {worst[0]:.1e}, image {worst[1]:.1e}")
    s = generator.styles(generator.broadcast(w))
    leaf = s.clone().requires_grad_()

    def draw(s, side):
        image = generator.synthesize(s, side)
        if s.requires_grad:
            image.square().mean().backward()

    rows, precisions = {}, {"fp32": None}
    if half := half_type(s.device):  # elsewhere it would take minutes
        precisions["bfloat16 from 8 px"] = half
    for _ in range(2):  # ours and theirs in turn
        rows.setdefault("OpenVINO, fp32", []).append(seconds(lambda: synthesis(w)))
        for name, precision in precisions.items():
            generator.precision, generator.precision_from = precision, 8
            for side in (1024, 256):
                rows.setdefault(f"here, {name}, {side} px", []).append(seconds(partial(draw, s, side)))
                rows.setdefault(f"here, {name}, {side} px, and backward", []).append(
                    seconds(partial(draw, leaf, side), 3))
    for name, values in rows.items():
        print(f"{name:45} {statistics.mean(values) * 1000:6.0f} ms, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
