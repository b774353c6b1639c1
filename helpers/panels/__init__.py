"""ipywidgets panels, one for each method. They hold no method: they call the functions a notebook passes in.

faces.py is where a face comes from, work.py what happens beside the kernel, pictures.py what is shown, edits.py what
one can go back to, exports.py and saving.py what becomes a file; panel.py puts them together, and optimization.py,
mapper.py and directions.py add what each method needs.
"""

from .directions import GlobalPanel
from .mapper import MapperPanel
from .optimization import OptimizationPanel

__all__ = ["GlobalPanel", "MapperPanel", "OptimizationPanel"]
