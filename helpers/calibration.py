"""The numbers that depend on a CLIP, chosen by trying them on random images of a domain.

`python -m helpers.commands.calibrate` runs it. Settings are tried one after another, from the
guesses on (helpers/domains/published.py), by the edits of method 3, then of method 1. Edits are
counted by the classifier of the domain where there is one, else estimated by CLIP and the identity
network.
"""

import json
import time
from dataclasses import asdict, dataclass, replace

import torch

from .domains.formats.safetensors_files import part_of, read_safetensors, save_tensors
from .domains.published import published_settings
from .evaluation import estimate_edit, evaluate_edit
from .latents import random_w_plus
from .methods.directions import alpha_for, global_direction, style_statistics
from .methods.linear_model import fit_linear_model, random_w
from .methods.optimization import optimize_latent
from .settings import changed
from .training_state import check_same_run

SEED, FRESH_SEED = 901, 903  # of the images to choose on, and to check the choice on
ENOUGH = 0.85  # of the images shall show what was asked for: more is not worth what else changes
FIRST = 40  # images that show how long all of them will take
GAIN = 0.005  # by which a value must be better than the guess: less is chance


# The guesses have fewer, so that a first edit does not wait; calibration waits anyway.
MORE_SAMPLES = {"linear_model": {"samples": [10_000, "as `faces` has: 3 points more of what was "
                                             "asked for there than with 2,000"]}}


@dataclass(frozen=True)
class Size:
    """On how much a method is counted."""

    images: int
    prompts: int


NAMES = {"directions": "method 3", "optimization": "method 1"}
SIZES = {"directions": Size(16, 12), "optimization": Size(8, 4)}


@dataclass(frozen=True)
class Choice:
    """A setting, the values that are tried, and the method whose edits decide."""

    method: str
    part: str
    name: str
    values: tuple


CHOICES = (
    Choice("directions", "linear_model", "ridge", (50, 200, 800)),
    Choice("directions", "linear_model", "lambda_orthogonal", (100, 300, 1000)),
    Choice("directions", "directions", "channels", (1000, 3000, 6000)),
    Choice("directions", "directions", "match", (0.8, 1.05, 1.3, 1.6)),
    Choice("optimization", "optimization", "start", (0.6, 0.9, 1.3)),
    Choice("optimization", "optimization", "goal", (1.3, 2.0, 2.7)),
    Choice("optimization", "optimization", "lambda_orthogonal", (0.02, 0.05, 0.15)),
)


@torch.no_grad()
def drawn(domain, s):
    """The images of s [N, S], where long runs stop: [N, 3, R, R]."""
    side = domain.preview_resolution
    return torch.cat([domain.generator.synthesize(part, resolution=side) for part in s.split(8)])


def edited(domain, method, w_plus, prompt):
    """The images [N, 3, R, R] of w_plus [N, L, w_dim], edited by method 1 or 3."""
    if method == "optimization":
        return drawn(domain, domain.generator.styles(optimize_latent(domain, w_plus, prompt)[0]))
    s = domain.generator.styles(w_plus)
    alpha = alpha_for(domain, s, domain.neutral, prompt)  # [N, 1]
    return drawn(domain, s + alpha * global_direction(domain, domain.neutral, prompt))


def count_edit(domain, method, prompt, w_plus, before):
    """(there, unchanged) of a method's edits of images [N, 3, R, R] and their w_plus [N, L, w_dim];
    (None, None) if all showed it before."""
    after = edited(domain, method, w_plus, prompt)
    if domain.classifier is None:
        return estimate_edit(domain, before, after, prompt)
    found = evaluate_edit(domain, before, after, prompt)
    return (found.success, found.unchanged) if found.n else (None, None)


@torch.no_grad()
def with_ridge(domain, fitted, ridge):
    """The tensors of a linear model {name: tensor} as another ridge would have made them.

        M' = inv(V'V + r) V'X,   so V'X = (V'V + r) M' is known without the images
    """
    settings = domain.settings.linear_model
    v = domain.w_space.position(random_w(domain), settings.axes)  # [N, K]
    v = v - v.mean(dim=0)
    covariance, one = v.T @ v, torch.eye(v.shape[1], device=v.device)  # [K, K]
    tensors = dict(fitted)
    for name in fitted.keys() - {"clip"}:
        products = (covariance + settings.ridge * one) @ fitted[name].T  # [K, D] V'X
        tensors[name] = torch.linalg.solve(covariance + ridge * one, products).T
    return tensors


