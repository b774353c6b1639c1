"""How good the networks of data/faces are, on faces labelled by eye that nothing was trained on: evaluation.json."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import descriptor  # noqa: E402
import face_labels  # noqa: E402
import fit_readouts  # noqa: E402
import pools  # noqa: E402
from face_words import ATTRIBUTES  # noqa: E402
from training import to_image, to_pixels  # noqa: E402

from helpers.domains import load_domain  # noqa: E402
from helpers.images import open_image  # noqa: E402
from helpers.inversion import invert  # noqa: E402

WORK, DATA = ROOT / "build" / "faces", ROOT / "data" / "faces"
# attribute, choices that count as yes, a sentence, and its opposite; none tuned.
MAIN = [
    ("glasses", ("glasses", "sunglasses"), "a person with glasses", "a person with no glasses"),
    ("expression", ("smile", "laugh"), "a smiling person", "a serious person"),
    ("sex", ("woman",), "a woman", "a man"),
    ("age", ("child",), "a child", "a person"),
    ("hat", ("yes",), "a person with a hat", "a person with no hat"),
    ("facial_hair", ("beard",), "a person with a beard", "a person with no beard"),
    ("hair", ("blonde",), "a person with blonde hair", "a person with brown hair"),
    ("hair", ("black",), "a person with black hair", "a person with brown hair"),
    ("length", ("long",), "a person with long hair", "a person with short hair"),
]
REST = [
    ("glasses", ("sunglasses",), "a person with sunglasses", "a person"),
    ("facial_hair", ("moustache",), "a person with a moustache", "a person with no beard"),
    ("mouth", ("open",), "a person with an open mouth", "a person with a closed mouth"),
    ("expression", ("surprised",), "a surprised person", "a person"),
    ("expression", ("angry",), "an angry person", "a person"),
    ("expression", ("sad",), "a sad person", "a person"),
    ("hair", ("grey",), "a person with grey hair", "a person with brown hair"),
    ("hair", ("red",), "a person with red hair", "a person with brown hair"),
    ("curly", ("curly",), "a person with curly hair", "a person with straight hair"),
    ("fringe", ("yes",), "a person with a fringe", "a person with no fringe"),
    ("length", ("bald",), "a bald person", "a person"),
    ("age", ("old",), "an old person", "a young person"),
    ("makeup", ("yes",), "a person with lipstick", "a person with no make-up"),
    ("earrings", ("yes",), "a person with earrings", "a person with no earrings"),
    ("skin", ("pale",), "a person with pale skin", "a person with tanned skin"),
    ("skin", ("dark",), "a person with dark skin", "a person with light skin"),
    ("gaze", ("left",), "a person looking left", "a person looking right"),
    ("background", ("dark",), "a person in front of a dark background", "a person in front of a bright background"),
    ("background", ("green",), "a person in front of a green background", "a person"),
    ("background", ("blue",), "a person in front of a blue background", "a person"),
]
UNSEEN = [  # words that no caption contains
    ("glasses", ("glasses", "sunglasses"), "a person with spectacles", "a person"),
    ("expression", ("smile", "laugh"), "a grinning person", "a person"),
    ("age", ("old",), "an elderly person", "a person"),
    ("age", ("child",), "a toddler", "a person"),
    ("facial_hair", ("beard", "stubble", "moustache"), "a person with whiskers", "a person"),
    ("hair", ("red",), "a person with ginger hair", "a person with hair"),
    ("hat", ("yes",), "a person wearing a cap", "a person"),
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
        "a person with a sombrero", "a person with a turban", "a person with headwear", "a person with a bowler",
        "a person with a hood", "a person with headdress")),
    ("expression", ("smile", "laugh"), (
        "a person with a grin", "a jolly person", "a merry person", "a gleeful person",
        "a cheery person", "a jovial person", "a radiant person", "a person with a smiley")),
    ("hair", ("red",), (
        "a person with carroty hair", "a person with scarlet hair",
        "a person with titian hair", "a person with reddish hair")),
    ("hair", ("blonde",), (
        "a flaxen haired person", "a towheaded person", "a person with straw hair",
        "a person with sandy hair")),
    ("hair", ("black",), (
        "a raven haired person", "a person with ebony hair", "a person with inky hair")),
    ("hair", ("grey",), (
        "a person with silver hair", "a hoary person", "a grizzled person", "a person with greying hair")),
    ("length", ("long",), (
        "a person with tresses", "a person with flowing hair", "a longhaired person")),
    ("curly", ("curly",), (
        "a person with ringlets", "a frizzy haired person", "a person with kinky hair")),
    ("length", ("bald",), (
        "a hairless person", "a baldheaded person", "a balding person")),
    ("sex", ("woman",), (
        "a girl", "a gentlewoman", "a mother", "a housewife", "a madam")),
    ("sex", ("man",), (
        "a gentleman", "a bloke", "a chap", "a father", "a lad", "a fellow", "a mister")),
    ("age", ("child",), (
        "a tot", "a preschooler", "a newborn", "a schoolchild", "a juvenile", "a minor", "a nipper")),
    ("age", ("old",), (
        "a geriatric person", "an oldster", "a wizened person", "a wrinkly person", "a granny",
        "a grandfather", "a septuagenarian")),
    ("makeup", ("yes",), (
        "a person with mascara", "a person with lip rouge", "a person with cosmetics", "a person with eyeliner",
        "a painted lady")),
    ("skin", ("dark",), (
        "a swarthy person", "a person with a dusky complexion", "a person with ebony skin")),
    ("mouth", ("open",), (
        "a gaping person", "a yawning person", "a shouting person")),
]


def judged_faces(generator):
    """The test faces, then the rare expressions: images [N, 3, 256, 256], and the names of the latter."""
    first, more = (pools.drawn(generator, generator.broadcast(pools.latents(generator, pool)), WORK / f"{pool}.npy")
                   for pool in ("test", "test-more"))
    numbers, *_ = face_labels.pooled("test", len(first))
    w_plus, expressions = pools.pushed(generator, "test")
    rare = pools.drawn(generator, w_plus, WORK / "test-pushed.npy")
    return to_image(np.concatenate([np.concatenate([first, more])[numbers], rare])), expressions


def shown(attribute, choices, expressions):
    """Which of the judged faces show one of `choices`: 1, 0, or -1 where not all looks agree or nobody looked."""
    rare = [name in choices if attribute == "expression" else -1 for name in expressions]
    return np.concatenate([face_labels.certain_by_eye(attribute, choices), np.array(rare, int)])


def zero_shot(domain, features, expressions, asked):
    """The area under the ROC curve of each sentence against its opposite, where all looks at the faces agree:

    {sentence: (faces, of which show it, AUC)}.
    """
    result = {}
    for attribute, choices, yes, no in asked:
        truth = shown(attribute, choices, expressions)
        text = domain.clip.encode_text([yes, no])
        score, sure = (features @ (text[0] - text[1])).numpy(), truth >= 0
        result[yes] = int(sure.sum()), int(truth[sure].sum()), round(float(roc_auc_score(truth[sure], score[sure])), 3)
    return result


def reading(domain, images, expressions):
    """How often the judge says yes and no rightly to each main question, where all looks agree: {question: share}."""
    read = [domain.classifier.read(part) for part in images.split(64)]
    result = {}
    for attribute, choices, *_ in MAIN:
        truth = shown(attribute, choices, expressions)
        wanted, sure = [ATTRIBUTES[attribute].index(choice) for choice in choices], truth >= 0
        found = np.isin(torch.cat([part[attribute][0] for part in read]).numpy(), wanted)
        result[f"{attribute}: {' or '.join(choices)}"] = round(float((found == truth)[sure].mean()), 3)
    return result


def same_person(domain, count=320):
    """The area under the ROC curve of our identity network on pairs of test faces and small moves of them in W,

    where dlib's descriptor, which taught it on other faces, says who is the same person.
    """
    w = pools.latents(domain.generator, "test")[:count]
    random = torch.Generator().manual_seed(9)
    moved = w + 0.45 * (pools.latents(domain.generator, "judge")[torch.randperm(1008, generator=random)[:count]] - w)
    images = torch.cat([domain.generator(domain.generator.broadcast(part), resolution=256).clamp(-1, 1)
                        for part in torch.cat([w, moved]).split(8)])
    described = descriptor.describe(to_pixels(images))
    ours = torch.cat([domain.identity(part) for part in images.split(32)])
    pairs = [(i, j) for i in range(count) for j in (i + count, (i + 1) % count, (i + 7) % count + count)]
    truth = [np.linalg.norm(described[i] - described[j]) < descriptor.SAME for i, j in pairs]
    return {"pairs": len(pairs), "same person": int(sum(truth)),
            "AUC": round(float(roc_auc_score(truth, [(ours[i] @ ours[j]).item() for i, j in pairs])), 3)}


def encoding(domain, count=16):
    """PSNR at 256 px of `inversion.invert` on the samples, and how near dlib's descriptor finds the person."""
    before = torch.cat([open_image(path, domain.generator.resolution) for path in domain.samples[:count]])
    with torch.enable_grad():
        w_plus = torch.cat([invert(domain, image[None])[0] for image in before])
    after = torch.cat([domain.generator(part).clamp(-1, 1) for part in w_plus.split(4)])
    small = [torch.nn.functional.adaptive_avg_pool2d(image, 256) for image in (before, after)]
    psnr = 10 * torch.log10(4 / (small[0] - small[1]).square().mean(dim=(1, 2, 3)))
    ends = [descriptor.describe(to_pixels(image)) for image in small]
    distance = np.linalg.norm(ends[0] - ends[1], axis=1)
    return {"PSNR, mean and least": [round(psnr.mean().item(), 1), round(psnr.min().item(), 1)],
            "descriptor's distance, mean and most": [round(float(distance.mean()), 2), round(float(distance.max()), 2)]}


@torch.no_grad()
def main():
    domain = load_domain("faces", "cpu")
    images, expressions = judged_faces(domain.generator)
    features = torch.cat([domain.clip.encode_image(part) for part in images.split(64)])
    report = {"faces": len(images)}
    more = [(attribute, choices, text, "a person") for attribute, choices, texts in MORE_UNSEEN for text in texts]
    for name, asked in (("main", MAIN), ("rest", REST), ("unseen words", UNSEEN), ("more unseen words", more)):
        table = zero_shot(domain, features, expressions, asked)
        report[f"zero-shot AUC, {name}"] = table
        found = [auc for *_, auc in table.values()]
        print(name, table, "mean", np.mean(found).round(3), "median", np.median(found).round(3), flush=True)
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
        report[f"early stop at {side} px, PSNR in dB"] = {"mean": round(values.mean().item(), 1),
                                                          "least": round(values.min().item(), 1)}
    print(report, flush=True)
    (DATA / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
