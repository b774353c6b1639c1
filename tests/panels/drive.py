"""Panels on stand-ins for the methods, and the hands that drive them: values, clicks, files."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel
from helpers.settings import DirectionSettings, MapperSettings, OptimizationSettings

OPTIMIZATION = OptimizationSettings(steps=60, lr=0.1, lambda_l2=0.001, lambda_id=0.1, origin={})
MAPPER = MapperSettings(steps=700, batch=8, lr=1, lambda_l2=0.03, lambda_id=0.1, origin={})
DIRECTIONS = DirectionSettings("linear", 3.2, channels=400)


def settled(domain):
    """The domain with settings of its own, so that no slider moves when it is tuned."""
    return replace(domain, settings=replace(domain.settings, optimization=OPTIMIZATION,
                                            mapper=MAPPER, directions=DIRECTIONS))


class Runs:
    """What the panels' long functions are replaced by. `asked` notes each call.

    A run takes a step only while `go` is set; `started` is set when one has begun.
    """

    def __init__(self, domain):
        self.domain, self.asked = domain, []
        self.go, self.started = threading.Event(), threading.Event()
        self.go.set()

    def steps(self, image, steps, callback):
        """Take steps until the callback says stop. Returns: how many."""
        self.started.set()
        for step in range(1, steps + 1):
            self.go.wait(60)
            if callback({"step": step, "steps": steps, "image": image}):
                return step
        return steps

    def invert(self, domain, image, callback):
        """A latent for each picture: the mean, moved by how bright the picture is."""
        self.asked.append(image)
        self.steps(image, 2, callback)
        mean = domain.generator.w_avg[None]
        return domain.generator.broadcast(mean) + 0.3 * image.mean(), {"loss": [1.0]}


class Optimization(Runs):
    """Stands in for `optimize_latent`: w_plus, moved."""

    def __call__(self, domain, w_plus, prompt, *, keep=None, objective="ours", steps=None,
                 lambda_l2=None, lambda_id=None, callback=None):
        domain.clip.encode_text([prompt])
        if steps == 0:
            return w_plus + 0.2, {"loss": []}
        self.asked.append((objective, steps, lambda_l2, lambda_id, w_plus))
        done = self.steps(domain.generator(w_plus), steps, callback)
        return w_plus + 0.3, {"loss": [1 / step for step in range(1, done + 1)]}


class Mappers(Runs):
    """Stands in for `find`, `train` and `apply`: a mapper is a number; there is one already."""

    def __init__(self, domain):
        super().__init__(domain)
        self.kept = {(domain.prompts[0], "ours"): 0.3}

    def find(self, prompt, objective, keep=None):
        return self.kept.get((prompt, objective, keep) if keep else (prompt, objective))

    def train(self, prompt, objective, callback, keep=None):
        if prompt == "a broken person":
            raise ValueError("no mapper for that")
        self.steps(torch.zeros(1, 3, 64, 64), 10, callback)
        self.kept[(prompt, objective, keep) if keep else (prompt, objective)] = -0.2
        return -0.2

    def apply(self, domain, mapper, w_plus, strength, only):
        edited = w_plus.clone()
        for name in only:
            edited[:, domain.rows[name]] += strength * mapper
        return edited


class Directions(Runs):
    """Stands in for `global_direction`: so many channels, moved by the length of the text."""

    def __call__(self, domain, neutral, target, *, keep=None, method=None, threshold=None,
                 channels=None):
        self.asked.append({"method": method, "threshold": threshold, "channels": channels})
        if method == "gradient":
            raise ValueError("There are no gradients here.")
        domain.clip.encode_text([neutral, target])
        step = torch.zeros(domain.generator.style_dim)
        step[:channels if threshold is None else int(100 * threshold)] = len(target) / 10
        return step


def optimization_panel(domain, folder, runs=None):
    """Method 1's panel; its stand-in is `panel.runs`."""
    runs = runs or Optimization(domain)
    panel = OptimizationPanel(domain, runs.invert, runs, folder=folder)
    panel.runs = runs
    return panel


def mapper_panel(domain, folder):
    """Method 2's panel; its stand-in is `panel.runs`."""
    runs = Mappers(domain)
    panel = MapperPanel(domain, runs.invert, runs.find, runs.train, runs.apply, folder=folder)
    panel.runs = runs
    return panel


def global_panel(domain, folder):
    """Method 3's panel; its stand-in is `panel.runs`."""
    runs = Directions(domain)
    panel = GlobalPanel(domain, runs.invert, runs, folder=folder)
    panel.runs = runs
    return panel


PANELS = {"optimization": optimization_panel, "mapper": mapper_panel, "global": global_panel}


def run(panel):
    """Press Run and wait for the end."""
    panel.run.click()
    panel.wait(60)


def begin(panel):
    """Press Run, and hold the run up at its first step."""
    panel.runs.go.clear()
    panel.runs.started.clear()
    panel.run.click()
    assert panel.runs.started.wait(60)


def end(panel):
    """Let a run that is held up go on to its end."""
    panel.runs.go.set()
    panel.wait(60)


def press_enter(text):
    """What a browser sends when Enter is pressed in a text field."""
    text._handle_custom_msg({"event": "submit"}, [])


def png(width=64, height=64, colour="orange"):
    """The bytes of a PNG of one colour."""
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def upload(panel, content):
    """Hand a file over, as ipywidgets 7 or 8 does."""
    if isinstance(panel.faces.upload.value, dict):
        panel.faces.upload.set_trait("value", {"x": {"content": content, "metadata": {}}})
    else:
        file = {"name": "x", "type": "", "size": len(content), "content": memoryview(content),
                "last_modified": datetime.now(UTC)}
        panel.faces.upload.value = (file,)


def after(panel):
    """The picture after the edit, as bytes."""
    return panel.pictures.after.value


def before(panel):
    """The picture before the edit, as bytes."""
    return panel.pictures.before.value


def pixels(jpeg):
    """A picture [H, W, 3] from 0 to 255."""
    return np.asarray(Image.open(BytesIO(jpeg)), dtype=float)


def status(panel):
    """The sentence that the panel says."""
    return panel.status.value


def controls(widget):
    """Everything inside a widget that a hand can move or press."""
    if isinstance(widget, widgets.Box):
        for child in widget.children:
            yield from controls(child)
    elif hasattr(widget, "disabled"):
        yield widget


def shown(control):
    return control.layout.display != "none"
