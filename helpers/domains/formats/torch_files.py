"""Files of torch.save and numpy.save, read as data: nothing in them is executed."""

import pickle
import re
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from .safetensors_files import check_numbers, first_line, lost_drive


class Refused(ValueError):
    """A file asks for more than weights; the message names what."""


def what_is_asked(error):
    """What torch's weights-only reader did not accept, in a few words; its own fill a page."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        return f"it asks for {asked[1]}, which is not part of a network's weights"
    return "it holds more than weights"


def read_torch(path):
    """The content of a .pt or .pth file: tensors, numbers and texts, in lists and dicts.

    Raises: Refused, a ValueError that names what the file asks for, if that is more; ValueError
        if it is damaged; OSError if it cannot be read.
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):  # a file that torch wrote is not compressed
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > path.stat().st_size:
                raise Refused(f"{path} was refused: it unpacks to more than its size.")
        with torch.serialization.safe_globals([Namespace]):  # options, often kept in these files
            content = torch.load(path, map_location="cpu", weights_only=True)
        check_numbers({"it": content})
        return content
    except pickle.UnpicklingError as error:
        raise Refused(f"{path} was refused: {what_is_asked(error)}.") from None
    except (FileNotFoundError, Refused):
        raise
    except Exception as error:  # torch has many kinds for a damaged file, OSError among them
        lost = lost_drive(path, error)
        if lost:
            raise lost from None
        raise ValueError(f"{path} is not a whole file of weights ({first_line(error)}): "
                         "delete it and fetch it again.") from None


def read_array(path):
    """A .npy file of numbers as a fp32 tensor of its shape.

    Raises: ValueError, in one sentence, if it is damaged or holds something else; OSError for a
        lost drive.
    """
    try:
        # Mapped, so that a header cannot claim more memory than the file has.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it is no array of numbers")
        values = torch.from_numpy(array.astype(np.float32))
        check_numbers({"it": values})
        return values
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy has many kinds for a damaged file
        lost = lost_drive(path, error)
        if lost:
            raise lost from None
        raise ValueError(f"{path} is not a whole .npy file of numbers ({first_line(error)}).") \
            from None
