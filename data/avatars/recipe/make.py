"""Remake data/avatars from nothing: `python -m data.avatars.recipe.make`, or `make models`.

Interrupted, it goes on from the last checkpoint in build/models.
"""

from pathlib import Path

from data import mappers
from data.worlds.make import RENDERS, STEPS, package, train_networks, write_samples
from data.worlds.world import TRAIN_SEED
from helpers.domains import DATA, load_domain
from helpers.training_files import keep_sweep

from . import evaluate, train_identity
from .captions import CAPTIONS
from .world import AVATARS

TEXT_WIDTH = 128  # of CLIP's text half
FOLDER = DATA / "avatars"
WORK = Path(__file__).resolve().parents[3] / "build" / "models"


def main():
    """Every network, the samples, the mappers, the sweep, and how good they are."""
    renders = AVATARS.renders(RENDERS, 64, TRAIN_SEED, WORK)
    networks = train_networks(AVATARS, CAPTIONS, renders, WORK, STEPS, TEXT_WIDTH)
    networks["identity"] = train_identity.train(renders, WORK, seed=41, steps=1600)
    package(FOLDER, networks, CAPTIONS)
    write_samples(AVATARS, FOLDER, "avatar", 32)
    mappers.write_mappers(FOLDER)
    keep_sweep(load_domain("avatars", "cpu"), FOLDER / "sweep.safetensors")
    evaluate.main()


if __name__ == "__main__":
    main()
