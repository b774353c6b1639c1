"""Pictures in and out: open any file as the generator's image; lay images out in grids and GIFs."""

import base64
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
import torch
from IPython.display import display
from matplotlib import get_data_path
from PIL import Image, ImageCms, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from .domains.align import align_face
from .domains.formats.safetensors_files import lost_drive

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # an EPS would start Ghostscript
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # bytes 8 to 11
MEGAPIXELS = 50  # more are not decoded: a few hundred kB of PNG can take gigabytes of memory
DEPTHS = (255, 1023, 4095, 16383, 65535)  # the largest numbers of 8, 10, 12, 14 and 16 bits
ORIENTATION = 0x0112  # the EXIF entry that says how the camera was held ...
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,  # ... by its values
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}


def open_image(source, resolution, say=print, align=False, face=1):
    """A user's picture as image [1, 3, R, R] in [-1, 1].

    Turned upright as the camera noted (EXIF), made sRGB (transparent parts white), cut out around a
    face or to the square in its middle, resized.

    Args:
        source: path, or the file's bytes.
        resolution: R, in pixels.
        say: gets a sentence on what was changed, such as cut away.
        align: cut a face out as FFHQ's are (`domain.align` says whether the domain's are so).
        face: which one, where there are several: 1 for the largest, 2 for the next, ...
    Raises: ValueError, in one sentence, if it is no picture or a damaged one, or the face is not
        found (`align.face_landmarks`); FileNotFoundError; OSError for a lost drive.
    """
    picture = open_picture(source, say, None if align else resolution)
    if align:
        return to_tensor(align_face(picture, resolution, say, face))
    width, height = picture.size
    if width != height:
        side = min(width, height)
        say(f"Cropped to the {side} x {side} square in the middle of {width} x {height} pixels.")
    method = Image.Resampling.BOX if width > resolution else Image.Resampling.BICUBIC
    return to_tensor(ImageOps.fit(picture, (resolution, resolution), method))


def open_picture(source, say=print, resolution=None):
    """A file as an upright sRGB PIL picture; of a JPEG, with a `resolution` only the pixels that
    it asks for. Arguments and exceptions as `open_image`."""
    from_bytes = isinstance(source, bytes)
    name = "The file" if from_bytes else str(source)
    try:
        picture = Image.open(BytesIO(source) if from_bytes else source, formats=FORMATS)
        if picture.width * picture.height > MEGAPIXELS * 1e6:
            raise Image.DecompressionBombError
        if resolution:
            picture.draft("RGB", (2 * resolution, 2 * resolution))
        picture.load()
        return _in_srgb(_upright(picture), say)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError:
        with BytesIO(source) if from_bytes else open(source, "rb") as file:
            start = file.read(12)
        if start[4:8] == b"ftyp" and start[8:] in HEIC:
            raise ValueError(f"{name} is a HEIC picture, which is not read here: export it as JPEG "
                             "(iPhone: Settings, Camera, Formats, Most Compatible).") from None
        raise ValueError(f"{name} is not a picture that is read here: choose a PNG, JPEG or "
                         "WebP file.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels: make it smaller than {MEGAPIXELS} "
                         "megapixels first.") from None
    except Exception as error:  # a damaged picture can cause many kinds
        lost = lost_drive(name, error)
        if lost:
            raise lost from None
        raise ValueError(f"{name} cannot be read as a picture ({error}): save it again as PNG or "
                         "JPEG.") from None


def _upright(picture):
    """The picture turned as the camera noted."""
    try:  # `ImageOps.exif_transpose` fails where another entry of the EXIF cannot be written back
        turn = TURNS.get(picture.getexif().get(ORIENTATION))
    except Exception:  # an EXIF can be damaged in many ways, and is not worth the picture
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _in_srgb(picture, say):
    """A picture of any mode as sRGB, transparent parts white."""
    if picture.mode.startswith(("I", "F")):
        picture = _in_8_bits(picture, say)
    alpha = None
    if "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA"):
        alpha = picture.convert("RGBA").getchannel("A")
    if picture.mode not in ("L", "CMYK"):  # a profile is for one of these
        picture = picture.convert("L" if picture.mode == "LA" else "RGB")
    profile, rgb = picture.info.get("icc_profile"), None
    if profile:
        try:
            srgb = ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(picture, BytesIO(profile), srgb, outputMode="RGB")
        except Exception:  # a damaged profile can cause many kinds
            say("The picture's colour profile cannot be read and is ignored.")
    rgb = rgb or picture.convert("RGB")
    if alpha:
        rgb.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb)
    return rgb.convert("RGB")


