"""Photographs of one's own: encoded, tuned, edited by methods 1 and 3, put back; who is kept,
what edits still do to the encoded face, and to the photograph.

    python -m tests.bench.photographs                   16 hard photographs of generated faces
    python -m tests.bench.photographs FILE ...          your own
    python -m tests.bench.photographs --cover           data/edits.jpg, README.md's picture

dlib's descriptor and the attribute classifier count; neither drives anything. Result: photographs.
"""

import argparse
import io
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data.faces.recipe import descriptor
from data.training import to_pixels
from helpers.domains import DATA, load_domain
from helpers.evaluation import evaluate_edit
from helpers.images import labelled_grid, to_jpeg, to_pil, to_tensor
from helpers.inversion import invert, tune_generator
from helpers.latents import random_w_plus
from helpers.methods.directions import alpha_for, global_direction
from helpers.photographs import LearntPicture, learn_picture, open_photograph

from .faces import SURE
from .keep import edit
from .results import add_keep, save

SEED, COUNT = 3033, 16
PROMPTS = ("a person with glasses", "a smiling person", "an old person",
           "a person with blonde hair", "a person with a beard", "a surprised person")
SCENE = (1500, 1200)  # pixels
BACKGROUND = 12  # pixels across what is seen of it
QUALITY = 60  # of the JPEG


