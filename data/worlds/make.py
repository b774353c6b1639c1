"""What remaking a domain of a drawn world has in common: networks, samples and card."""

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data import cards
from helpers.domains.formats.safetensors_files import save_module

from . import train_classifier, train_clip, train_generator
from .captions import Speaker

SAMPLE_SEED = 3
# Steps of each training, and the renders that they see: one afternoon on two cores.
STEPS = {"judge": 2900, "critic": 900, "synthesis": 9500, "clip": 4900}
RENDERS = 160_000
# What is not stored in half precision: the mapping network, which cuts z within thousandths; w_avg
# and biases, which are large beside what they add up to. CLIP's token table takes eight bits.
EXACT, EIGHT = ("mapping.", "w_avg", "bias"), ("token_embedding.",)


def train_networks(world, captions, renders, folder, steps, width):
    """The networks of a world, from nothing; an interrupted training goes on from its checkpoint.

    Args:
        world: a `World`; captions: its `Captions`; renders: of its `renders`.
        folder: for the checkpoints.
        steps: as `STEPS`; width: of the CLIP's text half.

    Returns: {"generator", "clip", "classifier": network}.
    """
    judge = train_classifier.train(world, renders, folder, "judge", seed=11, width=32,
                                   steps=steps["judge"])
    critic = train_classifier.train(world, renders, folder, "critic", seed=12, width=24,
                                    steps=steps["critic"])
    critic = critic.to(memory_format=torch.channels_last)
    synthesis = train_generator.train_synthesis(world, renders, folder, critic, seed=21,
                                                steps=steps["synthesis"])
    clip_model = train_clip.train(world, Speaker(captions, renders[0]), renders, folder, seed=31,
                                  steps=steps["clip"], width=width)
    return {"generator": train_generator.finish(synthesis), "clip": clip_model,
            "classifier": judge}


def package(folder, parts, captions):
    """Write {name: network} to a domain's folder, and what follows from them to its card."""
    licence = cards.read(folder)["licence"]
    for name, module in parts.items():
        save_module(folder / f"{name}.safetensors", module, half=True, exact=EXACT, eight=EIGHT,
                    licence=licence)
    cards.update(folder, sha256=cards.hashes(folder, parts), words=captions.words())
    cards.write_linear_model(folder)


def write_samples(world, folder, name, count, side=256):
    """Held-out pictures that a user might bring: samples/NAME_00.png and so on, with the licence.

    The licence of the domain's card is written into each file.
    """
    samples, about = folder / "samples", PngInfo()
    samples.mkdir(exist_ok=True)
    about.add_itxt("Copyright", cards.read(folder)["licence"])
    choices, poses = world.draw(count, np.random.default_rng(SAMPLE_SEED))
    for i in range(count):
        picture = Image.fromarray(world.render(choices[i], poses[i], side))
        picture.save(samples / f"{name}_{i:02d}.png", optimize=True, pnginfo=about)
