"""Pictures in and out: open any file as the generator's image, and lay images out in grids, strips and GIFs."""

import base64
from functools import lru_cache
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
import torch
from IPython.display import display
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from .domains import LANDMARKS
from .fetching import fetch

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # others may start a program: for an EPS, Ghostscript
MEGAPIXELS = 50  # more are not decoded: a few hundred kB of PNG can take gigabytes of memory


def open_image(source, resolution, say=print, align=False):
    """A user's picture as image [1, 3, R, R] in [-1, 1].

    Turned upright as the camera noted (EXIF), made RGB (transparent parts white), cropped to the face or to the square
    in its middle, resized.

    Args:
        source: path, or the file's bytes.
        resolution: R, in pixels.
        say: gets a sentence on what was cut away, if anything was.
        align: find the face and cut it out as FFHQ's pictures were (`domain.align` says whether the domain's are so).

    Raises: ValueError, in one sentence, if it is no picture or a damaged one, or no face is found.
    """
    picture = _open(source, None if align else resolution)
    if align:
        return to_tensor(align_face(picture, resolution, say))
    width, height = picture.size
    if width != height:
        side = min(width, height)
        say(f"Cropped to the {side} x {side} square in the middle of {width} x {height} pixels.")
    return to_tensor(ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BOX if width > resolution
                                  else Image.Resampling.BICUBIC))


def _open(source, resolution):
    """A file as an upright RGB picture; of a JPEG, no more pixels than `resolution` asks for are decoded."""
    name = "The file" if isinstance(source, bytes) else f"{source}"
    try:
        picture = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        pixels = picture.width * picture.height
        if pixels > MEGAPIXELS * 1e6:
            raise Image.DecompressionBombError(f"{pixels / 1e6:.0f} megapixels")
        if resolution:
            picture.draft("RGB", (2 * resolution, 2 * resolution))
        picture = ImageOps.exif_transpose(picture)
        if "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA"):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        elif picture.mode.startswith(("I", "F")):  # 16-bit and float grey: Pillow would cut instead of scale
            levels = np.asarray(picture, dtype=np.float64)
            top = 65535 if picture.mode.startswith("I") else max(levels.max(), 1e-9)
            picture = Image.fromarray((levels / top * 255).clip(0, 255).astype(np.uint8))
        return picture.convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture that is read here: choose a PNG, JPEG or WebP file.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels: make it smaller than {MEGAPIXELS} megapixels first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{name} cannot be read as a picture ({error}): save it again as PNG or JPEG.") from None


@lru_cache(maxsize=1)
def _face_finder():
    """dlib's face detector, and its predictor of 68 landmarks, which is fetched."""
    try:
        import dlib
    except ImportError:
        raise ImportError('Finding faces needs dlib: pip install dlib-bin, or open the picture with align=False if it '
                          "is aligned already.") from None
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(fetch(LANDMARKS)))


def face_landmarks(picture, say=print):
    """The 68 landmarks (iBUG 300-W) of the largest face of a PIL picture, in pixels, [68, 2].

    Raises: ValueError, in one sentence, if no face is found.
    """
    detector, predictor = _face_finder()
    scale = min(1, 1200 / max(picture.size))  # a detector of faces of 40 px and more sees them in this size too
    small = np.asarray(picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BOX))
    faces = sorted(detector(small, 1), key=lambda face: face.area())
    if not faces:
        raise ValueError("No face was found: choose a picture of one person who looks to the camera, or say that it "
                         "is aligned already.")
    if len(faces) > 1:
        say(f"{len(faces)} faces were found, and the largest is taken: crop the picture to choose another.")
    return np.array([(point.x, point.y) for point in predictor(small, faces[-1]).parts()]) / scale


def face_square(landmarks):
    """The corners [4, 2] of the square that FFHQ cuts out: upper left, lower left, lower right, upper right.

    Karras et al., arXiv 1812.04948, appendix A: as wide as twice the distance of the eyes, or 1.8 times that from eyes
    to mouth, and turned as they are.
    """
    eyes = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    across, middle = eyes[1] - eyes[0], (eyes[0] + eyes[1]) / 2
    down = (landmarks[48] + landmarks[54]) / 2 - middle
    x = across + np.array([down[1], -down[0]])
    x *= max(2 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y, center = np.array([-x[1], x[0]]), middle + 0.1 * down
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])


