"""Method 2's panel."""

import ipywidgets as widgets

from ..settings import PAPER_MAPPER
from .keep import KeepPanel


class MapperPanel(KeepPanel):
    """Method 2: a mapper is trained once per prompt, then edits every face at once.

    `find(prompt, objective)` gives a trained mapper, or None; `train(prompt, objective, callback)`
    a new one, used all the same if it cannot be kept for `find`; both get `keep=` where it is not
    the domain's own; `apply` is `apply_mapper`. What is `found` is a mapper, and the names of the
    networks that act.
    """

    def __init__(self, domain, invert, find, train, apply, *, folder="."):
        super().__init__(domain, invert, folder, domain.prompts[0])
        self.find, self.train, self.apply = find, train, apply
        self._trained = {}  # {(prompt, objective, keep): a mapper trained here, kept or not}
        self.strength.min, self.strength.max = -1, 2
        self.networks = [widgets.Checkbox(value=True, description=name, indent=False,
                                          layout={"width": "90px"}) for name in domain.rows]
        self.inputs += self.networks
        self.on(self._switch_networks, *self.networks)
        self.on(self.refresh, self.objective)
        self.arrange([self.kept, widgets.HBox(self.networks)], rare=[self.objective])

    def look_up(self, prompt, objective, keep):
        self.domain.clip.encode_text([prompt])  # a bad prompt says so
        mapper, self.shown_keep = self._find(prompt, objective, keep), keep
        if mapper is None:
            settings = PAPER_MAPPER if objective == "paper" else self.domain.settings.mapper
            return None, objective, ("There is no mapper for this prompt yet: Run trains one, "
                                     f"{settings.steps:,} steps of {settings.batch} latents.")
        said = f"{prompt}: move the strength."
        if self.chosen.w_plus is None:
            said = "There is a mapper for this prompt: Run finds the latent of this picture first."
        return (mapper, self._acting()), objective, said

    def edit(self, prompt, objective, keep):
        mapper, kept = self._find(prompt, objective, keep), True
        if mapper is None:
            self.say(f"Training a mapper: {prompt}")
            mapper = self.train(prompt, objective, self.task.watch, **self._options(keep))
            self.strength.value, self.shown_keep = 1, keep
            if not self.task.stopped:  # a training that was stopped goes on with the next Run
                self._trained[prompt, objective, keep] = mapper
                kept = self.find(prompt, objective, **self._options(keep)) is not None
        said = "stopped; this is the best so far" if self.task.stopped else "move the strength"
        lasts = "" if kept else " It is not saved, and lasts until this panel is closed."
        return (mapper, self._acting()), objective, f"{prompt}: {said}.{lasts}"

    def styles_of(self, found, strength):
        (mapper, only), w_plus = found, self.chosen.w_plus
        if strength != 0:
            w_plus = self.apply(self.domain, mapper, w_plus, self.boost * strength, only)
        return self.domain.generator.styles(w_plus)

    def find_boost(self, found):
        edited = self.apply(self.domain, found[0], self.chosen.w_plus, 1.0, found[1])
        return self.boost_of(self.domain.generator.styles(edited))

    def columns(self, prompt, **settings):
        mapper, names = self.found[0], list(self.domain.rows)
        for name in names:
            yield name, (mapper, [name])
        yield "all", (mapper, names)

    def _options(self, keep):
        return {} if keep == self._usual_keep else {"keep": keep}

    def _find(self, prompt, objective, keep):
        trained = self._trained.get((prompt, objective, keep))
        if trained is None:
            return self.find(prompt, objective, **self._options(keep))
        return trained

    def _acting(self):
        return [box.description for box in self.networks if box.value]

    def _switch_networks(self):
        if self.found is not None:
            self.found = self.found[0], self._acting()
            self.draw_soon(self.draw)