def numbers(settings):
    """`Settings` without their origins, {part: {name: value}}."""
    parts = asdict(settings)
    for part in parts.values():
        del part["origin"]
    return parts


def as_entries(part):
    """One method's settings, with their origins, as a card has them: {name: [value, origin]}."""
    origin = part.origin
    return {name: [value, origin.get(name, origin.get("all"))]
            for name, value in asdict(part).items() if name != "origin"}


class Calibration:
    """A domain with its guesses but more samples, and what was counted with these and others.

    Args: folder: where progress.json and the fitted linear model of CLIP are kept.
    Raises: ValueError if it holds another calibration.
    """

    def __init__(self, domain, folder):
        guesses = published_settings(domain.preview_resolution, domain.published_sweep != ())
        guesses = changed(guesses, MORE_SAMPLES)
        self.domain = replace(domain, settings=guesses, linear_model_tensors=None)
        # The authors' alpha and threshold belong to their sweep, and stay.
        methods = [method for method in SIZES
                   if method != "directions" or guesses.directions.method == "linear"]
        known = list(domain.prompt_targets if domain.classifier else domain.prompts)
        self.prompts = {method: known[:SIZES[method].prompts] for method in methods}
        self.choices = [choice for choice in CHOICES if choice.method in methods]
        # A domain may come with other settings than the guesses: what was counted is written whole.
        self.start = {part: as_entries(getattr(guesses, part))
                      for part in ("linear_model", *methods)}
        self.description = {"generator": domain.fingerprint, "clip": domain.clip_fingerprint,
                            "guesses": numbers(guesses),
                            "images": {method: SIZES[method].images for method in methods}}
        self.path, self.counted = folder / "progress.json", {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            content = json.loads(self.path.read_text("utf-8"))
            check_same_run(self.path, content["description"], self.description)
            self.counted = content["counted"]
        self.fitted = self.fit(folder / "linear_model.safetensors")

    def fit(self, path):
        """The tensors of the linear model of CLIP with the guesses, fitted once."""
        if path.exists():
            tensors, header = read_safetensors(path, needs=["description"])
            check_same_run(path, header["description"], self.description)
            return {name: values.to(self.domain.device) for name, values in tensors.items()}
        started = time.monotonic()
        w = random_w(self.domain)[:FIRST]
        w_plus = self.domain.generator.broadcast(w)  # [FIRST, L, w_dim]
        self.domain.clip.encode_image(drawn(self.domain, self.domain.generator.styles(w_plus)))
        samples = self.domain.settings.linear_model.samples
        minutes = (time.monotonic() - started) / FIRST * samples / 60
        print(f"Fitting the linear model of CLIP to {samples:,} images, once: about {minutes:.0f} "
              "minutes; interrupted, it begins anew.", flush=True)
        tensors = fit_linear_model(self.domain)
        save_tensors(path, tensors, description=self.description)
        return tensors

    def value(self, choice, card):
        """What a setting is, with those in the card."""
        return getattr(getattr(changed(self.domain.settings, card), choice.part), choice.name)

    def with_settings(self, card):
        """The domain with the settings in the card, and a linear model of their ridge."""
        settings = changed(self.domain.settings, card)
        tensors = with_ridge(self.domain, self.fitted, settings.linear_model.ridge)
        trial = replace(self.domain, settings=settings, linear_model_tensors=tensors)
        style_statistics(self.domain)  # settings change neither these nor the axes of W
        for name in ("w_space", "style_statistics"):
            trial.kept[name] = self.domain.kept[name]
        return trial

    def count(self, method, card, seed=SEED, prompts=None):
        """(there, unchanged) of a method's edits with the settings in the card, means over the
        prompts. What was counted before is not counted again."""
        values = [[f"{choice.part}.{choice.name}", self.value(choice, card)]
                  for choice in self.choices if choice.part in ("linear_model", method)]
        keys = {prompt: json.dumps([method, seed, prompt, values])
                for prompt in prompts or self.prompts[method]}
        missing = [prompt for prompt, key in keys.items() if key not in self.counted]
        if missing:
            trial = self.with_settings(card)
            w_plus = random_w_plus(trial, SIZES[method].images, seed)
            before = drawn(trial, trial.generator.styles(w_plus))
        for prompt in missing:
            started = time.monotonic()
            counts = count_edit(trial, method, prompt, w_plus, before)
            self.counted[keys[prompt]] = [*counts, time.monotonic() - started]
            self.save()
        found = [self.counted[key] for key in keys.values()]
        found = [counts for counts in found if counts[0] is not None]
        return tuple(sum(row[i] for row in found) / max(1, len(found)) for i in range(2))

    def save(self):
        """Write what was counted; an old file stays until the new one is whole."""
        part = part_of(self.path)
        content = {"description": self.description, "counted": self.counted}
        part.write_text(json.dumps(content, indent=1), "utf-8")
        part.replace(self.path)

    def minutes_left(self):
        """How long what is not counted yet will take at most, at the pace so far."""
        left = 0
        for method, prompts in self.prompts.items():
            seconds = [row[2] for key, row in self.counted.items() if json.loads(key)[0] == method]
            tries = 3  # of the guesses, and of these and the choice on fresh images
            for choice in self.choices:
                others = set(choice.values) - {self.value(choice, {})}
                tries += len(others) if choice.method == method else 0
            left += max(0, tries * len(prompts) - len(seconds)) * sum(seconds) / len(seconds)
        return left / 60


def worth(counts):
    """One number for (there, unchanged)."""
    there, unchanged = counts
    return min(there, ENOUGH) + unchanged


def with_value(card, choice, value, origin):
    """A card {part: {name: [value, origin]}} with one setting more."""
    return card | {choice.part: card.get(choice.part, {}) | {choice.name: [value, origin]}}


def search(run):
    """Try the values of one setting after another, from the guesses on.

    Returns: the settings chosen, {part: {name: [value, origin]}}, and the lines of a table.
    """
    for method, prompts in run.prompts.items():  # one edit of each, to know how long all will take
        run.count(method, {}, prompts=prompts[:1])
    print(f"This takes about {run.minutes_left():.0f} minutes here; interrupted, it goes on where "
          "it was.", flush=True)
    lines = ["| setting | value | there | unchanged | |", "|---|---|---|---|---|"]
    card = run.start
    for choice in run.choices:
        guess, counts = run.value(choice, card), {}
        for value in sorted({guess, *choice.values}):
            counts[value] = run.count(choice.method, with_value(card, choice, value, ""))
            there, unchanged = counts[value]
            print(f"{choice.part}.{choice.name} = {value}: there {there:.0%}, unchanged "
                  f"{unchanged:.0%}; about {run.minutes_left():.0f} minutes left", flush=True)
        best = max(counts, key=lambda value: worth(counts[value]))
        if worth(counts[best]) < worth(counts[guess]) + GAIN:
            best = guess
        for value, (there, unchanged) in counts.items():
            said = "chosen" if value == best else "guess" if value == guess else ""
            lines.append(f"| {choice.part}.{choice.name} | {value} | {there:.0%} | {unchanged:.0%} "
                         f"| {said} |")
        card = with_value(card, choice, best, origin_of(run, choice))
        if choice.part == "optimization":  # a mapper would take minutes to train for each value
            card = with_value(card, replace(choice, part="mapper"), best, "as method 1's")
    return card, lines


def origin_of(run, choice):
    """Where a chosen value comes from."""
    size, by = SIZES[choice.method], "the classifier" if run.domain.classifier else "CLIP itself"
    return (f"calibrated on {size.images} random images (seed {SEED}), "
            f"{len(run.prompts[choice.method])} sentences, by {by}")


def compare(run, card):
    """Guesses and choice on images that had no part in the search, as lines of a table."""
    lines = ["| there, unchanged on fresh images | guesses, with more samples | chosen |",
             "|---|---|---|"]
    for method in run.prompts:
        line = f"| {NAMES[method]} |"
        for settings in ({}, card):
            there, unchanged = run.count(method, settings, FRESH_SEED)
            line += f" {there:.0%}, {unchanged:.0%} |"
        lines.append(line)
    return lines


def confirmed(run, card):
    """The card, with the guesses of a method again where its choices are worth less than these on
    images that had no part in the search: those were chance. And a line of text for each such
    method."""
    lines = []
    for method in run.prompts:
        chosen, guesses = (run.count(method, values, FRESH_SEED) for values in (card, {}))
        if worth(chosen) < worth(guesses):
            own = {choice.part for choice in run.choices if choice.method == method}
            parts = own | {"mapper"} if method == "optimization" else own
            card = run.start | {part: values for part, values in card.items() if part not in parts}
            lines.append(f"On fresh images the choices of {NAMES[method]} are worse: its "
                         "guesses stay.")
    return card, lines
