"""Train a small CLIP on renders and captions."""

import torch
from captions import caption
from small_clip import certain, extended, new_clip, train_clip
from world import ATTRIBUTES, labels

SIZES = dict(embed_dim=128, image_resolution=64, vision_layers=4, vision_width=128, vision_patch_size=8,
             vocab_size=49408, transformer_width=128, transformer_heads=2, transformer_layers=2)


def train(renders, folder, *, seed, steps):
    """Returns `clip.model.CLIP` with 77 tokens of context. What cannot be seen (hair under a hat) is not there."""
    choices, _, images = renders
    seen = torch.from_numpy(labels(choices))
    beliefs = certain(seen, ATTRIBUTES)
    model = new_clip(SIZES, beliefs, folder, seed=seed)
    train_clip(model, images, seen, torch.ones_like(seen, dtype=torch.bool),
               lambda number, rng: caption(choices[number], rng), beliefs, folder / "clip", seed=seed, steps=steps)
    return extended(model, SIZES)
