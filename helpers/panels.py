"""ipywidgets panels. They hold no method: they call the functions a notebook passes in.

Long work runs in a thread beside the kernel, so that Stop works both where a running cell blocks widget messages
(Colab) and where callbacks run on threads of their own (JupyterLab). One lock keeps the networks for one run at a time.
"""

import html
import threading
from pathlib import Path

import ipywidgets as widgets
import torch

from . import images
from .latents import random_w_plus

MODELS = threading.Lock()  # whoever runs the networks holds it
SIDE = 256  # pixels of a picture in a panel
LABEL = {"description_width": "90px"}
WIDE = {"width": "auto"}  # as wide as its text


def uploaded(upload):
    """The bytes of a FileUpload's file, or None; its value is a dict in ipywidgets 7 and a tuple in 8."""
    files = list(upload.value.values()) if isinstance(upload.value, dict) else list(upload.value)
    return bytes(files[-1]["content"]) if files else None


class FacePanel:
    """What all panels share: choose a face, type a prompt, run in the background, stop, blend, save.

    A panel of its own says, in `_settings`, which widgets a run reads; in `_edit`, what a run does; in `_ready`,
    whether there is an edit to show; in `_edited`, which w_plus it is at a strength.

    Args:
        domain: a `Domain`.
        invert: as `helpers.inversion.invert`.
        folder: where Save puts its files.
    """

    def __init__(self, domain, invert, folder):
        self.domain, self.invert, self.folder = domain, invert, Path(folder)
        self.image = None  # the picture chosen, [1, 3, R, R]
        self.source = None  # its w_plus, once it is known
        self._inverted = {}  # picture's name -> w_plus, so that a face is encoded once
        self._thread, self._stop, self._busy = None, threading.Event(), False
        self._seed = 0

        choices = [(path.stem.replace("_", " "), str(path)) for path in domain.samples] + [("random face", "random")]
        self.face = widgets.Dropdown(options=choices, description="face", style=LABEL)
        self.again = widgets.Button(description="another random face", icon="random", layout=WIDE)
        self.upload = widgets.FileUpload(accept="image/*", multiple=False, description="open a file", layout=WIDE)
        self.aligned = widgets.Checkbox(value=False, indent=False, layout=WIDE,
                                        description="cut out as FFHQ's faces are, already")
        self.prompt = widgets.Combobox(value=domain.prompts[0], options=list(domain.prompts), description="prompt",
                                       ensure_option=False, style=LABEL, layout=widgets.Layout(width="440px"))
        self.run = widgets.Button(description="Run", button_style="primary", icon="play")
        self.stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.progress = widgets.IntProgress(value=0, min=0, max=1, layout=widgets.Layout(width="240px"))
        self.status = widgets.HTML()
        self.strength = widgets.FloatSlider(value=1, min=0, max=1.5, step=0.05, description="strength", style=LABEL,
                                            disabled=True)
        self.before, self.after = (widgets.Image(format="jpeg", width=SIDE, height=SIDE) for _ in range(2))
        self.save_png = widgets.Button(description="Save PNG", disabled=True)
        self.save_gif = widgets.Button(description="Save GIF", disabled=True)

        self.face.observe(lambda change: self._choose(), "value")
        self.again.on_click(lambda button: self._another())
        self.upload.observe(lambda change: self._open(), "value")
        self.run.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self._stop.set())
        self.strength.observe(lambda change: self._blend(), "value")
        self.save_png.on_click(lambda button: self._save("png"))
        self.save_gif.on_click(lambda button: self._save("gif"))

    def _arrange(self, *controls):
        """Lay the panel out, the panel's own controls in a row under the prompt."""
        row, column = widgets.HBox, widgets.VBox
        wrap = widgets.Layout(flex_flow="row wrap")
        sources = [self.face, self.again, self.upload, *([self.aligned] if self.domain.align else [])]
        self.widget = column([
            row(sources, layout=wrap), self.prompt, row(controls, layout=wrap),
            row([self.run, self.stop, self.progress], layout=wrap), self.status,
            row([column([widgets.HTML(title), picture]) for title, picture in
                 (("before", self.before), ("after", self.after))], layout=wrap),
            row([self.strength, self.save_png, self.save_gif], layout=wrap)])

    def _ipython_display_(self):
        from IPython.display import display
        display(self.widget)

    def say(self, text):
        """Show one line under the buttons."""
        self.status.value = html.escape(str(text))

    # Choosing a face

    def _show_source(self, image, w_plus=None):
        self.image, self.source = image, w_plus
        self.before.value = self.after.value = images.to_jpeg(image, SIDE)
        self._set_ready()

    def _set_ready(self):
        for control in (self.strength, self.save_png, self.save_gif):
            control.disabled = not self._ready()

    def _choose(self):
        if self._busy:
            return self.say("A run is under way: the new choice counts when it has ended; press Run again then.")
        self._guard(self._another if self.face.value == "random" else self._load)

    def _load(self):
        self._name = self.face.value
        self._show_source(images.open_image(self._name, self.domain.generator.resolution, self.say,
                                            self.domain.align))

    def _another(self):
        if self._busy:
            return
        if self.face.value != "random":
            self.face.value = "random"  # comes back here through the observer
            return
        self._seed, self._name = self._seed + 1, None
        with MODELS, torch.no_grad():
            w_plus = random_w_plus(self.domain, 1, self._seed)
            image = self.domain.generator(w_plus)
        self._show_source(image, w_plus)

    def _open(self):
        content = uploaded(self.upload)
        if content is None or self._busy:
            return

        def load():
            align = self.domain.align and not self.aligned.value
            image = images.open_image(content, self.domain.generator.resolution, self.say, align)
            self._name = f"file {hash(content)}"
            self._show_source(image)

        self._guard(load)

    # Running

    def start(self):
        """What Run does; `wait` waits for its end."""
        if self._busy:
            return
        self._busy = True
        self._stop.clear()
        self._set_busy(True)
        self._thread = threading.Thread(target=self._work, args=(self.prompt.value, self._settings()), daemon=True)
        self._thread.start()

    def wait(self, seconds=None):
        """Wait until the run has ended."""
        if self._thread:
            self._thread.join(seconds)

    def _work(self, prompt, settings):
        def run():
            if not MODELS.acquire(blocking=False):
                self.say("Waiting for another run to end.")
                MODELS.acquire()
            try:
                self.domain.clip.encode_text([prompt])  # a prompt that cannot be used says so before any work
                if self.source is None:
                    self.source = self._encode()
                if self._stop.is_set():
                    return self.say("Stopped before the edit began.")
                self.say(f"{self._edit(prompt, **settings)} {self.domain.clip.caution(prompt)}")
            finally:
                MODELS.release()
            self._prompt, self._busy = prompt, False
            self._set_ready()
            self._blend()

        self._guard(run)
        self._busy = False
        self._set_busy(False)

    def _encode(self):
        if self._name not in self._inverted:
            self.say("Finding the latent of this picture.")
            w_plus, _ = self.invert(self.domain, self.image, callback=self._watch)
            if self._stop.is_set():
                return w_plus  # not kept: the next run begins anew
            self._inverted[self._name] = w_plus
        return self._inverted[self._name]

    def _watch(self, state):
        self.progress.max, self.progress.value = state["steps"], state["step"]
        if state["step"] % 5 == 0 or state["step"] == state["steps"]:
            self.after.value = images.to_jpeg(state["image"][:1], SIDE)
        return self._stop.is_set()

    def _set_busy(self, busy):
        self.stop.disabled = not busy
        for control in (self.run, self.face, self.again, self.upload):
            control.disabled = busy

    # Looking at the result

    def blended(self, strength):
        """The image at a strength; 0 is the source."""
        with torch.no_grad():
            return self.domain.generator(self.source if strength == 0 else self._edited(strength))

    def _blend(self):
        if not self._ready() or self._busy:
            return
        with MODELS:
            self.after.value = images.to_jpeg(self.blended(self.strength.value), SIDE)

    def _save(self, kind):
        def save():
            name = "".join(letter if letter.isalnum() else "-" for letter in self._prompt)[:60]
            path = self.folder / f"{name}.{kind}"
            with MODELS:
                if kind == "png":
                    content = images.to_png(self.blended(self.strength.value))
                else:
                    content = images.to_gif(torch.cat([self.blended(i / 10) for i in range(11)]), SIDE)
            part = path.with_name(path.name + ".part")
            part.write_bytes(content)
            part.replace(path)
            self.say(f"Saved {path}")

        self._guard(save)

    def _guard(self, action):
        """Run an action; what goes wrong becomes one line in the panel."""
        try:
            action()
        except Exception as error:
            self.say(f"{error}" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}")


