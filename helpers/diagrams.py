"""Boxes and arrows: the notebooks' diagrams of an architecture."""


def box(axis, x, y, text, color="white"):
    """Draw a rounded box with a text; its centre is (x, y) of a matplotlib axis."""
    style = dict(boxstyle="round,pad=0.5", facecolor=color, edgecolor="0.4")
    axis.text(x, y, text, ha="center", va="center", bbox=style)


def arrow(axis, start, end, shrink=24):
    """Draw an arrow between two points (x, y) of an axis; its ends stop `shrink` points short."""
    style = dict(arrowstyle="->", color="0.3", shrinkA=shrink, shrinkB=shrink)
    axis.annotate("", end, start, arrowprops=style)
