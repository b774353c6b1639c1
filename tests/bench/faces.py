"""The three methods on photographs: what the classifier counts.

    python -m tests.bench.faces --count 32             counts on 32 faces of seed 2026
    python -m tests.bench.faces --count 32 --words     for words that no caption contains
    python -m tests.bench.faces --count 32 --ablation  each change alone, on faces of seed 901
    python -m tests.bench.faces --count 32 --floor     counts where nothing was asked for

Results: faces_quality, faces_words, faces_ablation, faces_floor.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import normalize

from data.faces.recipe import descriptor
from data.training import to_pixels
from helpers.domains import load_domain
from helpers.evaluation import evaluate_edit, summary
from helpers.inversion import Descent
from helpers.latents import random_w_plus
from helpers.losses import (
    IMAGENET_TEMPLATES,
    augment,
    augmented_features,
    clip_loss,
    directional_clip_loss,
    identity_loss,
    latent_loss,
    text_direction,
)
from helpers.methods.directions import (
    alpha_for,
    channel_relevance,
    global_direction,
    threshold_for,
)
from helpers.methods.linear_model import linear_model
from helpers.methods.mapper import apply_mapper, new_mapper, start_at_linear_step
from helpers.methods.optimization import optimize_ours, optimize_paper
from helpers.settings import PAPER_DIRECTIONS, PAPER_OPTIMIZATION
from helpers.training_files import find_mapper

from .results import add_keep, save, save_methods

SEED, DEVELOPMENT, PART = 2026, 901, 8
# Of the classifier's reading: the least at which 99 % of its readings survive an augmentation
# (--floor).
SURE = 0.7
PERSON = ("a child", "an old person", "a woman", "a man")  # prompts that are the person
METHODS = ("1 · optimization", "2 · mapper", "3 · direction")
# Sentences with words that no caption contains, and the prompts of the same meaning.
WORDS = {
    "a person with spectacles": "a person with glasses",
    "a grinning person": "a smiling person",
    "an elderly person": "an old person",
    "a toddler": "a child",
    "a person with whiskers": "a person with a beard",
    "an astonished person": "a surprised person",
}
ABLATED = ("a person with glasses", "a person with a beard", "a person with blonde hair")
ABLATION = (
    "1 · recommended",
    "1 · start alone",
    "1 · without the start",
    "1 · equation (1)'s CLIP loss",
    "1 · an offset for each row",
    "1 · without augmentation",
    "1 · without lambda_orthogonal",
    "1 · without lambda_id",
    "1 · linear model without lambda_id",
    "2 · recommended",
    "2 · start alone",
    "3 · recommended",
    "3 · one alpha for all",
    "3 · linear model without lambda_id",
    "3 · the paper's sweep",
    "3 · the paper's sweep, 100 channels",
    "3 · the paper's sweep, 20 channels",
    "3 · gradient",
    "1 · equation (1), 100 steps",  # takes as long as all others together
)


class Editor:
    """Edits faces by a method and setting, given by name: one of `METHODS` or `ABLATION`."""

    def __init__(self, domain):
        self.domain, self.untrained = domain, {}
        model = replace(domain.settings.linear_model, lambda_id=0)
        self.without_lambda_id = replace(domain, settings=replace(domain.settings,
                                                                  linear_model=model))

    def edit(self, name, w_plus, prompt):
        """s [N, S] of the edited faces w_plus [N, L, w_dim]; None if a prompt has no mapper."""
        generator = self.domain.generator
        if name.startswith("1"):
            return generator.styles(self.by_optimization(name, w_plus, prompt))
        if name.startswith("2"):
            mapper = self.mapper(name, prompt)
            if mapper is None:
                return None
            return generator.styles(apply_mapper(self.domain, mapper, w_plus))
        return self.by_direction(name, generator.styles(w_plus), prompt)

    def by_optimization(self, name, w_plus, prompt):
        """w_plus [N, L, w_dim], edited by method 1."""
        domain, settings = self.domain, self.domain.settings.optimization
        if name == "1 · equation (1), 100 steps":
            paper = replace(PAPER_OPTIMIZATION, steps=100)
            return optimize_paper(domain, w_plus, prompt, paper, domain.preview_resolution)[0]
        if name == "1 · equation (1)'s CLIP loss":
            return optimize_variant(domain, w_plus, prompt, towards_text=True)
        if name == "1 · an offset for each row":
            return optimize_variant(domain, w_plus, prompt, row_each=True)
        if name == "1 · start alone":
            settings = replace(settings, steps=1, lr=0)
        elif name == "1 · without the start":
            settings = replace(settings, start=0)
        elif name == "1 · without augmentation":
            settings = replace(settings, augmentations=1, augmentations_per_step=1)
        elif name == "1 · without lambda_orthogonal":
            settings = replace(settings, lambda_orthogonal=0)
        elif name == "1 · without lambda_id":
            settings = replace(settings, lambda_id=0)
        elif name == "1 · linear model without lambda_id":
            domain = self.without_lambda_id
        elif name not in ("1 · optimization", "1 · recommended"):
            raise ValueError(f"There is no setting {name!r}.")
        return optimize_ours(domain, w_plus, prompt, settings, domain.preview_resolution)[0]

    def mapper(self, name, prompt):
        """The mapper that comes with the domain, or an untrained one; None if there is none."""
        if name != "2 · start alone":
            return find_mapper(self.domain, prompt)
        if prompt not in self.untrained:
            mapper = new_mapper(self.domain, "ours")
            start_at_linear_step(self.domain, mapper, prompt, self.domain.settings.mapper)
            self.untrained[prompt] = mapper
        return self.untrained[prompt]

    def by_direction(self, name, s, prompt):
        """s [N, S], edited by method 3."""
        domain = self.domain
        if name == "3 · the paper's sweep":
            return s + PAPER_DIRECTIONS.alpha * paper_direction(domain, prompt, "sweep")
        if name.startswith("3 · the paper's sweep, "):  # so many channels
            count = int(name.split()[-2])
            return s + PAPER_DIRECTIONS.alpha * global_direction(
                domain, domain.neutral, prompt, method="sweep", channels=count, keep=[])
        if name == "3 · gradient":
            return s + PAPER_DIRECTIONS.alpha * paper_direction(domain, prompt, "gradient")
        if name == "3 · one alpha for all":
            alpha = domain.settings.directions.alpha
            return s + alpha * global_direction(domain, domain.neutral, prompt)
        if name == "3 · linear model without lambda_id":
            domain = self.without_lambda_id
        elif name not in ("3 · direction", "3 · recommended"):
            raise ValueError(f"There is no setting {name!r}.")
        alpha = alpha_for(domain, s, domain.neutral, prompt)  # [N, 1]
        return s + alpha * global_direction(domain, domain.neutral, prompt)


def paper_direction(domain, prompt, method):
    """Delta-s [S] with the authors' threshold, or the highest one that leaves 20 channels; nothing
    is kept."""
    relevance = channel_relevance(domain, domain.neutral, prompt, method, keep=[])
    threshold = min(PAPER_DIRECTIONS.threshold, threshold_for(relevance, 20))
    return global_direction(domain, domain.neutral, prompt, keep=[], method=method,
                            threshold=threshold)


def optimize_variant(domain, w_plus, prompt, *, row_each=False, towards_text=False):
    """`optimize_ours` with a change that is no setting: w_plus [N, L, w_dim], edited.

    Args:
        row_each: an offset for each row of w_plus. The same offset in all rows costs what one
            offset does.
        towards_text: the CLIP term is equation (1)'s, how far the image is from the sentence
            itself. It is counted in goals, so that the other weights mean the same.
    """
    settings, space, side = domain.settings.optimization, domain.w_space, domain.preview_resolution
    model, direction = linear_model(domain), text_direction(domain.clip, domain.neutral, prompt)
    phrased = domain.clip.encode_text([phrase.format(prompt) for phrase in IMAGENET_TEMPLATES])
    text = normalize(phrased.mean(dim=0), dim=0)  # [D]
    with torch.no_grad():
        image = domain.generator(w_plus, resolution=side)
        person = domain.identity(image)
        before = augmented_features(domain.clip, image, range(settings.augmentations))  # [A, N, D]
        remaining = model.remaining(direction, image)
    goal = settings.goal * remaining * model.margin(direction)  # [N]
    start = settings.start * remaining[:, None, None] * model.step(direction)  # [N, 1, K]
    lambda_l2 = settings.lambda_l2
    if row_each:
        start = start.expand(-1, w_plus.shape[1], -1)  # [N, L, K]
        lambda_l2 = lambda_l2 / w_plus.shape[1]
    descent = Descent(start, steps=settings.steps, lr=settings.lr)
    for step in descent:
        image = domain.generator(w_plus + space.offset(descent.x), resolution=side)
        seeds = seeds_of(step, settings)
        features = augmented_features(domain.clip, image, seeds)  # [A', N, D]
        if towards_text:
            distance = clip_loss(features, text).mean(dim=0) / goal
        else:
            change = (features - before[seeds]).mean(dim=0)  # [N, D]
            distance = directional_clip_loss(change, direction, goal, settings.lambda_orthogonal)
        losses = {"clip": distance, "latent": lambda_l2 * latent_loss(descent.x, 0)}
        losses["identity"] = settings.lambda_id * identity_loss(domain.identity(image), person)
        descent.update(losses, image)
    return w_plus + space.offset(descent.best)


def seeds_of(step, settings):
    """The augmentations that CLIP looks through in a step, in turn."""
    first = step * settings.augmentations_per_step
    return [(first + i) % settings.augmentations for i in range(settings.augmentations_per_step)]


@torch.no_grad()
def drawn(domain, s):
    """The faces of s [N, S], where long runs stop: image [N, 3, R, R]."""
    side = domain.preview_resolution
    return torch.cat([domain.generator.synthesize(part, resolution=side) for part in s.split(PART)])


class People:
    """Who is kept in edits of faces, by our identity network and by dlib's descriptor.

    dlib's drives no edit, but it taught the identity network, on other faces.

    Args: before: image [N, 3, 256, 256].
    """

    def __init__(self, domain, before):
        self.domain, self.before = domain, before
        self.described = descriptor.describe(to_pixels(before))  # [N, 128]
        self.mean = self.described.mean(axis=0)
        self.identity, self.cosine, self.same = [], [], []

    @torch.no_grad()
    def compare(self, after):
        """Add the edited faces, image [N, 3, 256, 256]."""
        vectors = self.domain.identity(self.before) * self.domain.identity(after)
        described = descriptor.describe(to_pixels(after))
        a, b = self.described - self.mean, described - self.mean
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        distance = np.linalg.norm(self.described - described, axis=1)
        self.identity.append(vectors.sum(dim=1).mean().item())
        self.cosine.append((a * b).sum(axis=1) / lengths)
        self.same.append(distance < descriptor.SAME)

    def report(self):
        """Means over all edits: identity similarity, dlib's cosine, and whom it calls the same."""
        return {"identity": float(np.mean(self.identity)),
                "dlib's cosine": float(np.mean(self.cosine)),
                "same person by dlib": float(np.mean(self.same))}


