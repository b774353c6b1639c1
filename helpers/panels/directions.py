"""Method 3's panel."""

import ipywidgets as widgets

from ..methods import alpha_for
from ..settings import PAPER_DIRECTIONS
from .panel import FacePanel
from .widgets import FULL, LABEL, button, set_slider, slider
from .work import MODELS, Busy

METHODS = ("samples", "sweep", "gradient")


class GlobalPanel(FacePanel):
    """Method 3: two sentences, two sliders, and the picture follows; edits can be put on top of one another.

    Args:
        domain, invert, folder: as `FacePanel`.
        global_direction: (domain, neutral, target, *, method, and threshold or channels) -> direction [S].
    """

    STATE = (*FacePanel.STATE, "_step", "kept")

    def __init__(self, domain, invert, global_direction, *, folder="."):
        self.direction, self._step = global_direction, None
        self._suits = (), None, None  # face and sentences, and the kept edits, that alpha was looked up for; alpha
        self.kept = []  # (sentence, alpha * direction) of each edit below this one
        self._ours = domain.settings.directions
        methods = [self._ours.method, *(method for method in METHODS if method != self._ours.method)]
        super().__init__(domain, invert, folder, [(method, method) for method in methods])
        self.objective.description = "method"
        self.neutral = widgets.Text(value=domain.neutral, description="neutral", style=LABEL, continuous_update=False,
                                    layout=FULL)
        self.prompt.continuous_update = False
        self.strength.description, self.strength.min, self.strength.max = "alpha", -10, 10
        self.strength.step = 0.1
        self.threshold = slider("threshold", 0.0, 0, 0.4, 0.01)  # of a channel's relevance
        self.channels = slider("channels", 1, 1, domain.generator.style_dim, 1)  # how many are left
        self.keep, self.forget = button("Keep this edit", icon="plus"), button("Forget kept edits", icon="trash")
        self.need_edit += [self.keep, self.forget]
        self.controls |= {"neutral": self.neutral, "objective": self.objective, "threshold": self.threshold,
                          "channels": self.channels}
        self._set_sliders()
        for text in (self.prompt, self.neutral):
            self.observe(text, self.changed)
        for control in (self.threshold, self.channels):
            self.observe(control, lambda: self.turns.do("look up", self.look_up))
        self.keep.on_click(lambda clicked: self.guard(self._keep))
        self.forget.on_click(lambda clicked: self.guard(self._forget))
        self.arrange(self.neutral, self.threshold, self.channels, self.keep, self.forget)

    def _of(self, method):
        """The settings of a method: the paper's for its sweep, if the domain has none of its own for that."""
        return PAPER_DIRECTIONS if method == "sweep" and self._ours.method != "sweep" else self._ours

    def _set_sliders(self):
        settings = self._of(self.objective.value)
        with self.quietly():
            set_slider(self.strength, settings.alpha)
            if settings.channels is None:
                set_slider(self.threshold, settings.threshold)
            else:
                self.channels.value = settings.channels
        self.restored()

    def restored(self):
        left = self._selector(self.objective.value)
        for control in (self.threshold, self.channels):
            control.layout.display = "" if control is left else "none"

    def _selector(self, method):
        """The slider which says how many channels a method leaves."""
        return self.threshold if self._of(method).channels is None else self.channels

    def _objective_changed(self):
        self._set_sliders()
        self.changed()

    def look_up(self):
        try:
            self._find(self.prompt.value, self.objective.value)
        except Busy:
            raise  # the edit on show stays until the networks are free
        except Exception:
            self._step = None
            raise
        finally:
            self._set_ready()
        self.draw(self.domain.draw)

    def _find(self, prompt, method):
        self._step = self._direction(prompt, method, self._selector(method).value)
        self._prompt, self._with = prompt, method
        kept = f" on top of {', '.join(sentence for sentence, _ in self.kept)}" if self.kept else ""
        self.say(f"{self.title}{kept}, {int((self._step != 0).sum())} channels: {self._advice(prompt, method)}. "
                 f"{self.domain.clip.caution(prompt)}")

    def _advice(self, prompt, method):
        if not self.ready():
            return "Run finds the latent of this picture first"
        if method != "samples":  # the paper's alpha is one for all
            return "move alpha"
        asked = self.chosen, self.neutral.value, prompt
        if self._suits[0] != asked or self._suits[1] is not self.kept:  # not for every move of a slider
            with MODELS.for_picture():
                alpha = alpha_for(self.domain, self._below(), self.neutral.value, prompt).item()
            self._suits = asked, self.kept, alpha
        return f"move alpha; about {self._suits[2]:.1f} suits this face"

    def _direction(self, prompt, method, left):
        with MODELS.for_picture():
            return self.direction(self.domain, self.neutral.value, prompt, method=method,
                                  **{self._selector(method).description: left})

    def edit(self, prompt, objective):
        self._find(prompt, objective)
        return f"{prompt}: move alpha."

    def ready(self):
        return self._step is not None and self.chosen is not None and self.chosen.w_plus is not None

    def blended(self, strength, resolution=None):
        return self._stepped(strength, self._step, resolution)

    def _below(self):
        """s [1, S] of the face on show with the kept edits."""
        return self.domain.generator.styles(self.chosen.w_plus) + sum(kept for _, kept in self.kept)

    def _stepped(self, strength, step, resolution):
        """The image at a strength, with the kept edits below it; 0 without any is the source."""
        return self.domain.generator.synthesize(self._below() + strength * step, resolution=resolution)

    def strengths(self):
        alpha = abs(self.strength.value) or self._of(self._with).alpha
        return [-alpha, 0.0, 0.5 * alpha, alpha, min(2 * alpha, self.strength.max)]

    def columns(self, prompt, objective):
        left = self._selector(objective)
        values = sorted({min(left.max, max(left.min, type(left.value)(factor * left.value)))
                         for factor in (0.5, 1, 1.5, 2)})
        for value in values:
            step = self._direction(prompt, objective, value)
            yield f"{left.description} {value:g}", lambda alpha, step=step: self._stepped(alpha, step, self.domain.draw)

    def description(self):
        below = ", ".join(sentence for sentence, _ in self.kept)
        return super().description() | ({"Below": below} if below else {})

    def _keep(self):
        if self.ready():
            self.kept = [*self.kept, (self._prompt, self.strength.value * self._step)]
            self.edits.on_show(None)  # the edit that is kept stays in the history as it was
            self.strength.value = 0
            self._remember()
            self.say(f"Kept: {', '.join(sentence for sentence, _ in self.kept)}. Type the next sentence.")

    def _forget(self):
        self.kept = []
        self.turns.do("look up", self.look_up)
