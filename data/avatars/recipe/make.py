"""Remake data/avatars from nothing: `make models`. Interrupted, it goes on from the last checkpoint in build/models."""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import cards  # noqa: E402
import evaluate  # noqa: E402
import mappers  # noqa: E402
import train_classifier  # noqa: E402
import train_clip  # noqa: E402
import train_generator  # noqa: E402
import train_identity  # noqa: E402
from captions import caption  # noqa: E402
from world import TRAIN_SEED, draw, render, renders  # noqa: E402

from helpers.checkpoints import save_module  # noqa: E402
from helpers.domains import load_domain  # noqa: E402
from helpers.sweeps import keep_sweep  # noqa: E402

WORK, DATA = ROOT / "build" / "models", ROOT / "data" / "avatars"
SAMPLE_SEED = 3


def words_of_captions():
    """Every word of 100,000 captions, to tell a reader which ones the small CLIP has met."""
    choices, _ = draw(100_000, np.random.default_rng(0))
    rng, words = random.Random(0), set()
    for choice in choices:
        words |= set(caption(choice, rng)[0].lower().replace(".", " ").split())
    plain = {"a", "an", "of", "with", "who", "is", "that", "has", "having", "and", "in", "on", "the", "to", "at",
             "you", "it", "this", "not", "no", "front", "before", "picture", "photo", "image", "portrait",
             "drawing", "cartoon"}
    return sorted(words - plain)


def write_samples(count=32, side=256):
    """Held-out avatars as pictures a user might bring."""
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    choices, poses = draw(count, np.random.default_rng(SAMPLE_SEED))
    for i in range(count):
        Image.fromarray(render(choices[i], poses[i], side)).save(folder / f"avatar_{i:02d}.png", optimize=True)


def package(parts):
    """Write {name: network} to data/avatars, and what follows from them to its card."""
    for name, module in parts.items():
        save_module(DATA / f"{name}.safetensors", module, half=name != "generator")
    cards.update(DATA, sha256=cards.hashes(DATA, parts), words=words_of_captions())
    cards.write_gallery("avatars")


def main():
    torch.manual_seed(0)
    data = renders(160_000, 64, TRAIN_SEED, WORK)
    judge = train_classifier.train(data, WORK, "judge", seed=11, width=32, steps=2900)
    critic = train_classifier.train(data, WORK, "critic", seed=12, width=24, steps=900)
    critic = critic.to(memory_format=torch.channels_last)
    synthesis = train_generator.train_synthesis(data, WORK, critic, seed=21, steps=9500)
    clip_model = train_clip.train(data, WORK, seed=31, steps=4900)
    identity = train_identity.train(data, WORK, seed=41, steps=1600)
    package({"generator": train_generator.finish(synthesis), "clip": clip_model, "identity": identity,
             "classifier": judge})
    write_samples()
    mappers.main("avatars")
    keep_sweep(load_domain("avatars", "cpu"), DATA / "sweep.safetensors")
    evaluate.main(WORK)


if __name__ == "__main__":
    main()