def count_method(editor, name, w_plus, prompts):
    """What the classifier counts of a method or setting.

    Args:
        w_plus: of the faces, [N, L, w_dim].
        prompts: {prompt: the prompt of the same meaning whose target the classifier knows}.
    """
    domain = editor.domain
    before = drawn(domain, domain.generator.styles(w_plus))
    editor.edit(name, w_plus[:1], next(iter(prompts)))  # what is made once does not count
    people, started = People(domain, before), time.perf_counter()
    all_readings, sure_readings, table = [], [], {}
    for prompt, meant in prompts.items():
        parts = [editor.edit(name, part, prompt) for part in w_plus.split(PART)]
        if parts[0] is None:
            continue
        after = drawn(domain, torch.cat(parts).detach())
        found = evaluate_edit(domain, before, after, meant)
        sure = evaluate_edit(domain, before, after, meant, SURE)
        all_readings.append(found)
        sure_readings.append(sure)
        if meant not in PERSON:
            people.compare(after)
        table[prompt] = {"faces": found.n, "there": found.success, "unchanged": found.unchanged,
                         "unchanged where sure": sure.unchanged}
        print(f"{name:35} {prompt:26} {found}; where sure {sure.unchanged:4.0%}", flush=True)
    success, unchanged = summary(all_readings)
    _, where_sure = summary(sure_readings)
    counted = sum(map(readings_of, sure_readings)) / sum(map(readings_of, all_readings))
    return {"there": success, "unchanged": unchanged, "unchanged where sure": where_sure,
            "counted where sure": counted, **people.report(),
            "seconds": time.perf_counter() - started, "prompts": table}


