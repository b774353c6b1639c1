"""Remake data/faces from nothing: `make models-faces`, hours on two cores. Interrupted, it goes on from build/faces."""

import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import descriptor  # noqa: E402
import face_labels  # noqa: E402
import face_networks  # noqa: E402
import fit_readouts  # noqa: E402
import pools  # noqa: E402
from face_words import ATTRIBUTES, NAMES, caption  # noqa: E402

from helpers.checkpoints import add_readouts, load_generator, save_module, save_tensors  # noqa: E402
from helpers.domains import BY_NVIDIA, RANDOM_FACE  # noqa: E402
from helpers.fetching import fetch  # noqa: E402

WORK, DATA = ROOT / "build" / "faces", ROOT / "data" / "faces"
DESCRIBED = 1000  # faces whose descriptor teaches the identity network
SAMPLE_SEED, SAMPLES = 5005, 16
LICENCE = (f"{BY_NVIDIA}, distilled by MobileStyleGAN (its own code Apache 2.0): for research and teaching; the FFHQ "
           "pictures behind them are CC BY-NC-SA 4.0.")
PROMPTS = ("a person with glasses", "a smiling person", "a person with a beard", "a person with blonde hair",
           "a child", "an old person", "a surprised person", "an angry person", "a woman", "a man",
           "a person with black hair", "a person with lipstick", "a person with a hat", "a person with long hair")
PLAIN = {"a", "an", "of", "with", "who", "is", "that", "and", "in", "on", "the", "to", "at", "this", "no", "not",
         "without", "front", "photo", "picture", "image", "portrait", "down", "up", "out", "loud",
         "very", "big"}


def readouts(generator):
    """The generator with its early stops, fitted once."""
    path = DATA / "readouts.safetensors"
    if not path.exists():
        data = fit_readouts.crops(generator, 1200, seed=1)
        generator.set_readouts(fit_readouts.SIDES)
        for side, pairs in data.items():
            fit_readouts.fit(generator.readouts[str(side)], *pairs, steps=1500, seed=2)
        save_tensors(path, {name: value.half() for name, value in generator.readouts.state_dict().items()},
                     sides=fit_readouts.SIDES)
    return with_readouts(generator)


def with_readouts(generator):
    """The generator with the early stops that lie in data/faces."""
    add_readouts(generator, DATA / "readouts.safetensors")
    generator.precision, generator.precision_from = torch.bfloat16, 8  # 50 dB from fp32, in half the time
    return generator


def faces(generator, pool):
    """A pool and its rare expressions: pictures [N, 256, 256, 3], choices [N, attributes], and w of the pool itself."""
    w = pools.latents(generator, pool)
    pixels = pools.drawn(generator, generator.broadcast(w), WORK / f"{pool}.npy")
    choices, report = face_labels.spread(w.numpy(), pool)
    (WORK / f"{pool}-probes.json").write_text(json.dumps({f"{name}: {choice}": value for (name, choice), value
                                                          in report.items()}, indent=1))
    w_plus, expressions = pools.pushed(generator, pool)
    rare = np.full((len(expressions), len(NAMES)), -1)
    rare[:, NAMES.index("expression")] = [ATTRIBUTES["expression"].index(name) for name in expressions]
    rare_pixels = pools.drawn(generator, w_plus, WORK / f"{pool}-pushed.npy")
    return np.concatenate([pixels, rare_pixels]), np.concatenate([choices, rare]), w


def descriptors(pixels):
    """dlib's descriptors of the first `DESCRIBED` faces, computed once."""
    path = WORK / "descriptors.npy"
    if not path.exists():
        np.save(path, descriptor.describe(pixels[:DESCRIBED]))
    return np.load(path)


def words_of_captions(choices):
    """Every word of 50,000 captions, to tell a reader which ones the small CLIP has met."""
    rng, words = random.Random(0), set()
    for i in range(50_000):
        words |= set(caption(choices[i % len(choices)], rng)[0].lower().replace(".", " ").split())
    return sorted(words - PLAIN)


@torch.no_grad()
def write_samples(generator):
    """Generated faces at full size, as pictures that a user might bring."""
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    z = torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(SAMPLE_SEED))
    for i, w in enumerate(generator.map(z, truncation=0.7)):
        image = generator(generator.broadcast(w[None]))[0].clamp(-1, 1)
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"face_{i:02d}.jpg", quality=90)


def write_card(choices):
    """What `load_domain` reads."""
    parts = [path.stem for path in sorted(DATA.glob("*.safetensors"))]
    card = {"neutral": "a person", "prompts": PROMPTS, "alpha": 3.0, "beta": 1000, "psi": 0.7, "split": [4, 8],
            "align": True, "draw": 256, "encoding_steps": 50, "licence": LICENCE,
            "sha256": {name: hashlib.sha256((DATA / f"{name}.safetensors").read_bytes()).hexdigest() for name in parts},
            "words": words_of_captions(choices)}
    (DATA / "domain.json").write_text(json.dumps(card, indent=1) + "\n")


def main(parts):
    torch.manual_seed(0)
    WORK.mkdir(parents=True, exist_ok=True)
    generator = readouts(load_generator(fetch((RANDOM_FACE,))))
    pixels, choices, w = faces(generator, "train")
    if "clip" in parts:
        model = face_networks.clip(face_networks.small(pixels), choices, WORK)
        save_module(DATA / "clip.safetensors", model, half=True)
    if "encoder" in parts:
        model = face_networks.encoder(face_networks.small(pixels[:len(w)]), w, generator.w_avg, WORK)
        save_module(DATA / "encoder.safetensors", model, half=True)
    if "identity" in parts:
        model = face_networks.identity(pixels[:DESCRIBED], descriptors(pixels), WORK)
        save_module(DATA / "identity.safetensors", model, half=True)
    if "judge" in parts:
        judge_pixels, judge_choices, _ = faces(generator, "judge")
        model = face_networks.judge(face_networks.small(judge_pixels), judge_choices, WORK)
        save_module(DATA / "classifier.safetensors", model, half=True)
    if "card" in parts:
        write_samples(generator)
        write_card(choices)


if __name__ == "__main__":
    main(sys.argv[1:] or ("clip", "encoder", "identity", "judge", "card"))
