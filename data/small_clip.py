"""How the small CLIPs of the embedded domains are trained.

The token embeddings of all 49,408 tokens come from a small pretrained text model and stay fixed but for one linear map,
so that a word no caption contains still lies near the words it resembles (word_vectors.py).
"""

import random

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import nn
from training import augment, autocast, batches, device_of, load_or_train, to_image
from word_vectors import token_vectors

from helpers.clip_model import ClipModel

NOTHING = ("a person", "someone", "a face", "a photo of a person", "a human", "a picture of a face")
CONTEXT = 32  # tokens while training: captions are short, and attention over 77 takes twice the time


class ProjectedEmbedding(nn.Module):
    """Token ids -> pretrained vectors through one learned linear map, with noise while training."""

    def __init__(self, vectors, width):
        super().__init__()
        self.register_buffer("vectors", vectors - vectors.mean(0), persistent=False)
        principal = torch.linalg.svd(self.vectors.T @ self.vectors)[0][:, :width]
        self.map = nn.Parameter(principal / (self.vectors @ principal).std() * 0.3)

    def forward(self, tokens):
        x = self.vectors[tokens]
        if self.training:
            x = x + torch.randn_like(x) * 0.025  # a token's vector has length 1, so this is half of it
        return x @ self.map


def true_pairs(said, seen, known):
    """Which caption is true of which picture, and of which pairs this is known: two bool [captions, pictures].

    Args: said: int64 [N, attributes], -1 where a caption is silent; seen, known: int64 and bool [N, attributes] of the
        pictures. A pair is known to be false as soon as one known attribute differs.
    """
    silent = said[:, None] < 0
    agrees = said[:, None] == seen[None]
    true = (silent | agrees).all(-1)
    false = (~silent & ~agrees & known[None]).any(-1)
    return true, true | false


def certain(seen, choices):
    """Beliefs of what is known: {attribute: float [N, choices]}, one-hot, zeros where `seen` [N, attributes] is -1."""
    return {name: F.one_hot(seen[:, k].clamp(min=0), len(of)).float() * (seen[:, k:k + 1] >= 0)
            for k, (name, of) in enumerate(choices.items())}


def contrastive(image, text, pairs, known, scale):
    """CLIP's loss where several captions may be true of a picture; pairs of which nothing is known are left out."""
    scores = (scale * text @ image.T).masked_fill(~known, -1e4)
    pairs = pairs.float()
    return (F.cross_entropy(scores, pairs / pairs.sum(1, keepdim=True))
            + F.cross_entropy(scores.T, pairs.T / pairs.sum(0)[:, None])) / 2


def new_clip(sizes, beliefs, folder, *, seed):
    """An untrained `clip.model.CLIP` of `sizes`, with a linear head for each attribute while it is trained."""
    torch.manual_seed(seed)
    model = CLIP(context_length=CONTEXT, **sizes)
    model.token_embedding = ProjectedEmbedding(token_vectors(folder), sizes["transformer_width"])
    model.heads = nn.ModuleDict({name: nn.Linear(sizes["embed_dim"], of.shape[1]) for name, of in beliefs.items()})
    return model