def readings_of(evaluation):
    """How many readings of attributes that were not asked for an `Evaluation` rests on."""
    return sum(len(stayed) for stayed in evaluation.kept.values())


def count(domain, options, names, prompts, seed, result):
    """`count_method` of several, each saved when it is done."""
    w_plus, editor = random_w_plus(domain, options.count, seed), Editor(domain)
    for name in names:
        found = count_method(editor, name, w_plus, prompts)
        print(f"{name:35}", ", ".join(f"{what} {value:.3f}" for what, value in found.items()
                                      if isinstance(value, float)), flush=True)
        save_methods(result, {name: found}, keep=options.keep, faces=options.count, seed=seed)


LEVELS = ("0", "0.6", "0.7", "0.8")  # of how sure the classifier is


@torch.no_grad()
def unchanged_by_chance(domain, before, after):
    """What the classifier calls unchanged between two images [N, 3, R, R] of the same faces.

    Returns: identity similarity; {level: share unchanged}; {level: share of the readings}.
    """
    old, new = (domain.classifier.read(image.clamp(-1, 1)) for image in (before, after))
    kept = torch.stack([new[name][0] == old[name][0] for name in old])
    sure = torch.stack([torch.minimum(new[name][1], old[name][1]) for name in old])
    unchanged, counted = {}, {}
    for level in LEVELS:
        chosen = sure >= float(level)
        unchanged[level] = kept[chosen].float().mean().item()
        counted[level] = chosen.float().mean().item()
    identity = (domain.identity(before) * domain.identity(after)).sum(dim=1).mean().item()
    return identity, unchanged, counted


