"""How the small CLIPs of the embedded domains are trained.

The token embeddings of all 49,408 tokens come from a small pretrained text model. Only one linear
map over them is learned, so that a word that no caption contains still lies near the words it
resembles (word_vectors.py).
"""

import random

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import nn

from helpers.clip_model import ClipModel

from .training import Trainer, augment, autocast, device_of, to_image
from .word_vectors import token_vectors

NEUTRAL = ("a person", "someone", "a face", "a photo of a person", "a human", "a picture of a face")
CONTEXT = 32  # tokens in training: captions are short, and attention over 77 takes twice the time
MAX_SCALE = 50  # of the cosines, in CLIP's loss


class ProjectedEmbedding(nn.Module):
    """Token ids -> pretrained vectors through one learned linear map, with noise in training.

    Args:
        vectors: float32 [tokens, E], unit length.
        width: of the text half.
    """

    def __init__(self, vectors, width):
        super().__init__()
        self.register_buffer("vectors", vectors - vectors.mean(0), persistent=False)
        principal = torch.linalg.svd(self.vectors.T @ self.vectors)[0][:, :width]  # [E, width]
        self.map = nn.Parameter(principal / (self.vectors @ principal).std() * 0.3)

    def forward(self, tokens):
        """int64 [N, T] -> [N, T, width]."""
        x = self.vectors[tokens]
        if self.training:
            x = x + torch.randn_like(x) * 0.025  # 0.49 long: half of a token's vector
        return x @ self.map


def true_pairs(said, seen, known):
    """Which caption is true of which picture, and of which pairs this is known.

    A pair is known to be false as soon as one known attribute differs.

    Args:
        said: int64 [captions, attributes], -1 where a caption is silent.
        seen: int64 [pictures, attributes]; known: bool of the same shape.

    Returns: two bool [captions, pictures].
    """
    silent = said[:, None] < 0  # [captions, 1, attributes]
    agrees = said[:, None] == seen[None]  # [captions, pictures, attributes]
    true = (silent | agrees).all(-1)
    false = (~silent & ~agrees & known[None]).any(-1)
    return true, true | false


def certain(seen, choices):
    """Beliefs that are certain: {attribute: float [N, choices]}, one-hot.

    Args:
        seen: int64 [N, attributes]; -1 where nothing is known, which becomes a row of zeros.
        choices: {attribute: its choices}.
    """
    beliefs = {}
    for k, (name, of) in enumerate(choices.items()):
        one_hot = F.one_hot(seen[:, k].clamp(min=0), len(of)).float()
        beliefs[name] = one_hot * (seen[:, k:k + 1] >= 0)
    return beliefs


def contrastive_loss(image, text, pairs, known, scale):
    """CLIP's loss where several captions may be true of a picture; unknown pairs are left out.

    A caption that is true of no picture, or a picture without a true caption, adds nothing.

    Args:
        image: unit vectors [pictures, D]; text: unit vectors [captions, D].
        pairs, known: bool [captions, pictures], of `true_pairs`.
        scale: of the cosines.
    """
    scores = (scale * text @ image.T).masked_fill(~known, -1e4)  # [captions, pictures]
    pairs = pairs.float()
    of_captions = F.cross_entropy(scores, pairs / pairs.sum(1, keepdim=True).clamp(min=1))
    of_pictures = F.cross_entropy(scores.T, pairs.T / pairs.sum(0)[:, None].clamp(min=1))
    return (of_captions + of_pictures) / 2


def new_clip(sizes, beliefs, folder, *, seed):
    """An untrained `clip.model.CLIP`, with a linear head for each attribute while it is trained.

    Args:
        sizes: the arguments of `CLIP` but for the context length.
        beliefs: {attribute: float [N, choices]}; only the numbers of choices count.
        folder: where the token vectors are kept.
    """
    torch.manual_seed(seed)
    model = CLIP(context_length=CONTEXT, **sizes)
    model.token_embedding = ProjectedEmbedding(token_vectors(folder), sizes["transformer_width"])
    model.heads = nn.ModuleDict({name: nn.Linear(sizes["embed_dim"], of.shape[1])
                                 for name, of in beliefs.items()})
    return model


