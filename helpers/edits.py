"""Several of method 3's edits at once: a list that can be reordered, muted, saved, loaded, and
applied to a folder."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from . import images
from .inversion import invert
from .methods.directions import global_direction

ALPHA_MOST = 100  # standard deviations; far below, every face falls apart


@dataclass
class Edit:
    """One step of a list of edits; one of `threshold` and `channels`, or neither for the domain's
    own."""

    neutral: str
    target: str
    alpha: float
    threshold: float | None = None
    channels: int | None = None
    muted: bool = False


def apply_edits(domain, s, edits):
    """s [N, S] with every edit of the list that is not muted added to it. Raises as
    `global_direction`."""
    for edit in edits:
        if not edit.muted:
            s = s + edit.alpha * global_direction(domain, edit.neutral, edit.target,
                                                  threshold=edit.threshold, channels=edit.channels)
    return s


def save_edits(path, edits):
    """Write a list of edits as JSON."""
    Path(path).write_text(json.dumps([asdict(edit) for edit in edits], indent=1) + "\n", "utf-8")


def is_number(value):
    """Is it a finite number, and no bool?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_edit(edit):
    """What is wrong with an edit that was read from a file, in a few words; an empty string if
    nothing is."""
    if not isinstance(edit.neutral, str) or not isinstance(edit.target, str):
        return "neutral and target must be sentences"
    if not is_number(edit.alpha) or abs(edit.alpha) > ALPHA_MOST:
        return f"alpha must be a number from -{ALPHA_MOST} to {ALPHA_MOST}, not {edit.alpha!r}"
    if edit.threshold is not None and not (is_number(edit.threshold) and edit.threshold >= 0):
        return f"threshold must be a number from 0, not {edit.threshold!r}"
    whole = is_number(edit.channels) and edit.channels == int(edit.channels)
    if edit.channels is not None and not (whole and edit.channels >= 1):
        return f"channels must be a whole number from 1, not {edit.channels!r}"
    if not isinstance(edit.muted, bool):
        return f"muted must be true or false, not {edit.muted!r}"
    return ""


def load_edits(path):
    """The list of edits in a JSON file. Raises ValueError, in one sentence that names what is
    wrong, for anything else."""
    name = Path(path).name
    try:
        items = json.loads(Path(path).read_text("utf-8-sig"))  # with or without a byte order mark
        edits = [Edit(**item) for item in items] if isinstance(items, list) else None
    except (ValueError, TypeError):
        edits = None
    if edits is None:
        raise ValueError(f"{name} is not a list of edits as save_edits writes it: each needs two "
                         "sentences and alpha.")
    for number, edit in enumerate(edits, 1):
        wrong = check_edit(edit)
        if wrong:
            raise ValueError(f"{name}, edit {number}: {wrong}.")
    return edits


def edit_folder(domain, source, target, edits, say=print):
    """Edit every picture of a folder; PNG files go to another, over none that is there.

    A picture that fails is skipped; at the end those are listed. Returns: how many were edited.
    Raises: ValueError if both folders are the same.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise ValueError("The edited pictures need a folder of their own: "
                         "choose another target than the source.")
    target.mkdir(parents=True, exist_ok=True)
    count, skipped = 0, []
    for path in images.files_in(source):
        try:
            picture = images.open_image(path, domain.generator.resolution, say, domain.align)
        except (ValueError, OSError) as error:
            say(f"Skipped: {error}")
            skipped.append(path.name)
            continue
        w_plus, _ = invert(domain, picture)
        with torch.no_grad():
            s = apply_edits(domain, domain.generator.styles(w_plus), edits)
            image = domain.generator.synthesize(s)
        images.write_new(target, path.name.replace(".", "-"), "png", images.to_png(image))
        count += 1
    if skipped:
        say(f"Skipped {len(skipped)} of {count + len(skipped)} files: {', '.join(skipped)}.")
    return count
