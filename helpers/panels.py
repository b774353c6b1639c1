"""ipywidgets panels. They hold no method: they call the functions a notebook passes in.

Long work runs in a thread beside the kernel, so that Stop works both where a running cell blocks widget messages
(Colab) and where callbacks run on threads of their own (JupyterLab). One lock keeps the networks for one run at a time.
"""

import html
import threading
import time
from pathlib import Path

import ipywidgets as widgets
import torch

from . import images
from .latents import random_w_plus

MODELS = threading.Lock()  # whoever runs the networks holds it
SIDE = 256  # pixels of a picture in a panel
LABEL = {"description_width": "80px"}
WIDE = {"width": "auto"}  # as wide as its text
FULL = {"width": "98%", "max_width": "440px"}  # as wide as a phone allows


def uploaded(upload):
    """The bytes of a FileUpload's file, or None; its value is a dict in ipywidgets 7 and a tuple in 8."""
    files = list(upload.value.values()) if isinstance(upload.value, dict) else list(upload.value)
    return bytes(files[-1]["content"]) if files else None


class FacePanel:
    """What all panels share: choose a face, type a prompt, run in the background, stop, blend, compare, go back, save.

    A panel of its own says, in `_settings`, which widgets a run reads; in `_edit`, what a run does; in `_ready`,
    whether there is an edit to show; in `_edited`, which w_plus it is at a strength; in `STATE` and `CONTROLS`, which
    attributes and widgets make up an edit that one can go back to.

    A run uses the prompt and the settings of the moment it began. A second Run beside it does nothing; a Run of
    another panel waits for its end. The run goes on if the page is closed, and its result is there when the panel is
    displayed again.

    Args:
        domain: a `Domain`.
        invert: as `helpers.inversion.invert`.
        folder: where Save puts its files.
    """

    STATE = ("image", "source", "_name", "_prompt")
    CONTROLS = ("prompt", "strength")

    def __init__(self, domain, invert, folder):
        self.domain, self.invert, self.folder = domain, invert, Path(folder)
        self.image = None  # the picture chosen, [1, 3, R, R]
        self.source = None  # its w_plus, once it is known
        self._name, self._prompt = None, domain.prompts[0]
        self._inverted = {}  # picture's name -> w_plus, so that a face is encoded once
        self._thread, self._stop, self._busy = None, threading.Event(), False
        self._first = None  # when a run took its first step, and which
        self._seed, self._missed = 0, False  # was something changed that a run under way did not see?
        self._edits, self._current, self._restoring = [], None, False

        choices = [(path.stem.replace("_", " "), str(path)) for path in domain.samples] + [("random face", "random")]
        self.face = widgets.Dropdown(options=choices, description="face", style=LABEL, layout=FULL)
        self.again = widgets.Button(description="another random face", icon="random", layout=WIDE)
        self.upload = widgets.FileUpload(accept="image/*", multiple=False, description="open a file", layout=WIDE)
        self.aligned = widgets.Checkbox(value=False, indent=False, layout=WIDE,
                                        description="cut out as FFHQ's faces are, already")
        self.prompt = widgets.Combobox(value=domain.prompts[0], options=list(domain.prompts), description="prompt",
                                       ensure_option=False, style=LABEL, layout=FULL)
        self.run = widgets.Button(description="Run", button_style="primary", icon="play", layout=WIDE)
        self.stop = widgets.Button(description="Stop", icon="stop", disabled=True, layout=WIDE)
        self.progress = widgets.IntProgress(value=0, min=0, max=1, layout=widgets.Layout(width="160px"))
        self.time_left, self.status = widgets.Label(), widgets.HTML()
        self.strength = widgets.FloatSlider(value=1, min=0, max=1.5, step=0.05, description="strength", style=LABEL,
                                            disabled=True, layout=FULL)
        self.compare = widgets.FloatSlider(value=0, min=0, max=1, step=0.01, description="compare", style=LABEL,
                                           readout=False, disabled=True, layout=FULL)
        half = widgets.Layout(width="100%", max_width=f"{SIDE}px", height="auto")
        self.before, self.after = (widgets.Image(format="jpeg", layout=half) for _ in range(2))
        self.caption = widgets.HTML("after")
        self.history = widgets.Dropdown(options=[("the edits so far", None)], description="go back", style=LABEL,
                                        disabled=True, layout=FULL)
        self.save_png = widgets.Button(description="Save PNG", disabled=True, layout=WIDE)
        self.save_gif = widgets.Button(description="Save GIF", disabled=True, layout=WIDE)

        self.face.observe(lambda change: self._choose(), "value")
        self.again.on_click(lambda button: self._another())
        self.upload.observe(lambda change: self._open(), "value")
        self.prompt.on_msg(lambda widget, content, buffers: content.get("event") == "submit" and self.start())
        self.run.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self._stop.set())
        self.strength.observe(lambda change: self._blend(), "value")
        self.compare.observe(lambda change: self._blend(), "value")
        self.history.observe(lambda change: self._go_back(change["new"]), "value")
        self.save_png.on_click(lambda button: self._save("png"))
        self.save_gif.on_click(lambda button: self._save("gif"))

    def _arrange(self, *controls):
        """Lay the panel out, the panel's own controls in a row under the prompt; rows wrap on a narrow page."""
        column, wrap = widgets.VBox, widgets.Layout(flex_flow="row wrap", align_items="center")

        def row(children):
            return widgets.HBox(children, layout=wrap)

        half, bottom = widgets.Layout(width="47%", max_width=f"{SIDE + 8}px"), widgets.Layout(align_items="flex-end")
        sources = [self.face, self.again, self.upload, *([self.aligned] if self.domain.align else [])]
        self.widget = column([
            row(sources), self.prompt, row(controls), row([self.run, self.stop, self.progress, self.time_left]),
            self.status,
            widgets.HBox([column([widgets.HTML("before"), self.before], layout=half),
                          column([self.caption, self.after], layout=half)], layout=bottom),
            row([self.strength, self.compare, self.history, self.save_png, self.save_gif])])

    def _ipython_display_(self):
        from IPython.display import display
        display(self.widget)

    def say(self, text):
        """Show one line under the buttons; screen readers read it out."""
        self.status.value = f'<span role="status">{html.escape(str(text))}</span>'

    # Choosing a face

    def _show_source(self, image, w_plus=None):
        self.image, self.source, self._current = image, w_plus, None
        self.before.value = self.after.value = images.to_jpeg(image, SIDE)
        self._set_ready()

    def _set_ready(self):
        ready = self._ready() and not self._busy
        for control in (self.strength, self.compare, self.save_png, self.save_gif):
            control.disabled = not ready
        self.history.disabled = self._busy or not self._edits

    def _choose(self):
        if self._restoring:
            return
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
        """What Run and the Enter key do; `wait` waits for its end."""
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
                self._first = None
                self.say(f"{self._edit(prompt, **settings)} {self.domain.clip.caution(prompt)}")
            finally:
                MODELS.release()
            self._prompt, self._busy = prompt, False
            self._remember()
            self._blend()

        self._guard(run)
        self._busy = False
        self._set_busy(False)
        if self._missed:
            self._missed = False
            self._guard(self._look_up)

    def _changed(self):
        """A sentence or a setting changed; what was changed during a run counts when it has ended."""
        if self._restoring:
            return
        if self._busy:
            self._missed = True
            return self.say("A run is under way: the change counts when it has ended.")
        self._guard(self._look_up)

    def _look_up(self):
        """Find what can be shown without a run."""

    def _encode(self):
        if self._name not in self._inverted:
            self.say("Finding the latent of this picture.")
            self._first = None
            w_plus, _ = self.invert(self.domain, self.image, callback=self._watch)
            if self._stop.is_set():
                return w_plus  # not kept: the next run begins anew
            self._inverted[self._name] = w_plus
        return self._inverted[self._name]

    def _watch(self, state):
        self.progress.max, self.progress.value = state["steps"], state["step"]
        now = time.perf_counter()
        self._first = self._first or (now, state["step"])  # what comes before the first step does not count
        left = (now - self._first[0]) / max(1, state["step"] - self._first[1]) * (state["steps"] - state["step"])
        self.time_left.value = f"{left:.0f} s left" if left >= 1 else ""
        if state["step"] % 5 == 0 or state["step"] == state["steps"]:
            self.after.value = images.to_jpeg(state["image"][:1], SIDE)
        return self._stop.is_set()

    def _set_busy(self, busy):
        self.stop.disabled, self.time_left.value = not busy, ""
        for control in (self.run, self.face, self.again, self.upload):
            control.disabled = busy
        self._set_ready()

    # Looking at the result

    def blended(self, strength):
        """The image at a strength; 0 is the source."""
        with torch.no_grad():
            return self.domain.generator(self.source if strength == 0 else self._edited(strength))

    def _blend(self):
        if not self._ready() or self._busy or self._restoring:
            return
        with MODELS:
            after = images.to_pil(self.blended(self.strength.value), SIDE)
        if self.compare.value > 0:  # the source up to a line, the edit beyond it
            edge = round(self.compare.value * SIDE)
            after.paste(images.to_pil(self.image, SIDE).crop((0, 0, edge, SIDE)), (0, 0))
            after.paste("white", (max(0, edge - 1), 0, edge + 1, SIDE))
        self.after.value = images.to_jpeg(after)
        self.caption.value = html.escape(f"after: {self._prompt}")
        if self._current is not None:  # one comes back to an edit as one left it
            self._edits[self._current][1].update(self._values())

    # Going back

    def _remember(self):
        """Put the edit on show on the list of those that one can go back to."""
        if not self._ready():
            return
        state = {name: getattr(self, name) for name in self.STATE}
        self._edits.append((state, self._values()))
        self._current = len(self._edits) - 1
        self._restoring = True
        self.history.options = [("the edits so far", None), *((f"{i + 1}: {values['prompt']}", i)
                                                              for i, (_, values) in enumerate(self._edits))]
        self._restoring = False
        self._set_ready()

    def _values(self):
        return {name: getattr(self, name).value for name in self.CONTROLS} | {"prompt": self._prompt}

    def _go_back(self, index):
        if index is None or self._restoring or self._busy:
            return
        state, values = self._edits[index]
        self._restoring = True
        try:
            for name, value in state.items():
                setattr(self, name, value)
            for name, value in values.items():
                getattr(self, name).value = value
            known = [value for _, value in self.face.options]
            self.face.value = self._name if self._name in known else "random" if self._name is None else self.face.value
        finally:
            self._restoring = False
        self.before.value, self._current = images.to_jpeg(self.image, SIDE), index
        self._set_ready()
        self._blend()
        self.say(f"Back at edit {index + 1}: {self._prompt}")

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

    STATE = (*FacePanel.STATE, "result")

    def __init__(self, domain, invert, optimize, *, steps=60, lambda_l2=0.001, lambda_id=0.1, folder="."):
        self.optimize, self.result = optimize, None  # w_plus after the edit
        super().__init__(domain, invert, folder)
        self.steps = widgets.IntSlider(value=steps, min=20, max=300, step=20, description="steps", style=LABEL,
                                       layout=FULL)
        self.lambda_l2 = widgets.FloatSlider(value=lambda_l2, min=0, max=max(0.02, 3 * lambda_l2), step=0.001,
                                             readout_format=".3f", description="lambda_l2", style=LABEL, layout=FULL)
        self.lambda_id = widgets.FloatSlider(value=lambda_id, min=0, max=max(0.5, 3 * lambda_id), step=0.005,
                                             readout_format=".3f", description="lambda_id", style=LABEL,
                                             layout=FULL, disabled=domain.identity is None)
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

    STATE = (*FacePanel.STATE, "mapper")

    def __init__(self, domain, invert, find, train, apply, *, folder="."):
        self.find, self.train, self.apply, self.mapper = find, train, apply, None
        super().__init__(domain, invert, folder)
        self.strength.min, self.strength.max = -1, 2
        self.networks = [widgets.Checkbox(value=True, description=name, indent=False,
                                          layout=widgets.Layout(width="90px")) for name in domain.rows]
        for box in self.networks:
            box.observe(lambda change: self._blend(), "value")
        self.prompt.observe(lambda change: self._changed(), "value")
        self._arrange(*self.networks)
        self._choose()
        self._guard(self._look_up)

    def _settings(self):
        return {}

    def _look_up(self):
        self._prompt, self.mapper, self._current = self.prompt.value, None, None
        self.mapper = self.find(self._prompt)
        self._set_ready()
        self._remember()
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

    STATE = (*FacePanel.STATE, "_step", "kept")
    CONTROLS = (*FacePanel.CONTROLS, "neutral", "beta")

    def __init__(self, domain, invert, direction, *, folder="."):
        self.direction, self._step = direction, None
        self.kept = []  # (sentence, alpha * direction) of each edit below this one
        super().__init__(domain, invert, folder)
        self.neutral = widgets.Text(value=domain.neutral, description="neutral", style=LABEL, continuous_update=False,
                                    layout=FULL)
        self.prompt.continuous_update = False
        self.strength.description, self.strength.min, self.strength.max = "alpha", -10, 10
        self.strength.step, self.strength.value = 0.1, domain.alpha
        if domain.beta < 1:  # a threshold of the relevance
            self.beta = widgets.FloatSlider(value=domain.beta, min=0, max=0.4, step=0.01, description="beta",
                                            style=LABEL, layout=FULL)
        else:  # how many channels to leave
            self.beta = widgets.IntSlider(value=domain.beta, min=1, max=domain.generator.style_dim, style=LABEL,
                                          description="beta", readout_format="d", layout=FULL)
        self.keep = widgets.Button(description="Keep this edit", icon="plus", layout=WIDE)
        self.forget = widgets.Button(description="Forget kept edits", icon="trash", layout=WIDE)
        for text in (self.prompt, self.neutral):
            text.observe(lambda change: self._sentences_changed(), "value")
        self.beta.observe(lambda change: self._changed(), "value")
        self.keep.on_click(lambda button: self._keep())
        self.forget.on_click(lambda button: self._forget())
        self._arrange(self.neutral, self.beta, self.keep, self.forget)
        self._choose()

    def _settings(self):
        return {}

    def _look_up(self):
        self._step = None
        try:
            self._find(self.prompt.value)
        finally:
            self._set_ready()
        self._blend()

    def _sentences_changed(self):
        self._current = None
        self._changed()
        if not self._busy and not self._restoring:
            self._remember()

    def _find(self, prompt):
        self._prompt = prompt
        self._step = self.direction(self.domain, self.neutral.value, self._prompt, beta=self.beta.value)
        kept = f" on top of {', '.join(sentence for sentence, _ in self.kept)}" if self.kept else ""
        ask = "move alpha" if self.source is not None else "Run finds the latent of this picture first"
        channels = int((self._step != 0).sum())
        self.say(f"{self._prompt}{kept}, {channels} channels: {ask}. {self.domain.clip.caution(self._prompt)}")

    def _show_source(self, image, w_plus=None):
        super()._show_source(image, w_plus if self._name is None else self._inverted.get(self._name))
        self._changed()

    def _edit(self, prompt):
        self._find(prompt)
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
            self.kept = [*self.kept, (self._prompt, self.strength.value * self._step)]
            self._current = None  # the edit that is kept stays in the history as it was
            self.strength.value = 0
            self._remember()
            self.say(f"Kept: {', '.join(sentence for sentence, _ in self.kept)}. Type the next sentence.")

    def _forget(self):
        self.kept = []
        self._changed()
