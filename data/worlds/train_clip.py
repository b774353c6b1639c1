"""Train a small CLIP on renders and captions."""

import torch

from data.small_clip import ClipTrainer, certain, extended, new_clip

SIZES = dict(embed_dim=128, image_resolution=64, vision_layers=4, vision_width=128,
             vision_patch_size=8, vocab_size=49408, transformer_width=128, transformer_heads=2,
             transformer_layers=2)


def train(world, speaker, renders, folder, *, seed, steps):
    """`clip.model.CLIP` with 77 tokens of context, trained for `steps`; resumable.

    What cannot be seen (hair under a hat) counts as not there.

    Args:
        world: a `World`; renders: of its `renders`.
        speaker: a `Speaker` about these pictures.
        folder: for the checkpoint.
    """
    choices, _, images = renders
    seen = torch.from_numpy(world.facts(choices))
    known = torch.ones_like(seen, dtype=torch.bool)
    beliefs = certain(seen, world.told)
    model = new_clip(SIZES, beliefs, folder, seed=seed)
    trainer = ClipTrainer(model, images, seen, known, speaker, beliefs, seed=seed)
    trainer.train(folder / "clip", steps)
    return extended(model, SIZES)
