"""Method 1's panel."""

from ..settings import PAPER_OPTIMIZATION
from .keep import KeepPanel
from .widgets import slider


class OptimizationPanel(KeepPanel):
    """Method 1: every run searches for an edit of this face. A preview shows where it begins.

    `optimize_latent` is notebook 1's, the rest as `KeepPanel`. What is `found` is an edited w_plus.
    """

    def __init__(self, domain, invert, optimize_latent, *, folder="."):
        super().__init__(domain, invert, folder, domain.prompts[0])
        self.optimize = optimize_latent
        self.steps = slider("steps", 60, 10, 300, 10)
        self.lambda_l2 = slider("lambda_l2", 0.0, 0, 0.05, 0.0005, readout_format=".4f")
        self.lambda_id = slider("lambda_id", 0.0, 0, 1.0, 0.005, readout_format=".3f")
        sliders = [self.steps, self.lambda_l2]
        sliders += [self.lambda_id] if domain.identity is not None else []
        self.inputs += sliders
        self.on(self._set_sliders, self.objective)
        self._set_sliders()
        self.arrange([self.kept, *sliders], rare=[self.objective])

    def settings(self):
        return super().settings() | {"steps": self.steps.value, "lambda_l2": self.lambda_l2.value,
                                     "lambda_id": self.lambda_id.value}

    def look_up(self, prompt, keep, **settings):
        """The preview: where our search starts, one step of the linear model of CLIP."""
        if self.chosen.w_plus is None:
            return None, "preview", "Run finds the latent of this picture first, then the edit."
        found, _ = self.optimize(self.domain, self.chosen.w_plus, prompt, keep=keep, steps=0)
        self.shown_keep = keep
        return found, "preview", f"{prompt}: a quick preview. Run searches for a better edit."

    def edit(self, prompt, keep, **settings):
        self.say(f"Editing: {prompt}")
        found, history = self.optimize(self.domain, self.chosen.w_plus, prompt, keep=keep,
                                       callback=self.task.watch, **settings)
        self.strength.value, self.shown_keep = 1, keep
        ended = "stopped" if self.task.stopped else "done"
        said = f"{prompt}: {ended} after {len(history['loss'])} steps."
        if keep and settings["objective"] == "paper":
            self.shown_keep, said = "", f"{said} The paper's objective keeps nothing."
        return found, settings["objective"], said

    def styles_of(self, found, strength):
        source = self.chosen.w_plus
        w_plus = source if strength == 0 else source + self.boost * strength * (found - source)
        return self.domain.generator.styles(w_plus)

    def find_boost(self, found):
        return self.boost_of(self.domain.generator.styles(found))

    def columns(self, prompt, lambda_l2, **settings):
        usual = lambda_l2 or self.domain.settings.optimization.lambda_l2
        for column, value in enumerate((0, 0.5 * usual, usual, 2 * usual), 1):
            self.say(f"Grid, column {column} of 4: {prompt}, lambda_l2 {value:g}")
            found, _ = self.optimize(self.domain, self.chosen.w_plus, prompt, lambda_l2=value,
                                     callback=self.task.watch, **settings)
            yield f"lambda_l2 {value:g}", found

    def _set_sliders(self):
        paper = self.objective.value == "paper"
        settings = PAPER_OPTIMIZATION if paper else self.domain.settings.optimization
        for control in (self.steps, self.lambda_l2, self.lambda_id):
            control.value = getattr(settings, control.description)
