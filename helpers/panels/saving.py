"""An edit becomes a file, or on a web page a download."""

import base64
import html
import os
import re
from pathlib import Path

import ipywidgets as widgets

from ..images import write_new
from .widgets import Refused


class Saver:
    """Puts files into a folder, and never one over another; on a web page (STYLECLIP_PAGE=1) shows a link instead."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.link = widgets.HTML()

    def save(self, title, kind, content):
        """Keep the bytes of a "png" or a "gif" under an edit's title. Returns: a sentence with the file's name.

        Raises: Refused, in a sentence, if the file cannot be written.
        """
        stem = re.sub(r"\W+", "-", title).strip("-")[:60] or "edit"
        if os.environ.get("STYLECLIP_PAGE") == "1":
            return self._offer(f"{stem}.{kind}", kind, content)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return f"Saved {write_new(self.folder, stem, kind, content).name}"
        except OSError as error:
            raise Refused(f"{stem}.{kind} is not saved ({error.strerror or error}), and the edit stays as it is: make "
                          "room, or choose another folder for the panel, and save again.") from None

    def _offer(self, name, kind, content):
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        name = html.escape(name)
        self.link.value = f'<a href="{data}" download="{name}" style="text-decoration: underline">Download {name}</a>'
        return "The link below the picture downloads it."
