"""One measure of an edit, for notebooks, tests and bench: is the asked attribute there, and did the
others stay?

A classifier (`face_networks.AttributeClassifier`) reads attributes from pictures. It was trained
apart from the networks that drive edits, and drives none. Where a domain has none, an edit can only
be estimated (`estimate_edit`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .losses import augmented_features, text_direction
from .methods.linear_model import linear_model


@dataclass
class Evaluation:
    """What `evaluate_edit` found. Images that showed the asked attribute before the edit are left
    out."""

    there: list[bool]  # of each image: does it show what was asked for?
    kept: dict[str, list[bool]]  # of each other attribute and image: does it read as before?

    @property
    def n(self):
        """How many images count."""
        return len(self.there)

    @property
    def success(self):
        """Share of the images that show it now."""
        return sum(self.there) / max(1, self.n)

    @property
    def unchanged(self):
        """Share of the images on which an attribute stayed, averaged over the attributes."""
        shares = [sum(stayed) / len(stayed) for stayed in self.kept.values() if stayed]
        return sum(shares) / max(1, len(shares))

    def __str__(self):
        return (f"asked attribute there {self.success:4.0%}, "
                f"others unchanged {self.unchanged:4.0%} (n = {self.n})")


def read_attributes(domain, image):
    """What the classifier reads, {attribute: (choices int64 [N], confidences [N])}.

    Of `domain.compounds`, such as cute, the choice is 1 where each part is so, and the confidence
    that of the least certain part.

    Args: image: [N, 3, R, R], clamped.
    """
    readings = domain.classifier.read(image.clamp(-1, 1))
    for word, parts in domain.compounds.items():
        shown, confidences = [], []
        for attribute, names in parts.items():
            choices, confidence = readings[attribute]
            numbers = [domain.classifier.attributes[attribute].index(name) for name in names]
            shown.append(torch.isin(choices, torch.tensor(numbers, device=choices.device)))
            confidences.append(confidence)
        readings[word] = torch.stack(shown).all(0).long(), torch.stack(confidences).amin(0)
    return readings


def asked_for(domain, prompt):
    """What a prompt of `domain.prompt_targets` asks for: the attribute, and its choices' numbers.

    A compound's choices are no and yes.
    """
    attribute, *wanted = domain.prompt_targets[prompt]
    choices = domain.classifier.attributes.get(attribute, ["no", "yes"])
    return attribute, [choices.index(choice) for choice in wanted]


class Readings:
    """What the classifier reads before and after an edit.

    Attributes: before, after: {attribute: list of N choices, by number}; confidence: {attribute:
        list of N}, of the less certain of the two readings.
    """

    def __init__(self, domain, before, after):
        old, new = read_attributes(domain, before), read_attributes(domain, after)
        self.choices, self.occluded_by = domain.classifier.attributes, domain.occluded_by
        self.before = {name: choice.tolist() for name, (choice, _) in old.items()}
        self.after = {name: choice.tolist() for name, (choice, _) in new.items()}
        self.confidence = {name: torch.minimum(old[name][1], new[name][1]).tolist() for name in old}

    def visible(self, attribute, i):
        """Can the attribute be seen on image i, before and after? Hair cannot, under a hat."""
        if attribute not in self.occluded_by:
            return True
        other, *hiding = self.occluded_by[attribute]
        names = self.choices[other]
        seen = {names[self.before[other][i]], names[self.after[other][i]]}
        return not seen & set(hiding)

    def stayed(self, attribute, images, sure):
        """Of those images on which the attribute is visible and read with confidence: is it as
        before?"""
        return [self.before[attribute][i] == self.after[attribute][i] for i in images
                if self.confidence[attribute][i] >= sure and self.visible(attribute, i)]


def evaluate_edit(domain, before, after, prompt, sure=0.0):
    """The `Evaluation` of an edit.

    `domain.prompt_targets` says what a prompt asks for; `domain.entangled` which attributes change
    with it by their nature (a laugh opens the mouth), which are not counted; `domain.occluded_by`
    where an attribute cannot be seen; `domain.compounds` what a word such as cute is made of.

    Args:
        before, after: image [N, 3, R, R].
        prompt: one of `domain.prompt_targets`.
        sure: from 0 to 1; a reading of another attribute counts if the classifier is as confident
            as this before and after the edit, since a less confident one may change when the
            picture is merely turned a little.

    Raises: ValueError for a prompt of which nobody has said what it asks for.
    """
    if prompt not in domain.prompt_targets:
        known = ", ".join(domain.prompt_targets) or "none, since the domain has no classifier"
        raise ValueError(f'What "{prompt}" asks for is not known here; known are: {known}.')
    attribute, wanted = asked_for(domain, prompt)
    readings = Readings(domain, before, after)
    images = [i for i in range(len(before)) if readings.before[attribute][i] not in wanted]
    others = [name for name in domain.classifier.attributes
              if name != attribute and name not in domain.entangled.get(attribute, ())]
    return Evaluation([readings.after[attribute][i] in wanted for i in images],
                      {name: readings.stayed(name, images, sure) for name in others})


def summary(evaluations):
    """The `Evaluation`s of several prompts, averaged: (success, unchanged), as shares."""
    evaluations = list(evaluations)
    return (sum(evaluation.success for evaluation in evaluations) / len(evaluations),
            sum(evaluation.unchanged for evaluation in evaluations) / len(evaluations))


UNSEEN = (1001, 1002, 1003, 1004)  # seeds of augmentations through which no method looks


@torch.no_grad()
def estimate_edit(domain, before, after, prompt):
    """(there, unchanged) of an edit without a classifier, shares averaged over the images.

    there: how much of what an image lacked CLIP sees now, through augmentations that no method
    uses; unchanged: the cosine of the identity network's vectors, or without one, of what CLIP sees
    beside the sentence. CLIP judges its own edits here, so these are higher than a classifier's.

    Args: before, after: image [N, 3, R, R]; prompt: any sentence.
    """
    model, direction = linear_model(domain), text_direction(domain.clip, domain.neutral, prompt)
    old = augmented_features(domain.clip, before, UNSEEN).mean(dim=0)  # [N, D]
    new = augmented_features(domain.clip, after, UNSEEN).mean(dim=0)
    lacked = model.remaining(direction, before) * model.margin(direction)  # [N]
    there = (((new - old) @ direction) / lacked).clamp(0, 1)
    if domain.identity is not None:
        old, new = domain.identity(before), domain.identity(after)  # [N, E]
    else:
        old = old - (old @ direction)[:, None] * direction
        new = new - (new @ direction)[:, None] * direction
    return there.mean().item(), F.cosine_similarity(old, new).mean().item()


@torch.no_grad()
def reading_aucs(domain, image):
    """How well CLIP tells what the classifier reads, {prompt: area under the ROC curve}: 0.5 is
    chance.

    Prompts that fewer than 5 images show, or lack, are left out.

    Args: image: [N, 3, R, R].
    """
    features, found = domain.clip.encode_image(image), {}
    readings = read_attributes(domain, image)
    for prompt in domain.prompt_targets:
        attribute, wanted = asked_for(domain, prompt)
        shows = torch.isin(readings[attribute][0].cpu(), torch.tensor(wanted))
        match = (features @ text_direction(domain.clip, domain.neutral, prompt)).cpu()
        if min(shows.sum(), (~shows).sum()) >= 5:
            above = match[shows][:, None] > match[~shows]
            found[prompt] = above.float().mean().item()
    return found
