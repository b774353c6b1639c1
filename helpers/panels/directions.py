"""Method 3's panel."""

from functools import partial

import ipywidgets as widgets

from ..methods.directions import alpha_for
from ..settings import PAPER_DIRECTIONS
from .keep import KeepPanel
from .widgets import FULL, LABEL, button, row, slider

METHODS = ("linear", "sweep", "gradient")


class GlobalPanel(KeepPanel):
    """Method 3: a direction for two sentences; the picture follows alpha. Edits can be stacked.

    `global_direction` is notebook 3's, the rest as `KeepPanel`. What is `found` is Delta-s [S].
    """

    def __init__(self, domain, invert, global_direction, *, folder="."):
        self.direction, self._own = global_direction, domain.settings.directions
        self._kept = 0  # alpha * Delta-s [S] of the edits below the one on show
        self._suited, self._alpha = None, None  # face and sentences, and the alpha that suits them
        methods = [self._own.method, *(name for name in METHODS if name != self._own.method)]
        super().__init__(domain, invert, folder, domain.prompts[0], [(m, m) for m in methods])
        self.objective.description = "method"
        self.neutral = widgets.Text(value=domain.neutral, description="neutral", style=LABEL,
                                    continuous_update=False, layout=FULL)
        self.strength.description, self.strength.step = "alpha", 0.1
        self.strength.min, self.strength.max = -10, 10
        self.threshold = slider("threshold", 0.0, 0, 0.4, 0.01)  # of a channel's relevance
        self.channels = slider("channels", 1, 1, domain.generator.style_dim, 1)  # that are left
        self.keep = button("Keep this edit", icon="plus")
        self.drop = button("Forget kept edits", icon="trash")
        self.inputs += [self.neutral, self.threshold, self.channels]
        self.need_edit += [self.keep, self.drop]
        self._set_sliders()
        self.on(self.refresh, self.neutral)
        self.on(self._change_method, self.objective)
        self.on(partial(self.draw_soon, self.refresh), self.threshold, self.channels)
        self.on(self._keep, self.keep)
        self.on(self._drop, self.drop)
        self.arrange([self.kept, row(self.keep, self.drop)],
                     rare=[self.objective, self.neutral, self.threshold, self.channels])

    def settings(self):
        selector = self._selector()
        return super().settings() | {"neutral": self.neutral.value,
                                     selector.description: selector.value}

    def look_up(self, prompt, objective, keep, neutral, **left):
        found = self.direction(self.domain, neutral, prompt, keep=keep, method=objective, **left)
        self.shown_keep = keep
        below = f" on top of {self.below}" if self.below else ""
        advice = "Run finds the latent of this picture first"
        if self.chosen.w_plus is not None:
            advice = self._suit_alpha(found, prompt, objective, neutral, keep)
        return found, objective, f"{prompt}{below}, {int((found != 0).sum())} channels: {advice}."

    def styles_of(self, found, strength):
        return self._below() + strength * found

    def strengths(self):
        alpha = abs(self.strength.value) or self._own.alpha
        return [-alpha, 0.0, 0.5 * alpha, alpha, min(2 * alpha, self.strength.max)]

    def columns(self, prompt, objective, keep, neutral, **left):
        selector, (name, usual) = self._selector(), *left.items()
        for factor in (0.5, 1, 1.5, 2):
            value = min(selector.max, max(selector.min, type(usual)(factor * usual)))
            yield f"{name} {value:g}", self.direction(self.domain, neutral, prompt, keep=keep,
                                                      method=objective, **{name: value})

    def _settings(self):
        """The settings of the method: the paper's for a sweep that is not the domain's own."""
        paper = self.objective.value == "sweep" != self._own.method
        return PAPER_DIRECTIONS if paper else self._own

    def _selector(self):
        """The slider which says how many channels the method leaves."""
        return self.threshold if self._settings().channels is None else self.channels

    def _set_sliders(self):
        """The settings of the method, and the slider that belongs to it."""
        settings, selector, self._suited = self._settings(), self._selector(), None
        self.strength.value = settings.alpha
        selector.value = settings.threshold if settings.channels is None else settings.channels
        for control in (self.threshold, self.channels):
            control.layout.display = "" if control is selector else "none"

    def _change_method(self):
        self._set_sliders()
        self.refresh()

    def _suit_alpha(self, found, prompt, method, neutral, keep):
        """Set alpha to what suits the face, once for each face and sentence; returns advice."""
        if method != "linear":  # the paper's alpha is one for all
            return "move alpha"
        asked = self.chosen, prompt, neutral, keep, self.below
        if asked != self._suited:
            own = self.chosen.learnt.domain if self.chosen.learnt else self.domain
            alpha = alpha_for(own, self._below(), neutral, prompt, keep).item()
            self._suited, self._alpha, self.strength.value = asked, alpha, round(alpha, 1)
        return f"move alpha; about {self._alpha:.1f} suits this face"

    def _below(self):
        """s [1, S] of the face on show with the kept edits."""
        return self.domain.generator.styles(self.chosen.w_plus) + self._kept

    def _keep(self):
        self._kept = self._kept + self.strength.value * self.found
        self.below = f"{self.below}, {self.shown_prompt}".removeprefix(", ")
        self.strength.value = 0
        self.draw()
        self.say(f"Kept: {self.below}. Type the next sentence.")

    def _drop(self):
        self._kept, self.below = 0, ""
        self.refresh()
