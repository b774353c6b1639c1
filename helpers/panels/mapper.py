"""Method 2's panel."""

import ipywidgets as widgets

from .panel import FacePanel, settings_of


class MapperPanel(FacePanel):
    """Method 2: a mapper is trained once per prompt, then edits every face at once.

    Args:
        domain, invert, folder: as `FacePanel`.
        find: (prompt, objective) -> a trained mapper, or None if there is none yet.
        train: (prompt, objective, callback) -> a trained mapper, kept so that `find` finds it; if it cannot be kept
            (a full disk), it is used all the same.
        apply: (domain, mapper, w_plus, strength, only) -> w_plus; `only` names the networks that act.
    """

    STATE = (*FacePanel.STATE, "mapper")

    def __init__(self, domain, invert, find, train, apply, *, folder="."):
        self.find, self.train, self.apply, self.mapper = find, train, apply, None
        self._trained = {}  # (prompt, objective) -> a mapper trained here, whether it could be kept or not
        super().__init__(domain, invert, folder)
        self.strength.min, self.strength.max = -1, 2
        self.networks = [widgets.Checkbox(value=True, description=name, indent=False,
                                          layout=widgets.Layout(width="90px")) for name in domain.rows]
        self.training = widgets.HTML()
        for box in self.networks:
            self.observe(box, self._moved)
        self.observe(self.prompt, self.changed)
        self.controls |= {"objective": self.objective} | {box.description: box for box in self.networks}
        self.restored()
        self.arrange(*self.networks, self.training)

    def _objective_changed(self):
        self.restored()
        with self.quietly():
            self.strength.value = 1
        self.changed()

    def restored(self):
        self.training.value = f"A mapper is trained for {self._training(self.objective.value)}."

    def _training(self, objective):
        settings = settings_of(self.domain, "mapper", objective)
        return (f"{settings.steps:,} steps of {settings.batch} latents, lambda_l2 {settings.lambda_l2:g}, "
                f"lambda_id {settings.lambda_id:g}")

    def look_up(self):
        self._prompt, self._with, self.mapper = self.prompt.value, self.objective.value, None
        try:
            self.mapper = self._find(self._prompt, self._with)
        finally:
            self._set_ready()
        if self.mapper is None:
            self.say("There is no mapper for this prompt yet: Run trains one.")
        elif self.chosen is None or self.chosen.w_plus is None:
            self.say("There is a mapper for this prompt: Run finds the latent of this picture first.")
        else:
            self.say(f"{self.title}: move the strength.")
        self.draw()

    def _find(self, prompt, objective):
        trained = self._trained.get((prompt, objective))
        return self.find(prompt, objective) if trained is None else trained

    def edit(self, prompt, objective):
        self.mapper, said = self._find(prompt, objective), ""
        if self.mapper is None:
            self.say(f"Training a mapper: {prompt}")
            self.mapper, said = self._train(prompt, objective)
        ready = "stopped; this is the best so far" if self.work.stopped else "move the strength"
        return f"{prompt}: {ready}. {said}"

    def _train(self, prompt, objective):
        """A new mapper, and a sentence if it could not be kept and lasts no longer than the panel."""
        mapper = self.train(prompt, objective, self.work.watch)
        if self.work.stopped:  # it goes on with the next Run
            return mapper, ""
        self._trained[prompt, objective] = mapper
        kept = self.find(prompt, objective) is not None
        return mapper, "" if kept else "It is not saved, and lasts until this panel is closed."

    def ready(self):
        return self.mapper is not None and self.chosen is not None and self.chosen.w_plus is not None

    def blended(self, strength, resolution=None):
        return self._mapped(strength, [box.description for box in self.networks if box.value], resolution)

    def _mapped(self, strength, only, resolution):
        source = self.chosen.w_plus
        w_plus = source if strength == 0 else self.apply(self.domain, self.mapper, source, strength, only)
        return self.domain.generator(w_plus, resolution=resolution)

    def strengths(self):
        return [-1.0, 0.0, 0.5, 1.0, 1.5]

    def columns(self, prompt, objective):
        every = [box.description for box in self.networks]
        for label, only in [*((name, [name]) for name in every), ("all", every)]:
            yield label, lambda strength, only=only: self._mapped(strength, only, self.domain.draw)
