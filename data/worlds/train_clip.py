"""Train a small CLIP on renders and captions."""

import torch

from data.small_clip import ClipTrainer, certain, extended, new_clip
from data.word_vectors import teach_words

from .captions import PLAIN

SIZES = dict(embed_dim=128, image_resolution=64, vision_layers=4, vision_width=128,
             vision_patch_size=8, vocab_size=49408, transformer_heads=2, transformer_layers=2)


def train(world, speaker, renders, folder, *, seed, steps, width):
    """`clip.model.CLIP` with 77 tokens of context, trained for `steps`; resumable.

    What cannot be seen (hair under a hat) counts as not there. At the end, words that no caption
    contains are given vectors by what WordNet says of them.

    Args:
        world: a `World`; renders: of its `renders`.
        speaker: a `Speaker` about these pictures.
        folder: for the checkpoint.
        width: of the text half, and so of its token table, which is most of the file.
    """
    choices, _, images = renders
    seen = torch.from_numpy(world.facts(choices))
    known = torch.ones_like(seen, dtype=torch.bool)
    beliefs = certain(seen, world.told)
    sizes = {**SIZES, "transformer_width": width}
    model = new_clip(sizes, beliefs, folder, seed=seed)
    trainer = ClipTrainer(model, images, seen, known, speaker, beliefs, seed=seed)
    trainer.train(folder / "clip", steps)
    return with_all_words(extended(model, sizes), speaker.captions, folder)


def with_all_words(model, captions, folder):
    """`teach_words` for the captions of a world: the model, its token table changed."""
    taught = PLAIN | set(captions.words())
    return teach_words(model, folder, taught, captions.phrases_of_choices())
