"""Load published weights, edit with them, and write a report of it.

python -m helpers.commands.published                 faces and ffhq, with OpenAI's ViT-B/32
python -m helpers.commands.published afhqcat horse   others (helpers/domains/published.py)

The report and a sheet of edits for each domain lie in build/published/.
"""

import argparse
import datetime
import time
from pathlib import Path

import torch

from helpers import images
from helpers.calibration import FRESH_SEED, drawn
from helpers.commands.calibrate import describe_reading, edits_sheet
from helpers.domains import EMBEDDED, PUBLISHED, load_domain
from helpers.latents import random_w_plus
from helpers.methods.directions import global_direction
from helpers.methods.linear_model import linear_model
from helpers.methods.mapper import train_mapper
from helpers.methods.optimization import optimize_latent

BUILD = Path(__file__).resolve().parents[2] / "build" / "published"
CLIP, MAPPER_STEPS = "ViT-B/32", 10


def machine():
    """What this ran on, in a line."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{datetime.date.today().isoformat()}, {gpu}, torch {torch.__version__}"


def measure(domain):
    """Seconds of what a notebook does first, {what: seconds}, in the order in which it is done."""
    prompt, marks = domain.prompts[0], [time.monotonic()]
    w_plus = random_w_plus(domain, 1, FRESH_SEED)
    s = domain.generator.styles(w_plus)
    linear_model(domain)
    marks.append(time.monotonic())
    optimize_latent(domain, w_plus, prompt)
    marks.append(time.monotonic())
    train_mapper(domain, prompt, random_w_plus(domain, 20, FRESH_SEED), steps=MAPPER_STEPS)
    marks.append(time.monotonic())
    direction = global_direction(domain, domain.neutral, prompt)
    marks.append(time.monotonic())
    drawn(domain, s + direction).cpu()
    marks.append(time.monotonic())
    names = ("the linear model of CLIP, once", "method 1, an edit",
             f"method 2, {MAPPER_STEPS} steps of training", "method 3, a text",
             "method 3, a picture")
    return {name: marks[i + 1] - marks[i] for i, name in enumerate(names)}


def report_domain(name, folder):
    """Try one domain; write its sheet of edits into a folder. Returns: lines of Markdown."""
    lines, started = [f"## {name} with CLIP {CLIP}", ""], time.monotonic()
    try:
        domain = load_domain(name, clip=CLIP)
        loaded, started = time.monotonic() - started, time.monotonic()
        load_domain(name, clip=CLIP)
        again = time.monotonic() - started
        times = measure(domain)
        sheet = edits_sheet(domain, domain.prompts[:3])
    except (ValueError, OSError) as error:
        return [*lines, f"Not done: {error}"]
    (folder / f"{name}.jpg").write_bytes(images.to_jpeg(sheet))
    lines += [f"- {domain.generator.resolution} px, generator {domain.fingerprint[:12]}, method 3 "
              f"by {domain.settings.directions.method}",
              f"- loaded in {loaded:.0f} s with downloads, in {again:.1f} s again"]
    lines += [f"- {what}: {seconds:.2f} s" for what, seconds in times.items()]
    if torch.cuda.is_available():
        lines.append(f"- memory of the GPU: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    reading, _ = describe_reading(domain)
    lines += [f"- {line}" for line in reading]
    return [*lines, "", f"![Edits of {name}]({name}.jpg)"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="domains; without any, faces and ffhq")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in (*EMBEDDED, *PUBLISHED)]
    if unknown:
        parser.error(f'there is no domain "{unknown[0]}"; there is: '
                     f"{', '.join((*EMBEDDED, *PUBLISHED))}")
    BUILD.mkdir(parents=True, exist_ok=True)
    lines = ["# First run with the published weights", "", machine()]
    for name in options.names or ("faces", "ffhq"):
        lines += ["", *report_domain(name, BUILD)]
        (BUILD / "report.md").write_text("\n".join(lines) + "\n", "utf-8")
    print(*lines, "", f"Report and sheets: {BUILD}", sep="\n")


if __name__ == "__main__":
    main()
