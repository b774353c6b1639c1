"""Boxes and arrows: the notebooks' drawings of an architecture."""


def box(axis, x, y, text, color="white"):
    """A rounded box with a text, its centre at (x, y) of a matplotlib axis."""
    axis.text(x, y, text, ha="center", va="center", bbox=dict(boxstyle="round,pad=0.5", fc=color, ec="0.4"))


def arrow(axis, start, end, shrink=24):
    """An arrow between two boxes' centres, its ends `shrink` points away from them."""
    axis.annotate("", end, start, arrowprops=dict(arrowstyle="->", color="0.3", shrinkA=shrink, shrinkB=shrink))
