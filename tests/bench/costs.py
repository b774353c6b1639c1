"""What a step costs by resolution, batch and number of texts; and what half precision and early stops change.

python tests/bench/costs.py times     build/costs_times.json, and costs.png beside this file; wants an idle machine
python tests/bench/costs.py same      edits in half precision beside fp32, early stops beside whole pictures
"""

import argparse
import json
import sys
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.ticker import LogLocator, NullLocator

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from bench import NEW, method_3  # noqa: E402
from bench import median_seconds as median_of  # noqa: E402
from originals import DEVICE, equation_1_step, ffhq_generator, large_networks  # noqa: E402

from helpers import criteria, stylegan2  # noqa: E402
from helpers.clip_model import ClipModel  # noqa: E402
from helpers.domains import load_domain  # noqa: E402
from helpers.judging import judge, summary  # noqa: E402
from helpers.latents import random_w_plus  # noqa: E402
from helpers.methods import global_direction, optimize_latent  # noqa: E402
from helpers.methods.directions import relevance_of, swept_channels  # noqa: E402
from helpers.methods.mapper import LatentMapper, paper_objective  # noqa: E402
from helpers.settings import PAPER_MAPPER  # noqa: E402
from helpers.stylegan2 import HalfPrecision  # noqa: E402

SEED, FACES, PART, MOVED = 2026, 16, 4, 1e-5
PROMPTS = ("a person with glasses", "a smiling person", "a person with a beard", "a person with blonde hair")


def median_seconds(action, repeats=3):
    """Median wall time of an action; a GPU has to have ended, too."""
    def whole():
        action()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
    return median_of(whole, repeats)


class Exact(HalfPrecision):
    """`with Exact(generator):` all of it in fp32, whatever the domain has chosen."""

    def __enter__(self):
        self.generator.precision = None


def step_of(generator, clip, identity, side, batch, half):
    """One step of equation (1), as a function without arguments."""
    def draw(w_plus):
        with (HalfPrecision if half else Exact)(generator):
            return generator(w_plus, resolution=side)

    return equation_1_step(criteria, generator, draw, clip, identity, batch)


@cache
def large():
    """A generator of FFHQ's size, ViT-B/32 and IR-SE50, all with random weights."""
    return (ffhq_generator(stylegan2), *large_networks(ClipModel))


def training_step(side, half):
    """One step of method 2's training as the paper has it, but for its optimizer; as a function without arguments."""
    generator, clip, identity = large()
    domain = SimpleNamespace(generator=generator, clip=clip, identity=identity, device=DEVICE)
    latents = generator.broadcast(generator.map(torch.randn(PAPER_MAPPER.batch, generator.w_dim).to(DEVICE)))
    mapper = LatentMapper({"coarse": (0, 4), "medium": (4, 8), "fine": (8, 18)}, generator.w_dim, "rows").to(DEVICE)
    terms_of = paper_objective(domain, "a person with purple hair", latents, PAPER_MAPPER, side)
    optimizer = torch.optim.Adam(mapper.parameters(), lr=PAPER_MAPPER.rate)

    def step():
        with (HalfPrecision if half else Exact)(generator):
            terms, _ = terms_of(mapper, list(range(PAPER_MAPPER.batch)), None)
        optimizer.zero_grad()
        sum(terms.values()).mean().backward()
        optimizer.step()

    return step