def least_and_most(values):
    """[least, most] of some numbers."""
    return [min(values), max(values)]


def write_floor(domain, options):
    """What the classifier calls changed where nothing was asked for.

    The same pictures augmented, and faces moved at random in W, by so many standard deviations
    along each axis.
    """
    w_plus, space = random_w_plus(domain, options.count, DEVELOPMENT), domain.w_space
    before = drawn(domain, domain.generator.styles(w_plus))
    rows = {"augmented": [augment(before, seed) for seed in range(4)]}
    random = torch.Generator().manual_seed(SEED)
    for size in (0.1, 0.2, 0.3, 0.45):
        step = torch.randn(options.count, 1, space.dim, generator=random)
        s = domain.generator.styles(w_plus + space.offset(size * step))
        rows[f"moved in W by {size} sd"] = [drawn(domain, s)]
    report, counted = {}, {level: [] for level in LEVELS}
    for name, several in rows.items():
        identities, shares = [], {level: [] for level in LEVELS}
        for after in several:
            identity, unchanged, of = unchanged_by_chance(domain, before, after)
            identities.append(identity)
            for level in LEVELS:
                shares[level].append(unchanged[level])
                counted[level].append(of[level])
        report[name] = {"identity": least_and_most(identities), "unchanged": {
            level: least_and_most(values) for level, values in shares.items()}}
        print(name, report[name], flush=True)
    save("faces_floor", keep=options.keep, faces=options.count, seed=DEVELOPMENT, rows=report,
         note="every value is [least, most]; the first row over four augmentations",
         counted={level: least_and_most(values) for level, values in counted.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, required=True, help="faces to count on")
    parser.add_argument("--seed", type=int, default=SEED, help="of the faces")
    parser.add_argument("--words", action="store_true", help="words that no caption contains")
    parser.add_argument("--ablation", action="store_true", help="each change alone")
    parser.add_argument("--floor", action="store_true", help="where nothing was asked for")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the methods or changes")
    add_keep(parser)
    options = parser.parse_args()
    names = ABLATION if options.ablation else METHODS
    unknown = set(options.only or ()) - set(names)
    if unknown:
        parser.error(f"--only knows {', '.join(names)}; not {', '.join(sorted(unknown))}")
    names = options.only or names
    domain = load_domain("faces", "cpu")
    if options.floor:
        write_floor(domain, options)
    elif options.ablation:
        prompts = {prompt: prompt for prompt in ABLATED}
        count(domain, options, names, prompts, DEVELOPMENT, "faces_ablation")
    elif options.words:
        names = [name for name in names if name != "2 · mapper"]  # there are none for these
        count(domain, options, names, WORDS, options.seed, "faces_words")
    else:
        prompts = {prompt: prompt for prompt in domain.prompt_targets}
        result = "faces_quality" if options.seed == SEED else f"faces_quality_{options.seed}"
        count(domain, options, names, prompts, options.seed, result)


if __name__ == "__main__":
    main()
