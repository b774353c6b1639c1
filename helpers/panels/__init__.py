"""ipywidgets panels, one for each method. They call the functions that a notebook passes in.

panel.py puts together what lies in widgets.py, background.py and saving.py; the methods' files add
what each needs.
"""

from .directions import GlobalPanel
from .mapper import MapperPanel
from .optimization import OptimizationPanel

__all__ = ["GlobalPanel", "MapperPanel", "OptimizationPanel"]
