"""Make the networks of data/cats: `python -m data.cats.recipe.make`, or `make models-cats`.

Interrupted, it goes on from the last checkpoint in build/cats.
"""

from pathlib import Path

from data import mappers
from data.sample_latents import write_sample_latents
from data.worlds.make import RENDERS, STEPS, package, train_networks, write_samples
from data.worlds.world import TRAIN_SEED
from helpers.domains import DATA, load_domain
from helpers.training_files import keep_sweep

from . import evaluate
from .captions import CAPTIONS
from .world import CATS

CATS_STEPS = STEPS | {"synthesis": 27_000}  # coats and accessories take longer than faces
TEXT_WIDTH = 64  # of CLIP's text half: half of the avatars', for a file of half the size
FOLDER = DATA / "cats"
WORK = Path(__file__).resolve().parents[3] / "build" / "cats"


def make_networks(folder, work, count, steps):
    """Networks, samples and card of the cats, in the folder of their domain.json.

    Args:
        work: folder for renders and checkpoints.
        count: renders to train on; steps: as `data.worlds.make.STEPS`.
    """
    renders = CATS.renders(count, 64, TRAIN_SEED, work)
    networks = train_networks(CATS, CAPTIONS, renders, work, steps, TEXT_WIDTH)
    package(folder, networks, CAPTIONS)
    write_samples(CATS, folder, "cat", 16)


def main():
    """Every network, the samples and their latents, the mappers, the sweep; how good they are."""
    make_networks(FOLDER, WORK, RENDERS, CATS_STEPS)
    write_sample_latents(FOLDER)
    mappers.write_mappers(FOLDER)
    keep_sweep(load_domain("cats", "cpu"), FOLDER / "sweep.safetensors")
    evaluate.main()


if __name__ == "__main__":
    main()
