"""How the panels' widgets look and what they say when something goes wrong."""

from pathlib import Path

import ipywidgets as widgets

LABEL = {"description_width": "80px"}
WIDE = {"width": "auto"}  # as wide as its text
FULL = {"width": "98%", "max_width": "440px"}  # as wide as a phone allows


class Refused(Exception):
    """Something that is not done now; its text says why."""


def sentence(error):
    """What went wrong as one line: the first line of the message, without the folders of a file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else f"{error.strerror}."
    first = str(error).strip().partition("\n")[0]
    return first if first and isinstance(error, (ValueError, OSError, Refused)) else f"{type(error).__name__}: {first}"


def button(text, **options):
    return widgets.Button(description=text, layout=WIDE, **options)


def slider(name, value, low, high, step, **options):
    """A slider with a label; for whole numbers if its step is one."""
    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, style=LABEL, layout=FULL, **options)


def set_slider(control, value):
    """Set a slider to a value that may lie beyond its end."""
    if value > control.max:
        control.max = 2 * value
    control.min = min(control.min, value)
    control.value = value


def switch(name, options):
    """Buttons of which one is down; options as (text, value)."""
    return widgets.ToggleButtons(options=options, description=name, layout=FULL,
                                 style=LABEL | {"button_width": "auto"})


def row(children):
    """Side by side, and one below the other where a page is narrow."""
    return widgets.HBox(list(children), layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
