"""How good the networks of data/faces are, on faces labelled by eye that nothing was trained on.

    python -m data.faces.recipe.evaluate                     writes evaluation.json
    python -m data.faces.recipe.evaluate --clip ViT-B/32     prints what another CLIP reads
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from data.training import to_image, to_pixels
from helpers.domains import CLIPS, load_domain
from helpers.images import open_image
from helpers.inversion import invert

from . import descriptor, fit_readouts, pools
from .captions import ATTRIBUTES
from .labels import certain_by_eye, pooled

ROOT = Path(__file__).resolve().parents[3]
WORK, DATA = ROOT / "build" / "faces", ROOT / "data" / "faces"


class Question(NamedTuple):
    """A sentence, its opposite, and the choices of an attribute that make it true."""

    attribute: str
    choices: tuple
    yes: str
    no: str


# None of the sentences is tuned.
MAIN = [
    Question("glasses", ("glasses", "sunglasses"), "a person with glasses",
             "a person with no glasses"),
    Question("expression", ("smile", "laugh"), "a smiling person", "a serious person"),
    Question("sex", ("woman",), "a woman", "a man"),
    Question("age", ("child",), "a child", "a person"),
    Question("hat", ("yes",), "a person with a hat", "a person with no hat"),
    Question("facial_hair", ("beard",), "a person with a beard", "a person with no beard"),
    Question("hair", ("blonde",), "a person with blonde hair", "a person with brown hair"),
    Question("hair", ("black",), "a person with black hair", "a person with brown hair"),
    Question("length", ("long",), "a person with long hair", "a person with short hair"),
]
REST = [
    Question("glasses", ("sunglasses",), "a person with sunglasses", "a person"),
    Question("facial_hair", ("moustache",), "a person with a moustache", "a person with no beard"),
    Question("mouth", ("open",), "a person with an open mouth", "a person with a closed mouth"),
    Question("expression", ("surprised",), "a surprised person", "a person"),
    Question("expression", ("angry",), "an angry person", "a person"),
    Question("expression", ("sad",), "a sad person", "a person"),
    Question("hair", ("grey",), "a person with grey hair", "a person with brown hair"),
    Question("hair", ("red",), "a person with red hair", "a person with brown hair"),
    Question("curly", ("curly",), "a person with curly hair", "a person with straight hair"),
    Question("fringe", ("yes",), "a person with a fringe", "a person with no fringe"),
    Question("length", ("bald",), "a bald person", "a person"),
    Question("age", ("old",), "an old person", "a young person"),
    Question("makeup", ("yes",), "a person with lipstick", "a person with no make-up"),
    Question("earrings", ("yes",), "a person with earrings", "a person with no earrings"),
    Question("skin", ("pale",), "a person with pale skin", "a person with tanned skin"),
    Question("skin", ("dark",), "a person with dark skin", "a person with light skin"),
    Question("gaze", ("left",), "a person looking left", "a person looking right"),
    Question("background", ("dark",), "a person in front of a dark background",
             "a person in front of a bright background"),
    Question("background", ("green",), "a person in front of a green background", "a person"),
    Question("background", ("blue",), "a person in front of a blue background", "a person"),
]
UNSEEN = [  # words that no caption contains
    Question("glasses", ("glasses", "sunglasses"), "a person with spectacles", "a person"),
    Question("expression", ("smile", "laugh"), "a grinning person", "a person"),
    Question("age", ("old",), "an elderly person", "a person"),
    Question("age", ("child",), "a toddler", "a person"),
    Question("facial_hair", ("beard", "stubble", "moustache"), "a person with whiskers",
             "a person"),
    Question("hair", ("red",), "a person with ginger hair", "a person with hair"),
    Question("hat", ("yes",), "a person wearing a cap", "a person"),
]
MORE_UNSEEN = [  # each against "a person"; written before their definitions were tried
    ("glasses", ("glasses", "sunglasses"), (
        "a bespectacled person", "a person with lenses", "a person with goggles",
        "a person with a monocle", "a person with frames")),
    ("facial_hair", ("beard", "stubble", "moustache"), (
        "a whiskered person", "a person with sideburns", "a person with a stubbly chin",
        "a person with an imperial beard", "a hairy faced person", "a person with mutton chops",
        "a person with fuzz on the chin")),
    ("hat", ("yes",), (
        "a person with a bonnet", "a person with a beret", "a person with a fedora",
        "a person with a sombrero", "a person with a turban", "a person with headwear",
        "a person with a bowler", "a person with a hood", "a person with headdress")),
    ("expression", ("smile", "laugh"), (
        "a person with a grin", "a jolly person", "a merry person", "a gleeful person",
        "a cheery person", "a jovial person", "a radiant person", "a person with a smiley")),
    ("hair", ("red",), (
        "a person with carroty hair", "a person with scarlet hair", "a person with titian hair",
        "a person with reddish hair")),
    ("hair", ("blonde",), (
        "a flaxen haired person", "a towheaded person", "a person with straw hair",
        "a person with sandy hair")),
    ("hair", ("black",), (
        "a raven haired person", "a person with ebony hair", "a person with inky hair")),
    ("hair", ("grey",), (
        "a person with silver hair", "a hoary person", "a grizzled person",
        "a person with greying hair")),
    ("length", ("long",), (
        "a person with tresses", "a person with flowing hair", "a longhaired person")),
    ("curly", ("curly",), (
        "a person with ringlets", "a frizzy haired person", "a person with kinky hair")),
    ("length", ("bald",), ("a hairless person", "a baldheaded person", "a balding person")),
    ("sex", ("woman",), ("a girl", "a gentlewoman", "a mother", "a housewife", "a madam")),
    ("sex", ("man",), (
        "a gentleman", "a bloke", "a chap", "a father", "a lad", "a fellow", "a mister")),
    ("age", ("child",), (
        "a tot", "a preschooler", "a newborn", "a schoolchild", "a juvenile", "a minor",
        "a nipper")),
    ("age", ("old",), (
        "a geriatric person", "an oldster", "a wizened person", "a wrinkly person", "a granny",
        "a grandfather", "a septuagenarian")),
    ("makeup", ("yes",), (
        "a person with mascara", "a person with lip rouge", "a person with cosmetics",
        "a person with eyeliner", "a painted lady")),
    ("skin", ("dark",), (
        "a swarthy person", "a person with a dusky complexion", "a person with ebony skin")),
    ("mouth", ("open",), ("a gaping person", "a yawning person", "a shouting person")),
]


def more_unseen():
    """The `Question`s of `MORE_UNSEEN`."""
    questions = []
    for attribute, choices, sentences in MORE_UNSEEN:
        for sentence in sentences:
            questions.append(Question(attribute, choices, sentence, "a person"))
    return questions


def whole_test_faces(generator):
    """The whole test faces that were looked at: uint8 [N, 256, 256, 3]."""
    WORK.mkdir(parents=True, exist_ok=True)
    pixels = []
    for pool in ("test", "test-more"):
        w = pools.latents(generator, pool).to(generator.w_avg)
        pixels.append(pools.drawn(generator, generator.broadcast(w), WORK / f"{pool}.npy"))
    return np.concatenate(pixels)[pooled("test", len(pixels[0])).numbers]


def judged_faces(generator):
    """The test faces, then the rare expressions.

    Returns: images [N, 3, 256, 256], and the names of the rare expressions.
    """
    whole = whole_test_faces(generator)
    w_plus, expressions = pools.pushed(generator, "test")
    rare = pools.drawn(generator, w_plus, WORK / "test-pushed.npy")
    return to_image(np.concatenate([whole, rare])), expressions


def shown(question, expressions):
    """Which judged faces show what a question is about: int [N].

    1 or 0, or -1 where not all looks agree or nobody looked.
    """
    rare = np.full(len(expressions), -1)
    if question.attribute == "expression":
        rare = np.isin(expressions, question.choices).astype(int)
    return np.concatenate([certain_by_eye(question.attribute, question.choices), rare])


def auc(truth, score):
    """The area under the ROC curve, to three digits."""
    return round(float(roc_auc_score(truth, score)), 3)


def zero_shot(domain, features, expressions, questions):
    """How well CLIP tells each sentence from its opposite, where all looks at the faces agree.

    Args: features: [N, D], of the judged faces.

    Returns: {sentence: (faces, of which show it, area under the ROC curve)}.
    """
    result = {}
    for question in questions:
        truth = shown(question, expressions)
        text = domain.clip.encode_text([question.yes, question.no])
        score, sure = (features @ (text[0] - text[1]).cpu()).numpy(), truth >= 0
        result[question.yes] = (int(sure.sum()), int(truth[sure].sum()),
                                auc(truth[sure], score[sure]))
    return result


def reading(domain, images, expressions):
    """How often the judge answers the main questions rightly, where all looks agree.

    Args: images: [N, 3, 256, 256].

    Returns: {question: share}.
    """
    read = [domain.classifier.read(part) for part in images.split(64)]
    result = {}
    for question in MAIN:
        truth = shown(question, expressions)
        wanted = [ATTRIBUTES[question.attribute].index(choice) for choice in question.choices]
        choice = torch.cat([part[question.attribute][0] for part in read]).numpy()
        right = (np.isin(choice, wanted) == truth)[truth >= 0]
        name = f"{question.attribute}: {' or '.join(question.choices)}"
        result[name] = round(float(right.mean()), 3)
    return result


def same_person(domain, count=320):
    """How well the identity network tells who is the same person, as dlib's descriptor says.

    Pairs are of test faces, and of test faces and small moves of them in W. The descriptor taught
    the identity network, on other faces.

    Returns: {"pairs", "same person", "AUC"}.
    """
    generator, random = domain.generator, torch.Generator().manual_seed(9)
    w = pools.latents(generator, "test")[:count]
    others = pools.latents(generator, "judge")
    others = others[torch.randperm(len(others), generator=random)[:count]]
    moved = w + 0.45 * (others - w)
    images = torch.cat([generator(generator.broadcast(part), resolution=256).clamp(-1, 1)
                        for part in torch.cat([w, moved]).split(8)])
    described = descriptor.describe(to_pixels(images))
    vectors = torch.cat([domain.identity(part) for part in images.split(32)])
    truth, cosine = [], []
    for i in range(count):
        for j in (i + count, (i + 1) % count, (i + 7) % count + count):
            truth.append(np.linalg.norm(described[i] - described[j]) < descriptor.SAME)
            cosine.append((vectors[i] @ vectors[j]).item())
    return {"pairs": len(truth), "same person": int(sum(truth)), "AUC": auc(truth, cosine)}


def encoding(domain, count=16):
    """PSNR at 256 px of `inversion.invert` on the samples, and dlib's distance of the persons."""
    side = domain.generator.resolution
    before = torch.cat([open_image(path, side) for path in domain.samples[:count]])
    with torch.enable_grad():
        w_plus = torch.cat([invert(domain, image[None])[0] for image in before])
    after = torch.cat([domain.generator(part).clamp(-1, 1) for part in w_plus.split(4)])
    before, after = F.adaptive_avg_pool2d(before, 256), F.adaptive_avg_pool2d(after, 256)
    psnr = 10 * torch.log10(4 / (before - after).square().mean(dim=(1, 2, 3)))
    people = descriptor.describe(to_pixels(before)), descriptor.describe(to_pixels(after))
    distance = np.linalg.norm(people[0] - people[1], axis=1)
    return {"PSNR, mean and least": [round(psnr.mean().item(), 1), round(psnr.min().item(), 1)],
            "descriptor's distance, mean and most": [round(float(distance.mean()), 2),
                                                     round(float(distance.max()), 2)]}


