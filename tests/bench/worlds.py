"""Times and quality of the three methods on the drawn worlds, avatars and cats: `make bench`.

    python -m tests.bench.worlds avatars times              what a reader waits for
    python -m tests.bench.worlds cats quality               of each notebook's default
    python -m tests.bench.worlds cats quality --only "3 · gradient"
    python -m tests.bench.worlds cats quality --words       for words that no caption contains
    python -m tests.bench.worlds cats quality --seed 901    on 32 others

Pictures are drawn with a seed by the world's renderer, and encoded. Nothing was chosen on those of
seed 2029; settings are, on seed 901. Results: times_avatars, cats_quality, cats_words and so on;
build/bench/cats_*.jpg.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import torch

from data.avatars.recipe.world import AVATARS
from data.cats.recipe.world import CATS
from data.training import to_image
from helpers import images
from helpers.domains import load_domain
from helpers.evaluation import evaluate_edit, summary
from helpers.inversion import invert
from helpers.methods.directions import alpha_for, global_direction, sweep
from helpers.methods.mapper import apply_mapper, train_mapper
from helpers.methods.optimization import optimize_latent
from helpers.settings import PAPER_DIRECTIONS
from helpers.training_files import find_mapper, training_latents

from .results import BUILD, ROOT, add_keep, save, save_methods
from .timing import median_seconds

# What sentences not asked before are about, for timing a new one.
THINGS = ("a hat", "a bun", "long hair", "a blue shirt", "pink hair", "a moustache", "green hair",
          "a turban", "red hair", "a beanie", "a hoodie", "dreadlocks", "gray hair",
          "a yellow shirt", "dark skin", "a hijab")
DEFAULT = ("1 · optimization", "2 · mapper", "3 · direction")
METHODS = (*DEFAULT, "1 · equation (1)", "3 · the paper's sweep", "3 · gradient")
SEED, COUNT = 2029, 32
WORLDS = {"avatars": AVATARS, "cats": CATS}
# Sentences with words that no caption contains, and the domain's prompts that mean the same.
WORDS = {
    "avatars": {
        "a person with spectacles": "a person with glasses",
        "a furious person": "an angry person",
        "an astonished person": "a surprised person",
        "a hairless person": "a bald person",
        "a giggling person": "a laughing person",
        "a person with violet hair": "a person with purple hair"},
    "cats": {
        "a cute kitty": "a cute cat",
        "a cat with spectacles": "a cat with glasses",
        "a furious cat": "an angry cat",
        "an astonished cat": "a surprised cat",
        "a ginger cat": "an orange cat",
        "a cat with a ribbon": "a cat with a bow"},
}
LOAD = "from helpers.domains import load_domain; load_domain({!r}, 'cpu')"
SHOWN = [0, 2, 5, 9, 13, 21]  # faces of a picture


def edit(domain, name, w_plus, prompt):
    """s [N, S] of w_plus [N, L, w_dim], edited by one of `METHODS`.

    Raises: ValueError for another method.
    """
    generator = domain.generator
    if name == "1 · optimization":
        return generator.styles(optimize_latent(domain, w_plus, prompt)[0])
    if name == "1 · equation (1)":
        return generator.styles(optimize_latent(domain, w_plus, prompt, objective="paper")[0])
    if name == "2 · mapper":  # trained anew: those that come along were trained on another machine
        mapper, _ = train_mapper(domain, prompt, training_latents(domain))
        return generator.styles(apply_mapper(domain, mapper, w_plus))
    s = generator.styles(w_plus)
    if name == "3 · direction":
        return edit_by_direction(domain, s, prompt)
    if name == "3 · the paper's sweep":
        return s + PAPER_DIRECTIONS.alpha * paper_direction(domain, prompt, "sweep")
    if name == "3 · gradient":
        return s + PAPER_DIRECTIONS.alpha * paper_direction(domain, prompt, "gradient")
    raise ValueError(f"There is no method {name!r}.")


def edit_by_direction(domain, s, prompt):
    """s [N, S], edited by method 3 with the domain's settings."""
    alpha = alpha_for(domain, s, domain.neutral, prompt)  # [N, 1]
    return s + alpha * global_direction(domain, domain.neutral, prompt)


def paper_direction(domain, prompt, method):
    """Delta-s [S] of 20 channels, by the paper's sweep or by gradients."""
    return global_direction(domain, domain.neutral, prompt, channels=20, method=method)


