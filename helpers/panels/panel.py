"""What all panels share: choose a face, type a prompt, run, stop, blend, compare, go back, save."""

import html
import threading
from contextlib import contextmanager

import ipywidgets as widgets
import torch

from ..settings import PAPER_MAPPER, PAPER_OPTIMIZATION
from .edits import Edit, Edits
from .exports import Exports
from .faces import FaceSource
from .pictures import Pictures
from .widgets import FULL, LABEL, row, sentence, slider, switch
from .work import MODELS, Turns, Work

OBJECTIVES = (("ours", "ours"), ("the paper's", "paper"))


def settings_of(domain, method, objective):
    """The settings of "optimization" or "mapper" for an objective, "ours" or "paper"."""
    paper = {"optimization": PAPER_OPTIMIZATION, "mapper": PAPER_MAPPER}
    return paper[method] if objective == "paper" else getattr(domain.settings, method)


class FacePanel:
    """A face, a prompt, and the edit of one by the other.

    A panel of its own fills in the methods under "What a method adds" and names, in `STATE`, the attributes that
    make up an edit one can go back to, and in `self.controls`, the widgets.

    A run uses the prompt and the settings of the moment it began. A second Run beside it does nothing; a Run of another
    panel waits for its end. The run goes on if the page is closed, and its result is there when the panel is displayed
    again. What is chosen or moved while the networks are at work counts when they are free again.

    While a slider moves, the edit is drawn at the size `domain.draw`, and at full size once it rests.

    Args:
        domain: a `Domain`.
        invert: as `helpers.inversion.invert`.
        folder: where Save puts its files.
    """

    STATE = ("chosen", "_prompt", "_with")

    def __init__(self, domain, invert, folder, objectives=OBJECTIVES):
        self.domain, self.invert = domain, invert
        self.chosen = None  # the `Face` on show
        self._prompt, self._with = domain.prompts[0], objectives[0][1]  # of the edit on show
        self._plain = self._with  # the objective that goes without saying
        self._setting = threading.local()  # `quietly`: does this thread set controls that no hand has moved?

        self.pictures = Pictures()
        self.faces = FaceSource(domain, self.say, self._ask)
        self.work = Work(self.say, self.pictures.show_step, self._set_ready)
        self.turns = Turns(self.work, self.say, self.draw)
        self.edits = Edits(self._go_back)
        self.exports = Exports(self, folder)
        self.before, self.after, self.caption = self.pictures.before, self.pictures.after, self.pictures.caption
        self.compare = self.pictures.compare
        self.save_png, self.save_gif, self.grid = self.exports.png, self.exports.gif, self.exports.grid
        self.face, self.again, self.upload = self.faces.choice, self.faces.another, self.faces.upload
        self.run, self.stop, self.progress = self.work.run, self.work.stop, self.work.progress
        self.history, self.wait = self.edits.choice, self.work.wait

        self.prompt = widgets.Combobox(value=domain.prompts[0], options=list(domain.prompts), description="prompt",
                                       ensure_option=False, style=LABEL, layout=FULL)
        self.objective = switch("objective", objectives)
        self.status = widgets.HTML()
        self.strength = slider("strength", 1.0, 0, 1.5, 0.05, disabled=True)
        self.need_edit = [self.strength, self.compare, self.save_png, self.save_gif, self.grid]
        self.controls = {"prompt": self.prompt, "strength": self.strength}

        self.prompt.on_msg(lambda widget, content, buffers: content.get("event") == "submit" and self.start())
        self.run.on_click(lambda clicked: self.start())
        self.observe(self.objective, self._objective_changed)
        self.observe(self.strength, self._moved)
        self.observe(self.compare, self.pictures.draw_line)

    def arrange(self, *controls):
        """Lay the panel out, the panel's own controls under the prompt; rows wrap on a narrow page.

        What is moved while one looks stands right above the pictures, so that both fit on a screen.
        """
        self.widget = widgets.VBox([
            row(self.faces.widgets), self.prompt, self.objective, row(controls), row(self.work.widgets), self.status,
            row([self.strength, self.compare]), self.pictures.widget,
            row([self.history, self.save_png, self.save_gif, self.grid]), self.exports.saver.link, self.exports.sheet])
        self.faces.ask()

    def _ipython_display_(self):
        from IPython.display import display
        display(self.widget)

    def say(self, text):
        """Show one line under the buttons; screen readers read it out."""
        self.status.value = f'<span role="status">{html.escape(str(text).strip())}</span>'

    # What a method adds

    def settings(self):
        """What a run reads of the panel's own controls, as keywords of `edit`."""
        return {"objective": self.objective.value}

    def edit(self, prompt, **settings):
        """Do what Run does, in the thread of a run; returns a sentence."""

    def look_up(self):
        """Find what can be shown of a new face or sentence without a run."""

    def ready(self):
        """Is there an edit to show?"""

    def blended(self, strength, resolution=None):
        """The image [1, 3, R, R] at a strength; at 0 it is the source."""

    def strengths(self):
        """The rows of the grid."""
        return [0.0, 0.5, 1.0, 1.5]

    def columns(self, prompt, **settings):
        """The columns of the grid, one by one: (label, function from a strength to an image), in a run's thread."""

    def description(self):
        """What a saved picture says of the edit on show, {keyword: text}."""
        return {"Prompt": self._prompt, "Objective": self._with}

    # What follows when a control is moved

    def observe(self, control, action):
        """Call an action when a control is moved, but not when the panel itself sets it."""
        control.observe(lambda change: self._quiet or self.guard(action), "value")

    @property
    def _quiet(self):
        return getattr(self._setting, "quiet", False)

    @contextmanager
    def quietly(self):
        """Set controls without what follows when a hand moves them."""
        before, self._setting.quiet = self._quiet, True
        try:
            yield
        finally:
            self._setting.quiet = before

    def guard(self, action):
        """Do something; what goes wrong becomes one line in the panel."""
        try:
            action()
        except Exception as error:
            self.say(sentence(error))

    # Choosing a face

    def _ask(self, load):
        if not self._quiet:
            self.turns.do("face", lambda: self._show(load()))

    def _show(self, face):
        """Show a face and, if it can be had without a run, its edit."""
        with self.quietly():
            self.faces.show(face)
        self.chosen = face
        self.edits.on_show(None)
        self.pictures.show_source(face.image)
        self._set_ready()
        self.turns.do("look up", self.look_up)

    def changed(self):
        """A sentence or a setting that the edit on show depends on has changed."""
        def look_up_and_remember():
            self.edits.on_show(None)
            self.look_up()
            self._remember()

        self.turns.do("look up", look_up_and_remember)

    def _objective_changed(self):
        """Set the panel's own controls to the settings of the objective."""

    def _set_ready(self):
        for control in self.need_edit:
            control.disabled = not self.ready() or self.work.busy
        for control in (self.face, self.again, self.upload):
            control.disabled = self.work.busy
        self.history.disabled = self.work.busy or not len(self.edits)

    # Running

    def start(self):
        """What Run and the Enter key do; `wait` waits for its end."""
        prompt, objective, settings = self.prompt.value, self.objective.value, self.settings()
        stopped = []  # says whether the run ended before its edit began

        def run():
            self.domain.clip.encode_text([prompt])  # a prompt that cannot be used says so before any work
            self._encode()
            if self.work.stopped:
                stopped.append(True)
                return self.say("Stopped before the edit began.")
            self.work.count_anew()
            self.edits.on_show(None)  # what is drawn from now on is another edit
            self.say(f"{self.edit(prompt, **settings)} {self.domain.clip.caution(prompt)}")
            self._prompt, self._with = prompt, objective

        def ended(succeeded):
            if succeeded and not stopped:
                self._remember()
                if self.turns.waits("face"):
                    self.say(f"{self.title}: done, and under \"go back\". This is the face chosen meanwhile.")
            self.turns.catch_up()

        self.work.start(run, ended)

    def _encode(self):
        """Find the latent of the face on show, if it is not known."""
        face = self.chosen
        if face is None:
            raise ValueError("Choose a face first.")
        if face.w_plus is None:
            self.say("Finding the latent of this picture.")
            w_plus, _ = self.invert(self.domain, face.image, callback=self.work.watch)
            if not self.work.stopped:  # else the next run begins anew
                face.w_plus = w_plus
                self.faces.keep(face)

    # Looking at the result

    @property
    def title(self):
        """What the edit on show is called."""
        return self._prompt if self._with == self._plain else f"{self._prompt} ({self._with})"

    def _moved(self):
        self.turns.do("picture", lambda: self.draw(self.domain.draw))

    def draw(self, resolution=None):
        """Draw the edit; if at less than full size, again at full size when nothing has moved for a moment."""
        if not self.ready() or self.work.busy:
            return
        self.turns.rest.cancel()
        with MODELS.for_picture(), torch.no_grad():
            self.pictures.show_edit(self.blended(self.strength.value, resolution), self.title)
        self.edits.update(self._state(), self._values())
        if resolution is not None:
            self.turns.rest.move()

    # Going back

    def _remember(self):
        """Put the edit on show on the list of those that one can go back to."""
        if self.ready():
            self.edits.add(Edit(self.title, self._state(), self._values()))
            self._set_ready()

    def _state(self):
        return {name: getattr(self, name) for name in self.STATE}

    def _values(self):
        return {name: control.value for name, control in self.controls.items()} | {"prompt": self._prompt}

    def _go_back(self, edit, number):
        if not self.work.busy:
            self.guard(lambda: self._restore(edit, number))

    def _restore(self, edit, number):
        with self.quietly():
            for name, value in edit.state.items():
                setattr(self, name, value)
            for name, value in edit.values.items():
                self.controls[name].value = value
            self.faces.show(self.chosen)
        self.pictures.show_source(self.chosen.image)
        self.edits.on_show(edit)
        self.restored()
        self._set_ready()
        self.say(f"Back at edit {number}: {edit.title}")
        self.turns.do("picture", self.draw)

    def restored(self):
        """The controls were set to those of an earlier edit."""
