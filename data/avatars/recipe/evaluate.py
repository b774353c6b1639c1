"""How good the embedded networks are, on renders and seeds that no training used: prints and writes evaluation.json."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

from train_classifier import accuracy  # noqa: E402
from train_identity import verification  # noqa: E402
from world import ATTRIBUTES, HAIRLESS_TOPS, TEST_SEED, labels, probabilities, renders  # noqa: E402

from helpers.domains import load_domain  # noqa: E402
from helpers.images import open_image  # noqa: E402
from helpers.inversion import invert  # noqa: E402

# Zero-shot prompts: one sentence per choice, none tuned.
ZERO_SHOT = {
    "hair_color": {name: f"a person with {name} hair" for name in ATTRIBUTES["hair_color"]},
    "glasses": {"none": "a person with no glasses", "glasses": "a person with glasses",
                "sunglasses": "a person with sunglasses"},
    "facial_hair": {"none": "a person with no beard", "beard": "a person with a beard",
                    "moustache": "a person with a moustache"},
    "top": {"short hair": "a person with short hair", "curly hair": "a person with curly hair",
            "long hair": "a person with long hair", "afro": "a person with an afro", "bob": "a person with a bob",
            "bun": "a person with a bun", "dreadlocks": "a person with dreadlocks", "bald": "a bald person",
            "beanie": "a person with a beanie", "hat": "a person with a hat", "turban": "a person with a turban",
            "hijab": "a person with a hijab"},
    "expression": {"neutral": "a person with a neutral expression", "smiling": "a smiling person",
                   "laughing": "a laughing person", "sad": "a sad person", "angry": "an angry person",
                   "surprised": "a surprised person", "winking": "a winking person"},
}
# Words that no caption contains, each put in the place of its choice's sentence.
SYNONYMS = [
    ("glasses", "glasses", "a person with spectacles"), ("glasses", "sunglasses", "a person wearing shades"),
    ("hair_color", "red", "a person with ginger hair"), ("hair_color", "purple", "a person with violet hair"),
    ("hair_color", "blonde", "a person with golden hair"), ("hair_color", "gray", "a person with silver hair"),
    ("expression", "angry", "a furious person"), ("expression", "angry", "an enraged person"),
    ("expression", "surprised", "an astonished person"), ("expression", "surprised", "an amazed person"),
    ("expression", "sad", "a sorrowful person"), ("expression", "sad", "a gloomy person"),
    ("expression", "smiling", "a grinning person"), ("expression", "laughing", "a giggling person"),
    ("facial_hair", "beard", "a person with a goatee"), ("top", "bald", "a hairless person"),
]


def attributes_of(classifier, image):
    """What the classifier reads: int64 [N, attributes] in the order of `ATTRIBUTES`."""
    read = classifier.read(image)
    return torch.stack([read[name][0] for name in ATTRIBUTES], 1).numpy()


def zero_shot(domain, features, truth, attribute, sentences):
    """Which sentence is nearest to each picture: [N] numbers of choices, and which pictures count."""
    text = domain.clip.encode_text(list(sentences.values()))
    return (features @ text.T).argmax(1).numpy(), truth[:, list(ATTRIBUTES).index(attribute)]


@torch.no_grad()
def measure_clip(domain, images, truth):
    """Zero-shot accuracy per attribute, and how many pictures of a choice an unseen word finds."""
    features = torch.cat([domain.clip.encode_image(part) for part in images.split(500)])
    result = {}
    for attribute, sentences in ZERO_SHOT.items():
        guess, right = zero_shot(domain, features, truth, attribute, sentences)
        result[attribute] = float((guess == right)[right >= 0].mean())
    words = {}
    for attribute, choice, sentence in SYNONYMS:
        guess, right = zero_shot(domain, features, truth, attribute, ZERO_SHOT[attribute] | {choice: sentence})
        number = ATTRIBUTES[attribute].index(choice)
        words[sentence] = float((guess == number)[right == number].mean())
    return result, words


@torch.no_grad()
def measure_generator(domain, count=3000, seed=7):
    """Mean confidence of the classifier on samples, and the largest error of any choice's frequency."""
    generator = domain.generator
    noise = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    read = [domain.classifier.read(generator(generator.broadcast(generator.map(z)))) for z in noise.split(250)]
    choice, sure = ({name: torch.cat([part[name][i] for part in read]).numpy() for name in ATTRIBUTES} for i in (0, 1))
    hairless = [ATTRIBUTES["top"].index(top) for top in HAIRLESS_TOPS]
    hair = ~(np.isin(choice["top"], hairless) & (choice["facial_hair"] == ATTRIBUTES["facial_hair"].index("none")))
    confidence, error = {}, {}
    for name in ATTRIBUTES:
        use = hair if name == "hair_color" else slice(None)
        confidence[name] = float(sure[name][use].mean())
        share = np.bincount(choice[name][use], minlength=len(ATTRIBUTES[name])) / len(choice[name][use])
        error[name] = float(np.abs(share - probabilities(name)).max())
    return confidence, error


def measure_inversion(domain):
    """Encode the 32 samples: PSNR of each in dB, and the share of attributes that read the same."""
    images = torch.cat([open_image(path, domain.generator.resolution) for path in domain.samples])
    w_plus = torch.cat([invert(domain, part)[0] for part in images.split(8)])
    with torch.no_grad():
        again = domain.generator(w_plus)
    psnr = 10 * torch.log10(4 / (again.clamp(-1, 1) - images).square().flatten(1).mean(1))
    same = attributes_of(domain.classifier, again) == attributes_of(domain.classifier, images)
    return psnr, same


def main(work):
    domain = load_domain("avatars", "cpu")
    choices, _, pixels = renders(6000, 64, TEST_SEED, work)
    truth = labels(choices)
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    report = {"classifier accuracy": accuracy(domain.classifier, choices, pixels)}
    report["samples: mean confidence"], report["samples: largest error of a frequency"] = measure_generator(domain)
    report["CLIP zero-shot"], report["CLIP, words no caption had"] = measure_clip(domain, images, truth)
    report["identity: AUC on strangers"] = verification(domain.identity, choices, pixels)
    psnr, same = measure_inversion(domain)
    report["inversion"] = {"PSNR, mean": float(psnr.mean()), "PSNR, least": float(psnr.min()),
                           "attributes kept": float(same.mean()),
                           **{name: float(same[:, k].mean()) for k, name in enumerate(ATTRIBUTES)}}
    print(json.dumps(report, indent=1))
    (ROOT / "data/avatars/evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(ROOT / "build" / "models")
