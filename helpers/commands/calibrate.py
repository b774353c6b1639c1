"""Choose the numbers that depend on a CLIP, by trying them on random images of a domain.

python -m helpers.commands.calibrate faces --clip ViT-B/32

It ends with a table and a sheet of pictures in build/calibration/, and with settings and a linear
model of CLIP that `load_domain` takes up from then on. Interrupted, it goes on where it was.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from helpers import images
from helpers.calibration import (
    FRESH_SEED,
    NAMES,
    Calibration,
    compare,
    confirmed,
    drawn,
    edited,
    search,
)
from helpers.domains import CLIPS, load_domain, settings_path
from helpers.domains.domain import OWN_CLIP
from helpers.domains.loading import save_linear_model
from helpers.evaluation import reading_aucs
from helpers.latents import random_w_plus

BUILD = Path(__file__).resolve().parents[2] / "build" / "calibration"
READ, READ_SEED = 200, 904  # images that show whether a CLIP can read
READS = 0.6  # the least mean AUC of a CLIP that reads anything


def describe_reading(domain):
    """How well CLIP reads a domain's pictures: lines of text, and whether it reads anything."""
    if domain.classifier is None:
        return ["No classifier tells here what CLIP can read: look at the sheet."], True
    image = drawn(domain, domain.generator.styles(random_w_plus(domain, READ, READ_SEED)))
    found = reading_aucs(domain, image)
    mean = sum(found.values()) / max(1, len(found))
    lines = [f"{prompt}: {auc:.2f}" for prompt, auc in found.items()]
    lines.append(f"Mean AUC of CLIP beside the classifier: {mean:.2f} (0.50 is chance).")
    if mean < READS:
        lines.append("This CLIP reads nothing in these pictures: no setting will help.")
    return lines, mean >= READS


def edits_sheet(domain, prompts):
    """Two random images, edited by method 1 and 3 with each prompt, as a labelled picture."""
    w_plus, tiles, rows = random_w_plus(domain, 2, FRESH_SEED), [], []
    before = drawn(domain, domain.generator.styles(w_plus))
    for method in ("optimization", "directions"):
        after = [edited(domain, method, w_plus, prompt) for prompt in prompts]
        tiles += [torch.stack([before[i], *(image[i] for image in after)]) for i in range(2)]
        rows += [f"image {i + 1}, {NAMES[method]}" for i in range(2)]
    return images.labelled_grid(torch.cat(tiles), rows, ["before", *prompts], 160)


def write_report(folder, lines):
    """Write lines of Markdown to report.md in a folder, which is made if it must be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("\n".join(lines) + "\n", "utf-8")


def calibrate(domain, folder=None):
    """Choose settings for a domain and its CLIP; write report.md and edits.jpg into a folder, and
    settings and linear model where `load_domain` looks for them. For a CLIP that reads nothing,
    only the report.

    Returns: the settings, {part: {name: [value, origin]}}; {} for such a CLIP.
    """
    target = settings_path(domain.name, domain.clip_name)
    folder = folder or BUILD / target.stem
    reading, reads = describe_reading(domain)
    print(*reading, sep="\n", flush=True)
    lines = [f"# {domain.name} with CLIP {domain.clip_name}", ""]
    lines += [f"- {line}" for line in reading]
    if not reads:
        write_report(folder, [*lines, "", "No settings were chosen."])
        return {}
    run = Calibration(domain, folder)
    card, table = search(run)
    lines += ["", *table, "", *compare(run, card)]
    card, said = confirmed(run, card)
    lines += ["", *said] if said else []
    write_report(folder, lines)
    trial = run.with_settings(card)
    sheet = edits_sheet(trial, run.prompts["optimization"])
    (folder / "edits.jpg").write_bytes(images.to_jpeg(sheet))
    save_linear_model(trial)  # before the settings, which need it
    target.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    print(*lines[2:], f"Pictures: {folder / 'edits.jpg'}", f"Settings: {target}", sep="\n")
    return card


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", help="as for load_domain")
    parser.add_argument("--clip", choices=[*CLIPS, OWN_CLIP], help="as for load_domain")
    options = parser.parse_args()
    try:
        calibrate(load_domain(options.domain, clip=options.clip))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped: the same command goes on where it was.")


if __name__ == "__main__":
    main()
