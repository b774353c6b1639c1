"""What a step costs by resolution, batch and number of texts; half precision and early stops.

    python -m tests.bench.costs times     the paper's Table 1 at its own size, and costs.png
    python -m tests.bench.costs same      half precision beside fp32, early stops beside the whole

`times` wants an idle machine, and takes a GPU where there is one. Results: paper_sizes_MACHINE,
costs_MACHINE; half_precision.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.ticker import LogLocator, NullLocator

from helpers.domains import load_domain
from helpers.evaluation import evaluate_edit, summary
from helpers.fused_ops import HalfPrecision
from helpers.latents import random_w_plus
from helpers.methods.directions import global_direction, swept_channels
from helpers.methods.mapper import LatentMapper, MapperObjective
from helpers.methods.optimization import optimize_latent
from helpers.settings import PAPER_MAPPER

from .originals import EquationStep, Exact, ffhq_generator, large_networks
from .results import add_keep, kind_of_machine, save
from .timing import DEVICE, median_seconds
from .worlds import edit_by_direction, new_sentences

SEED, FACES, PART, MOVED = 2026, 16, 4, 1e-5
PROMPTS = ("a person with glasses", "a smiling person", "a person with a beard",
           "a person with blonde hair")
COUNTS = (1, 2, 4, 8, 16)  # images in a batch, or sentences
PRECISIONS = ("fp32", "half precision")


def short_name(precision):
    """What `EquationStep` calls one of `PRECISIONS`."""
    return "half" if precision == "half precision" else precision


class TrainingStep:
    """One step after another of method 2's training as the paper has it, but for its optimizer."""

    def __init__(self, networks, side, precision):
        self.generator, clip, identity = networks
        domain = SimpleNamespace(generator=self.generator, clip=clip, identity=identity,
                                 device=DEVICE)
        w = self.generator.map(torch.randn(PAPER_MAPPER.batch, self.generator.w_dim).to(DEVICE))
        rows = {"coarse": (0, 4), "medium": (4, 8), "fine": (8, 18)}
        self.mapper = LatentMapper(rows, self.generator.w_dim, "rows").to(DEVICE)
        self.objective = MapperObjective(domain, "a person with purple hair",
                                         self.generator.broadcast(w), PAPER_MAPPER, side)
        self.optimizer = torch.optim.Adam(self.mapper.parameters(), lr=PAPER_MAPPER.lr)
        self.half, self.index = precision == "half precision", list(range(PAPER_MAPPER.batch))

    def run(self):
        """Take one step."""
        with HalfPrecision(self.generator) if self.half else Exact(self.generator):
            losses, _ = self.objective.compute_losses(self.mapper, self.index, [0])
        self.optimizer.zero_grad()
        sum(losses.values()).mean().backward()
        self.optimizer.step()


@torch.no_grad()
def draw_edit(generator, w_plus):
    """A picture of methods 2 and 3 at full size."""
    with HalfPrecision(generator):
        generator(w_plus)


@torch.no_grad()
def look_at_channel(generator, clip, s):
    """What the sweep does for four pictures s [4, S]."""
    with HalfPrecision(generator):
        clip.encode_image(generator.synthesize(s, resolution=256))


class PaperSizes:
    """Seconds of the paper's runs, computed from a part of each; on a GPU also the GB held."""

    def __init__(self):
        self.seconds, self.gigabytes = {}, {}

    def measure(self, name, times, action, *arguments):
        """Time an action, of which the run has so many."""
        on_gpu = DEVICE.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        median = median_seconds(action, *arguments, repeat=20 if on_gpu else 3)
        self.seconds[name] = times * median
        if on_gpu:
            self.gigabytes[name] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        print(f"{name}: {self.seconds[name]:.3g} s", flush=True)


