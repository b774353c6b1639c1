"""The field "keep" of the panels: what an edit leaves as it is."""

from contextlib import suppress

import ipywidgets as widgets

from ..clip_model import check_prompt
from .panel import FacePanel
from .widgets import FULL, LABEL


class KeepPanel(FacePanel):
    """A panel with a field for words, parted by commas. It shows the domain's own for each prompt
    until a hand changes it.

    `shown_keep` are those of the edit on show.
    """

    def __init__(self, *given):
        super().__init__(*given)
        self.shown_keep, self._usual_keep = "", ""
        self.kept = widgets.Text(description="keep", style=LABEL, layout=FULL,
                                 placeholder="for example: glasses, hat", continuous_update=False)
        self.inputs.append(self.kept)
        self.on(self.refresh, self.kept)

    def settings(self):
        usual, shown = "", self.kept.value
        with suppress(ValueError):  # a prompt that cannot be read is refused later
            words = self.domain.keep_defaults.get(check_prompt(self.prompt.value), ())
            usual = ", ".join(words)
        if shown == self._usual_keep:
            self.kept.value = shown = usual
        self._usual_keep = usual
        return super().settings() | {"keep": shown}
