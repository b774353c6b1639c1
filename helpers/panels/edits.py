"""The edits that one can go back to."""

import threading
from dataclasses import dataclass

import ipywidgets as widgets

from .widgets import FULL, LABEL


@dataclass(eq=False)
class Edit:
    """An edit as a panel left it."""

    title: str
    state: dict  # the panel's attributes that make up the edit
    values: dict  # its controls' values


class Edits:
    """A list of edits with its widget; `go_back` is called with the `Edit` chosen, and its number from 1."""

    def __init__(self, go_back):
        self._edits, self._current = [], None
        self._setting = threading.RLock()  # held while the panel itself sets the widget, from whichever thread
        self.choice = widgets.Dropdown(options=[("the edits so far", None)], description="go back", style=LABEL,
                                       disabled=True, layout=FULL)
        self._go_back = go_back
        self.choice.observe(lambda change: self._chosen(change["new"]), "value")

    def __len__(self):
        return len(self._edits)

    def add(self, edit):
        """Put an edit at the end of the list; it is the one on show."""
        with self._setting:
            self._edits.append(edit)
            self.choice.options = [("the edits so far", None),
                                   *((f"{i + 1}: {edit.title}", i) for i, edit in enumerate(self._edits))]
            self.on_show(edit)

    def on_show(self, edit):
        """Say which edit is on show, if any is."""
        with self._setting:
            self._current = edit
            self.choice.value = None if edit is None else self._edits.index(edit)

    def _chosen(self, index):
        if index is not None and self._edits[index] is not self._current:
            self._go_back(self._edits[index], index + 1)

    def update(self, state, values):
        """The edit on show has been moved: one comes back to an edit as one left it."""
        if self._current is not None:
            self._current.state, self._current.values = state, values