def paper_sizes(networks):
    """The paper's Table 1 at FFHQ's size: a `PaperSizes`."""
    generator, clip, identity = networks
    w_plus = generator.broadcast(generator.w_avg[None])
    s = generator.styles(w_plus).repeat(4, 1)
    found, steps, batch = PaperSizes(), PAPER_MAPPER.steps, PAPER_MAPPER.batch
    for side in (1024, 256):
        for precision in PRECISIONS:
            step = EquationStep(generator, clip, identity, side, short_name(precision))
            found.measure(f"method 1, 300 steps at {side} px, {precision}", 300, step.run)
            step = TrainingStep(networks, side, precision)
            found.measure(f"method 2, {steps:,} steps of {batch} at {side} px, {precision}", steps,
                          step.run)
    found.measure("methods 2 and 3, one picture at 1024 px, half precision", 1,
                  draw_edit, generator, w_plus)
    four = 50 * len(swept_channels(generator))  # 100 images, raised and lowered, four at a time
    found.measure("method 3, the sweep at 256 px, half precision", four,
                  look_at_channel, generator, clip, s)
    return found


def by_resolution(name, networks, sides):
    """{curve: {side: seconds of a step}}."""
    curves = {}
    for precision in PRECISIONS:
        points = curves[f"{name}, {precision}"] = {}
        for side in sides:
            step = EquationStep(*networks, side, short_name(precision))
            points[side] = median_seconds(step.run)
    return curves


def by_batch(domain):
    """{curve: {batch: seconds of a step per image}}, at the side that long runs draw at."""
    networks, curves = (domain.generator, domain.clip, domain.identity), {}
    side = domain.preview_resolution
    for precision in PRECISIONS:
        points = curves[f"faces at {side} px, {precision}"] = {}
        for batch in COUNTS:
            step = EquationStep(*networks, side, short_name(precision), batch)
            points[batch] = median_seconds(step.run) / batch
    return curves


def ask(domain, method, count):
    """The directions of `count` sentences, as if they were never asked before."""
    domain.kept.pop("relevance", None)
    for text in new_sentences(domain)[:count]:
        global_direction(domain, domain.neutral, text, method=method)


def by_texts(domain):
    """{curve: {number of sentences: seconds}}."""
    curves = {}
    for method in ("linear", "sweep"):
        curves[f"method 3's directions, {method}"] = {
            count: median_seconds(ask, domain, method, count) for count in COUNTS}
    return curves


def plot(found):
    """{x axis: {curve: {x: seconds}}} side by side, into costs.png."""
    labels = ("seconds of a step", "seconds of a step, per image", "seconds, together")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, label, (what, curves) in zip(axes, labels, found.items()):
        ticks = set()
        for name, points in curves.items():
            axis.plot(list(points), list(points.values()), "o-", label=name)
            ticks.update(points)
        axis.set(xscale="log", yscale="log", xlabel=what, ylabel=label)
        axis.set_xticks(sorted(ticks), sorted(ticks))
        axis.xaxis.minorticks_off()
        axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}",
                       minor_locator=NullLocator())
        room = 4 if len(curves) > 2 else 2  # for the legend
        axis.set_ylim(top=axis.get_ylim()[1] * room)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper left")
    figure.savefig(Path(__file__).with_name("costs.png"), dpi=80)


def measure_times(domain, keep):
    """Everything about time, into costs.png and results."""
    networks = (ffhq_generator(), *large_networks())
    whole = paper_sizes(networks)
    save(f"paper_sizes_{kind_of_machine()}", keep=keep, seed=0, seconds=whole.seconds,
         GB=whole.gigabytes, note="whole runs, computed from the median of a part of each")
    domain.generator.full_exact = False  # half precision at full size, too, for once
    own = domain.generator, domain.clip, domain.identity
    sides = (64, 128, 256, 512, 1024)
    curves = by_resolution("FFHQ's size, ViT-B/32 and IR-SE50", networks, sides)
    curves |= by_resolution("faces, its own networks", own, domain.generator.resolutions)
    found = {"side of the picture, px": curves, "images in a batch": by_batch(domain),
             "new sentences": by_texts(domain)}
    plot(found)
    save(f"costs_{kind_of_machine()}", keep=keep, curves=found)


def psnr(image, target):
    """In dB, of each image [N, 3, R, R] between -1 and 1: [N]."""
    error = (image.clamp(-1, 1) - target.clamp(-1, 1)).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error / 4)


def median_and_worst(values):
    """[median, least] of values [N]; None for a median that is infinite: the same pictures."""
    median, worst = values.median().item(), values.min().item()
    return [None if median == float("inf") else median, worst]