def load_anew(name):
    """Load a domain in a process of its own."""
    command = [sys.executable, "-c", LOAD.format(name)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@torch.no_grad()
def edit_by_mapper(domain, mapper, w_plus):
    """image [N, 3, R, R] of w_plus [N, L, w_dim], edited by a mapper."""
    return domain.generator(apply_mapper(domain, mapper, w_plus))


@torch.no_grad()
def slide(domain, s):
    """What a slider waits for: the JPEG of s [1, S]."""
    return images.to_jpeg(domain.generator.synthesize(s), 256)


def new_direction(domain, sentences, method):
    """The direction of the next of some sentences."""
    return global_direction(domain, domain.neutral, next(sentences), method=method)


def new_sentences(domain):
    """Sentences not asked before, about `THINGS`."""
    return [f"{domain.neutral} with {thing}" for thing in THINGS]


def measure_times(domain):
    """Seconds of what a reader waits for, {what: seconds}."""
    face = images.open_image(domain.samples[0], domain.generator.resolution)
    prompt, sentences = f"{domain.neutral} with glasses", iter(new_sentences(domain))
    source, mapper = invert(domain, face, steps=20)[0], find_mapper(domain, prompt)
    many, training = source.repeat(32, 1, 1), training_latents(domain)
    with torch.no_grad():
        s = domain.generator.styles(source)
        moved = edit_by_direction(domain, s, prompt)
    return {
        "import and load": median_seconds(load_anew, domain.name),
        "encode one image": median_seconds(invert, domain, face),
        "method 1, the default": median_seconds(optimize_latent, domain, source, prompt),
        "equation (1), 300 steps": median_seconds(edit, domain, "1 · equation (1)", source, prompt,
                                                  repeat=1, warm_up=False),
        "method 2, training": median_seconds(train_mapper, domain, prompt, training, repeat=1),
        "method 2, one image": median_seconds(edit_by_mapper, domain, mapper, source, repeat=100),
        "method 2, one image of 32": median_seconds(edit_by_mapper, domain, mapper, many,
                                                    repeat=10) / 32,
        "method 3, sweep, once": median_seconds(sweep, domain, repeat=1, warm_up=False),
        "method 3, a new text": median_seconds(new_direction, domain, sentences, "linear",
                                               repeat=5),
        "method 3, a new text by the sweep": median_seconds(new_direction, domain, sentences,
                                                            "sweep", repeat=3),
        "method 3, a new text by the gradient": median_seconds(new_direction, domain, sentences,
                                                               "gradient"),
        "method 3, slider to picture": median_seconds(slide, domain, moved, repeat=100),
    }


@torch.no_grad()
def drawn(domain, s):
    """The pictures of s [N, S], clamped as a file would be: [N, 3, R, R]."""
    return domain.generator.synthesize(s).clamp(-1, 1)


def quality(domain, name, w_plus, sentences):
    """Some sentences on all pictures: counts, and the edited images of each sentence.

    Args: sentences: {sentence: one of `domain.prompt_targets`, which means the same}.
    """
    before, found, edited, table = drawn(domain, domain.generator.styles(w_plus)), [], {}, {}
    for sentence, prompt in sentences.items():
        edited[sentence] = drawn(domain, edit(domain, name, w_plus, sentence))
        evaluation = evaluate_edit(domain, before, edited[sentence], prompt)
        found.append(evaluation)
        table[sentence] = {"faces": evaluation.n, "there": evaluation.success,
                           "unchanged": evaluation.unchanged}
        print(f"  {sentence:28} {evaluation}", flush=True)
    success, unchanged = summary(found)
    print(f"  mean: asked attribute there {success:.3f}, others unchanged {unchanged:.3f}",
          flush=True)
    return {"there": success, "unchanged": unchanged, "prompts": table}, edited


def pictures_of(domain, seed, count):
    """Pictures drawn with a seed by the domain's world: image [count, 3, R, R]."""
    world, side = WORLDS[domain.name], domain.generator.resolution
    choices, poses = world.draw(count, np.random.default_rng(seed))
    return to_image(np.stack([world.render(*one, side) for one in zip(choices, poses)]))


def write_quality(domain, options):
    """`quality` of some methods, each saved when it is done, with a picture."""
    image = pictures_of(domain, options.seed, options.count)
    w_plus = torch.cat([invert(domain, part)[0] for part in image.split(8)])
    encoded = drawn(domain, domain.generator.styles(w_plus))
    shown = [i for i in SHOWN if i < len(image)]
    result = f"{domain.name}_words" if options.words else f"{domain.name}_quality"
    if options.seed != SEED:
        result += f"_{options.seed}"
    sentences = {prompt: prompt for prompt in domain.prompts if prompt in domain.prompt_targets}
    if options.words:
        sentences = WORDS[domain.name]
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        print(f"{name}: asked attribute there, others unchanged", flush=True)
        found, edited = quality(domain, name, w_plus, sentences)
        save_methods(result, {name: found}, keep=options.keep, faces=len(image), seed=options.seed)
        tiles = torch.stack([encoded[shown], *(after[shown] for after in edited.values())])
        tiles = tiles.transpose(0, 1).flatten(0, 1)  # a row for each picture
        sheet = images.labelled_grid(tiles, range(1, 1 + len(shown)), ["encoded", *edited], 96)
        file = "".join(letter if letter.isalnum() else "_" for letter in name)
        (BUILD / f"{result}_{file}.jpg").write_bytes(images.to_jpeg(sheet))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", choices=WORLDS)
    parser.add_argument("what", choices=("times", "quality"))
    parser.add_argument("--only", nargs="+", choices=METHODS, default=DEFAULT, metavar="METHOD",
                        help=f"some of {', '.join(METHODS)}")
    parser.add_argument("--words", action="store_true", help="words that no caption contains")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the pictures, else {SEED}")
    parser.add_argument("--count", type=int, default=COUNT, help=f"pictures, by default {COUNT}")
    add_keep(parser)
    options = parser.parse_args()
    domain = load_domain(options.domain, "cpu")
    if options.what == "quality":
        write_quality(domain, options)
        return
    seconds = measure_times(domain)
    print(json.dumps(seconds, indent=1))
    save(f"times_{domain.name}", keep=options.keep, seconds=seconds)


if __name__ == "__main__":
    main()
