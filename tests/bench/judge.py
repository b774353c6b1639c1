"""Judge edits with the independent classifier: is the asked attribute there, are the others unchanged?"""

import torch

# The ten prompts of the benchmark, and what each asks for.
ASKED = {
    "a person with glasses": ("glasses", "glasses"), "a person with sunglasses": ("glasses", "sunglasses"),
    "a bald person": ("top", "bald"), "a person with a beard": ("facial_hair", "beard"),
    "a person with purple hair": ("hair_color", "purple"), "a person with blonde hair": ("hair_color", "blonde"),
    "a person with an afro": ("top", "afro"), "a surprised person": ("expression", "surprised"),
    "an angry person": ("expression", "angry"), "a laughing person": ("expression", "laughing"),
}
HAIRLESS = ("bald", "beanie", "hat", "turban", "hijab")


def readings(classifier, image):
    """What the classifier sees, {attribute: list of choices' names}."""
    return {name: [classifier.attributes[name][i] for i in choice]
            for name, (choice, _) in classifier.read(image).items()}


def shows(seen, i, name):
    """Whether an attribute can be seen at all: not the colour of hidden hair, nor the clothes under a hijab."""
    if name == "hair_color":
        return seen["top"][i] not in HAIRLESS or seen["facial_hair"][i] != "none"
    return name != "clothes" or seen["top"][i] != "hijab"


def judge(classifier, before, after, prompt):
    """For faces that were not already so: how many are so afterwards, and how many other attributes stayed.

    Hair colour and clothes count only where they can be seen both before and after.

    Args: before, after: image [N, 3, R, R].
    Returns: success, list of bool; kept, {attribute: list of bool}.
    """
    attribute, wanted = ASKED[prompt]
    old, new = readings(classifier, before), readings(classifier, after)
    faces = [i for i in range(len(before)) if old[attribute][i] != wanted]
    success = [new[attribute][i] == wanted for i in faces]
    kept = {name: [old[name][i] == new[name][i] for i in faces
                   if shows(old, i, name) and shows(new, i, name)]
            for name in old if name != attribute}
    return success, kept


def summary(results):
    """Mean success, and the mean over attributes and prompts of the share kept, from {prompt: judge(...)}."""
    def mean(values):
        return sum(values) / max(1, len(values))

    success = mean([mean(success) for success, _ in results.values()])
    kept = mean([mean(share) for _, kept in results.values() for share in kept.values() if share])
    return success, kept


@torch.no_grad()
def faces_to_judge(domain, codes):
    """The images of codes, w_plus [N, L, w_dim] or s [N, S], clamped as a picture is."""
    draw = domain.generator.synthesize if codes.ndim == 2 else domain.generator
    return draw(codes).clamp(-1, 1)
