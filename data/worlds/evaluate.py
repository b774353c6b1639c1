"""How good a world's networks are, on renders and seeds that no training used."""

import json

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from data.training import to_image
from helpers.images import open_image
from helpers.inversion import invert

from .train_classifier import accuracy
from .train_generator import partition
from .world import TEST_SEED


def attributes_of(classifier, image):
    """What the classifier reads in image [N, 3, R, R]: int64 [N, attributes]."""
    read = classifier.read(image)
    return torch.stack([read[name][0] for name in classifier.attributes], 1).numpy()


def zero_shot(domain, features, sentences):
    """The number of the sentence that is nearest to each picture: features [N, D] -> [N]."""
    text = domain.clip.encode_text(list(sentences.values()))
    return (features @ text.T).argmax(1).numpy()


@torch.no_grad()
def image_features(domain, images):
    """CLIP's vectors [N, D] of images [N, 3, R, R]."""
    return torch.cat([domain.clip.encode_image(part) for part in images.split(500)])


def measure_clip(domain, world, features, truth, prompts, unseen):
    """CLIP on pictures: two dicts.

    Args:
        features: [N, D] of pictures; truth: int64 [N, attributes], of the world's `labels`.
        prompts: {attribute: {choice: sentence}}.
        unseen: (attribute, choice, sentence with a word that no caption contains), each put in the
            place of its choice's sentence.

    Returns: {attribute: zero-shot accuracy}, and {sentence of `unseen`: share of its choice's
        pictures that it finds}.
    """
    result, words, names = {}, {}, list(world.attributes)
    for attribute, sentences in prompts.items():
        right = truth[:, names.index(attribute)]
        found = zero_shot(domain, features, sentences)
        result[attribute] = float((found == right)[right >= 0].mean())
    for attribute, choice, sentence in unseen:
        right = truth[:, names.index(attribute)]
        found = zero_shot(domain, features, prompts[attribute] | {choice: sentence})
        number = world.attributes[attribute].index(choice)
        words[sentence] = float((found == number)[right == number].mean())
    return result, words


def measure_compounds(domain, world, features, facts, sentences):
    """{word: area under the ROC curve of its sentence}, on pictures.

    Args:
        features: [N, D] of pictures; facts: int64 [N, attributes + compounds], of `world.facts`.
        sentences: {compound word: sentence}.
    """
    told, result = list(world.told), {}
    for word, sentence in sentences.items():
        scores = features @ domain.clip.encode_text([sentence])[0]
        result[word] = float(roc_auc_score(facts[:, told.index(word)], scores))
    return result


@torch.no_grad()
def measure_generator(domain, world, count=3000, seed=7):
    """The generator's samples, as the classifier reads them, where what z asks for can be seen: two
    dicts.

    Returns: {attribute: mean confidence} and {attribute: largest error of a choice's frequency}.
    """
    generator, random, read = domain.generator, torch.Generator().manual_seed(seed), []
    z = torch.randn(count, generator.z_dim, generator=random)
    for part in z.split(250):
        read.append(domain.classifier.read(generator(generator.broadcast(generator.map(part)))))
    asked = world.labels(partition(world, z)[0].numpy())
    confidence, error = {}, {}
    for k, (name, of) in enumerate(world.attributes.items()):
        visible = asked[:, k] >= 0
        choices, sure = (torch.cat([part[name][i] for part in read]).numpy() for i in (0, 1))
        confidence[name] = float(sure[visible].mean())
        share = np.bincount(choices[visible], minlength=len(of)) / visible.sum()
        error[name] = float(np.abs(share - world.probabilities(name)).max())
    return confidence, error


def measure_inversion(domain):
    """Encode the samples.

    Returns: {"PSNR, mean", "PSNR, least": dB; "attributes kept", and each attribute: share of the
        samples on which it reads the same}.
    """
    images = torch.cat([open_image(path, domain.generator.resolution) for path in domain.samples])
    w_plus = torch.cat([invert(domain, part)[0] for part in images.split(8)])
    with torch.no_grad():
        again = domain.generator(w_plus)
    error = (again.clamp(-1, 1) - images).square().flatten(1).mean(1)
    psnr = 10 * torch.log10(4 / error)
    same = attributes_of(domain.classifier, again) == attributes_of(domain.classifier, images)
    result = {"PSNR, mean": float(psnr.mean()), "PSNR, least": float(psnr.min()),
              "attributes kept": float(same.mean())}
    for k, name in enumerate(domain.classifier.attributes):
        result[name] = float(same[:, k].mean())
    return result


def measure(domain, world, test, prompts, unseen, compounds):
    """Every figure of a world's networks: {what: figure or dict of figures}.

    Args:
        test: of the world's `renders`, see `held_out_renders`.
        prompts, unseen: see `measure_clip`; compounds: see `measure_compounds`.
    """
    choices, _, pixels = test
    facts = world.facts(choices)
    features = image_features(domain, to_image(pixels))
    confidence, error = measure_generator(domain, world)
    accuracies, words = measure_clip(domain, world, features, facts, prompts, unseen)
    report = {
        "classifier accuracy": accuracy(domain.classifier, world, choices, pixels),
        "samples: mean confidence": confidence,
        "samples: largest error of a frequency": error,
        "CLIP zero-shot": accuracies,
        "CLIP, words no caption had": words,
    }
    if compounds:
        found = measure_compounds(domain, world, features, facts, compounds)
        report["CLIP, compound words: AUC"] = found
    return report


def held_out_renders(world, folder):
    """6,000 renders that no training used, of the world's `renders`; kept in `folder`."""
    return world.renders(6000, 64, TEST_SEED, folder)


def write(report, folder):
    """Print figures, and write them to the domain's evaluation.json."""
    text = json.dumps(report, indent=1)
    print(text)
    (folder / "evaluation.json").write_text(text + "\n")
