"""What one click makes of the edit on show: a PNG at full size, a GIF of the strength, a grid."""

import re
from functools import partial
from pathlib import Path

import ipywidgets as widgets
import torch

from .. import images
from ..edits import picture_text
from .background import MODEL_LOCK
from .widgets import Refused, button

TILE = 256  # pixels of a picture in a grid, and in a GIF
FRAMES = 11  # of a GIF, from strength 0 to the slider's
SHEET = {"width": "100%", "max_width": "1040px", "height": "auto", "display": "none"}


class Exports:
    """The buttons and what they do for a `FacePanel`; `folder` is where files go."""

    def __init__(self, panel, folder):
        self._panel, self.folder = panel, Path(folder)
        self.png, self.gif, self.grid = map(button, ("Save PNG", "Save GIF", "Grid"))
        self.sheet = widgets.Image(format="jpeg", layout=SHEET)
        panel.on(self._save_png, self.png)
        panel.on(self._save_gif, self.gif)
        self.grid.on_click(partial(panel.task.start, self._make_grid))

    def _save_png(self):
        panel, strength = self._panel, self._panel.strength.value
        with MODEL_LOCK.for_picture(), torch.no_grad():
            picture = panel.picture_of(strength)
        text = self._text([strength], panel.chosen.photograph)
        self._save(panel.title, "png", images.to_png(picture, text))

    def _save_gif(self):
        panel, end = self._panel, self._panel.strength.value or 1
        small = panel.domain.preview_resolution
        with MODEL_LOCK.for_picture(), torch.no_grad():
            frames = [panel.blended(end * i / (FRAMES - 1), small) for i in range(FRAMES)]
        self._save(panel.title, "gif", images.to_gif(torch.cat(frames), TILE))

    def _make_grid(self, clicked):
        """A grid of strengths and the panel's columns; of one that is stopped, what there is."""
        panel, strengths, settings = self._panel, self._panel.strengths(), self._panel.settings()
        small, columns = panel.domain.preview_resolution, {}  # {label: [rows, 3, R, R]}
        for label, found in panel.columns(panel.shown_prompt, **settings):
            if panel.task.stopped:
                break
            with torch.no_grad():
                tiles = [panel.image_of(found, strength, small) for strength in strengths]
            columns[label] = torch.cat(tiles)
        if not columns:
            raise Refused("Stopped before the first column of the grid.")
        rows = [f"{panel.strength.description} {strength:g}" for strength in strengths]
        tiles = torch.stack(list(columns.values()), dim=1).flatten(0, 1)  # row by row
        sheet = images.labelled_grid(tiles, rows, list(columns), TILE)
        self.sheet.value, self.sheet.layout.display = images.to_jpeg(sheet), ""
        objective = settings["objective"]
        text = self._text(strengths) | {"Objective": objective}
        self._save(f"{panel.shown_prompt} {objective} grid", "png", images.to_png(sheet, text))

    def _text(self, strengths, photograph=None):
        """What a saved picture says of itself, {keyword: text}; photograph: as `picture_text`."""
        panel = self._panel
        prompts = f"{panel.below}, {panel.shown_prompt}".removeprefix(", ")
        return {"Software": "StyleCLIP in three notebooks",
                **picture_text(panel.domain, prompts, photograph),
                "Prompt": panel.shown_prompt, "Objective": panel.shown_objective,
                "Keep": panel.shown_keep or "nothing",
                "Strength": ", ".join(f"{strength:g}" for strength in strengths),
                "Below": panel.below or "no other edit"}

    def _save(self, title, kind, content):
        """Write a file, never over another. Raises Refused, in one sentence, if that fails."""
        stem = re.sub(r"\W+", "-", title).strip("-")[:60] or "edit"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = images.write_new(self.folder, stem, kind, content)
        except FileNotFoundError:  # the working folder itself is gone: `sentence` says so
            raise
        except OSError as error:
            raise Refused(f"{stem}.{kind} is not saved ({error.strerror or error}), and the edit "
                          "stays as it is: make room, or choose another folder for the panel, "
                          "and save again.") from None
        self._panel.say(f"Saved {path.name}")
