"""The notebooks' drawings: an architecture in boxes and arrows, the latents, CLIP's space."""

import base64
from io import BytesIO

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, Rectangle

BLUE, GREEN, YELLOW = "#cfe8ff", "#d8f5d0", "#ffe9b3"
GROUPS = ("#f4c7c3", "#c9daf8", "#d9ead3")  # the coarse, medium and fine rows of w_plus


def box(axis, x, y, text, color="white"):
    """Draw a rounded box with a text; its centre is (x, y) of a matplotlib axis. Returns it."""
    style = dict(boxstyle="round,pad=0.5", facecolor=color, edgecolor="0.4")
    return axis.text(x, y, text, ha="center", va="center", bbox=style)


def arrow(axis, start, end, shrink=24):
    """Draw an arrow between two points (x, y) of an axis; its ends stop `shrink` points short."""
    style = dict(arrowstyle="->", color="0.3", shrinkA=shrink, shrinkB=shrink)
    axis.annotate("", end, start, arrowprops=style)


def link(axis, start, end):
    """Draw an arrow from one `box` to another; it begins and ends at their borders."""
    style = dict(arrowstyle="->", color="0.3", shrinkA=1, shrinkB=1,
                 patchA=start.get_bbox_patch(), patchB=end.get_bbox_patch())
    axis.annotate("", end.get_position(), start.get_position(), arrowprops=style)


def show_figure(figure, alt):
    """Display a figure as a JPEG; `alt` describes it in words."""
    buffer = BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=90, pil_kwargs={"quality": 75})
    display({"image/jpeg": base64.b64encode(buffer.getvalue()).decode(), "text/plain": alt},
            raw=True, metadata={"image/jpeg": {"alt": alt}})


def _canvas(width, height, xlim, ylim):
    """An empty figure and its axis, without ticks."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=xlim, ylim=ylim)
    axis.axis("off")
    return figure, axis


def latents():
    """z, w, w_plus and s on the way to an image."""
    figure, axis = _canvas(8.6, 2.9, (-0.7, 9.4), (-1.6, 2.2))
    for x, text in ((0, "z\nnoise"), (2.1, "w\none vector")):
        axis.add_patch(Rectangle((x - 0.12, -0.5), 0.24, 1.4, facecolor=YELLOW, edgecolor="0.4"))
        axis.text(x, -0.75, text, ha="center", va="top")
    for row in range(9):  # w_plus, a row for each layer
        axis.add_patch(Rectangle((3.75, 1.15 - 0.22 * row), 1.1, 0.18, edgecolor="0.4",
                                 facecolor=GROUPS[row // 3]))
    for row, name in enumerate(("coarse", "medium", "fine")):
        axis.text(4.3, 0.97 - 0.66 * row, name, ha="center", va="center", fontsize=9)
    for channel in range(18):  # s, all channels side by side
        axis.add_patch(Rectangle((5.95 + 0.07 * channel, -0.1), 0.07, 0.5, edgecolor="0.4",
                                 facecolor=GROUPS[channel // 6]))
    axis.add_patch(Rectangle((8.2, -0.45), 1.1, 1.3, facecolor="white", edgecolor="0.4"))
    axis.add_patch(Circle((8.75, 0.3), 0.28, facecolor=YELLOW, edgecolor="0.4"))
    for x, y, text in ((4.3, -0.95, "w_plus\na row per layer"), (6.6, -0.35, "s\nstyle channels"),
                       (8.75, -0.6, "image")):
        axis.text(x, y, text, ha="center", va="top")
    for start, end, text in ((0.25, 1.85, "map"), (2.35, 3.6, "broadcast"), (4.95, 5.85, "styles"),
                             (7.3, 8.1, "synthesize")):
        arrow(axis, (start, 0.2), (end, 0.2), 0)
        axis.text((start + end) / 2, 1.35, text, ha="center", family="monospace", fontsize=9)
    show_figure(figure, "Noise z is mapped to one vector w; broadcast copies it into the rows of "
                "w_plus, coarse, medium and fine; styles makes s of them, all style channels side "
                "by side; synthesize draws the image.")


def equation_1():
    """What is computed in a step of the paper's objective."""
    figure, axis = _canvas(8.6, 3.2, (-0.7, 8.9), (-1.1, 2.9))
    boxes = [box(axis, x, y, text, color) for x, y, text, color in (
        (0, 1, "w\nchanges", YELLOW), (2, 1, "G\ngenerator", BLUE), (4, 1, "image", "white"),
        (6, 1.9, "CLIP", BLUE), (6, 0.1, "identity\nnetwork", BLUE), (4, 2.55, "text t", YELLOW),
        (8.1, 1.9, "far from\nthe text?", GREEN), (8.1, 0.1, "another\nperson?", GREEN),
        (2, -0.7, "far from the start w_s?", GREEN))]
    for start, end in ((0, 1), (1, 2), (2, 3), (2, 4), (5, 3), (3, 6), (4, 7), (0, 8)):
        link(axis, boxes[start], boxes[end])
    axis.text(6, -0.95, "blue: fixed networks   green: the loss", ha="center", color="0.35")
    show_figure(figure, "The latent w goes through the generator to an image. CLIP compares the "
                "image with the text, the identity network with the person at the start, and w is "
                "compared with its start. The sum is the loss; only w changes.")


