"""Pictures in and out: open any file as the generator's image, and lay images out in grids, strips and GIFs."""

from io import BytesIO

import numpy as np
import torch
from IPython.display import Image as Picture
from IPython.display import display
from PIL import Image, ImageOps, UnidentifiedImageError


def open_image(source, resolution, say=print):
    """A user's picture as image [1, 3, R, R] in [-1, 1].

    Turned upright as the camera noted (EXIF), made RGB (transparent parts white), cropped to the square in its
    middle, resized.

    Args:
        source: path, or the file's bytes.
        resolution: R, in pixels.
        say: gets a sentence on what was cut away, if anything was.

    Raises: ValueError, in one sentence, if it is no picture or a damaged one.
    """
    name = "The file" if isinstance(source, bytes) else f"{source}"
    try:
        picture = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
        picture.draft("RGB", (2 * resolution, 2 * resolution))  # lets a huge JPEG be read small
        picture = ImageOps.exif_transpose(picture)
        if "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA"):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        elif picture.mode.startswith(("I", "F")):  # 16-bit and float grey: Pillow would cut instead of scale
            levels = np.asarray(picture, dtype=np.float64)
            top = 65535 if picture.mode.startswith("I") else max(levels.max(), 1e-9)
            picture = Image.fromarray((levels / top * 255).clip(0, 255).astype(np.uint8))
        picture = picture.convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture: choose a PNG, JPEG or WebP file.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels: make it smaller first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{name} cannot be read as a picture ({error}): save it again as PNG or JPEG.") from None
    width, height = picture.size
    if width != height:
        side = min(width, height)
        say(f"Cropped to the {side} x {side} square in the middle of {width} x {height} pixels.")
    return to_tensor(ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BOX if width > resolution
                                  else Image.Resampling.BICUBIC))


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


def grid(images, columns=None, size=None):
    """images [N, 3, R, R] -> one PIL picture, row by row; `size` is the side of each in pixels."""
    tiles = [to_pil(image, size) for image in images]
    columns = columns or len(tiles)
    rows = -(-len(tiles) // columns)
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * width, i // columns * height))
    return sheet


def show(images, columns=None, size=80):
    """Display images [N, 3, R, R] side by side in a notebook."""
    display(Picture(to_jpeg(grid(images, columns, size), quality=75)))


def to_jpeg(image, size=None, quality=90):
    """image [3, H, W], [1, 3, H, W] or a PIL picture -> bytes of a JPEG: fifty times faster to make than a PNG."""
    picture = image if isinstance(image, Image.Image) else to_pil(image, size)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def to_png(image, size=None):
    """image [3, H, W] or [1, 3, H, W] -> bytes of a PNG."""
    buffer = BytesIO()
    to_pil(image, size).save(buffer, "PNG")
    return buffer.getvalue()


def to_gif(images, size=None, seconds=0.1):
    """images [N, 3, R, R] -> bytes of a GIF that runs there and back, `seconds` a frame."""
    frames = [to_pil(image, size).quantize(128, dither=Image.Dither.NONE) for image in images]
    frames += frames[-2:0:-1]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(seconds * 1000), loop=0)
    return buffer.getvalue()
