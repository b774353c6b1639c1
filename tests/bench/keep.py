"""What `keep` keeps: a thing that comes along with an edit, without and with it kept, counted.

    python -m tests.bench.keep              method 3 on 32 faces of seed 2026
    python -m tests.bench.keep --method 1   method 1, which takes an hour
    python -m tests.bench.keep --seed 901   other faces

Of the faces that lack the kept thing before the edit: how many have it afterwards. Of those that
lack what is asked for: how many have that. Result: keep, or keep_1 of method 1.
"""

import argparse

import torch

from helpers.domains import load_domain
from helpers.evaluation import evaluate_edit
from helpers.latents import random_w_plus
from helpers.methods.directions import alpha_for, global_direction
from helpers.methods.optimization import optimize_latent

from .faces import PART, SEED, SURE, drawn
from .results import add_keep, save

# (the sentence, what is kept, the classifier's attribute and choices of it)
PAIRS = (
    ("an old person", "glasses", ("glasses", "glasses", "sunglasses")),
    ("a person with a beard", "glasses", ("glasses", "glasses", "sunglasses")),
    ("a person with a beard", "a hat", ("hat", "yes")),
    ("a person with blonde hair", "a woman", ("sex", "woman")),
    ("a person with blonde hair", "pale skin", ("skin", "pale")),
    ("a person with lipstick", "earrings", ("earrings", "yes")),
    ("a person with lipstick", "a woman", ("sex", "woman")),
    ("a woman", "lipstick", ("makeup", "yes")),
    ("a surprised person", "black hair", ("hair", "black")),
    ("a person with glasses", "an old person", ("age", "old")),
)


def edit(domain, method, w_plus, prompt, keep):
    """s [N, S] of the faces w_plus [N, L, w_dim], edited by method "1" or "3"."""
    generator = domain.generator
    if method == "1":
        return generator.styles(optimize_latent(domain, w_plus, prompt, keep=keep)[0])
    s = generator.styles(w_plus)
    alpha = alpha_for(domain, s, domain.neutral, prompt, keep)  # [N, 1]
    return s + alpha * global_direction(domain, domain.neutral, prompt, keep=keep)


def gained(domain, before, after, target):
    """How many images [N, 3, R, R] show a target (attribute, choices) only after the edit, and how
    many lacked it."""
    attribute, *choices = target
    wanted = {domain.classifier.attributes[attribute].index(choice) for choice in choices}
    old, new = (domain.classifier.read(image.clamp(-1, 1))[attribute][0].tolist()
                for image in (before, after))
    lacking = [i for i, choice in enumerate(old) if choice not in wanted]
    return sum(new[i] in wanted for i in lacking), len(lacking)


def count_pair(domain, method, w_plus, before, pair):
    """What a pair of `PAIRS` gives without and with the thing kept."""
    prompt, thing, target = pair
    row = {"prompt": prompt, "keep": thing}
    for name, keep in (("without", []), ("with", [thing])):
        parts = [edit(domain, method, part, prompt, keep) for part in w_plus.split(PART)]
        after = drawn(domain, torch.cat(parts).detach())
        came, row["lacking it"] = gained(domain, before, after, target)
        found = evaluate_edit(domain, before, after, prompt)
        sure = evaluate_edit(domain, before, after, prompt, SURE)
        row[name] = {"gained": came, "faces": found.n, "there": found.success,
                     "unchanged": found.unchanged, "unchanged where sure": sure.unchanged}
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32, help="faces to count on")
    parser.add_argument("--seed", type=int, default=SEED, help="of the faces")
    parser.add_argument("--method", choices=("1", "3"), default="3")
    add_keep(parser)
    options = parser.parse_args()
    domain = load_domain("faces", "cpu")
    w_plus = random_w_plus(domain, options.count, options.seed)
    before = drawn(domain, domain.generator.styles(w_plus))
    rows = [count_pair(domain, options.method, w_plus, before, pair) for pair in PAIRS]
    name = "keep" if options.method == "3" else "keep_1"
    name += "" if options.seed == SEED else f"_{options.seed}"
    save(name, keep=options.keep, faces=options.count, seed=options.seed, rows=rows)


if __name__ == "__main__":
    main()