def change_of_clip():
    """The change of CLIP's vector beside the direction of a text."""
    figure, axis = _canvas(6.4, 2.9, (-0.4, 6.4), (-0.7, 2.6))
    for end, color, text, at in (
            ((5.6, 0), "tab:blue", "text direction d", (5.0, -0.35)),
            ((3, 1.8), "black", "change Δ of CLIP's vector", (1.6, 2.15))):
        axis.annotate("", end, (0, 0), arrowprops=dict(arrowstyle="-|>", color=color, lw=2))
        axis.text(*at, text, color=color, ha="center")
    axis.plot([3, 3], [0, 1.8], color="tab:red", linestyle="--")
    axis.text(3.1, 0.9, "orthogonal to d:\nis penalised", color="tab:red", va="center")
    axis.plot([0, 3], [-0.06, -0.06], color="tab:green", lw=4)
    axis.text(1.5, -0.35, "⟨Δ, d⟩: shall reach g", color="tab:green", ha="center")
    axis.plot([4.6, 4.6], [-0.2, 0.3], color="tab:green")
    axis.text(4.6, 0.45, "goal g", color="tab:green", ha="center")
    show_figure(figure, "The change of CLIP's vector has a part along the text direction, which "
                "shall reach the goal, and a part orthogonal to it, which is penalised.")


def linear_step():
    """Of all steps that reach the margin, the cheapest: where an ellipse touches a line."""
    figure, axis = _canvas(6.4, 3.1, (-2.4, 4.4), (-1.5, 2.2))
    axis.set_aspect("equal")  # or a right angle would be none
    # The ellipse is x' B x = 1 with B = R diag(1/1.3^2, 1/0.8^2) R'; the line is a'x = m.
    angle, a, m = np.deg2rad(25), np.array([0.95, -0.3]), 1.75
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = turn @ np.diag([1.3**2, 0.8**2]) @ turn.T
    touching = m / np.sqrt(a @ inverse @ a)  # how much larger the ellipse is that meets the line
    for size in (touching / 3, 2 * touching / 3, touching):
        axis.add_patch(Ellipse((0, 0), 2.6 * size, 1.6 * size, angle=25, fill=False,
                               edgecolor="0.6"))
    best = m * inverse @ a / (a @ inverse @ a)
    along = np.array([-a[1], a[0]])
    ends = np.array([best - 2.2 * along, best + 1.2 * along])
    axis.plot(*ends.T, color="tab:blue")
    axis.text(ends[0, 0] + 0.1, ends[0, 1] - 0.3, "a'v = m: all steps that\nmove CLIP by the "
              "margin", color="tab:blue", va="center")
    axis.annotate("", best, (0, 0), arrowprops=dict(arrowstyle="-|>", color="black", lw=2,
                                                        shrinkA=0, shrinkB=0))
    axis.text(best[0] + 0.15, best[1] + 0.15, "v, the linear CLIP step")
    axis.text(-2.3, 1.7, "ellipses: equal cost v'Av", color="0.4")
    axis.plot(0, 0, "ko", markersize=4)
    axis.text(-0.1, -0.3, "no step", ha="right")
    show_figure(figure, "Ellipses of equal cost around the point of no step. The line holds all "
                "steps that move CLIP by the margin. The linear step ends where the line touches "
                "an ellipse.")