def _in_8_bits(picture, say):
    """A grey picture of integers or floats in 8 bits, scaled by the numbers that are there."""
    values = np.asarray(picture, dtype=np.float64)  # [H, W]
    finite = np.isfinite(values)
    low, high = min(values[finite].min(), 0), max(values[finite].max(), 1e-9)
    if picture.mode.startswith("I") and low == 0:
        high = next((depth for depth in DEPTHS if depth >= high), high)
    if high != DEPTHS[-1] or not finite.all():
        say(f"The picture's numbers are scaled from {low:g} (black) to {high:g} (white).")
    levels = np.where(finite, (values - low) / (high - low) * 255, 0)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def to_tensor(picture):
    """PIL picture -> image [1, 3, H, W] in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))  # [H, W, 3]
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pil(image, size=None):
    """image [3, H, W] or [1, 3, H, W] in [-1, 1] -> PIL picture, `size` pixels wide if given."""
    image = image[0] if image.ndim == 4 else image
    levels = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte()  # [3, H, W]
    picture = Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
    if size:
        height = round(picture.height * size / picture.width)
        enlarge = size > picture.width
        method = Image.Resampling.BICUBIC if enlarge else Image.Resampling.BOX
        picture = picture.resize((size, height), method)
    return picture


def labelled_grid(image, rows, columns, size=96):
    """images [N, 3, R, R], row by row -> a PIL picture with a label before each row and column.

    Args: rows, columns: labels, anything that has a text, broken between words where it is long;
        size: side of each image in pixels.
    Raises: ValueError if N is not the product of their lengths.
    """
    if len(image) != len(rows) * len(columns):
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns need "
                         f"{len(rows) * len(columns)} images, got {len(image)}.")
    font_path = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(font_path), max(11, size // 16))
    rows = [_broken(str(label), font, size) for label in rows]
    columns = [_broken(str(label), font, size) for label in columns]
    row_boxes = [_text_size(label, font) for label in rows]
    column_boxes = [_text_size(label, font) for label in columns]
    left, top = max(box[0] for box in row_boxes), max(box[1] for box in column_boxes)
    width = max(size, *(box[0] for box in column_boxes))
    heights = [max(size, box[1]) for box in row_boxes]
    sheet = Image.new("RGB", (left + len(columns) * width, top + sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for j, label in enumerate(columns):
        pen.multiline_text((left + (j + 0.5) * width, top - 4), label, "black", font, anchor="md",
                           align="center")
    for i, label in enumerate(rows):
        y = top + sum(heights[:i])
        pen.multiline_text((left - 4, y + heights[i] / 2), label, "black", font, anchor="rm",
                           align="right")
        for j in range(len(columns)):
            tile = to_pil(image[i * len(columns) + j], size)
            x = left + j * width + (width - size) // 2
            sheet.paste(tile, (x, y + (heights[i] - tile.height) // 2))
    return sheet


def _text_size(text, font):
    """The width and height of a text in pixels, with a margin."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, _, right, bottom = pen.multiline_textbbox((0, 0), text, font)
    return round(right - left) + 8, round(bottom) + 6


def _broken(text, font, width):
    """A text in lines of at most `width` pixels, where a single word is not longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width - 8:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def show(images, rows, columns, alt, size=96):
    """Display images [N, 3, R, R] in a notebook as a labelled grid; `alt` describes it in words."""
    jpeg = to_jpeg(labelled_grid(images, rows, columns, size), quality=70)
    display({"image/jpeg": base64.b64encode(jpeg).decode(), "text/plain": alt}, raw=True,
            metadata={"image/jpeg": {"alt": alt}})


def show_gif(images, alt, size=None, seconds=0.1):
    """Display images [N, 3, R, R] in a notebook as a film that runs there and back."""
    film = base64.b64encode(to_gif(images, size, seconds)).decode()
    display({"image/gif": film, "text/plain": alt}, raw=True, metadata={"image/gif": {"alt": alt}})


def to_jpeg(image, size=None, quality=90):
    """image [3, H, W], [1, 3, H, W] or PIL picture -> a JPEG, in bytes; faster than a PNG."""
    picture = image if isinstance(image, Image.Image) else to_pil(image, size)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def to_png(image, text=None):
    """image [3, H, W], [1, 3, H, W] or PIL picture -> a PNG, in bytes, with {keyword: text}."""
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    chunks, buffer = PngInfo(), BytesIO()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def to_gif(images, size=None, seconds=0.1):
    """images [N, 3, R, R] -> bytes of a GIF that runs there and back, `seconds` a frame."""
    frames = [to_pil(image, size).quantize(128, dither=Image.Dither.NONE) for image in images]
    frames += frames[-2:0:-1]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:],
                   duration=round(seconds * 1000), loop=0)
    return buffer.getvalue()


def files_in(folder):
    """The paths of a folder's files in the order of their names, without hidden ones."""
    return sorted(path for path in Path(folder).iterdir()
                  if path.is_file() and not path.name.startswith("."))


def write_new(folder, stem, kind, content):
    """Write bytes as stem.kind, or stem-2.kind and so on, never over a file that is there.

    Returns: the path. Raises: OSError, such as for a full disk; nothing is left then.
    """
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