class Edits:
    """Edits of 16 faces for four sentences, in different precisions."""

    def __init__(self, domain):
        self.domain, self.w_plus = domain, random_w_plus(domain, FACES, SEED)
        random = torch.Generator().manual_seed(0)
        move = torch.randn(self.w_plus.shape, generator=random).to(self.w_plus)
        self.moved = self.w_plus + MOVED * move
        self.before = self.draw(domain.generator.styles(self.w_plus).detach())

    @torch.no_grad()
    def draw(self, s):
        """Pictures of s [N, S] in fp32: [N, 3, R, R]."""
        generator, side = self.domain.generator, self.domain.preview_resolution
        with Exact(generator):
            return torch.cat([generator.synthesize(part, resolution=side)
                              for part in s.split(PART)])

    def edit(self, method, w_plus, prompt):
        """s [N, S] of w_plus [N, L, w_dim], edited by method 1 or 3."""
        styles = self.domain.generator.styles
        if method == 1:
            parts = [optimize_latent(self.domain, part, prompt)[0] for part in w_plus.split(PART)]
            return styles(torch.cat(parts)).detach()
        return edit_by_direction(self.domain, styles(w_plus), prompt).detach()

    def all(self, method, w_plus):
        """{prompt: pictures of the edits}."""
        return {prompt: self.draw(self.edit(method, w_plus, prompt)) for prompt in PROMPTS}

    def compare(self, edited, right):
        """Counts of edits {prompt: pictures}, and how near they are to others."""
        read, equal, near, found = self.domain.classifier.read, [], [], []
        for prompt in PROMPTS:
            ours, theirs = read(edited[prompt]), read(right[prompt])
            equal += [(ours[name][0] == theirs[name][0]).float() for name in ours]
            near.append(psnr(edited[prompt], right[prompt]))
            found.append(evaluate_edit(self.domain, self.before, edited[prompt], prompt))
        success, unchanged = summary(found)
        return {"there": success, "unchanged": unchanged,
                "readings as in fp32": torch.cat(equal).mean().item(),
                "PSNR": median_and_worst(torch.cat(near))}


def compare_edits(domain):
    """Edits with half precision as the domain has it, beside fp32 throughout.

    For comparison, edits in fp32 from latents moved by `MOVED`, which shows how far method 1's
    descent carries any small difference.
    """
    edits, rows = Edits(domain), {}
    for method in (1, 3):
        with Exact(domain.generator):
            right = edits.all(method, edits.w_plus)
            moved = edits.all(method, edits.moved)
        half = edits.all(method, edits.w_plus)
        rows[f"{method}, fp32"] = edits.compare(right, right)
        rows[f"{method}, half precision"] = edits.compare(half, right)
        rows[f"{method}, fp32, w_plus moved by {MOVED}"] = edits.compare(moved, right)
        print(json.dumps(rows, indent=1), flush=True)
    return rows


@torch.no_grad()
def compare_pictures(domain):
    """Early stops beside whole pictures, area-averaged; half precision beside fp32."""
    generator, rows = domain.generator, {}
    s = generator.styles(random_w_plus(domain, FACES, SEED))
    with Exact(generator):
        whole = torch.cat([generator.synthesize(part) for part in s.split(PART)])
    for side in generator.resolutions[:-1]:
        with Exact(generator):
            early = generator.synthesize(s, resolution=side)
        half, small = generator.synthesize(s, resolution=side), F.adaptive_avg_pool2d(whole, side)
        vectors = domain.clip.encode_image(early) * domain.clip.encode_image(small)
        rows[f"early stop at {side} px"] = {
            "PSNR": median_and_worst(psnr(early, small)),
            "CLIP's cosine": median_and_worst(vectors.sum(dim=1)),
            "half precision, PSNR": median_and_worst(psnr(half, early))}
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("times", "same"))
    add_keep(parser)
    options = parser.parse_args()
    domain = load_domain("faces", DEVICE, clip="its own")
    if options.what == "times":
        measure_times(domain, options.keep)
    else:
        save("half_precision", keep=options.keep, faces=FACES, seed=SEED,
             pictures=compare_pictures(domain), edits=compare_edits(domain),
             note="PSNR in dB, [median, worst]")


if __name__ == "__main__":
    main()
