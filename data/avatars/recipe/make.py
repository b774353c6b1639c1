"""Remake data/avatars from nothing: `python -m data.avatars.recipe.make`, or `make models`.

Interrupted, it goes on from the last checkpoint in build/models.
"""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import cards, mappers
from helpers.domains import load_domain
from helpers.domains.formats.safetensors_files import save_module
from helpers.training_files import keep_sweep

from . import evaluate, train_classifier, train_clip, train_generator, train_identity
from .captions import caption
from .world import TRAIN_SEED, draw, render, renders

ROOT = Path(__file__).resolve().parents[3]
WORK, DATA = ROOT / "build" / "models", ROOT / "data" / "avatars"
SAMPLE_SEED = 3
# Words of captions that say nothing of an avatar.
PLAIN = {"a", "an", "of", "with", "who", "is", "that", "has", "having", "and", "in", "on", "the",
         "to", "at", "you", "it", "this", "not", "no", "front", "before", "picture", "photo",
         "image", "portrait", "drawing", "cartoon"}


def words_of_captions():
    """Every word of 100,000 captions, to tell a reader which ones the small CLIP has met."""
    choices, _ = draw(100_000, np.random.default_rng(0))
    rng, words = random.Random(0), set()
    for choice in choices:
        words.update(caption(choice, rng)[0].lower().replace(".", " ").split())
    return sorted(words - PLAIN)


def write_samples(count=32, side=256):
    """Held-out avatars as pictures that a user might bring."""
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    choices, poses = draw(count, np.random.default_rng(SAMPLE_SEED))
    for i in range(count):
        picture = Image.fromarray(render(choices[i], poses[i], side))
        picture.save(folder / f"avatar_{i:02d}.png", optimize=True)


def package(parts):
    """Write {name: network} to data/avatars, and what follows from them to its card."""
    for name, module in parts.items():
        save_module(DATA / f"{name}.safetensors", module, half=name != "generator")
    cards.update(DATA, sha256=cards.hashes(DATA, parts), words=words_of_captions())
    cards.write_linear_model("avatars")


def main():
    """Every network, the samples, the mappers, the sweep, and how good they are."""
    torch.manual_seed(0)
    data = renders(160_000, 64, TRAIN_SEED, WORK)
    judge = train_classifier.train(data, WORK, "judge", seed=11, width=32, steps=2900)
    critic = train_classifier.train(data, WORK, "critic", seed=12, width=24, steps=900)
    critic = critic.to(memory_format=torch.channels_last)
    synthesis = train_generator.train_synthesis(data, WORK, critic, seed=21, steps=9500)
    clip_model = train_clip.train(data, WORK, seed=31, steps=4900)
    identity = train_identity.train(data, WORK, seed=41, steps=1600)
    package({"generator": train_generator.finish(synthesis), "clip": clip_model,
             "identity": identity, "classifier": judge})
    write_samples()
    mappers.write_mappers("avatars")
    keep_sweep(load_domain("avatars", "cpu"), DATA / "sweep.safetensors")
    evaluate.main()


if __name__ == "__main__":
    main()