def table_1():
    """The paper's Table 1 at FFHQ's size: whole runs, computed from the median of a part of each.

    {what: {"seconds": of all, and on a GPU "GB": the most that was held at once, networks included}}
    """
    generator, clip, identity = large()
    w_plus = generator.broadcast(generator.w_avg[None])
    s = generator.styles(w_plus).repeat(4, 1)
    channels = len(swept_channels(generator))

    @torch.no_grad()
    def edit():
        with HalfPrecision(generator):
            generator(w_plus)

    @torch.no_grad()
    def four_of_a_channel():
        with HalfPrecision(generator):
            clip.encode_image(generator.synthesize(s, resolution=256))

    parts = {}
    for side in (1024, 256):
        for name, half in (("fp32", False), ("half precision", True)):
            parts[f"method 1, 300 steps at {side} px, {name}"] = (
                300, partial(step_of, generator, clip, identity, side, 1, half))
            parts[f"method 2, {PAPER_MAPPER.steps:,} steps of {PAPER_MAPPER.batch} at {side} px, {name}"] = (
                PAPER_MAPPER.steps, partial(training_step, side, half))
    parts["methods 2 and 3, one picture at 1024 px, half precision"] = 1, lambda: edit
    parts[f"method 3, 100 images x {channels} channels at 256 px, half precision"] = (
        channels * 50, lambda: four_of_a_channel)
    found = {}
    for what, (times, build) in parts.items():  # each is built when its turn comes, and holds no memory before or after
        part = build()
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        found[what] = {"seconds": times * median_seconds(part, 3 if DEVICE.type == "cpu" else 20)}
        if DEVICE.type == "cuda":
            found[what]["GB"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def by_resolution(domain):
    """{curve: {side: seconds of a step}}."""
    kinds = {"FFHQ's size, ViT-B/32 and IR-SE50": (*large(), (64, 128, 256, 512, 1024)),
             "faces, its own networks": (domain.generator, domain.clip, domain.identity, domain.generator.resolutions)}
    domain.generator.full_exact = False  # half precision at full size, too, for once
    return {f"{name}, {precision}": {side: median_seconds(step_of(generator, clip, identity, side, 1, half))
                                     for side in sides}
            for name, (generator, clip, identity, sides) in kinds.items()
            for precision, half in (("fp32", False), ("half precision", True))}


def by_batch(domain):
    """{curve: {batch: seconds of a step per image}}, at the side that long runs draw at."""
    return {f"faces at {domain.draw} px, {precision}": {
        batch: median_seconds(step_of(domain.generator, domain.clip, domain.identity, domain.draw, batch, half))
        / batch for batch in (1, 2, 4, 8, 16)} for precision, half in (("fp32", False), ("half precision", True))}


def by_texts(domain):
    """{curve: {number of sentences: seconds}}, each of them as if never asked before."""
    def ask(method, count):
        relevance_of.cache_clear()
        for text in NEW[:count]:
            global_direction(domain, domain.neutral, text, method=method)

    return {f"method 3's directions by {method}": {
        count: median_seconds(lambda method=method, count=count: ask(method, count)) for count in (1, 2, 4, 8, 16)}
        for method in ("samples", "sweep")}


def plot(found):
    """{x axis: {curve: {x: seconds}}} side by side, into costs.png."""
    labels = ("seconds of a step", "seconds of a step, per image", "seconds, together")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, label, (what, curves) in zip(axes, labels, found.items()):
        for name, points in curves.items():
            axis.plot([int(x) for x in points], list(points.values()), "o-", label=name)
        ticks = sorted({int(x) for points in curves.values() for x in points})
        axis.set(xscale="log", yscale="log", xlabel=what, ylabel=label)
        axis.set_xticks(ticks, ticks)
        axis.xaxis.minorticks_off()
        axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
        axis.set_ylim(top=axis.get_ylim()[1] * (4 if len(curves) > 2 else 2))  # room for the legend
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper left")
    figure.savefig(Path(__file__).with_name("costs.png"), dpi=80)


def times(domain):
    print(json.dumps(whole := table_1(), indent=1), flush=True)
    found = {"side of the picture, px": by_resolution(domain), "images in a batch": by_batch(domain),
             "new sentences": by_texts(domain)}
    plot(found)
    return {"device": str(DEVICE), "FFHQ's size": whole} | found


def psnr(image, target):
    """In dB, of each image [N, 3, R, R] between -1 and 1."""
    return -10 * torch.log10((image.clamp(-1, 1) - target.clamp(-1, 1)).square().flatten(1).mean(dim=1) / 4)


def range_of(values):
    return {"median": values.median().item(), "worst": values.min().item()}


def same(domain):
    """Edits with half precision as the domain has it beside fp32 throughout; and, for comparison, edits in fp32 from
    latents moved by `MOVED`, which shows how far method 1's descent carries any small difference."""
    w_plus, generator = random_w_plus(domain, FACES, SEED), domain.generator
    side, read = domain.draw, domain.classifier.read
    moved = w_plus + MOVED * torch.randn(w_plus.shape, generator=torch.Generator().manual_seed(0)).to(w_plus)

    def drawn(s):
        with torch.no_grad(), Exact(generator):
            return torch.cat([generator.synthesize(part, resolution=side) for part in s.split(PART)])

    def by_1(w_plus, prompt):
        return torch.cat([generator.styles(optimize_latent(domain, part, prompt)[0]) for part in w_plus.split(PART)])

    def edited(method, w_plus):
        return {prompt: drawn(method(w_plus, prompt).detach()) for prompt in PROMPTS}

    found, before = {}, drawn(generator.styles(w_plus).detach())
    for name, method in (("method 1", by_1), ("method 3", partial(method_3, domain))):
        with Exact(generator):
            runs = {"fp32": edited(method, w_plus), f"fp32, w_plus moved by {MOVED}": edited(method, moved)}
        runs["half precision"] = edited(method, w_plus)
        full = runs["fp32"]
        for run, images in runs.items():
            equal = torch.cat([(a == b).float() for prompt in PROMPTS
                               for (a, _), (b, _) in zip(read(images[prompt]).values(), read(full[prompt]).values())])
            success, unchanged = summary([judge(domain, before, images[prompt], prompt) for prompt in PROMPTS])
            near = torch.cat([psnr(images[prompt], full[prompt]) for prompt in PROMPTS])
            found[f"{name}, {run}"] = {
                "there": success, "unchanged": unchanged, "verdicts as in fp32": equal.mean().item(),
                "PSNR to fp32": range_of(near)}
            print(name, run, json.dumps(found[f"{name}, {run}"]), flush=True)
    with torch.no_grad():
        s = generator.styles(w_plus)
        with Exact(generator):
            whole = torch.cat([generator.synthesize(part) for part in s.split(PART)])
            exact = {side: generator.synthesize(s, resolution=side) for side in generator.resolutions[:-1]}
        half = {side: generator.synthesize(s, resolution=side) for side in exact}
        for side, early in exact.items():
            small = F.adaptive_avg_pool2d(whole, side)
            cosine = (domain.clip.encode_image(early) * domain.clip.encode_image(small)).sum(dim=1)
            found[f"early stop at {side} px"] = {
                "PSNR": range_of(psnr(early, small)), "CLIP's cosine": range_of(cosine),
                "half precision beside fp32, PSNR": range_of(psnr(half[side], early))}
            print(side, json.dumps(found[f"early stop at {side} px"]), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("times", "same"))
    options = parser.parse_args()
    found = {"times": times, "same": same}[options.what](load_domain("faces", DEVICE, clip="its own"))
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / f"costs_{options.what}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