class OptimizationPanel(FacePanel):
    """Method 1: every run searches for an edit of this face.

    Args:
        domain, invert, folder: as `FacePanel`.
        optimize: as notebook 1's `optimize_latent`.
    """

    def __init__(self, domain, invert, optimize, *, steps=60, lambda_l2=0.001, lambda_id=0.1, folder="."):
        self.optimize, self.result = optimize, None  # w_plus after the edit
        super().__init__(domain, invert, folder)
        self.steps = widgets.IntSlider(value=steps, min=20, max=300, step=20, description="steps", style=LABEL)
        self.lambda_l2 = widgets.FloatSlider(value=lambda_l2, min=0, max=max(0.02, 3 * lambda_l2), step=0.001,
                                             readout_format=".3f", description="lambda_l2", style=LABEL)
        self.lambda_id = widgets.FloatSlider(value=lambda_id, min=0, max=max(0.5, 3 * lambda_id), step=0.005,
                                             readout_format=".3f", description="lambda_id", style=LABEL,
                                             disabled=domain.identity is None)
        self._arrange(self.steps, self.lambda_l2, self.lambda_id)
        self._choose()

    def _settings(self):
        return dict(steps=self.steps.value, lambda_l2=self.lambda_l2.value, lambda_id=self.lambda_id.value)

    def _show_source(self, image, w_plus=None):
        self.result = None
        super()._show_source(image, w_plus)

    def _edit(self, prompt, **settings):
        self.say(f"Editing: {prompt}")
        self.result, history = self.optimize(self.domain, self.source, prompt, callback=self._watch, **settings)
        self.strength.value = 1
        return f"{prompt}: {'stopped' if self._stop.is_set() else 'done'} after {len(history['loss'])} steps."

    def _ready(self):
        return self.result is not None

    def _edited(self, strength):
        return self.source + strength * (self.result - self.source)


