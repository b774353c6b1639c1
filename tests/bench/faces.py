"""Edits of photographs by notebook 1's `optimize_latent` as it stands: build/edits_faces.jpg, and what the judge reads.

python tests/bench/faces.py        (about four minutes on two cores, most of it for the 1,000 faces that it starts from)
"""

import sys
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.domains import load_domain  # noqa: E402
from helpers.images import grid, to_jpeg  # noqa: E402
from helpers.latents import gallery, random_w_plus  # noqa: E402
from helpers.notebook_code import notebook_code  # noqa: E402

PROMPTS = ("a person with glasses", "a smiling person", "a person with a beard", "an old person", "a surprised person",
           "a person with black hair")
FACES, SEED, STEPS, TILE = 4, 11, 25, 200


def labelled(rows):
    """{label: images [N, 3, R, R]} as one picture, a row each, the label before it."""
    sheet = Image.new("RGB", (170 + FACES * TILE, len(rows) * TILE), "white")
    for i, (label, images) in enumerate(rows.items()):
        ImageDraw.Draw(sheet).text((6, i * TILE + TILE // 2 - 6), label, fill="black")
        sheet.paste(grid(images, size=TILE), (170, i * TILE))
    return sheet


@torch.no_grad()
def main():
    domain = load_domain("faces", "cpu")
    generator = domain.generator
    generator.precision, generator.precision_from = torch.bfloat16, 8
    started = time.perf_counter()
    gallery(domain)
    print(f"faces to start from, once: {time.perf_counter() - started:.0f} s")
    optimize = notebook_code("01_latent_optimization")["optimize_latent"]
    source = random_w_plus(domain, FACES, seed=SEED)
    before = generator(source, resolution=256)
    rows = {"generated": before}
    for prompt in PROMPTS:
        started = time.perf_counter()
        with torch.enable_grad():
            edited, _ = optimize(domain, source, prompt, steps=STEPS)
        seconds = (time.perf_counter() - started) / FACES
        rows[prompt] = generator(edited, resolution=256)
        print(f"{prompt}: {seconds:.1f} s a face", *domain.classifier.changes(before, rows[prompt]), sep="\n  ")
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "edits_faces.jpg").write_bytes(to_jpeg(labelled(rows), quality=85))


if __name__ == "__main__":
    main()