def encoded(model, sentences):
    """Vectors [N, D] of sentences, in training."""
    device = device_of(model)
    with autocast(device):
        return model.encode_text(clip.tokenize(sentences, CONTEXT).to(device))


def write_down(said, row, facts):
    """Note in a row of said [captions, attributes] what a caption says, {attribute: choice}."""
    for attribute, choice in facts.items():
        said[row, attribute] = choice


class ClipTrainer(Trainer):
    """Teaches both halves of a CLIP.

    Each picture comes with several captions, since sentences are cheap to encode. The picture's
    vector must also tell every attribute through a linear layer that is thrown away afterwards. A
    caption names one or two attributes, and small details (a mouth, a brow) would take far longer
    to be learned from captions alone.

    Args:
        model: of `new_clip`.
        images: uint8 [N, R, R, 3].
        seen: int64 [N, attributes], -1 where there is no choice; known: bool of the same shape.
        speaker: `speaker.say(picture number, random.Random)` gives a caption and what it says,
            {attribute number: choice}.
        beliefs: {attribute: float [N, choices]}, how likely each choice is; rows of zeros where
            nothing is known.
        captions: of each picture in a step.
    """

    def __init__(self, model, images, seen, known, speaker, beliefs, *, seed, lr=1e-3, batch=64,
                 captions=4):
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05,
                                      betas=(0.9, 0.98))
        super().__init__(model, optimizer, len(images), batch, seed)
        self.wrapper, self.device, self.captions = ClipModel(model), device_of(model), captions
        model.requires_grad_(True)  # which `ClipModel` takes away
        self.images, self.seen, self.known = images, seen, known
        self.speaker, self.beliefs = speaker, beliefs

    def loss(self, step, index):
        """CLIP's contrastive loss plus 0.2 times that of the heads."""
        model, rng = self.module, random.Random(self.seed * 1_000_003 + step)
        sentences = []
        said = torch.full((len(index) * self.captions, len(self.beliefs)), -1)
        for row, number in enumerate(np.repeat(index, self.captions)):
            text, facts = self.speaker.say(number, rng)
            sentences.append(text)
            write_down(said, row, facts)
        pairs, sure = true_pairs(said, self.seen[index], self.known[index])
        pictures = self.wrapper.preprocess(augment(to_image(self.images[index], self.device)))
        with autocast(self.device):
            image = model.encode_image(pictures.contiguous(memory_format=torch.channels_last))
        text = encoded(model, sentences)
        told = 0
        for name, head in model.heads.items():
            belief = self.beliefs[name][index].to(self.device)
            told = told + F.cross_entropy(head(image.float()), belief)
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=MAX_SCALE)
        pairs, sure = pairs.to(self.device), sure.to(self.device)
        return contrastive_loss(image, text, pairs, sure, scale) + 0.2 * told


