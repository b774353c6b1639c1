"""Remake data/faces from nothing: `make models-faces`, hours on two cores. Interrupted, it goes on from build/faces."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import cards  # noqa: E402
import descriptor  # noqa: E402
import face_labels  # noqa: E402
import face_networks  # noqa: E402
import fit_readouts  # noqa: E402
import looks  # noqa: E402
import mappers  # noqa: E402
import pools  # noqa: E402
from face_words import ATTRIBUTES, NAMES  # noqa: E402
from small_clip import certain  # noqa: E402
from training import DEVICE  # noqa: E402

from helpers.checkpoints import add_readouts, load_generator, save_module, save_tensors  # noqa: E402
from helpers.domains import RANDOM_FACE, load_domain  # noqa: E402
from helpers.fetching import fetch  # noqa: E402
from helpers.images import to_pil  # noqa: E402
from helpers.stylegan2 import half_type  # noqa: E402
from helpers.sweeps import keep_sweep  # noqa: E402

WORK, DATA = ROOT / "build" / "faces", ROOT / "data" / "faces"
# Trainings by labels: with other labels they begin anew.
LABELLED = WORK / f"labels-{hashlib.sha256(face_labels.TABLE.read_bytes()).hexdigest()[:12]}"
DESCRIBED = 336  # faces whose descriptors are kept at a time
SAMPLE_SEED, SAMPLES = 5005, 16
# Words of captions that say nothing of a face: a reader is not told that the small CLIP has met them.
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
    generator.precision, generator.precision_from = half_type(DEVICE), 8  # 50 dB from fp32
    return generator.to(DEVICE)


def faces(generator, pool):
    """A pool, those drawn besides, and its rare expressions.

    Returns: pictures [N, 128, 128, 3], their labels as `face_networks.clip` asks for them, and w of all but the rare
    expressions.
    """
    names = [name for name in pools.POOLS if name == pool or name.startswith(f"{pool}-")]
    parts = [pools.latents(generator, name) for name in names]
    pixels, seen = [], []
    for name, part in zip(names, parts):
        pictures = pools.drawn(generator, generator.broadcast(part), WORK / f"{name}.npy")
        pixels.append(face_networks.small(pictures))
        seen.append(looks.looks(pictures, WORK / f"{name}-looks.npy"))
    w = torch.cat(parts)
    views = [(face_labels.scaled(w.numpy()), face_labels.IN_W),
             (looks.principal(np.concatenate(seen)), face_labels.IN_LOOKS)]
    w_plus, expressions = pools.pushed(generator, pool)
    pixels.append(face_networks.small(pools.drawn(generator, w_plus, WORK / f"{pool}-pushed.npy")))
    rare = np.full((len(expressions), len(NAMES)), -1)
    rare[:, NAMES.index("expression")] = [ATTRIBUTES["expression"].index(name) for name in expressions]
    more = certain(torch.from_numpy(rare), ATTRIBUTES)

    def labels(vectors=None):
        own = [] if vectors is None else [(face_labels.scaled(vectors[:len(w)].numpy()), face_labels.IN_VECTORS)]
        choices, beliefs, report = face_labels.spread(views + own, pool)
        (WORK / f"{pool}-probes.json").write_text(json.dumps(
            {f"{name}: {choice}": value for (name, choice), value in report.items()}, indent=1))
        beliefs = {name: np.concatenate([belief, more[name].numpy()]) for name, belief in beliefs.items()}
        return np.concatenate([choices, rare]), beliefs

    return np.concatenate(pixels), labels, w


def described(generator):
    """The faces to train on, then each of them moved: pictures [N, 128, 128, 3], and dlib's descriptors [N, 128],

    which take twenty minutes or more on one core, and are kept in parts.
    """
    pixels, known = [], []
    for kind, w_plus_of in (("", lambda pool: generator.broadcast(pools.latents(generator, pool))),
                            ("-moved", lambda pool: pools.moved(generator, pool))):
        for pool in ("train", "train-more"):
            name = pool + kind
            pictures = pools.drawn(generator, w_plus_of(pool), WORK / f"{name}.npy")
            pixels.append(face_networks.small(pictures))
            for i, start in enumerate(range(0, len(pictures), DESCRIBED)):
                path = WORK / f"{name}-descriptors-{i:02d}.npy"
                if not path.exists():
                    np.save(path, descriptor.describe(pictures[start:start + DESCRIBED]).astype(np.float32))
                    print(f"{name}: {min(start + DESCRIBED, len(pictures))} of {len(pictures)} described", flush=True)
                known.append(np.load(path))
    return np.concatenate(pixels), np.concatenate(known)


@torch.no_grad()
def write_samples(generator):
    """Generated faces at full size, as pictures that a user might bring."""
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    z = torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(SAMPLE_SEED))
    for i, w in enumerate(generator.map(z.to(DEVICE), truncation=0.7)):
        picture = to_pil(generator(generator.broadcast(w[None])))
        picture.save(folder / f"face_{i:02d}.jpg", quality=85, optimize=True, progressive=True)


def main(parts):
    torch.manual_seed(0)
    LABELLED.mkdir(parents=True, exist_ok=True)
    generator = readouts(load_generator(fetch((RANDOM_FACE,))))
    pixels, labels, w = faces(generator, "train")
    if "identity" in parts:
        model = face_networks.identity(*described(generator), WORK)
        save_module(DATA / "identity.safetensors", model, half=True)
    if "clip" in parts:
        save_module(DATA / "clip.safetensors", face_networks.clip(pixels, labels, LABELLED), half=True)
    if "encoder" in parts:
        model = face_networks.encoder(pixels[:len(w)], w, generator.w_avg.cpu(), WORK)
        save_module(DATA / "encoder.safetensors", model, half=True)
    if "judge" in parts:
        model = face_networks.judge(*faces(generator, "judge")[:2], LABELLED)
        save_module(DATA / "classifier.safetensors", model, half=True)
    if "card" in parts:
        write_samples(generator)
        parts = [name for name in ("classifier", "clip", "encoder", "identity", "readouts")
                 if (DATA / f"{name}.safetensors").exists()]
        words = face_networks.words_of_captions(labels()[0])
        cards.update(DATA, sha256=cards.hashes(DATA, parts), words=[word for word in words if word not in PLAIN])
        cards.write_gallery("faces")
    if "mappers" in parts:
        mappers.main("faces")
    if "sweep" in parts:
        keep_sweep(load_domain("faces", "cpu"), DATA / "sweep.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:] or ("identity", "clip", "encoder", "judge", "card", "mappers", "sweep"))
