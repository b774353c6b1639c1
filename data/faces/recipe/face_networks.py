"""Train the networks that go with the generator of faces: CLIP, judge, identity network and encoder."""

import numpy as np
import torch
import torch.nn.functional as F
from face_words import ATTRIBUTES, NAMES, caption
from small_clip import train_clip
from training import augment, batches, load_or_train, to_image

from helpers.encoder import Encoder
from helpers.identity import IdentityNetwork
from helpers.judging import AttributeClassifier

SIZE = 128  # px that pictures are kept at for training
CLIP_SIZES = dict(embed_dim=128, image_resolution=128, vision_layers=(1, 1, 1, 1), vision_width=24,
                  vision_patch_size=None, vocab_size=49408, transformer_width=80, transformer_heads=2,
                  transformer_layers=2)
GAZE = NAMES.index("gaze")


def small(pixels):
    """uint8 [N, 256, 256, 3] -> [N, 128, 128, 3], averaged."""
    return np.concatenate([part.reshape(len(part), SIZE, 2, SIZE, 2, 3).mean((2, 4)).round().astype(np.uint8)
                           for part in np.array_split(pixels, max(1, len(pixels) // 200))])


def mirrored(pixels, choices, beliefs):
    """Every face twice, the second time mirrored: who looked left looks right."""
    turned = choices.copy()
    last = len(ATTRIBUTES["gaze"]) - 1
    turned[:, GAZE] = np.where(choices[:, GAZE] < 0, -1, last - choices[:, GAZE])
    both = {name: torch.from_numpy(np.concatenate([belief, belief[:, ::-1] if name == "gaze" else belief]))
            for name, belief in beliefs.items()}
    return np.concatenate([pixels, pixels[:, :, ::-1]]), np.concatenate([choices, turned]), both


def clip(pixels, choices, beliefs, folder, *, seed=31, steps=3200):
    """Returns `clip.model.CLIP`; attributes that are not known of a face are neither said nor denied."""
    pixels, choices, beliefs = mirrored(pixels, choices, beliefs)
    seen = torch.from_numpy(choices)
    return train_clip(pixels, seen, seen >= 0, lambda number, rng: caption(choices[number], rng), CLIP_SIZES,
                      beliefs, folder, seed=seed, steps=steps, batch=48, captions=2, text_steps=2500)


def judge(pixels, choices, beliefs, folder, *, seed=11, steps=2000, batch=64):
    """Returns the `AttributeClassifier` that judges edits."""
    torch.manual_seed(seed)
    pixels, choices, beliefs = mirrored(pixels, choices, beliefs)
    model = AttributeClassifier(ATTRIBUTES, 20, size=SIZE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        picture = augment(to_image(pixels[index])).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(picture)
        loss = sum(F.cross_entropy(logits[name].float(), belief[index]) for name, belief in beliefs.items())
        loss.backward()
        return loss

    return load_or_train(folder / "judge", model, optimizer, step, batches(len(pixels), batch, seed), steps)


def identity(pixels, descriptors, folder, *, seed=41, steps=1000, batch=48):
    """Returns the `IdentityNetwork`, taught to agree with dlib's descriptor on who resembles whom.

    Args: descriptors: dlib's, [N, 128], of the same faces; a face without one has NaN.
    """
    torch.manual_seed(seed)
    found = np.flatnonzero(np.isfinite(descriptors[:, 0]))
    mean = descriptors[found].mean(0)
    target = F.normalize(torch.from_numpy(descriptors - mean).float(), dim=1)
    model = IdentityNetwork(((16, 1), (32, 1), (64, 2), (128, 1)), size=112, dim=128)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        index = found[index]
        picture = to_image(pixels[index])
        flip = torch.rand(len(index)) < 0.5
        picture[flip] = picture[flip].flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            features = model(augment(picture).contiguous(memory_format=torch.channels_last)).float()
        wanted = target[index]
        # The direction itself, and who is like whom within the batch.
        loss = (1 - (features * wanted).sum(1)).mean() + 5 * (features @ features.T - wanted @ wanted.T).square().mean()
        loss.backward()
        return loss

    return load_or_train(folder / "identity", model, optimizer, step, batches(len(found), batch, seed), steps)


def encoder(pixels, w, w_avg, folder, *, seed=51, steps=700, batch=48):
    """Returns the `Encoder`: a picture's w, in standard deviations along W's principal axes."""
    torch.manual_seed(seed)
    offset = w - w_avg  # mirrored faces would need a mirrored w, which nobody knows
    _, spread, axes = torch.linalg.svd(offset, full_matrices=False)
    spread = spread / len(w) ** 0.5
    target = offset @ axes.T / spread
    weight = spread / spread.mean()  # an axis along which w varies more is seen more
    model = Encoder(((16, 1), (32, 1), (64, 2), (128, 1)), w_dim=w.shape[1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        picture = augment(to_image(pixels[index])).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(picture).float()
        loss = (weight * (found - target[index]).square()).mean()
        loss.backward()
        return loss

    model = load_or_train(folder / "encoder", model, optimizer, step, batches(len(pixels), batch, seed), steps)
    model.fold(w_avg, axes, spread)
    return model
