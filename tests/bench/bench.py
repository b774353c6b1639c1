"""`make bench`: what the tables in README.md beside this say. Writes build/bench.json and build/edits_*.jpg.

python tests/bench/bench.py                              times, and the quality of each notebook's default
python tests/bench/bench.py --judge "method 2"           only the quality of what is named ("equation 1" too)
python tests/bench/bench.py --judge ... --fresh 2026     on 32 avatars drawn with this seed, not the samples
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "data"), str(ROOT / "data" / "avatars" / "recipe")]

from helpers import images, judging  # noqa: E402
from helpers.domains import load_domain  # noqa: E402
from helpers.inversion import invert  # noqa: E402
from helpers.mapper_files import find_mapper, training_latents  # noqa: E402
from helpers.methods import alpha_for, apply_mapper, global_direction, optimize_latent, sweep, train_mapper  # noqa: E402
from helpers.settings import PAPER_DIRECTIONS  # noqa: E402


def method_1(domain, latents, prompt):
    return optimize_latent(domain, latents, prompt)[0]


def equation_1(domain, latents, prompt):
    return optimize_latent(domain, latents, prompt, objective="paper")[0]


def method_2(domain, latents, prompt):
    started = time.perf_counter()
    mapper, _ = train_mapper(domain, prompt, training_latents(domain))
    print(f"  trained in {time.perf_counter() - started:.0f} s", end="", flush=True)
    return apply_mapper(domain, mapper, latents)


def method_3(domain, latents, prompt):
    s = domain.generator.styles(latents)
    return s + alpha_for(domain, s, domain.neutral, prompt) * global_direction(domain, domain.neutral, prompt)


def method_3_sweep(domain, latents, prompt, method="sweep"):
    return domain.generator.styles(latents) + PAPER_DIRECTIONS.alpha * global_direction(
        domain, domain.neutral, prompt, channels=20, method=method)


def method_3_gradient(domain, latents, prompt):
    return method_3_sweep(domain, latents, prompt, "gradient")


# Sentences not asked before, for timing a new one.
THINGS = ("a hat", "a bun", "long hair", "a blue shirt", "pink hair", "a moustache", "green hair", "a turban",
          "red hair", "a beanie", "a hoodie", "dreadlocks", "gray hair", "a yellow shirt", "dark skin", "a hijab")
NEW = [f"a person with {thing}" for thing in THINGS]
METHODS = {"method 1": method_1, "equation 1": equation_1, "method 2": method_2, "method 3": method_3,
           "method 3 sweep": method_3_sweep, "method 3 gradient": method_3_gradient}


def median_seconds(action, repeats, warm_up=True):
    """Median wall time of an action, by default after one run to warm up."""
    times = []
    if warm_up:
        action()
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_times(domain):
    """Seconds of what a reader waits for."""
    face = images.open_image(domain.samples[0], domain.generator.resolution)
    load = [sys.executable, "-c", "from helpers.domains import load_domain; load_domain('avatars', 'cpu')"]
    source, prompt = invert(domain, face, steps=20)[0], "a person with glasses"
    mapper, batch = find_mapper(domain, prompt), source.repeat(32, 1, 1)

    @torch.no_grad()
    def apply(latents):
        return domain.generator(apply_mapper(domain, mapper, latents))

    training, sentences = training_latents(domain), iter(NEW)
    with torch.no_grad():
        s = domain.generator.styles(source)
    step = domain.settings.directions.alpha * global_direction(domain, domain.neutral, prompt)

    def new_text(method):
        return global_direction(domain, domain.neutral, next(sentences), method=method)

    return {
        "import and load": median_seconds(lambda: subprocess.run(load, cwd=ROOT, check=True, capture_output=True), 3),
        "encode one image": median_seconds(lambda: invert(domain, face), 3),
        "method 1, the default": median_seconds(lambda: optimize_latent(domain, source, prompt), 3),
        "equation (1), 300 steps": median_seconds(
            lambda: optimize_latent(domain, source, prompt, objective="paper"), 1, warm_up=False),
        "method 2, training": median_seconds(lambda: train_mapper(domain, prompt, training), 1),
        "method 2, one image": median_seconds(lambda: apply(source), 100),
        "method 2, one image of 32": median_seconds(lambda: apply(batch), 10) / 32,
        "method 3, sweep, once": median_seconds(lambda: sweep(domain), 1, warm_up=False),
        "method 3, a new text": median_seconds(lambda: new_text("samples"), 5),
        "method 3, a new text by the sweep": median_seconds(lambda: new_text("sweep"), 5),
        "method 3, a new text by the gradient": median_seconds(lambda: new_text("gradient"), 3),
        "method 3, slider to picture": median_seconds(
            lambda: images.to_jpeg(domain.generator.synthesize(s + step), 256), 100),
    }


def quality(domain, method, latents):
    """The ten prompts on all faces: a table, and the edited images of each prompt."""
    before, verdicts, edited, rows = faces_to_judge(domain, latents), {}, {}, {}
    for prompt in domain.asked:
        edited[prompt] = faces_to_judge(domain, method(domain, latents, prompt))
        verdict = verdicts[prompt] = judging.judge(domain, before, edited[prompt], prompt)
        rows[prompt] = {"faces": verdict.n, "asked attribute there": verdict.success,
                        "others unchanged": verdict.unchanged}
        print(f"  {prompt:28} {verdict}", flush=True)
    success, kept = judging.summary(verdicts.values())
    print(f"  mean: asked attribute there {success:.3f}, others unchanged {kept:.3f}", flush=True)
    return {"asked attribute there": success, "others unchanged": kept, "prompts": rows}, edited


@torch.no_grad()
def faces_to_judge(domain, codes):
    """The images of codes, w_plus [N, L, w_dim] or s [N, S], clamped as a picture is."""
    draw = domain.generator.synthesize if codes.ndim == 2 else domain.generator
    return draw(codes).clamp(-1, 1)


def faces_of(domain, seed):
    """The 32 samples, or 32 fresh avatars drawn with a seed: image [32, 3, R, R]."""
    side = domain.generator.resolution
    if seed is None:
        return torch.cat([images.open_image(path, side) for path in domain.samples])
    from training import to_image
    from world import draw, render
    choices, poses = draw(32, np.random.default_rng(seed))
    return to_image(np.stack([render(*one, side) for one in zip(choices, poses)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--fresh", type=int, metavar="SEED", help="judge on fresh avatars")
    options = parser.parse_args()
    domain = load_domain("avatars", "cpu")
    (ROOT / "build").mkdir(exist_ok=True)
    target = ROOT / "build" / "bench.json"
    report = json.loads(target.read_text()) if target.exists() else {}
    if not options.judge:
        report["threads"], report["seconds"] = torch.get_num_threads(), measure_times(domain)
        print(json.dumps(report["seconds"], indent=1), flush=True)
        target.write_text(json.dumps(report, indent=1) + "\n")
    latents = torch.cat([invert(domain, part)[0] for part in faces_of(domain, options.fresh).split(8)])
    for name in options.judge or ("method 1", "method 2", "method 3"):
        key = name if options.fresh is None else f"{name}, fresh faces {options.fresh}"
        print(f"{key}: faces, asked attribute there, others unchanged", flush=True)
        report[key], edited = quality(domain, METHODS[name], latents)
        shown = [0, 2, 5, 9, 13, 21]
        rows = torch.stack([faces_to_judge(domain, latents)[shown], *(after[shown] for after in edited.values())])
        sheet = images.labelled_grid(rows.transpose(0, 1).flatten(0, 1), range(1, 1 + len(shown)),
                                     ["encoded", *edited], 96)
        (ROOT / "build" / f"edits_{key.replace(' ', '_')}.jpg").write_bytes(images.to_jpeg(sheet))
        target.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