def hard_photograph(face, background, seed):
    """A photograph, as somebody might bring it, of a generated face: a JPEG, in bytes.

    The face lies smaller, turned and off the middle in a larger scene; its light falls from one
    side, its colours have a cast, and something is held before it or stands behind it. Every third
    picture is turned much.

    Args: face, background: PIL pictures.
    """
    random = np.random.default_rng(seed)
    scene = background.resize((SCENE[0], SCENE[0])).crop((0, 150, SCENE[0], 150 + SCENE[1]))
    side = int(random.integers(520, 1000))
    most = 25 if seed % 3 == 0 else 8
    angle = float(random.uniform(-most, most))
    ramp = np.clip(np.linspace(0, 12, side), 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])  # soft edges
    mask = Image.fromarray((np.outer(ramp, ramp) * 255).astype(np.uint8))
    tile = face.resize((side, side)).rotate(angle, Image.Resampling.BICUBIC)
    mask = mask.rotate(angle, Image.Resampling.BICUBIC)
    x, y = (int(random.integers(0, length - side + 1)) for length in SCENE)
    scene.paste(tile, (x, y), mask)
    color = tuple(int(level) for level in random.integers(40, 220, 3))
    width, height = (int(share * side) for share in random.uniform(0.15, 0.3, 2))
    corner = x + int(random.uniform(0.0, 0.7) * side), y + int(random.uniform(0.82, 0.9) * side)
    scene.paste(Image.new("RGB", (width, height), color), corner)  # in front of chin or shoulder
    pixels = np.asarray(scene).astype(np.float64) / 255  # [H, W, 3]
    pixels = pixels ** random.uniform(0.8, 1.3) * random.uniform(0.85, 1.1, 3)
    light = np.linspace(*random.uniform(0.75, 1.15, 2), SCENE[0])[None, :, None]
    noisy = pixels * light + random.normal(0, 0.012, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray((noisy.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG",
                                                                   quality=QUALITY)
    return buffer.getvalue()


def hard_photographs(domain, count, seed):
    """`count` of them, in bytes."""
    files = []
    with torch.no_grad():
        for number, w_plus in enumerate(random_w_plus(domain, 2 * count, seed).split(2)):
            face, other = domain.generator(w_plus)
            # A background so much out of focus that no face is found in it.
            blurred = F.adaptive_avg_pool2d(other[None], BACKGROUND)
            files.append(hard_photograph(to_pil(face), to_pil(blurred, 1024), seed + number))
    return files


def dlib_distance(image, other):
    """The distance of dlib's descriptors of two images [1, 3, R, R]; below 0.6 one person."""
    small = F.adaptive_avg_pool2d(torch.cat([image, other]), 256)
    described = descriptor.describe(to_pixels(small))  # [2, 128]
    return float(np.linalg.norm(described[0] - described[1]))


def psnr(image, other):
    """Decibels between two images in [-1, 1]."""
    return -10 * torch.log10(((image - other.clamp(-1, 1)) / 2).square().mean()).item()


def edits(domain, w_plus, method):
    """s [1, S] of a picture's w_plus [1, L, w_dim], edited by method 1 or 3 with each prompt."""
    return [edit(domain, method, w_plus, prompt, None) for prompt in PROMPTS]


@torch.no_grad()
def count_edits(domain, before, after):
    """What the classifier counts of a picture [1, 3, R, R] and its edits, one for each prompt: is
    it there (None where it was before), and the share of the other attributes that are unchanged
    where the classifier is sure."""
    there, unchanged = {}, []
    for prompt, image in zip(PROMPTS, after):
        found = evaluate_edit(domain, before, image, prompt, SURE)
        there[prompt] = bool(found.there[0]) if found.n else None
        if found.n:
            unchanged.append(found.unchanged)
    return {"there": there, "unchanged": float(np.mean(unchanged))}


def measure(domain, source):
    """Everything about one photograph (a path or bytes): a dict, and it with its edits put back."""
    photograph = open_photograph(source, domain.generator.resolution)
    started = time.perf_counter()
    w_plus, _ = invert(domain, photograph.image)
    encoded = time.perf_counter()
    tuned = tune_generator(domain, photograph.image, w_plus)
    ended = time.perf_counter()
    learnt = LearntPicture(photograph, tuned, w_plus)
    with torch.no_grad():
        first, drawn = domain.generator(w_plus), tuned.generator(w_plus)
    image = photograph.image
    found = {"encoded": {"dlib": dlib_distance(image, first), "psnr": psnr(image, first),
                         "seconds": encoded - started, "edits": {}},
             "tuned": {"dlib": dlib_distance(image, drawn), "psnr": psnr(image, drawn),
                       "seconds": ended - encoded, "edits": {}}}
    pictures = [photograph.picture]
    for method in ("1", "3"):
        edited = edits(domain, w_plus, method)
        with torch.no_grad():
            after = [domain.generator.synthesize(one) for one in edited]
        found["encoded"]["edits"][method] = count_edits(domain, first, after)
        if method == "1":  # as in the panels: the first generator is faster to optimize through
            edited = [learnt.edited(one) for one in edited]
        else:
            edited = edits(learnt.domain, w_plus, method)
        edited = [learnt.picture(one) for one in edited]
        after = [photograph.cut_out(picture) for picture in edited]
        found["tuned"]["edits"][method] = count_edits(domain, image, after)
        pictures += edited
    return found, pictures


COVER = DATA / "faces" / "photograph.jpg"  # scikit-image's astronaut.png, as a JPEG
COVER_PROMPTS = ("a person with glasses", "an old person", "a person with blonde hair")


def write_cover(domain, path):
    """Write a JPEG of a photograph and three edits of it by method 3, put back into it."""
    learnt = learn_picture(domain, COVER)
    pictures, titles = [learnt.photograph.picture], ["the photograph"]
    with torch.no_grad():
        s = domain.generator.styles(learnt.w_plus)  # [1, S]
        for prompt in COVER_PROMPTS:
            alpha = alpha_for(learnt.domain, s, domain.neutral, prompt)
            step = alpha * global_direction(domain, domain.neutral, prompt)
            pictures.append(learnt.picture(s + step))
            titles.append(f'"{prompt}"')
    tiles = torch.cat([to_tensor(picture.resize((512, 512))) for picture in pictures])
    sheet = labelled_grid(tiles, [""], titles, 400)
    path.write_bytes(to_jpeg(sheet, quality=85))


def report(found):
    """Medians and shares over photographs, of what `measure` found of each."""
    summary = {}
    for stage in ("encoded", "tuned"):
        parts = [one[stage] for one in found]
        summary[stage] = {name: statistics.median(part[name] for part in parts)
                          for name in ("dlib", "psnr", "seconds")}
        for method in ("1", "3"):
            counted = [part["edits"][method] for part in parts]
            seen = [value for one in counted for value in one["there"].values()
                    if value is not None]
            summary[stage][method] = {
                "there": statistics.mean(seen),
                "unchanged where sure": statistics.mean(one["unchanged"] for one in counted)}
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--sheets", metavar="FOLDER", help="write each with its edits there")
    parser.add_argument("--cover", action="store_true", help="write README.md's picture")
    add_keep(parser)
    options = parser.parse_args()
    domain, found = load_domain("faces"), []
    if options.cover:
        return write_cover(domain, DATA / "edits.jpg")
    sources = options.files or hard_photographs(domain, options.count, options.seed)
    for number, source in enumerate(sources):
        try:
            measured, pictures = measure(domain, source)
        except ValueError as error:
            print(f"{number}: {error}")
            continue
        found.append(measured)
        for stage, values in measured.items():
            print(number, stage, values, flush=True)
        if options.sheets:
            width, height = pictures[0].size
            sheet = Image.new("RGB", (7 * width, 2 * height))
            sheet.paste(pictures[0], (0, 0))
            for i, picture in enumerate(pictures[1:]):  # a row for each method
                sheet.paste(picture, ((1 + i % 6) * width, i // 6 * height))
            sheet.save(f"{options.sheets}/{number}.jpg", quality=90)
    summary = report(found)
    print(summary)
    if not options.files:
        save("photographs", keep=options.keep, faces=len(found), seed=options.seed,
             photographs=found, **summary)


if __name__ == "__main__":
    main()