class MapperPanel(FacePanel):
    """Method 2: a mapper is trained once per prompt, then edits every face at once.

    Args:
        domain, invert, folder: as `FacePanel`.
        find: prompt -> a trained mapper, or None if there is none yet.
        train: (prompt, callback) -> a trained mapper, kept so that `find` finds it.
        apply: as notebook 2's `apply_mapper`.
    """

    def __init__(self, domain, invert, find, train, apply, *, folder="."):
        self.find, self.train, self.apply, self.mapper = find, train, apply, None
        super().__init__(domain, invert, folder)
        self.strength.min, self.strength.max = -1, 2
        self.networks = [widgets.Checkbox(value=True, description=name, indent=False,
                                          layout=widgets.Layout(width="90px")) for name in domain.rows]
        for box in self.networks:
            box.observe(lambda change: self._blend(), "value")
        self.prompt.observe(lambda change: self._guard(self._look_up), "value")
        self._arrange(*self.networks)
        self._choose()
        self._guard(self._look_up)

    def _settings(self):
        return {}

    def _look_up(self):
        if self._busy:
            return self.say("A run is under way: the new prompt counts when it has ended; press Run again then.")
        self._prompt, self.mapper = self.prompt.value, None
        self.mapper = self.find(self._prompt)
        self._set_ready()
        self._blend()
        if self.mapper is None:
            self.say("There is no mapper for this prompt yet: Run trains one.")
        elif self.source is None:
            self.say("There is a mapper for this prompt: Run finds the latent of this picture first.")
        else:
            self.say(f"{self._prompt}: move the strength.")

    def _show_source(self, image, w_plus=None):
        super()._show_source(image, w_plus if self._name is None else self._inverted.get(self._name))
        self._blend()

    def _edit(self, prompt):
        self.mapper = self.find(prompt)
        if self.mapper is None:
            self.say(f"Training a mapper: {prompt}")
            self.mapper = self.train(prompt, self._watch)
        return f"{prompt}: {'stopped; this is the best so far' if self._stop.is_set() else 'move the strength'}."

    def _ready(self):
        return self.mapper is not None and self.source is not None

    def _edited(self, strength):
        acting = [box.description for box in self.networks if box.value]
        return self.apply(self.domain, self.mapper, self.source, strength, acting)


