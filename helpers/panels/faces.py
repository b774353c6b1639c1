"""Where a panel's face comes from: the domain's samples, a file of the user's own, or chance."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch

from .. import images
from ..latents import random_w_plus
from .widgets import FULL, LABEL, WIDE, button
from .work import MODELS


@dataclass(eq=False)
class Face:
    """A picture to edit."""

    name: str
    image: torch.Tensor  # [1, 3, R, R]
    w_plus: torch.Tensor | None = None  # [1, L, w_dim], once it is known


def uploaded(upload):
    """The bytes of a FileUpload's file, or None; its value is a dict in ipywidgets 7 and a tuple in 8."""
    files = list(upload.value.values()) if isinstance(upload.value, dict) else list(upload.value)
    return bytes(files[-1]["content"]) if files else None


class FaceSource:
    """The widgets that choose a face.

    Args:
        domain: a `Domain`.
        say: gets a sentence about the picture, if there is one.
        chosen: called with a function without arguments which opens or draws the `Face` that was asked for.
    """

    def __init__(self, domain, say, chosen):
        self.domain, self.say, self.chosen = domain, say, chosen
        self.latents = {}  # a picture's name -> its w_plus, so that a face is encoded once
        self._seed = 0
        choices = [(path.stem.replace("_", " "), str(path)) for path in domain.samples] + [("random face", "random")]
        self.choice = widgets.Dropdown(options=choices, description="face", style=LABEL, layout=FULL)
        self.another = button("another random face", icon="random")
        self.upload = widgets.FileUpload(accept="image/*", multiple=False, description="open a file", layout=WIDE)
        self.aligned = widgets.Checkbox(value=False, indent=False, layout=WIDE,
                                        description="cut out as FFHQ's faces are, already")
        self.choice.observe(lambda change: self.ask(), "value")
        self.another.on_click(lambda clicked: self._ask_another())
        self.upload.observe(lambda change: self._ask_file(), "value")
        self.widgets = [self.choice, self.another, self.upload, *([self.aligned] if domain.align else [])]

    def ask(self):
        """Ask for what the list of faces says; the domain's samples are cut out as they should be."""
        name = self.choice.value
        self.chosen(self._random if name == "random" else lambda: self._open(name, name, align=False))

    def show(self, face):
        """Have the list of faces say which face is on show; it cannot say so of a file."""
        names = [value for _, value in self.choice.options]
        if face.name in names or face.name.startswith("random"):
            self.choice.value = face.name if face.name in names else "random"

    def keep(self, face):
        """Remember a face's latent."""
        self.latents[face.name] = face.w_plus

    def _ask_another(self):
        if self.choice.value == "random":
            self.ask()
        else:
            self.choice.value = "random"  # its observer asks

    def _ask_file(self):
        content, align = uploaded(self.upload), self.domain.align and not self.aligned.value
        if content is not None:
            self.chosen(lambda: self._open(f"file {hash(content)}", content, align))

    def _open(self, name, source, align):
        image = images.open_image(source, self.domain.generator.resolution, self.say, align)
        return Face(name, image, self.latents.get(name))

    def _random(self):
        with MODELS.for_picture(), torch.no_grad():
            w_plus = random_w_plus(self.domain, 1, self._seed + 1)
            image = self.domain.generator(w_plus)
        self._seed += 1
        return Face(f"random {self._seed}", image, w_plus)
