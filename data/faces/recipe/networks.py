"""Train the networks that go with the generator of faces: CLIP, judge, identity and encoder."""

import random

import numpy as np
import torch
import torch.nn.functional as F

from data.small_clip import ClipTrainer, TextTrainer, extended, frozen_features, new_clip
from data.training import DEVICE, Trainer, augment, autocast, to_image
from data.word_vectors import teach_words
from helpers.face_networks import AttributeClassifier, Encoder, IdentityNetwork

from .captions import ATTRIBUTES, NAMES, PHRASES, Speaker, caption

SIZE = 128  # px that pictures are kept at for training
CLIP_SIZES = dict(embed_dim=128, image_resolution=128, vision_layers=(1, 1, 1, 1), vision_width=24,
                  vision_patch_size=None, vocab_size=49408, transformer_width=80,
                  transformer_heads=2, transformer_layers=2)
GAZE = NAMES.index("gaze")
# Of the mean descriptor that `with_some_mean` puts back. On the judge's faces, the area under the
# ROC curve is 0.971 with none, 0.976 with 0.1 to 0.3, 0.975 with 0.4.
SHARE_OF_MEAN = 0.1


def small(pixels):
    """uint8 [N, 256, 256, 3] -> [N, 128, 128, 3], averaged."""
    parts = []
    for part in np.array_split(pixels, max(1, len(pixels) // 200)):
        squares = part.reshape(len(part), SIZE, 2, SIZE, 2, 3)
        parts.append(squares.mean((2, 4)).round().astype(np.uint8))
    return np.concatenate(parts)


def with_mirrored(pixels):
    """pixels uint8 [N, R, R, 3] and, afterwards, each of them mirrored: [2 N, R, R, 3]."""
    return np.concatenate([pixels, pixels[:, :, ::-1]])


def labels_with_mirrored(choices, beliefs):
    """What is seen on every face and, afterwards, on every face mirrored.

    Who looked left looks right.

    Args: choices: int64 [N, attributes]; beliefs: {attribute: float32 [N, choices]}.

    Returns: both for 2 N faces, the beliefs as tensors.
    """
    turned = choices.copy()
    last = len(ATTRIBUTES["gaze"]) - 1
    turned[:, GAZE] = np.where(choices[:, GAZE] < 0, -1, last - choices[:, GAZE])
    both = {}
    for name, belief in beliefs.items():
        mirrored = belief[:, ::-1] if name == "gaze" else belief
        both[name] = torch.from_numpy(np.concatenate([belief, mirrored]))
    return np.concatenate([choices, turned]), both


def words_of_captions(choices):
    """Every word of 50,000 captions about faces that show choices int64 [N, attributes]."""
    rng, words = random.Random(0), set()
    for i in range(50_000):
        text, _ = caption(choices[i % len(choices)], rng)
        words.update(text.lower().replace(".", " ").split())
    return sorted(words)


def train_clip(pixels, labels, folder, *, seed=31, steps=4000, text_steps=2500):
    """`clip.model.CLIP`: both halves are taught together, then another text half alone.

    Attributes that are not known of a face are neither said nor denied in the first lesson. For
    the second, the labels are spread anew with the help of what the image half sees. At the end,
    words that no caption contains are given vectors by what WordNet says of them.

    Args:
        pixels: uint8 [N, 128, 128, 3].
        labels: `labels.spread(vectors [N, D] or None)` gives choices and beliefs, see
            `labels.spread`.
        folder: for the checkpoints.
    """
    both = with_mirrored(pixels)
    choices, beliefs = labels_with_mirrored(*labels.spread())
    seen = torch.from_numpy(choices)
    model = new_clip(CLIP_SIZES, beliefs, folder, seed=seed).to(DEVICE)
    trainer = ClipTrainer(model, both, seen, seen >= 0, Speaker(choices), beliefs, seed=seed,
                          batch=48, captions=2)
    trainer.train(folder / "clip", steps)

    vectors = frozen_features(model, pixels)[0]
    choices, beliefs = labels_with_mirrored(*labels.spread(vectors))
    image_half = model.visual
    model = new_clip(CLIP_SIZES, beliefs, folder, seed=seed).to(DEVICE)
    model.visual = image_half
    trainer = TextTrainer(model, both, torch.from_numpy(choices), Speaker(choices), beliefs,
                          seed=seed + 2)
    trainer.train(folder / "text", text_steps)

    phrases = {words for kinds in PHRASES.values() for several in kinds.values()
               for words in several}
    model = extended(model.cpu(), CLIP_SIZES)
    return teach_words(model, folder, words_of_captions(choices), phrases)


class JudgeTrainer(Trainer):
    """Teaches an `AttributeClassifier` the probes' beliefs.

    Args: pixels: uint8 [N, 128, 128, 3]; beliefs: {attribute: float [N, choices]}.
    """

    def __init__(self, model, pixels, beliefs, *, seed, batch=64):
        self.pixels, self.beliefs = pixels, beliefs
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        super().__init__(model, optimizer, len(pixels), batch, seed)

    def loss(self, step, index):
        """Cross entropy, added up over the attributes."""
        picture = augment(to_image(self.pixels[index], DEVICE))
        with autocast(DEVICE):
            logits = self.module(picture.contiguous(memory_format=torch.channels_last))
        loss = 0
        for name, belief in self.beliefs.items():
            loss = loss + F.cross_entropy(logits[name].float(), belief[index].to(DEVICE))
        return loss


def train_judge(pixels, labels, folder, *, seed=11, steps=5000):
    """The `AttributeClassifier` that judges edits. Arguments as `train_clip`."""
    torch.manual_seed(seed)
    both = with_mirrored(pixels)
    _, beliefs = labels_with_mirrored(*labels.spread())
    model = AttributeClassifier(ATTRIBUTES, 24, size=SIZE)
    model.to(DEVICE, memory_format=torch.channels_last)
    JudgeTrainer(model, both, beliefs, seed=seed).train(folder / "judge", steps)
    call_as_often(model, both, beliefs)
    return model.cpu()


@torch.no_grad()
def seen_by_judge(model, pixels):
    """What the judge's heads read of pixels uint8 [N, 128, 128, 3]: [N, 256]."""
    parts = []
    for part in np.array_split(pixels, max(1, len(pixels) // 200)):
        maps = model.features(to_image(part, DEVICE))[-1]
        parts.append(model.hidden(maps).cpu())
    return torch.cat(parts)


@torch.no_grad()
def call_as_often(model, pixels, beliefs, rounds=200):
    """Move the heads' biases until each choice is called as often as it is believed in.

    A network that is unsure of what is rare calls it seldom: half of all glasses were missed.
    """
    hidden = seen_by_judge(model, pixels).to(DEVICE)
    for name, belief in beliefs.items():
        known, head = belief.sum(1) > 0, model.heads[name]
        wanted = belief[known].mean(0).to(DEVICE)
        for _ in range(rounds):
            called = head(hidden[known]).argmax(1).bincount(minlength=len(wanted)) / known.sum()
            head.bias += 0.1 * ((wanted + 1e-3) / (called + 1e-3)).log().clamp(-1, 1)


class IdentityTrainer(Trainer):
    """Teaches an `IdentityNetwork` to agree with dlib's descriptor on who resembles whom.

    A face and itself moved are in one batch: who is nearly the same person is what must be told.

    Args:
        pixels: uint8 [2 N, 128, 128, 3], N faces, then each of them moved (`pools.moved`).
        target: unit vectors [2 N, 128].
    """

    def __init__(self, model, pixels, target, *, seed, batch=48):
        self.pixels, self.target = pixels, target
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        super().__init__(model, optimizer, len(pixels) // 2, batch, seed)

    def loss(self, step, index):
        """The distance of the directions, and of who is like whom within the batch."""
        index = np.concatenate([index, index + self.count])
        picture = to_image(self.pixels[index], DEVICE)
        flip = torch.rand(len(index)) < 0.5
        picture[flip] = picture[flip].flip(-1)
        with autocast(DEVICE):
            picture = augment(picture).contiguous(memory_format=torch.channels_last)
            features = self.module(picture).float()
        wanted = self.target[index]
        direction = (1 - (features * wanted).sum(1)).mean()
        likeness = (features @ features.T - wanted @ wanted.T).square().mean()
        return direction + 5 * likeness


def train_identity(pixels, descriptors, folder, *, seed=41, steps=6000):
    """The `IdentityNetwork`, taught by dlib's descriptors [2 N, 128] of pixels; see its trainer."""
    torch.manual_seed(seed)
    target = torch.from_numpy(descriptors - descriptors.mean(0)).float()
    target = F.normalize(target, dim=1).to(DEVICE)
    model = IdentityNetwork(((16, 1), (32, 1), (64, 2), (128, 1)), size=112, dim=128)
    model.to(DEVICE, memory_format=torch.channels_last)
    IdentityTrainer(model, pixels, target, seed=seed).train(folder / "identity", steps)
    return with_some_mean(model.cpu(), descriptors)


@torch.no_grad()
def with_some_mean(model, descriptors):
    """The identity network with a share of the mean descriptor put back into its vectors.

    It was taught directions from the mean descriptor on, but dlib's rule is a distance between
    descriptors: two faces that are both nearly average are near each other, wherever they lie
    from there. A cosine with some of the mean left in agrees better.
    """
    last = model.output_layer[-1]
    # of a vector before it is normalised
    length = (last.weight.square() + last.bias.square()).sum().sqrt()
    mean = descriptors.mean(0)
    mean = mean / np.linalg.norm(descriptors - mean, axis=1).mean()
    last.bias += SHARE_OF_MEAN * length * torch.from_numpy(mean).float()
    return model


class EncoderTrainer(Trainer):
    """Teaches an `Encoder` a picture's w, in standard deviations along W's principal axes.

    Args:
        pixels: uint8 [N, 128, 128, 3]; target: [N, w_dim].
        weight: [w_dim]; an axis along which w varies more is seen more.
    """

    def __init__(self, model, pixels, target, weight, *, seed, batch=48):
        self.pixels, self.target, self.weight = pixels, target, weight
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        super().__init__(model, optimizer, len(pixels), batch, seed)

    def loss(self, step, index):
        """The weighted squared distance of w."""
        picture = augment(to_image(self.pixels[index], DEVICE))
        with autocast(DEVICE):
            found = self.module(picture.contiguous(memory_format=torch.channels_last)).float()
        return (self.weight * (found - self.target[index].to(DEVICE)).square()).mean()


def train_encoder(pixels, w, w_avg, folder, *, seed=51, steps=700):
    """The `Encoder` of pixels uint8 [N, 128, 128, 3], which show w [N, w_dim].

    Mirrored faces are left out: they would need a mirrored w, which nobody knows.
    """
    torch.manual_seed(seed)
    offset = w - w_avg
    _, spread, axes = torch.linalg.svd(offset, full_matrices=False)
    spread = spread / len(w) ** 0.5
    target, weight = offset @ axes.T / spread, (spread / spread.mean()).to(DEVICE)
    model = Encoder(((16, 1), (32, 1), (64, 2), (128, 1)), w_dim=w.shape[1])
    model.to(DEVICE, memory_format=torch.channels_last)
    EncoderTrainer(model, pixels, target, weight, seed=seed).train(folder / "encoder", steps)
    model = model.cpu()
    model.fold(w_avg, axes, spread)
    return model
