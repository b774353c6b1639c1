"""Train the networks that go with the generator of faces: CLIP, judge, identity network and encoder."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from face_words import ATTRIBUTES, NAMES, PHRASES, caption
from small_clip import extended, frozen_features, new_clip, train_clip, train_text
from training import DEVICE, augment, autocast, batches, load_or_train, to_image
from word_vectors import teach_words

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


def mirrored(choices, beliefs):
    """What is seen on every face and, afterwards, on every face mirrored: who looked left looks right."""
    turned = choices.copy()
    last = len(ATTRIBUTES["gaze"]) - 1
    turned[:, GAZE] = np.where(choices[:, GAZE] < 0, -1, last - choices[:, GAZE])
    both = {name: torch.from_numpy(np.concatenate([belief, belief[:, ::-1] if name == "gaze" else belief]))
            for name, belief in beliefs.items()}
    return np.concatenate([choices, turned]), both


def words_of_captions(choices):
    """Every word of 50,000 captions about faces that show `choices`."""
    rng, words = random.Random(0), set()
    for i in range(50_000):
        text, _ = caption(choices[i % len(choices)], rng)
        words |= set(text.lower().replace(".", " ").split())
    return sorted(words)


def clip(pixels, labels, folder, *, seed=31, steps=4000, text_steps=2500):
    """Returns `clip.model.CLIP`: both halves are taught together, then another text half, the image half frozen.

    Attributes that are not known of a face are neither said nor denied in the first lesson. At the end, words that no
    caption contains are given vectors by what WordNet says of them.

    Args: labels: the faces' vectors [N, D] by a network, or nothing -> choices and beliefs (see `face_labels.spread`):
        for the text half they are spread anew with the help of what the image half sees.
    """
    both = np.concatenate([pixels, pixels[:, :, ::-1]])
    choices, beliefs = mirrored(*labels())
    seen = torch.from_numpy(choices)

    def say(number, rng, about=None):
        return caption(choices[number], rng, about)

    model = new_clip(CLIP_SIZES, beliefs, folder, seed=seed).to(DEVICE)
    train_clip(model, both, seen, seen >= 0, say, beliefs, folder / "clip", seed=seed, steps=steps, batch=48,
               captions=2)
    choices, beliefs = mirrored(*labels(frozen_features(model, pixels)[0]))
    image_half, model = model.visual, new_clip(CLIP_SIZES, beliefs, folder, seed=seed).to(DEVICE)
    model.visual = image_half
    train_text(model, both, torch.from_numpy(choices), say, beliefs, folder / "text", seed=seed + 2, steps=text_steps)
    phrases = {words for kinds in PHRASES.values() for several in kinds.values() for words in several}
    return teach_words(extended(model.cpu(), CLIP_SIZES), folder, words_of_captions(choices), phrases)


def judge(pixels, labels, folder, *, seed=11, steps=5000, batch=64):
    """Returns the `AttributeClassifier` that judges edits. `labels` as in `clip`."""
    torch.manual_seed(seed)
    both = np.concatenate([pixels, pixels[:, :, ::-1]])
    _, beliefs = mirrored(*labels())
    model = AttributeClassifier(ATTRIBUTES, 24, size=SIZE).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        picture = augment(to_image(both[index], DEVICE)).contiguous(memory_format=torch.channels_last)
        with autocast(DEVICE):
            logits = model(picture)
        loss = sum(F.cross_entropy(logits[name].float(), belief[index].to(DEVICE)) for name, belief in beliefs.items())
        loss.backward()
        return loss

    load_or_train(folder / "judge", model, optimizer, step, batches(len(both), batch, seed), steps)
    call_as_often(model, both, beliefs)
    return model.cpu()


@torch.no_grad()
def seen_by_judge(model, pixels):
    """What the judge's heads read: [N, 256]."""
    parts = np.array_split(pixels, max(1, len(pixels) // 200))
    return torch.cat([model.hidden(model.features(to_image(part, DEVICE))[-1]).cpu() for part in parts])


@torch.no_grad()
def call_as_often(model, pixels, beliefs, rounds=200):
    """Move the heads' biases until each choice is called as often as it is believed in.

    A network that is unsure of what is rare calls it seldom: half of all glasses had been missed.
    """
    hidden = seen_by_judge(model, pixels).to(DEVICE)
    for name, belief in beliefs.items():
        known, head = belief.sum(1) > 0, model.heads[name]
        wanted = belief[known].mean(0).to(DEVICE)
        for _ in range(rounds):
            called = head(hidden[known]).argmax(1).bincount(minlength=len(wanted)) / known.sum()
            head.bias += 0.1 * ((wanted + 1e-3) / (called + 1e-3)).log().clamp(-1, 1)


def identity(pixels, descriptors, folder, *, seed=41, steps=6000, batch=48):
    """Returns the `IdentityNetwork`, taught to agree with dlib's descriptor on who resembles whom.

    Args:
        pixels: uint8 [2 N, 128, 128, 3], N faces, then each of them moved (`pools.moved`). A face and itself moved
            are in one batch: who is nearly the same person is what must be told.
        descriptors: dlib's, [2 N, 128].
    """
    torch.manual_seed(seed)
    count = len(pixels) // 2
    target = F.normalize(torch.from_numpy(descriptors - descriptors.mean(0)).float(), dim=1).to(DEVICE)
    model = IdentityNetwork(((16, 1), (32, 1), (64, 2), (128, 1)), size=112, dim=128)
    model.to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        index = np.concatenate([index, index + count])
        picture = to_image(pixels[index], DEVICE)
        flip = torch.rand(len(index)) < 0.5
        picture[flip] = picture[flip].flip(-1)
        with autocast(DEVICE):
            features = model(augment(picture).contiguous(memory_format=torch.channels_last)).float()
        wanted = target[index]
        # The direction itself, and who is like whom within the batch.
        loss = (1 - (features * wanted).sum(1)).mean() + 5 * (features @ features.T - wanted @ wanted.T).square().mean()
        loss.backward()
        return loss

    model = load_or_train(folder / "identity", model, optimizer, step, batches(count, batch, seed), steps).cpu()
    return with_some_mean(model, descriptors)


SOME = 0.1  # the judge's faces: area under the ROC curve 0.971 with none, 0.976 with 0.1 to 0.3, 0.975 with 0.4


@torch.no_grad()
def with_some_mean(model, descriptors):
    """The identity network with a share of what all faces have in common put back into its vectors.

    It was taught directions from the mean descriptor on, but dlib's rule is a distance between descriptors: two faces
    that are both nearly average are near each other, wherever they lie from there. A cosine with some of the mean left
    in agrees better.
    """
    last = model.output_layer[-1]
    length = (last.weight.square() + last.bias.square()).sum().sqrt()  # of a vector before it is normalised
    mean = descriptors.mean(0)
    mean = torch.from_numpy(mean / np.linalg.norm(descriptors - mean, axis=1).mean()).float()
    last.bias += SOME * length * mean
    return model


def encoder(pixels, w, w_avg, folder, *, seed=51, steps=700, batch=48):
    """Returns the `Encoder`: a picture's w, in standard deviations along W's principal axes."""
    torch.manual_seed(seed)
    offset = w - w_avg  # mirrored faces would need a mirrored w, which nobody knows
    _, spread, axes = torch.linalg.svd(offset, full_matrices=False)
    spread = spread / len(w) ** 0.5
    target = offset @ axes.T / spread
    weight = (spread / spread.mean()).to(DEVICE)  # an axis along which w varies more is seen more
    model = Encoder(((16, 1), (32, 1), (64, 2), (128, 1)), w_dim=w.shape[1])
    model.to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def step(i, index):
        picture = augment(to_image(pixels[index], DEVICE)).contiguous(memory_format=torch.channels_last)
        with autocast(DEVICE):
            found = model(picture).float()
        loss = (weight * (found - target[index].to(DEVICE)).square()).mean()
        loss.backward()
        return loss

    model = load_or_train(folder / "encoder", model, optimizer, step, batches(len(pixels), batch, seed), steps).cpu()
    model.fold(w_avg, axes, spread)
    return model
