"""The pictures before and after the edit, and the line that compares them."""

import html

import ipywidgets as widgets

from .. import images
from .widgets import slider

SIDE = 512  # pixels of a picture in a panel


class Pictures:
    """Two pictures side by side; `compare` moves a line over the second, with the first to the left of it."""

    def __init__(self):
        half = widgets.Layout(width="100%", max_width=f"{SIDE}px", height="auto")
        self.before, self.after = (widgets.Image(format="jpeg", layout=half) for _ in range(2))
        self.caption = widgets.HTML("after")
        self.compare = slider("compare", 0.0, 0, 1, 0.01, readout=False, disabled=True)
        self._source, self._edit = None, None  # PIL pictures
        column, half = widgets.VBox, widgets.Layout(width="47%", max_width=f"{SIDE + 8}px")
        self.widget = widgets.HBox([column([widgets.HTML("before"), self.before], layout=half),
                                    column([self.caption, self.after], layout=half)],
                                   layout=widgets.Layout(align_items="flex-end"))

    def show_source(self, image):
        """A picture [1, 3, R, R] that has no edit yet."""
        self._source, self._edit = images.to_pil(image, SIDE), None
        self.before.value = self.after.value = images.to_jpeg(self._source)

    def show_step(self, image):
        """What a run has come to."""
        self.after.value = images.to_jpeg(image, SIDE)

    def show_edit(self, image, title):
        self._edit = images.to_pil(image, SIDE)
        self.draw_line()
        self.caption.value = html.escape(f"after: {title}")

    def draw_line(self):
        """Show the edit again, with the line where `compare` says."""
        if self._edit is None:
            return
        picture, edge = self._edit.copy(), round(self.compare.value * SIDE)
        if edge:
            picture.paste(self._source.crop((0, 0, edge, SIDE)), (0, 0))
            picture.paste("white", (max(0, edge - 2), 0, edge + 2, SIDE))
        self.after.value = images.to_jpeg(picture)
