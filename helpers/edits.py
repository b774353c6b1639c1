"""Several of method 3's edits at once: a list that can be reordered, muted, saved, loaded, and applied to a folder."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from . import images
from .inversion import invert
from .methods.directions import global_direction


@dataclass
class Edit:
    """One step of a list of edits; one of `threshold` and `channels`, or neither for the domain's own."""

    neutral: str
    target: str
    alpha: float
    threshold: float | None = None
    channels: int | None = None
    muted: bool = False


def apply_edits(domain, s, edits):
    """s [N, S] with every edit of the list that is not muted added to it."""
    for edit in edits:
        if not edit.muted:
            s = s + edit.alpha * global_direction(domain, edit.neutral, edit.target, threshold=edit.threshold,
                                                  channels=edit.channels)
    return s


def save_edits(path, edits):
    """Write a list of edits as JSON."""
    Path(path).write_text(json.dumps([asdict(edit) for edit in edits], indent=1) + "\n", "utf-8")


def load_edits(path):
    """The list of edits in a JSON file. Raises ValueError, in one sentence, for anything else."""
    def number(value):
        return isinstance(value, int | float) and math.isfinite(value)

    try:
        items = json.loads(Path(path).read_text("utf-8"))
        edits = [Edit(**item) for item in items] if isinstance(items, list) else None
        good = all(number(edit.alpha) and isinstance(edit.neutral, str) and isinstance(edit.target, str)
                   and all(value is None or number(value) for value in (edit.threshold, edit.channels))
                   for edit in edits)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise ValueError(f"{Path(path).name} is not a list of edits as save_edits writes it: each needs two sentences "
                         "and alpha.")
    return edits


def edit_folder(domain, source, target, edits, say=print):
    """Edit every picture of a folder; PNG files go to another. Returns how many. Nothing there is overwritten."""
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise ValueError("The edited pictures need a folder of their own: choose another target than the source.")
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    for path in sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")):
        try:
            picture = images.open_image(path, domain.generator.resolution, say, domain.align)
        except ValueError as error:
            say(f"Skipped: {error}")
            continue
        w_plus, _ = invert(domain, picture)
        with torch.no_grad():
            image = domain.generator.synthesize(apply_edits(domain, domain.generator.styles(w_plus), edits))
        images.write_new(target, path.name.replace(".", "-"), "png", images.to_png(image))
        count += 1
    return count