def train_clip(model, images, seen, known, say, beliefs, path, *, seed, steps, rate=1e-3, batch=64, captions=4):
    """Teach both halves of a model, in place.

    Each picture comes with several captions, since sentences are cheap to encode, and the picture's vector must also
    tell every attribute through a linear layer that is thrown away afterwards: a caption names one or two
    attributes, and small details (a mouth, a brow) would take far longer to be learned from captions alone.

    Args:
        images: uint8 [N, R, R, 3]; seen, known: [N, attributes], see `true_pairs`; -1 in seen: no choice.
        say: (number of a picture, random.Random) -> a caption and {attribute number: choice} of what it says.
        beliefs: {attribute: float [N, choices]}, how likely each choice is; rows of zeros where nothing is known.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    wrapper, device = ClipModel(model), device_of(model)
    model.requires_grad_(True)

    def step(i, index):
        rng = random.Random(seed * 1_000_003 + i)
        sentences, said = [], torch.full((batch * captions, len(beliefs)), -1)
        for row, number in enumerate(np.repeat(index, captions)):
            text, facts = say(number, rng)
            sentences.append(text)
            for attribute, choice in facts.items():
                said[row, attribute] = choice
        pairs, sure = true_pairs(said, seen[index], known[index])
        pictures = wrapper.preprocess(augment(to_image(images[index], device)))
        with autocast(device):
            image = model.encode_image(pictures.contiguous(memory_format=torch.channels_last))
            text = model.encode_text(clip.tokenize(sentences, CONTEXT).to(device))
        told = sum(F.cross_entropy(head(image.float()), beliefs[name][index].to(device))
                   for name, head in model.heads.items())
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=50)
        loss = contrastive(image, text, pairs.to(device), sure.to(device), scale) + 0.2 * told
        loss.backward()
        return loss

    load_or_train(path, model, optimizer, step, batches(len(images), batch, seed), steps)


@torch.no_grad()
def frozen_features(model, images, size=200):
    """Unit vectors [2, N, D] of pictures, as they are and augmented once, by a network that learns no more."""
    wrapper, device, parts = ClipModel(model), device_of(model), []
    for part in np.array_split(np.arange(len(images)), max(1, len(images) // size)):
        image = to_image(images[part], device)
        with autocast(device):
            parts.append(torch.stack([F.normalize(model.encode_image(wrapper.preprocess(x)).float(), dim=-1)
                                      for x in (image, augment(image))]).cpu())
    return torch.cat(parts, dim=1)


def likelihood(said, beliefs, index):
    """How likely each caption is true of each picture [captions, pictures], by the beliefs about its attributes.

    Args: said: int64 [captions, attributes], -1 where a caption is silent; index: the pictures' numbers.
    """
    likely = torch.ones(len(said), len(index))
    for k, belief in enumerate(beliefs.values()):
        known = belief.sum(1, keepdim=True) > 0
        belief = torch.where(known, belief, belief.sum(0) / known.sum())[index]  # what is not known counts as average
        speaks = said[:, k] >= 0
        likely[speaks] *= belief[:, said[speaks, k]].T
    return likely


def train_text(model, images, seen, say, beliefs, path, *, seed, steps, batch=256, captions=192):
    """Teach the text half again, the image half frozen, which makes a step cheap: `batch` pictures and many captions.

    A caption's scores over the pictures are to be in proportion to how likely it is true of each, so that what the
    probes are unsure of is unsure here; one caption in sixteen says nothing at all, and fits everyone alike. Half of
    the pictures are drawn evenly over what they show, and their captions speak of that, or red hair, which few have,
    would hardly be mentioned.

    Args: as `train_clip`; `say` is also told which attribute to speak of, or None.
    """
    torch.manual_seed(seed)
    showing = [[(k, np.flatnonzero(column == choice)) for choice in np.unique(column[column >= 0])]
               for k, column in enumerate(seen.numpy().T)]
    features, device = frozen_features(model, images), device_of(model)
    model.requires_grad_(False)
    text_half = nn.ModuleList([model.token_embedding, model.transformer, model.ln_final])
    learned = [*text_half.parameters(), model.positional_embedding, model.text_projection, model.logit_scale]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=5e-4, weight_decay=0.05, betas=(0.9, 0.98))

    def step(i, index):
        rng = random.Random(seed * 1_000_003 + i)
        evenly = [rng.choice(rng.choice(showing)) for _ in range(batch // 2)]
        index = np.concatenate([index, [rng.choice(numbers) for _, numbers in evenly]])
        about = [None] * (len(index) - len(evenly)) + [attribute for attribute, _ in evenly]
        sentences, said = [], torch.full((captions, len(beliefs)), -1)
        for row in range(captions):
            one = rng.randrange(len(index))
            text, facts = say(index[one], rng, about[one]) if row % 16 else (rng.choice(NOTHING), {})
            sentences.append(text)
            for attribute, choice in facts.items():
                said[row, attribute] = choice
        target = likelihood(said, beliefs, index) + 1e-6
        with autocast(device):
            text = model.encode_text(clip.tokenize(sentences, CONTEXT).to(device))
        text = F.normalize(text.float(), dim=-1)
        scores = model.logit_scale.exp().clamp(max=50) * text @ features[i % 2, index].to(device).T
        loss = F.cross_entropy(scores, (target / target.sum(1, keepdim=True)).to(device))
        loss.backward()
        return loss

    load_or_train(path, model, optimizer, step, batches(len(images), batch // 2, seed), steps)


def extended(model, sizes):
    """The trained model with an ordinary token table and 77 positions; those beyond `CONTEXT` repeat the last."""
    full = CLIP(context_length=77, **sizes)
    state = {name: value for name, value in model.state_dict().items()
             if not name.startswith(("token_embedding", "heads"))}
    embedding = model.token_embedding
    state["token_embedding.weight"] = embedding.vectors @ embedding.map.detach()
    positions = state["positional_embedding"]
    state["positional_embedding"] = torch.cat([positions, positions[-1:].expand(77 - CONTEXT, -1)])
    full.load_state_dict(state)
    full.config = {**sizes, "context_length": 77}
    return full.eval()
