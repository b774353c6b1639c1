"""Method 1's panel."""

from .panel import FacePanel, settings_of
from .widgets import set_slider, slider


class OptimizationPanel(FacePanel):
    """Method 1: every run searches for an edit of this face.

    Args:
        domain, invert, folder: as `FacePanel`.
        optimize_latent: (domain, w_plus, prompt, *, objective, steps, lambda_l2, lambda_id, callback) -> w_plus and
            history, as notebook 1's.
    """

    STATE = (*FacePanel.STATE, "result")

    def __init__(self, domain, invert, optimize_latent, *, folder="."):
        self.optimize, self.result = optimize_latent, None  # w_plus after the edit
        super().__init__(domain, invert, folder)
        self.steps = slider("steps", 60, 10, 300, 10)
        self.lambda_l2 = slider("lambda_l2", 0.0, 0, 0.02, 0.0005, readout_format=".4f")
        self.lambda_id = slider("lambda_id", 0.0, 0, 0.5, 0.005, readout_format=".3f",
                                disabled=domain.identity is None)
        self._objective_changed()
        self.arrange(self.steps, self.lambda_l2, self.lambda_id)

    def _objective_changed(self):
        settings = settings_of(self.domain, "optimization", self.objective.value)
        for control in (self.steps, self.lambda_l2, self.lambda_id):
            set_slider(control, getattr(settings, control.description))

    def settings(self):
        return super().settings() | {control.description: control.value
                                     for control in (self.steps, self.lambda_l2, self.lambda_id)}

    def look_up(self):
        self.result = None  # what was found for another face is on the list of edits
        self._set_ready()

    def edit(self, prompt, **settings):
        self.say(f"Editing: {prompt}")
        self.result, history = self.optimize(self.domain, self.chosen.w_plus, prompt, callback=self.work.watch,
                                             **settings)
        with self.quietly():
            self.strength.value = 1
        return f"{prompt}: {'stopped' if self.work.stopped else 'done'} after {len(history['loss'])} steps."

    def ready(self):
        return self.result is not None

    def blended(self, strength, resolution=None):
        return self._between(self.result, strength, resolution)

    def _between(self, result, strength, resolution):
        source = self.chosen.w_plus
        w_plus = source if strength == 0 else source + strength * (result - source)
        return self.domain.generator(w_plus, resolution=resolution)

    def columns(self, prompt, lambda_l2, **settings):
        value = lambda_l2 or settings_of(self.domain, "optimization", settings["objective"]).lambda_l2
        for column, factor in enumerate((0, 0.5, 1, 2)):
            self.say(f"Grid, column {column + 1} of 4: {prompt}, lambda_l2 {factor * value:g}")
            self.work.count_anew()
            result, _ = self.optimize(self.domain, self.chosen.w_plus, prompt, lambda_l2=factor * value,
                                      callback=self.work.watch, **settings)
            yield (f"lambda_l2 {factor * value:g}",
                   lambda strength, result=result: self._between(result, strength, self.domain.draw))
