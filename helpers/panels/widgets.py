"""What a panel is made of: labelled controls, two pictures, the controls that ask for a face."""

import html
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import torch

from .. import images
from ..latents import random_w_plus

LABEL = {"description_width": "72px"}
FULL = {"width": "98%", "max_width": "440px"}  # as wide as a phone allows
TEXT_WIDE = {"width": "auto", "align_self": "flex-start"}  # as wide as its text
SIDE = 512  # pixels of a picture in a panel
RANDOM, FILE = "random", "file"  # in the list of faces, beside the paths of samples


class Refused(Exception):
    """Something that is not done now. Its text says why, in one sentence."""


def sentence(error):
    """What went wrong as one line: the first of the message, without the folders of a file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {Path(error.filename).name}" if error.filename else ".")
    first = str(error).strip().partition("\n")[0]
    plain = first and isinstance(error, ValueError | OSError | Refused)
    return first if plain else f"{type(error).__name__}: {first}"


def button(text, **options):
    """A button as wide as its text; options as `ipywidgets.Button`."""
    return widgets.Button(description=text, layout=TEXT_WIDE, **options)


def slider(name, value, low, high, step, **options):
    """A slider with a label. It holds whole numbers if its step is one."""
    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, style=LABEL,
                layout=FULL, **options)


def row(*children, **layout):
    """Side by side, and one below the other where there is no room."""
    layout = {"flex_flow": "row wrap", "align_items": "center"} | layout
    return widgets.HBox(children, layout=layout)


class Pictures:
    """Before and after, side by side; `compare` moves a line over the second, with the first to
    the left of it. On a narrow page "after" is the upper one, next to the sliders."""

    def __init__(self):
        whole = {"width": "100%", "height": "auto"}
        self.before = widgets.Image(format="jpeg", layout=whole)
        self.after = widgets.Image(format="jpeg", layout=whole)
        self.caption = widgets.HTML("after")
        self.compare = slider("compare", 0.0, 0, 1, 0.01, readout=False, disabled=True)
        self._source, self._edit = None, None  # PIL pictures
        half = {"flex": "1 1 230px", "max_width": f"{SIDE}px", "margin": "0 4px"}
        left = widgets.VBox([self.before, widgets.HTML("before")], layout=half)
        right = widgets.VBox([self.after, self.caption], layout=half)
        self.widget = row(left, right, flex="20 1 480px", flex_flow="row wrap-reverse",
                          align_items="flex-end")  # the top, since the rows are reversed

    def show_source(self, image):
        """A picture [1, 3, R, R] that has no edit yet."""
        self._source, self._edit = images.to_pil(image, SIDE), None
        self.before.value = self.after.value = images.to_jpeg(self._source)
        self.caption.value = "after: no edit yet"

    def show_step(self, image):
        """What a run has come to, [1, 3, R, R]."""
        self.after.value = images.to_jpeg(image, SIDE)

    def show_edit(self, image, title):
        """The edit [1, 3, R, R] of the source, and what it is called."""
        self._edit = images.to_pil(image, SIDE)
        self.caption.value = html.escape(f"after: {title}")
        self.draw_line()

    def draw_line(self):
        """Show the edit with the line where `compare` says."""
        picture, edge = self._edit.copy(), round(self.compare.value * SIDE)
        if edge:
            picture.paste(self._source.crop((0, 0, edge, SIDE)), (0, 0))
            picture.paste("white", (max(0, edge - 2), 0, edge + 2, SIDE))
        self.after.value = images.to_jpeg(picture)


@dataclass(eq=False)
class Face:
    """A picture to edit."""

    name: str  # its value in the list of faces
    image: torch.Tensor  # [1, 3, R, R]
    w_plus: torch.Tensor | None = None  # [1, L, w_dim], once it is known
    note: str = ""  # what was cut away or guessed when it was opened


class FaceSource:
    """The controls that ask for a face, and the faces that they ask for."""

    def __init__(self, domain):
        self._domain, self._seed, self._file = domain, 1, None  # file: the `Face` that was opened
        latents = () if domain.sample_latents is None else domain.sample_latents.float().split(1)
        self.latents = dict(zip(map(str, domain.samples), latents))  # {name: w_plus [1, L, w_dim]}
        samples = [(path.stem.replace("_", " "), str(path)) for path in domain.samples]
        self.choice = widgets.Dropdown(
            options=[*samples, ("random face", RANDOM), ("your own file", FILE)],
            description="face", style=LABEL, layout=FULL)
        self.another = button("another random face", icon="random")
        self.upload = widgets.FileUpload(accept="image/*", multiple=False,
                                         description="open a file", layout=TEXT_WIDE)
        self.aligned = widgets.Checkbox(value=False, indent=False, layout=TEXT_WIDE,
                                        description="this file is aligned like FFHQ")
        self.controls = [self.choice, self.another, self.upload]
        self.controls += [self.aligned] if domain.align else []

    def asked(self, control):
        """The `Face` that a control asks for. Raises ValueError if there is none to open."""
        name = self.choice.value if control is self.choice else FILE
        if control is self.another:
            name, self._seed = RANDOM, self._seed + 1
        if name == RANDOM:
            w_plus = random_w_plus(self._domain, 1, self._seed)
            return Face(name, self._domain.generator(w_plus), w_plus)
        if name != FILE:
            return self._open(name, name, align=False)
        if control is not self.choice or self._file is None:
            self.latents.pop(FILE, None)
            align = self._domain.align and not self.aligned.value
            self._file = self._open(FILE, self._uploaded(), align)
        return self._file

    def _uploaded(self):
        """The bytes of the uploaded file. It is in a dict in ipywidgets 7, in a tuple in 8."""
        files = self.upload.value
        files = list(files.values() if isinstance(files, dict) else files)
        if not files:
            raise ValueError('No file has been opened yet: press "open a file".')
        return bytes(files[-1]["content"])

    def _open(self, name, source, align):
        side, notes = self._domain.generator.resolution, []
        image = images.open_image(source, side, notes.append, align)
        return Face(name, image, self.latents.get(name), " ".join(notes))