def align_face(picture, size, say=print):
    """The face of a PIL picture, upright and in the middle as in FFHQ, as a picture of `size` pixels.

    What lies beyond the picture's edges is mirrored. Raises: ValueError if no face is found.
    """
    corners = face_square(face_landmarks(picture, say))
    side = np.hypot(*(corners[3] - corners[0]))
    shrink = max(1, int(side / (2 * size)))  # what is sampled below is at most twice as large as the result
    picture = picture.reduce(shrink)
    corners, side = corners / shrink, side / shrink
    border = np.ceil([*-corners.min(axis=0), *(corners.max(axis=0) - picture.size)]).astype(int) + 2
    left, top, right, bottom = np.clip(border, 0, None)
    if max(left, top, right, bottom) > 2:
        say("The face is so near the edge that a part of the picture was mirrored.")
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), "symmetric")
    square = (corners + [left, top]).flatten()
    sampled = Image.fromarray(pixels).transform((2 * size, 2 * size), Image.Transform.QUAD, square,
                                                Image.Resampling.BICUBIC)
    return sampled.reduce(2)


def to_tensor(picture):
    """PIL picture -> image [1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pil(image, size=None):
    """image [3, H, W] or [1, 3, H, W] -> PIL picture, `size` pixels wide if given."""
    image = image[0] if image.ndim == 4 else image
    pixels = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    if size:
        height = round(picture.height * size / picture.width)
        enlarge = size > picture.width
        picture = picture.resize((size, height), Image.Resampling.BICUBIC if enlarge else Image.Resampling.BOX)
    return picture


def labelled_grid(image, rows, columns, size=96):
    """images [N, 3, R, R], row by row -> a PIL picture with a label before each row and above each column.

    Args:
        rows, columns: labels, anything that has a text; N is the product of their lengths. Long ones are broken
            between words.
        size: side of each image in pixels.
    """
    if len(image) != len(rows) * len(columns):
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns need {len(rows) * len(columns)} images, got "
                         f"{len(image)}.")
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), max(11, size // 16))
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def box(text):
        """The width and height that a text takes, with a margin."""
        left, _, right, bottom = pen.multiline_textbbox((0, 0), text, font)
        return round(right - left) + 8, round(bottom) + 6

    rows, columns = ([_broken(str(label), font, size) for label in labels] for labels in (rows, columns))
    width = max(size, *(box(label)[0] for label in columns))
    left, top = max(box(label)[0] for label in rows), max(box(label)[1] for label in columns)
    heights = [max(size, box(label)[1]) for label in rows]
    sheet = Image.new("RGB", (left + len(columns) * width, top + sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, label in enumerate(columns):
        pen.multiline_text((left + (i + 0.5) * width, top - 4), label, "black", font, anchor="md", align="center")
    for i, label in enumerate(rows):
        y = top + sum(heights[:i])
        pen.multiline_text((left - 4, y + heights[i] / 2), label, "black", font, anchor="rm", align="right")
        for j in range(len(columns)):
            tile = to_pil(image[i * len(columns) + j], size)
            sheet.paste(tile, (left + j * width + (width - size) // 2, y + (heights[i] - tile.height) // 2))
    return sheet


def _broken(text, font, width):
    """A text with line breaks between words, so that no line but one long word is wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width - 8:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def show(images, rows, columns, alt, size=96):
    """Display images [N, 3, R, R] in a notebook as a labelled grid; `alt` says in words what is to be seen."""
    jpeg = to_jpeg(labelled_grid(images, rows, columns, size), quality=70)
    display({"image/jpeg": base64.b64encode(jpeg).decode(), "text/plain": alt}, raw=True,
            metadata={"image/jpeg": {"alt": alt}})


def show_gif(images, alt, size=None, seconds=0.1):
    """Display images [N, 3, R, R] in a notebook as a film that runs there and back."""
    film = base64.b64encode(to_gif(images, size, seconds)).decode()
    display({"image/gif": film, "text/plain": alt}, raw=True, metadata={"image/gif": {"alt": alt}})


def to_jpeg(image, size=None, quality=90):
    """image [3, H, W], [1, 3, H, W] or a PIL picture -> bytes of a JPEG: fifty times faster to make than a PNG."""
    picture = image if isinstance(image, Image.Image) else to_pil(image, size)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def to_png(image, text=None):
    """image [3, H, W], [1, 3, H, W] or a PIL picture -> bytes of a PNG; `text`, {keyword: sentence}, goes along."""
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    picture, buffer = image if isinstance(image, Image.Image) else to_pil(image), BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def to_gif(images, size=None, seconds=0.1):
    """images [N, 3, R, R] -> bytes of a GIF that runs there and back, `seconds` a frame."""
    frames = [to_pil(image, size).quantize(128, dither=Image.Dither.NONE) for image in images]
    frames += frames[-2:0:-1]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(seconds * 1000), loop=0)
    return buffer.getvalue()


def write_new(folder, stem, kind, content):
    """Write bytes as stem.kind, or stem-2.kind and so on: never over a file that is there. Returns the path."""
    for number in count(1):
        path = Path(folder) / (f"{stem}.{kind}" if number == 1 else f"{stem}-{number}.{kind}")
        try:
            file = path.open("xb")  # fails if it exists, whoever wrote it
        except FileExistsError:
            continue
        try:
            with file:
                file.write(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