class GlobalPanel(FacePanel):
    """Method 3: two sentences, two sliders, and the picture follows; edits can be put on top of one another.

    Args:
        domain, invert, folder: as `FacePanel`.
        direction: as notebook 3's `global_direction`.
    """

    def __init__(self, domain, invert, direction, *, folder="."):
        self.direction, self._step = direction, None
        self.kept = []  # (sentence, alpha * direction) of each edit below this one
        super().__init__(domain, invert, folder)
        self.neutral = widgets.Text(value=domain.neutral, description="neutral", style=LABEL, continuous_update=False)
        self.prompt.continuous_update = False
        self.strength.description, self.strength.min, self.strength.max = "alpha", -10, 10
        self.strength.step, self.strength.value = 0.1, domain.alpha
        if domain.beta < 1:  # a threshold of the relevance
            self.beta = widgets.FloatSlider(value=domain.beta, min=0, max=0.4, step=0.01, description="beta",
                                            style=LABEL)
        else:  # how many channels to leave
            self.beta = widgets.IntSlider(value=domain.beta, min=1, max=domain.generator.style_dim, style=LABEL,
                                          description="beta", readout_format="d")
        self.keep = widgets.Button(description="Keep this edit", icon="plus", layout=WIDE)
        self.forget = widgets.Button(description="Forget kept edits", icon="trash", layout=WIDE)
        for control in (self.prompt, self.neutral, self.beta):
            control.observe(lambda change: self._look_up(), "value")
        self.keep.on_click(lambda button: self._keep())
        self.forget.on_click(lambda button: self._forget())
        self._arrange(self.neutral, self.beta, self.keep, self.forget)
        self._choose()

    def _settings(self):
        return {}

    def _look_up(self):
        if self._busy:
            return self.say("A run is under way: the change counts when it has ended.")
        self._step = None
        self._guard(self._find)
        self._set_ready()
        self._guard(self._blend)

    def _find(self):
        self._prompt = self.prompt.value
        self._step = self.direction(self.domain, self.neutral.value, self._prompt, beta=self.beta.value)
        kept = f" on top of {', '.join(sentence for sentence, _ in self.kept)}" if self.kept else ""
        ask = "move alpha" if self.source is not None else "Run finds the latent of this picture first"
        channels = int((self._step != 0).sum())
        self.say(f"{self._prompt}{kept}, {channels} channels: {ask}. {self.domain.clip.caution(self._prompt)}")

    def _show_source(self, image, w_plus=None):
        super()._show_source(image, w_plus if self._name is None else self._inverted.get(self._name))
        self._look_up()

    def _edit(self, prompt):
        self._find()
        return f"{prompt}: move alpha."

    def _ready(self):
        return self.source is not None and self._step is not None

    def blended(self, strength):
        """The image at a strength, with the kept edits below it; 0 without any is the source."""
        with torch.no_grad():
            s = self.domain.generator.styles(self.source)
            return self.domain.generator.synthesize(s + sum(step for _, step in self.kept) + strength * self._step)

    def _keep(self):
        if self._ready():
            self.kept.append((self._prompt, self.strength.value * self._step))
            self.strength.value = 0
            self.say(f"Kept: {', '.join(sentence for sentence, _ in self.kept)}. Type the next sentence.")

    def _forget(self):
        self.kept.clear()
        self._look_up()
