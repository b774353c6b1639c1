"""Remake data/faces from nothing: `python -m data.faces.recipe.make`, or `make models-faces`.

It takes hours on two cores. Interrupted, it goes on from build/faces.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from data import cards, mappers
from data.small_clip import certain
from data.training import DEVICE
from helpers.domains import load_domain
from helpers.domains.download import fetch
from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.openvino import add_readouts
from helpers.domains.formats.safetensors_files import save_module, save_tensors
from helpers.domains.published import RANDOM_FACE
from helpers.fused_ops import half_type
from helpers.images import to_pil
from helpers.training_files import keep_sweep

from . import descriptor, fit_head, fit_readouts, networks, pools
from . import labels as by_probes
from .captions import ATTRIBUTES, NAMES
from .looks import looks, principal

ROOT = Path(__file__).resolve().parents[3]
WORK, DATA = ROOT / "build" / "faces", ROOT / "data" / "faces"
# Trainings by labels: with other labels they begin anew.
LABELLED = WORK / f"labels-{hashlib.sha256(by_probes.TABLE.read_bytes()).hexdigest()[:12]}"
DESCRIBED = 336  # faces whose descriptors are kept at a time
SAMPLE_SEED, SAMPLES = 5005, 16
PARTS = ("identity", "clip", "encoder", "head", "judge", "card", "mappers", "sweep")
# Words of captions that say nothing of a face: a reader is not told that the small CLIP has met
# them.
PLAIN = {"a", "an", "of", "with", "who", "is", "that", "and", "in", "on", "the", "to", "at",
         "this", "no", "not", "without", "front", "photo", "picture", "image", "portrait", "down",
         "up", "out", "loud", "very", "big"}


def fit_early_stops(generator):
    """The generator with its early stops, fitted once."""
    path = DATA / "readouts.safetensors"
    if not path.exists():
        data = fit_readouts.crops(generator, 1200, seed=1)
        generator.set_readouts(fit_readouts.SIDES)
        for side, pairs in data.items():
            fit_readouts.fit(generator.readouts[str(side)], *pairs, steps=1500, seed=2)
        state = {name: value.half() for name, value in generator.readouts.state_dict().items()}
        save_tensors(path, state, sides=fit_readouts.SIDES)
    add_readouts(generator, path)
    generator.precision, generator.precision_from = half_type(DEVICE), 8  # 50 dB from fp32
    return generator.to(DEVICE)


class Labels:
    """What the faces of a pool show, spread by probes from those labelled by eye.

    Args:
        pool: "train" or "judge".
        views: list of `labels.View` of the faces but for the rare expressions.
        expressions: names, of the rare expressions' faces, which come last.
    """

    def __init__(self, pool, views, expressions):
        self.pool, self.views = pool, views
        self.rare = np.full((len(expressions), len(NAMES)), -1)
        numbers = [ATTRIBUTES["expression"].index(name) for name in expressions]
        self.rare[:, NAMES.index("expression")] = numbers
        self.certain = certain(torch.from_numpy(self.rare), ATTRIBUTES)

    def spread(self, vectors=None):
        """Choices int64 [N, attributes] and beliefs {attribute: float32 [N, choices]}.

        Args: vectors: of all faces by another network, [N, D], as one more view.
        """
        views = list(self.views)
        if vectors is not None:
            own = by_probes.scaled(vectors[:len(views[0].values)].numpy())
            views.append(by_probes.View(own, by_probes.IN_VECTORS))
        choices, beliefs, report = by_probes.spread(views, self.pool)
        report = {f"{name}: {choice}": value for (name, choice), value in report.items()}
        (WORK / f"{self.pool}-probes.json").write_text(json.dumps(report, indent=1))
        for name, belief in beliefs.items():
            beliefs[name] = np.concatenate([belief, self.certain[name].numpy()])
        return np.concatenate([choices, self.rare]), beliefs


def faces_of(generator, pool):
    """The faces of a pool, of its further parts, and its rare expressions.

    Returns: pixels uint8 [N, 128, 128, 3], their `Labels`, and w [M, w_dim] of all but the rare
        expressions.
    """
    pixels, seen, w = [], [], []
    for name in pools.POOLS:
        if name == pool or name.startswith(f"{pool}-"):
            part = pools.latents(generator, name)
            pictures = pools.drawn(generator, generator.broadcast(part), WORK / f"{name}.npy")
            pixels.append(networks.small(pictures))
            seen.append(looks(pictures, WORK / f"{name}-looks.npy"))
            w.append(part)
    w = torch.cat(w)
    views = [by_probes.View(by_probes.scaled(w.numpy()), by_probes.IN_W),
             by_probes.View(principal(np.concatenate(seen)), by_probes.IN_LOOKS)]
    w_plus, expressions = pools.pushed(generator, pool)
    rare = pools.drawn(generator, w_plus, WORK / f"{pool}-pushed.npy")
    pixels.append(networks.small(rare))
    return np.concatenate(pixels), Labels(pool, views, expressions), w


def descriptors_of(pictures, name):
    """dlib's descriptors [N, 128] of pictures uint8 [N, 256, 256, 3], kept in parts by `name`.

    8,064 of them take twenty minutes or more on one core.
    """
    known = []
    for i, start in enumerate(range(0, len(pictures), DESCRIBED)):
        path = WORK / f"{name}-descriptors-{i:02d}.npy"
        if not path.exists():
            found = descriptor.describe(pictures[start:start + DESCRIBED])
            np.save(path, found.astype(np.float32))
            done = min(start + DESCRIBED, len(pictures))
            print(f"{name}: {done} of {len(pictures)} described", flush=True)
        known.append(np.load(path))
    return np.concatenate(known)


def described_faces(generator):
    """The faces to train on, then each of them moved.

    Returns: pixels uint8 [N, 128, 128, 3], and dlib's descriptors [N, 128].
    """
    w_plus = {}
    for pool in ("train", "train-more"):
        w_plus[pool] = generator.broadcast(pools.latents(generator, pool))
    for pool in ("train", "train-more"):
        w_plus[f"{pool}-moved"] = pools.moved(generator, pool)
    pixels, known = [], []
    for name, part in w_plus.items():
        pictures = pools.drawn(generator, part, WORK / f"{name}.npy")
        pixels.append(networks.small(pictures))
        known.append(descriptors_of(pictures, name))
    return np.concatenate(pixels), np.concatenate(known)


@torch.no_grad()
def write_samples(generator):
    """Generated faces at full size, as pictures that a user might bring."""
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    random = torch.Generator().manual_seed(SAMPLE_SEED)
    z = torch.randn(SAMPLES, generator.z_dim, generator=random).to(DEVICE)
    for i, w in enumerate(generator.map(z, truncation=0.7)):
        picture = to_pil(generator(generator.broadcast(w[None])))
        picture.save(folder / f"face_{i:02d}.jpg", quality=85, optimize=True, progressive=True)


def write_card(choices):
    """The hashes of the networks and the words of the captions; then the linear model."""
    parts = [name for name in ("classifier", "clip", "encoder", "head", "identity", "readouts")
             if (DATA / f"{name}.safetensors").exists()]
    words = [word for word in networks.words_of_captions(choices) if word not in PLAIN]
    cards.update(DATA, sha256=cards.hashes(DATA, parts), words=words)
    cards.write_linear_model(DATA)


def main(parts):
    """Make the named parts of data/faces, in the order of `PARTS`."""
    torch.manual_seed(0)
    LABELLED.mkdir(parents=True, exist_ok=True)
    generator = fit_early_stops(load_generator(fetch((RANDOM_FACE,))))
    pixels, labels, w = faces_of(generator, "train")
    if "identity" in parts:
        model = networks.train_identity(*described_faces(generator), WORK)
        save_module(DATA / "identity.safetensors", model, half=True)
    if "clip" in parts:
        model = networks.train_clip(pixels, labels, LABELLED)
        save_module(DATA / "clip.safetensors", model, half=True)
    if "encoder" in parts:
        model = networks.train_encoder(pixels[:len(w)], w, generator.w_avg.cpu(), WORK)
        save_module(DATA / "encoder.safetensors", model, half=True)
    if "head" in parts:
        model = fit_head.head_reader(generator)
        save_module(DATA / "head.safetensors", model, half=True)
    if "judge" in parts:
        judged, judges_labels, _ = faces_of(generator, "judge")
        model = networks.train_judge(judged, judges_labels, LABELLED)
        save_module(DATA / "classifier.safetensors", model, half=True)
    if "card" in parts:
        write_samples(generator)
        choices, _ = labels.spread()
        write_card(choices)
    if "mappers" in parts:
        mappers.write_mappers(DATA)
    if "sweep" in parts:
        keep_sweep(load_domain("faces", "cpu"), DATA / "sweep.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Remake data/faces from nothing.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    main(parser.parse_args().only)