@torch.no_grad()
def frozen_features(model, images, size=200):
    """Unit vectors of images uint8 [N, R, R, 3], and of them augmented: [2, N, D]."""
    wrapper, device, parts = ClipModel(model), device_of(model), []
    for part in np.array_split(np.arange(len(images)), max(1, len(images) // size)):
        image = to_image(images[part], device)
        with autocast(device):
            plain = model.encode_image(wrapper.preprocess(image)).float()
            moved = model.encode_image(wrapper.preprocess(augment(image))).float()
        parts.append(F.normalize(torch.stack([plain, moved]), dim=-1).cpu())
    return torch.cat(parts, dim=1)


def likelihood(said, beliefs, index):
    """How likely each caption is true of each picture, by the beliefs: [captions, pictures].

    Args:
        said: int64 [captions, attributes], -1 where a caption is silent.
        beliefs: {attribute: float [N, choices]}; rows of zeros count as the average.
        index: the pictures' numbers.
    """
    likely = torch.ones(len(said), len(index))
    for k, belief in enumerate(beliefs.values()):
        known = belief.sum(1, keepdim=True) > 0
        belief = torch.where(known, belief, belief.sum(0) / known.sum())[index]
        speaks = said[:, k] >= 0
        likely[speaks] *= belief[:, said[speaks, k]].T
    return likely


class TextTrainer(Trainer):
    """Teaches the text half again, the image half frozen.

    This makes a step cheap, so that it holds many pictures and captions. A caption's scores over
    the pictures are to be in proportion to how likely it is true of each: what the probes are
    unsure of is unsure here. One caption in sixteen says nothing, and fits everyone alike. Half
    of the pictures are drawn evenly over what they show, and their captions speak of that.
    Without this, what is rare (red hair) would hardly be mentioned.

    Args:
        model: of `new_clip`, its image half trained.
        speaker: `speaker.say(picture number, random.Random, attribute number or None)` gives a
            caption that speaks of this attribute, and what it says.
        images, seen, beliefs: as for `ClipTrainer`.
        batch: pictures in a step; captions: in a step.
    """

    def __init__(self, model, images, seen, speaker, beliefs, *, seed, batch=256, captions=192):
        torch.manual_seed(seed)
        self.showing = pictures_by_choice(seen)
        self.features, self.device = frozen_features(model, images), device_of(model)
        self.speaker, self.beliefs, self.captions = speaker, beliefs, captions
        model.requires_grad_(False)
        text_half = nn.ModuleList([model.token_embedding, model.transformer, model.ln_final])
        learned = [*text_half.parameters(), model.positional_embedding, model.text_projection,
                   model.logit_scale]
        for parameter in learned:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(learned, lr=5e-4, weight_decay=0.05, betas=(0.9, 0.98))
        super().__init__(model, optimizer, len(images), batch // 2, seed)

    def loss(self, step, index):
        """Cross entropy of the captions' scores over the pictures against `likelihood`."""
        rng = random.Random(self.seed * 1_000_003 + step)
        evenly = [rng.choice(rng.choice(self.showing)) for _ in range(self.batch)]
        about = [None] * len(index) + [attribute for attribute, _ in evenly]
        index = np.concatenate([index, [rng.choice(numbers) for _, numbers in evenly]])
        sentences, said = [], torch.full((self.captions, len(self.beliefs)), -1)
        for row in range(self.captions):
            one = rng.randrange(len(index))
            if row % 16:
                text, facts = self.speaker.say(index[one], rng, about[one])
            else:
                text, facts = rng.choice(NEUTRAL), {}
            sentences.append(text)
            write_down(said, row, facts)
        target = likelihood(said, self.beliefs, index) + 1e-6
        text = F.normalize(encoded(self.module, sentences).float(), dim=-1)
        scale = self.module.logit_scale.exp().clamp(max=MAX_SCALE)
        scores = scale * text @ self.features[step % 2, index].to(self.device).T
        return F.cross_entropy(scores, (target / target.sum(1, keepdim=True)).to(self.device))


def pictures_by_choice(seen):
    """For each attribute a list of (its number, the numbers of the pictures that show a choice).

    Args: seen: int64 [N, attributes], -1 where there is no choice.
    """
    showing = []
    for k, column in enumerate(seen.numpy().T):
        choices = np.unique(column[column >= 0])
        showing.append([(k, np.flatnonzero(column == choice)) for choice in choices])
    return showing


def extended(model, sizes):
    """The trained model with an ordinary token table and 77 positions.

    Positions beyond `CONTEXT` repeat the last.
    """
    full = CLIP(context_length=77, **sizes)
    state = {name: value for name, value in model.state_dict().items()
             if not name.startswith(("token_embedding", "heads"))}
    embedding = model.token_embedding
    state["token_embedding.weight"] = embedding.vectors @ embedding.map.detach()
    positions = state["positional_embedding"]
    rest = positions[-1:].expand(77 - CONTEXT, -1)
    state["positional_embedding"] = torch.cat([positions, rest])
    full.load_state_dict(state)
    full.config = {**sizes, "context_length": 77}
    return full.eval()
