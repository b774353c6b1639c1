"""What all panels share: choose a face, type a prompt, run, stop, blend, compare, save."""

import html
import threading
from functools import partial

import ipywidgets as widgets
import torch
from IPython.display import display

from .. import images
from ..inversion import tune_generator
from ..photographs import LearntPicture
from .background import MODEL_LOCK, BackgroundTask, Busy, Debouncer
from .saving import Exports
from .widgets import FULL, LABEL, TEXT_WIDE, FaceSource, Pictures, Refused, row, sentence, slider

OBJECTIVES = (("ours", "ours"), ("the paper's", "paper"))


class FacePanel:
    """A face, a prompt, and the edit of one by the other. It opens with an edit on show.

    A panel of its own fills in the methods under "What a method adds". `found` is what it found
    for a face and a prompt, and draws at any strength; None if there is no edit to show.
    A run uses the prompt and the settings of the moment it began; what cannot be done beside it is
    disabled. It waits for another panel's run, and goes on if the page is closed. While a slider
    moves, the edit is drawn at `domain.preview_resolution`, and at full size once it rests.

    Args: domain: a `Domain`. invert: as `helpers.inversion.invert`. folder: where Save puts files.
        prompt: the one to begin with. objectives: (text, value) of each, the usual one first.
    """

    def __init__(self, domain, invert, folder, prompt, objectives=OBJECTIVES):
        self.domain, self.invert = domain, invert
        self.chosen, self.found = None, None  # the `Face` and the edit on show
        self.shown_prompt, self.shown_objective, self.title = prompt, None, prompt  # of that edit
        self.below, self.boost = "", 1.0  # the sentences of the edits below it; see `find_boost`
        self._usual = objectives[0][1]  # the objective that goes without saying
        self._one, self._actor = threading.RLock(), None  # the thread that does what a hand asked
        self._later = self.draw  # what is done when nothing has moved for a while
        # The prompt's value changes when Enter or Tab is pressed, not with every letter.
        self.prompt = widgets.Combobox(value=prompt, options=list(domain.prompts), style=LABEL,
                                       description="prompt", ensure_option=False,
                                       continuous_update=False, layout=FULL)
        self.objective = widgets.ToggleButtons(options=objectives, description="objective",
                                               style=LABEL | {"button_width": "auto"}, layout=FULL)
        self.strength = slider("strength", 1.0, 0, 1.5, 0.05)
        shown = (("photograph", "photograph"), ("face", "face"))
        self.view = widgets.ToggleButtons(options=shown, description="show",
                                          style=LABEL | {"button_width": "auto"})
        self.status = widgets.HTML(layout={"min_height": "56px", "max_width": "440px"})
        self.caution = widgets.HTML(layout=FULL)
        self.pictures, self.faces, self.task = Pictures(), FaceSource(domain), BackgroundTask(self)
        self.exports = Exports(self, folder)
        self.rest, self.enter = Debouncer(self._rested, 0.3), Debouncer(self.start, 0.2)
        self.face, self.run, self.wait = self.faces.choice, self.task.run, self.task.wait
        self.inputs = [*self.faces.controls, self.prompt, self.objective, self.view]
        self.need_edit = [self.strength, self.pictures.compare, self.exports.png,
                          self.exports.gif, self.exports.grid]
        for control in self.faces.controls:
            self.on(partial(self._show_face, control), control)
        self.on(self.refresh, self.prompt)
        self.on(partial(self.draw_soon, self.draw), self.strength)
        self.on(self.pictures.draw_line, self.pictures.compare)
        self.on(self.draw, self.view)
        self.run.on_click(self.start)
        self.prompt.on_msg(self._prompt_message)

    def arrange(self, controls, rare):
        """Lay the panel out, with the method's controls and, folded, its rare ones; open it."""
        self.more = widgets.ToggleButton(description="more", icon="caret-down", layout=TEXT_WIDE)
        self.rare = widgets.VBox(rare, layout={"display": "none"})
        self.more.observe(self._more_pressed, "value")
        task, exports = self.task, self.exports
        left = widgets.VBox([
            self.face, row(*self.faces.controls[1:]), self.faces.advice, self.prompt, *controls,
            self.more, self.rare,
            row(task.run, task.stop, task.progress, task.time_left), self.status, self.caution,
            self.strength, self.pictures.compare, self.view,
            row(exports.png, exports.gif, exports.grid)],
            layout={"flex": "1 1 310px"})
        sides = row(left, self.pictures.widget, align_items="flex-start")
        self.widget = widgets.VBox([sides, exports.sheet])
        self.attempt(partial(self._show_face, self.face))

    def _ipython_display_(self):
        display(self.widget)

    def say(self, text):
        """Show one sentence; screen readers read it out."""
        self.status.value = f'<span role="status">{html.escape(str(text).strip())}</span>'

    # What a method adds

    def settings(self):
        """What the panel's controls say, as keywords of `look_up`, `edit` and `columns`."""
        return {"objective": self.objective.value}

    def look_up(self, prompt, **settings):
        """What is found without a run, or None; the objective that found it; a sentence."""

    def edit(self, prompt, **settings):
        """As `look_up`, with all that a run is needed for, in its thread."""
        return self.look_up(prompt, **settings)

    def styles_of(self, found, strength):
        """s [1, S] of an edit at a strength. At 0 it is the source's."""

    def find_boost(self, found):
        """By what an edit's strength is multiplied, where strength 1 is what was found."""
        return 1.0

    def strengths(self):
        """The rows of the grid."""
        return sorted({self.strength.min, 0.0, 0.5, 1.0, 1.5})

    def columns(self, prompt, **settings):
        """The columns of the grid, one by one, in a run's thread: a label and what was found."""

    # What follows when a hand moves a control

    def on(self, action, *controls):
        """Have an action follow when a hand presses or moves one of the controls."""
        for control in controls:
            if isinstance(control, widgets.Button):
                control.on_click(partial(self.attempt, action))
            else:
                control.observe(partial(self.attempt, action), "value")

    def attempt(self, action, event=None):
        """Do what a hand asked for, but not beside a run; what goes wrong becomes one line.
        Controls that the action itself sets have no consequences of their own."""
        if self.task.busy or self._actor == threading.get_ident():
            return
        with self._one:
            self._actor = threading.get_ident()
            try:
                try:
                    action()
                except Exception as error:
                    self.say(sentence(error))
                    if isinstance(error, Busy):  # it counts later
                        self._later = action
                        self.rest.move()
                self.set_ready()
            finally:  # also where nothing can be said
                self._actor = None

    def set_ready(self):
        """Disable what cannot be done now, and have the list say which face is on show."""
        busy = self.task.busy
        self.face.value = self.chosen.name if self.chosen else self.face.value
        self.run.disabled, self.task.stop.disabled = busy, not busy
        for control in self.inputs:
            control.disabled = busy
        for control in self.need_edit:
            control.disabled = busy or not self.ready()
        photograph = self.chosen is not None and self.chosen.photograph is not None
        self.view.layout.display = "" if photograph else "none"

    def _rested(self):
        with MODEL_LOCK.lock:  # wait until nobody holds it
            action, self._later = self._later, self.draw
        self.attempt(action)

    def _more_pressed(self, change):
        self.rare.layout.display = "" if self.more.value else "none"

    def _prompt_message(self, widget, content, buffers):
        if content.get("event") == "submit":
            self.enter.move()  # the browser tells of the Enter key before it sends the text

    def _show_face(self, control):
        """Show the face that a control asks for and, if it can be had at once, its edit."""
        with MODEL_LOCK.for_picture(), torch.no_grad():
            self.chosen = self.faces.asked(control)
            self.pictures.show_source(self._shown())
            self.refresh()

    def start(self, clicked=None):
        """What Run and the Enter key do; `wait` waits for its end."""
        self.task.start(self._run, self.prompt.value, self.settings())

    def _run(self, prompt, settings):
        self.domain.clip.encode_text([prompt])  # a bad prompt says so before any work
        face = self.chosen
        if face is None:
            raise Refused("Choose a face first.")
        if face.w_plus is None:
            self._encode(face)
        self._take(prompt, *self.edit(prompt, **settings))

    def _encode(self, face):
        """Find the latent of a picture, and tune a generator to it: one progress bar for both."""
        steps, more = self.domain.settings.encoding.steps, self.domain.settings.tuning.steps
        self.say("Finding the latent of this picture.")
        watch = partial(self.task.watch_part, 0, steps + more)
        w_plus, _ = self.invert(self.domain, face.image, callback=watch)
        if self.task.stopped:  # the next run begins anew
            raise Refused("Stopped before the edit began.")
        self.say("Tuning the generator to this picture.")
        watch = partial(self.task.watch_part, steps, steps + more)
        tuned = tune_generator(self.domain, face.image, w_plus, callback=watch)
        face.learnt = LearntPicture(face.photograph, tuned, w_plus)
        face.w_plus, self.faces.encoded[face.name] = w_plus, face
        if self.task.stopped:
            raise Refused("Stopped: the picture stays as well learnt as it is, and Run edits it.")

    def _take(self, prompt, found, objective, said):
        """An edit has been found: say so, and which words of its prompt CLIP does not know."""
        self.found, self.shown_prompt, self.shown_objective = found, prompt, objective
        self.boost = self.find_boost(found) if self.ready() else 1.0
        self.title = prompt if objective == self._usual else f"{prompt} ({objective})"
        self.say(said if self.ready() else f"{self.chosen.note} {said}")
        caution = html.escape(self.domain.clip.caution(prompt))
        self.caution.value = caution and f'<div style="line-height: 1.3">{caution}</div>'

    def ready(self):
        """Is there an edit to show?"""
        return self.found is not None and self.chosen.w_plus is not None

    def blended(self, strength, resolution=None):
        """The image [1, 3, R, R] of the edit on show at a strength. At 0 it is the source."""
        return self.image_of(self.found, strength, resolution)

    def image_of(self, found, strength, resolution=None):
        """The image [1, 3, R, R] of an edit at a strength: of a picture of one's own as it learnt
        to draw it, at full size; else drawn by the domain's generator."""
        s = self.styles_of(found, strength)
        if self.chosen.learnt is not None:
            return self.chosen.learnt.face(s)
        return self.domain.generator.synthesize(s, resolution=resolution)

    def boost_of(self, edited):
        """How much longer the step to s edited [1, S] has to be where the picture on show has a
        tuned generator of its own (`LearntPicture.boost`)."""
        if self.chosen.learnt is None:
            return 1.0
        return self.chosen.learnt.boost(edited)

    def picture_of(self, strength, resolution=None, whole=True):
        """The edit on show at a strength as a PIL picture: put back into its photograph, if it
        comes from one and `whole`."""
        if whole and self.chosen.photograph is not None and self.chosen.learnt is not None:
            return self.chosen.learnt.picture(self.styles_of(self.found, strength))
        return images.to_pil(self.blended(strength, resolution))

    def _shown(self):
        """The picture before the edit, as "show" says: the photograph, or the face."""
        if self.chosen.photograph is not None and self.view.value == "photograph":
            return self.chosen.photograph.picture
        return images.to_pil(self.chosen.image)

    def refresh(self, resolution=None):
        """Show the edit that the controls ask for, if it can be had without a run."""
        if self.chosen is None:
            raise Refused("Choose a face first.")
        with MODEL_LOCK.for_picture(), torch.no_grad():
            self.found, prompt = None, self.prompt.value
            try:
                self._take(prompt, *self.look_up(prompt, **self.settings()))
            finally:
                self.draw(resolution)

    def draw(self, resolution=None):
        """Draw the edit on show at a resolution or at full size; where there is none, its face."""
        with MODEL_LOCK.for_picture(), torch.no_grad():
            if self.ready():
                whole = self.view.value == "photograph"
                edited = self.picture_of(self.strength.value, resolution, whole)
                self.pictures.show_edit(self._shown(), edited, self.title)
            elif self.chosen is not None:
                self.pictures.show_source(self._shown())

    def draw_soon(self, draw):
        """Draw small while a slider moves, and at full size once it rests."""
        draw(self.domain.preview_resolution)
        if self.domain.preview_resolution is not None:
            self.rest.move()
