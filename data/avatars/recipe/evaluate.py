"""How good the avatars' networks are, on renders and seeds that no training used.

    python -m data.avatars.recipe.evaluate      prints and writes evaluation.json
"""

import json
from pathlib import Path

import numpy as np
import torch

from data.training import to_image
from helpers.domains import load_domain
from helpers.images import open_image
from helpers.inversion import invert

from .train_classifier import accuracy
from .train_identity import verification
from .world import ATTRIBUTES, HAIRLESS_TOPS, TEST_SEED, labels, probabilities, renders

ROOT = Path(__file__).resolve().parents[3]
WORK = ROOT / "build" / "models"
# Zero-shot prompts: one sentence per choice, none tuned.
ZERO_SHOT = {
    "hair_color": {name: f"a person with {name} hair" for name in ATTRIBUTES["hair_color"]},
    "glasses": {
        "none": "a person with no glasses", "glasses": "a person with glasses",
        "sunglasses": "a person with sunglasses"},
    "facial_hair": {
        "none": "a person with no beard", "beard": "a person with a beard",
        "moustache": "a person with a moustache"},
    "top": {
        "short hair": "a person with short hair", "curly hair": "a person with curly hair",
        "long hair": "a person with long hair", "afro": "a person with an afro",
        "bob": "a person with a bob", "bun": "a person with a bun",
        "dreadlocks": "a person with dreadlocks", "bald": "a bald person",
        "beanie": "a person with a beanie", "hat": "a person with a hat",
        "turban": "a person with a turban", "hijab": "a person with a hijab"},
    "expression": {
        "neutral": "a person with a neutral expression", "smiling": "a smiling person",
        "laughing": "a laughing person", "sad": "a sad person", "angry": "an angry person",
        "surprised": "a surprised person", "winking": "a winking person"},
}
# Words that no caption contains, each put in the place of its choice's sentence.
SYNONYMS = [
    ("glasses", "glasses", "a person with spectacles"),
    ("glasses", "sunglasses", "a person wearing shades"),
    ("hair_color", "red", "a person with ginger hair"),
    ("hair_color", "purple", "a person with violet hair"),
    ("hair_color", "blonde", "a person with golden hair"),
    ("hair_color", "gray", "a person with silver hair"),
    ("expression", "angry", "a furious person"),
    ("expression", "angry", "an enraged person"),
    ("expression", "surprised", "an astonished person"),
    ("expression", "surprised", "an amazed person"),
    ("expression", "sad", "a sorrowful person"),
    ("expression", "sad", "a gloomy person"),
    ("expression", "smiling", "a grinning person"),
    ("expression", "laughing", "a giggling person"),
    ("facial_hair", "beard", "a person with a goatee"),
    ("top", "bald", "a hairless person"),
]


def attributes_of(classifier, image):
    """What the classifier reads in image [N, 3, R, R]: int64 [N, attributes]."""
    read = classifier.read(image)
    return torch.stack([read[name][0] for name in ATTRIBUTES], 1).numpy()


def zero_shot(domain, features, sentences):
    """The number of the sentence that is nearest to each picture: features [N, D] -> [N]."""
    text = domain.clip.encode_text(list(sentences.values()))
    return (features @ text.T).argmax(1).numpy()


@torch.no_grad()
def measure_clip(domain, images, truth):
    """CLIP on pictures: two dicts.

    Args: images: [N, 3, R, R]; truth: int64 [N, attributes], of `world.labels`.

    Returns: {attribute: zero-shot accuracy}, and {sentence with a word that no caption had:
        share of its choice's pictures that it finds}.
    """
    features = torch.cat([domain.clip.encode_image(part) for part in images.split(500)])
    result, words, names = {}, {}, list(ATTRIBUTES)
    for attribute, sentences in ZERO_SHOT.items():
        right = truth[:, names.index(attribute)]
        found = zero_shot(domain, features, sentences)
        result[attribute] = float((found == right)[right >= 0].mean())
    for attribute, choice, sentence in SYNONYMS:
        right = truth[:, names.index(attribute)]
        found = zero_shot(domain, features, ZERO_SHOT[attribute] | {choice: sentence})
        number = ATTRIBUTES[attribute].index(choice)
        words[sentence] = float((found == number)[right == number].mean())
    return result, words


@torch.no_grad()
def measure_generator(domain, count=3000, seed=7):
    """The generator's samples, as the classifier reads them: two dicts.

    Returns: {attribute: mean confidence} and {attribute: largest error of a choice's frequency}.
    """
    generator, random = domain.generator, torch.Generator().manual_seed(seed)
    read = []
    for z in torch.randn(count, generator.z_dim, generator=random).split(250):
        read.append(domain.classifier.read(generator(generator.broadcast(generator.map(z)))))
    choice, sure = {}, {}
    for name in ATTRIBUTES:
        choice[name] = torch.cat([part[name][0] for part in read]).numpy()
        sure[name] = torch.cat([part[name][1] for part in read]).numpy()
    hairless = [ATTRIBUTES["top"].index(top) for top in HAIRLESS_TOPS]
    shaven = choice["facial_hair"] == ATTRIBUTES["facial_hair"].index("none")
    hair = ~(np.isin(choice["top"], hairless) & shaven)
    confidence, error = {}, {}
    for name, choices in ATTRIBUTES.items():
        use = hair if name == "hair_color" else slice(None)
        confidence[name] = float(sure[name][use].mean())
        share = np.bincount(choice[name][use], minlength=len(choices)) / len(choice[name][use])
        error[name] = float(np.abs(share - probabilities(name)).max())
    return confidence, error


def measure_inversion(domain):
    """Encode the samples.

    Returns: PSNR of each in dB [N], and which attributes read the same, bool [N, attributes].
    """
    images = torch.cat([open_image(path, domain.generator.resolution) for path in domain.samples])
    w_plus = torch.cat([invert(domain, part)[0] for part in images.split(8)])
    with torch.no_grad():
        again = domain.generator(w_plus)
    error = (again.clamp(-1, 1) - images).square().flatten(1).mean(1)
    psnr = 10 * torch.log10(4 / error)
    same = attributes_of(domain.classifier, again) == attributes_of(domain.classifier, images)
    return psnr, same


def main():
    """Measure everything on 6,000 renders that no training used."""
    domain = load_domain("avatars", "cpu")
    choices, _, pixels = renders(6000, 64, TEST_SEED, WORK)
    confidence, error = measure_generator(domain)
    accuracies, words = measure_clip(domain, to_image(pixels), labels(choices))
    psnr, same = measure_inversion(domain)
    inversion = {"PSNR, mean": float(psnr.mean()), "PSNR, least": float(psnr.min()),
                 "attributes kept": float(same.mean())}
    for k, name in enumerate(ATTRIBUTES):
        inversion[name] = float(same[:, k].mean())
    report = {
        "classifier accuracy": accuracy(domain.classifier, choices, pixels),
        "samples: mean confidence": confidence,
        "samples: largest error of a frequency": error,
        "CLIP zero-shot": accuracies,
        "CLIP, words no caption had": words,
        "identity: AUC on strangers": verification(domain.identity, choices, pixels),
        "inversion": inversion,
    }
    print(json.dumps(report, indent=1))
    (ROOT / "data/avatars/evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
