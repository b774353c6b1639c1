"""What a panel is made of: labelled controls, two pictures, the controls that ask for a face."""

import html
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import torch
from PIL import Image

from .. import images
from ..domains.align import is_aligned
from ..latents import random_w_plus
from ..photographs import LearntPicture, Photograph, open_photograph

LABEL = {"description_width": "72px"}
FULL = {"width": "98%", "max_width": "440px"}  # as wide as a phone allows
TEXT_WIDE = {"width": "auto", "align_self": "flex-start"}  # as wide as its text
SIDE = 512  # pixels of a picture in a panel
RANDOM, FILE = "random", "file"  # in the list of faces, beside the paths of samples
UNALIGNED = ('No face is seen where FFHQ has it: if the edit looks wrong, clear "this file is '
             'aligned like FFHQ" to have the face found.')
COLAB_ADVICE = ('<div style="line-height: 1.3">Colab can lose the connection when a file of more '
                "than 1 MB is opened: put it into the Files pane, and type its path here.</div>")


class Refused(Exception):
    """Something that is not done now. Its text says why, in one sentence."""


def sentence(error):
    """What went wrong as one line: the first of the message, without the folders of a file."""
    if isinstance(error, FileNotFoundError) and not Path(error.filename or "").is_absolute():
        try:
            Path.cwd()
        except FileNotFoundError:
            return ("The working folder of this kernel was removed: change to one that exists "
                    "(%cd ~, in Colab %cd /content) and try again.")
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

    def show_source(self, picture):
        """A PIL picture that has no edit yet."""
        self._source, self._edit = in_panel(picture), None
        self.before.value = self.after.value = images.to_jpeg(self._source)
        self.caption.value = "after: no edit yet"

    def show_step(self, image):
        """What a run has come to, [1, 3, R, R]."""
        self.after.value = images.to_jpeg(image, SIDE)

    def show_edit(self, source, picture, title):
        """The edit of a source, PIL pictures of one size, and what it is called."""
        source = in_panel(source)
        if self._source != source:
            self._source, self.before.value = source, images.to_jpeg(source)
        self._edit = in_panel(picture)
        self.caption.value = html.escape(f"after: {title}")
        self.draw_line()

    def draw_line(self):
        """Show the edit with the line where `compare` says."""
        picture = self._edit.copy()
        width, height = picture.size
        edge = round(self.compare.value * width)
        if edge:
            picture.paste(self._source.crop((0, 0, edge, height)), (0, 0))
            picture.paste("white", (max(0, edge - 2), 0, edge + 2, height))
        self.after.value = images.to_jpeg(picture)


def in_panel(picture):
    """A PIL picture as large as a panel shows it."""
    scale = SIDE / max(picture.size)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return picture.resize([round(side * scale) for side in picture.size], method)


@dataclass(eq=False)
class Face:
    """A picture to edit."""

    name: str  # its value in the list of faces
    image: torch.Tensor  # [1, 3, R, R]
    w_plus: torch.Tensor | None = None  # [1, L, w_dim], once it is known
    note: str = ""  # what was cut away or guessed when it was opened
    photograph: Photograph | None = None  # in which the face was found
    learnt: LearntPicture | None = None  # the generator that draws it, once it is tuned


class FaceSource:
    """The controls that ask for a face, and the faces that they ask for."""

    def __init__(self, domain):
        self._domain, self._seed, self._file = domain, 1, None  # file: the `Face` that was opened
        latents = () if domain.sample_latents is None else domain.sample_latents.float().split(1)
        self._latents = dict(zip(map(str, domain.samples), latents))  # {name: w_plus [1, L, w_dim]}
        self.encoded = {}  # {name: `Face`} of those whose latent was found here
        samples = [(path.stem.replace("_", " "), str(path)) for path in domain.samples]
        self.choice = widgets.Dropdown(
            options=[*samples, ("random face", RANDOM), ("your own file", FILE)],
            description="face", style=LABEL, layout=FULL)
        self.another = button("another random face", icon="random")
        self.upload = widgets.FileUpload(accept="image/*", multiple=False,
                                         description="open a file", layout=TEXT_WIDE)
        self.path = widgets.Text(description="or a path", placeholder="photo.jpg, and Enter",
                                 continuous_update=False, style=LABEL, layout=FULL)
        display = "" if "google.colab" in sys.modules else "none"
        self.advice = widgets.HTML(COLAB_ADVICE, layout=FULL | {"display": display})
        self.aligned = widgets.Checkbox(value=False, indent=False, layout=TEXT_WIDE,
                                        description="this file is aligned like FFHQ")
        self.number = widgets.BoundedIntText(value=1, min=1, max=99, description="person",
                                             style=LABEL, layout={"width": "140px"})
        self.controls = [self.choice, self.another, self.upload, self.path]
        self.controls += [self.number, self.aligned] if domain.align else []

    def asked(self, control):
        """The `Face` that a control asks for. Raises ValueError if there is none to open."""
        name = self.choice.value if control is self.choice else FILE
        if control is self.another:
            name, self._seed = RANDOM, self._seed + 1
        if name == RANDOM:
            w_plus = random_w_plus(self._domain, 1, self._seed)
            return Face(name, self._domain.generator(w_plus), w_plus)
        if name != FILE:
            return self.encoded.get(name) or self._open(name, name, align=False)
        if control is self.upload:
            self.path.value = ""
        if control is not self.choice or self._file is None:
            align = self._domain.align and not self.aligned.value
            path = self.path.value.strip()
            source = Path(path).expanduser() if path else self._uploaded()
            self._file = self._open(FILE, source, align)
        return self._file

    def _uploaded(self):
        """The bytes of the uploaded file. It is in a dict in ipywidgets 7, in a tuple in 8."""
        files = self.upload.value
        files = list(files.values() if isinstance(files, dict) else files)
        if not files:
            raise ValueError('No file has been opened yet: press "open a file".')
        return bytes(files[-1]["content"])

    def _open(self, name, source, align):
        side, notes, photograph = self._domain.generator.resolution, [], None
        if align:
            photograph = open_photograph(source, side, notes.append, self.number.value)
            image = photograph.image
        else:
            image = images.open_image(source, side, notes.append)
            with suppress(ImportError):  # without dlib no face can be looked for
                if self._domain.align and name == FILE and not is_aligned(images.to_pil(image)):
                    notes.append(UNALIGNED)
        return Face(name, image, self._latents.get(name), " ".join(notes), photograph)