@torch.no_grad()
def print_reading(clip):
    """What one of OpenAI's CLIPs reads in the test faces: the main questions."""
    domain = load_domain("faces", clip=clip)
    images = to_image(whole_test_faces(domain.generator))
    features = torch.cat([domain.clip.encode_image(part.to(domain.device)).cpu()
                          for part in images.split(64)])
    table = zero_shot(domain, features, [], MAIN)
    print(f"| sentence | faces | show it | AUC with {clip} |\n|---|---|---|---|")
    for sentence, (count, showing, area) in table.items():
        print(f"| {sentence} | {count} | {showing} | {area} |")
    print(f"\nMean AUC {np.mean([area for *_, area in table.values()]):.3f}; 0.5 is chance.")


@torch.no_grad()
def main():
    """Measure everything on the test faces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", choices=[*CLIPS, "its own"], help="only what this CLIP reads")
    options = parser.parse_args()
    if options.clip:
        return print_reading(options.clip)
    domain = load_domain("faces", "cpu")
    images, expressions = judged_faces(domain.generator)
    features = torch.cat([domain.clip.encode_image(part) for part in images.split(64)])
    report = {"faces": len(images)}
    for name, questions in (("main", MAIN), ("rest", REST), ("unseen words", UNSEEN),
                            ("more unseen words", more_unseen())):
        table = zero_shot(domain, features, expressions, questions)
        report[f"zero-shot AUC, {name}"] = table
        found = [value for *_, value in table.values()]
        print(name, table, "mean", np.mean(found).round(3), "median", np.median(found).round(3),
              flush=True)
    if domain.classifier:
        report["judge, share right"] = reading(domain, images, expressions)
        print("judge", report["judge, share right"], flush=True)
    domain.generator.precision = None
    report["identity, AUC"] = same_person(domain)
    print(report["identity, AUC"], flush=True)
    report["encoding of 16 faces"] = encoding(domain)
    print(report["encoding of 16 faces"], flush=True)
    for side in fit_readouts.SIDES:
        values = fit_readouts.fidelity(domain.generator, side)
        report[f"early stop at {side} px, PSNR in dB"] = {
            "mean": round(values.mean().item(), 1), "least": round(values.min().item(), 1)}
    print(report, flush=True)
    (DATA / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