def global_direction():
    """From a sweep and two sentences to an edit of StyleSpace."""
    figure, axis = _canvas(8.6, 3.1, (-0.9, 9.3), (-0.6, 2.9))
    boxes = [box(axis, x, y, text, color) for x, y, text, color in (
        (0, 2.4, "some images,\nonce", "white"), (2.6, 2.4, "sweep: move\na channel", BLUE),
        (5.3, 2.4, "$\\Delta i_c$: where\nCLIP goes", GREEN),
        (0, 1.1, "neutral and\ntarget", YELLOW), (2.6, 1.1, "CLIP", BLUE),
        (5.3, 1.1, "$\\Delta t$: where\nthe text goes", GREEN),
        (8.1, 1.75, "$R_c = \\Delta i_c\\cdot\\Delta t$,\nthen $\\Delta s$", YELLOW),
        (0, -0.2, "a face: s", "white"), (8.1, -0.2, "$s + \\alpha\\,\\Delta s$", "white"))]
    for start, end in ((0, 1), (1, 2), (3, 4), (4, 5), (2, 6), (5, 6), (6, 8), (7, 8)):
        link(axis, boxes[start], boxes[end])
    show_figure(figure, "A sweep moves one channel after the other in some images and asks CLIP in "
                "which direction each moves it. Two sentences give a direction of the text. The "
                "cosine of both is a channel's relevance, and the relevant channels are moved in "
                "the styles s of a face.")


def mapper_networks():
    """The three networks of a mapper, from the rows of w_plus to an image."""
    figure, axis = _canvas(8.6, 2.9, (-0.8, 9.2), (-0.9, 2.6))
    total = box(axis, 5.1, 1, "w + 0.1 M(w)")
    for i, name in enumerate(("coarse", "medium", "fine")):
        rows = box(axis, 0, 2.1 - 1.1 * i, f"{name} rows", GROUPS[i])
        network = box(axis, 2.5, 2.1 - 1.1 * i, "PixelNorm,\nfour layers", YELLOW)
        link(axis, rows, network)
        link(axis, network, total)
    generator, image = box(axis, 7.2, 1, "G\ngenerator", BLUE), box(axis, 8.7, 1, "image")
    link(axis, total, generator)
    link(axis, generator, image)
    axis.text(5.1, -0.75, "yellow: what is trained   blue: a fixed network", ha="center",
              color="0.35")
    show_figure(figure, "Each group of rows of w_plus, coarse, medium and fine, goes through a "
                "network of its own. A tenth of what the three put out is added to w_plus, and the "
                "generator draws the image.")


def training_curve(history, interval):
    """The losses of a training, {name: one value a step}; "held_out" has one each `interval`
    steps."""
    figure = Figure(figsize=(7, 2.7), layout="constrained")
    axis, steps = figure.subplots(), len(history["loss"])
    for name, values in history.items():
        if name not in ("loss", "held_out"):
            axis.plot(values, label=name)
    at = [min(interval * i, steps) for i in range(len(history["held_out"]))]
    axis.plot(at, history["held_out"], "ko-", label="held out, all terms")
    axis.set(xlabel="step", ylabel="weighted loss", ylim=(0, None))
    axis.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    show_figure(figure, f"The terms of the loss over {steps} steps of training, and the loss of "
                f"held-out faces, {history['held_out'][0]:.2f} at first and "
                f"{min(history['held_out']):.2f} at best.")


def cosine_matrix(image, sentences, cosines, alt):
    """Pictures [N, 3, R, R] beside their cosines [N, T] with sentences, as numbers and colours."""
    rows, columns = len(image), len(sentences)
    figure = Figure(figsize=(1.1 * columns + 1.1, 0.85 * rows + 1.0), layout="constrained")
    axis = figure.subplots()
    axis.imshow(cosines.cpu(), cmap="PuOr", vmin=-1, vmax=1, aspect="auto",
                extent=(0, columns, rows, 0))
    pixels = ((image.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu()  # [N, R, R, 3]
    for i in range(rows):
        axis.imshow(pixels[i], extent=(-0.8, -0.02, i + 0.98, i + 0.02), aspect="auto")
        for j in range(columns):
            value = cosines[i, j].item()
            axis.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center",
                      color="white" if abs(value) > 0.6 else "black")
    axis.set(xlim=(-0.8, columns), ylim=(rows, 0), yticks=[])
    names = [sentence.replace(" with ", "\nwith ") for sentence in sentences]
    axis.set_xticks([j + 0.5 for j in range(columns)], names, fontsize=8)
    axis.xaxis.tick_top()
    show_figure(figure, alt)
