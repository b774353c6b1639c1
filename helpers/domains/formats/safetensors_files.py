"""Weights <-> safetensors files, and the checks that all readers of weights share."""

import errno
import json
import pickletools
import secrets
import shutil
import textwrap
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

PART = "." + 8 * "[0-9a-f]" + ".part"  # glob pattern: how the name of an unfinished file ends
DAY = 24 * 3600  # seconds
OLD_TORCH = b"\x8a\x0al\xfc"  # bytes 2 to 5 of torch.save's files before torch 1.6; then zip
LOST = (errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.ENODEV, errno.EHOSTDOWN)  # the drive is gone


def first_line(error):
    """The kind of an exception and the first line of its message, as one text."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def lost_drive(path, error):
    """An OSError in one sentence if the drive of `path` is gone, such as Colab's; else None."""
    if getattr(error, "errno", None) not in LOST:
        return None
    return OSError(f"{path} cannot be read ({error.strerror}): its drive is not connected now. "
                   "Connect it again, or set STYLECLIP_CACHE to a folder of this machine.")


def check_numbers(content):
    """Look through tensors in nested dicts and lists.

    Raises: ValueError if one holds NaN or infinity, or claims more numbers than are stored.
    """
    parts = content.items() if isinstance(content, dict) else enumerate(content)
    for name, part in parts:
        if isinstance(part, (dict, list, tuple)):
            check_numbers(part)
        elif isinstance(part, torch.Tensor):
            if part.numel() * part.element_size() > part.untyped_storage().nbytes():
                raise ValueError(f"{name} is larger than what is stored of it")
            if part.dtype == torch.float8_e4m3fn:  # of which torch 2.11, Colab's, cannot ask it
                part = part.float()
            if not part.isfinite().all():
                raise ValueError(f"{name} holds values that are NaN or infinite")


def fill(module, state, name):
    """The module with all tensors of a file: in evaluation mode, its parameters without gradients.

    Args: state: {name: tensor}, as the file has them; name: what the error calls the file.
    Raises: ValueError, in one sentence, if tensors are missing, unknown, of other sizes, or none.
    """
    try:
        module.load_state_dict(state)
    except Exception as error:  # a foreign file can cause many kinds
        kind = type(module).__name__
        raise ValueError(f"{name} does not hold the weights of a network of the kind {kind} "
                         f"({what_does_not_fit(error)}): delete it and fetch it again.") from None
    return module.eval().requires_grad_(False)


def what_does_not_fit(error):
    """What an exception of `load_state_dict` found wrong, in 120 characters at most."""
    lines = str(error).splitlines()  # the first of torch's says nothing
    text = lines[1].strip() if len(lines) > 1 else first_line(error)
    return textwrap.shorten(text, 120, placeholder=" ...").rstrip(".: ")


def save_tensors(path, tensors, **header):
    """Write {name: tensor} and a header of JSON values; an old file stays until this is whole.

    Raises: OSError, such as for a full disk; nothing half-written is left then.
    """
    path = Path(path)
    content = save({name: value.contiguous() for name, value in tensors.items()},
                   {key: json.dumps(value) for key, value in header.items()})
    part = part_of(path)  # `save_file` leaves temporary files when killed, and ignores the umask
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise OSError(f"{path.name} could not be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)


def save_module(path, module, *, half=False, exact=(), eight=(), **header):
    """Write a module's tensors and, in the header, its `config`.

    Args:
        half: store float16 instead of float32, but for tensors whose names contain one of `exact`,
            which stay float32, or of `eight`, which become float8 (e4m3).
        header: what else to keep, JSON values.
    Raises: OSError, as `save_tensors` does.
    """
    state = module.state_dict()
    for name, value in state.items():
        if not half or not value.is_floating_point() or any(part in name for part in exact):
            continue
        small = any(part in name for part in eight)
        state[name] = value.to(torch.float8_e4m3fn if small else torch.float16)
    save_tensors(path, state, config=module.config, **header)


def read_safetensors(path, only_header=False, needs=()):
    """The content of a safetensors file: ({name: fp32 tensor}, {key: value of the header}).

    Args:
        only_header: return the header alone, after the check that the file is whole.
        needs: names that a file of the wanted kind has, among its tensors or in its header.
    Raises: ValueError, in one sentence, if it is damaged or lacks one of `needs`; OSError if it
        cannot be read.
    """
    try:
        if only_header:
            with safe_open(path, "pt") as file:
                names, notes = list(file.keys()), file.metadata()
        else:
            # Read once: `safe_open` opens a file twice, and it may be replaced in between.
            content = Path(path).read_bytes()
            state = load(content)
            size = int.from_bytes(content[:8], "little")  # bytes of the header that follows
            names, notes = list(state), json.loads(content[8:8 + size]).get("__metadata__")
            check_numbers(state)
        header = {key: _parsed(value) for key, value in (notes or {}).items() if key != "format"}
        missing = [name for name in needs if name not in header and name not in names]
        if missing:
            raise ValueError(f"it lacks {missing[0]}")
    except OSError as error:
        raise lost_drive(path, error) or error from None
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a whole safetensors file of this kind "
                         f"({first_line(error)}): delete it and fetch it again.") from None
    if only_header:
        return header
    return {name: value.float() if value.is_floating_point() else value
            for name, value in state.items()}, header


def _parsed(value):
    """What `save_tensors` wrote into a header; the text itself, if another program wrote it."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def is_whole(path, kind):
    """Is it a whole file of the kind that a suffix such as ".npy" names? Nothing in it is executed.

    Of kinds that are not known here, every file that is not empty counts as whole.
    """
    try:
        with open(path, "rb") as file:
            if kind == ".safetensors":
                read_safetensors(path, only_header=True)
            elif kind == ".npy":  # mapping fails where the file is shorter than its header says
                return np.load(path, mmap_mode="r", allow_pickle=False).dtype.kind in "fiu"
            elif kind in (".pt", ".pth"):
                start = file.read(6)
                if start[:2] == b"PK":
                    return zipfile.is_zipfile(path)
                return start[2:] == OLD_TORCH
            elif kind == ".pkl":  # the opcodes end at the end of the file
                codes = [code.name for code, *_ in pickletools.genops(file)]
                return codes[-1] == "STOP" and not file.read(1)
            return bool(file.read(1))
    except Exception:  # a damaged file can cause many kinds
        return False


def part_of(path):
    """A new name, NAME.1a2b3c4d.part, for a file on its way to `path`.

    What killed writers left in that folder more than a day ago is deleted.
    """
    for left in path.parent.glob("*" + PART):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
