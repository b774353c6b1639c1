"""Long attacks, with random numbers that a seed makes repeatable: `make stress`.

    python -m tests.bench.stress [--only files saves servers page training] [--count 300] [--seed 0]

Each attack prints one line, and ends with an exception at the first thing that it did not
withstand. The page needs what `make page` installs. Result: stress.
"""

import argparse
import datetime
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import requests
import torch
from safetensors.torch import save as to_safetensors

from helpers.domains import download
from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.safetensors_files import read_safetensors, save_module
from helpers.domains.formats.torch_files import read_array, read_torch
from helpers.stylegan2 import Generator
from tests.nvidia_format import nvidia_pickle, nvidia_state

from .results import BUILD, ROOT, add_keep, load, save

ATTACKS = ("files", "saves", "servers", "page", "training")
LINE = 700  # characters that a sentence may have; paths are long
KINDS = ("bit", "cut", "byte", "copy", "number", "early")  # of damage
# Writes one file over and over, each time with another number in it.
WRITER = """
import sys
import torch
from helpers.domains.formats.safetensors_files import save_tensors
i = 0
while True:
    i += 1
    save_tensors(sys.argv[1], dict(a=torch.full([500_000], float(i % 1000))), number=i % 1000)
    if i == 1: print("begun", flush=True)
"""


def is_sentence(error):
    """Whether an error is one that a reader can act on, in one line."""
    kind = isinstance(error, (ValueError, OSError))
    return kind and "\n" not in str(error) and 0 < len(str(error)) < LINE


def damaged(content, chance):
    """The bytes of a file with one to eight things wrong."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place, kind = chance.randrange(len(content)), chance.choice(KINDS)
        if kind == "cut" and len(content) > 64:
            del content[max(32, place):]
        elif kind == "bit":
            content[place] ^= 1 << chance.randrange(8)
        elif kind == "early":  # where headers are
            content[chance.randrange(min(len(content), 300))] = chance.randrange(256)
        elif kind == "byte":
            content[place] = chance.choice((0, 0x7f, 0x80, 0xff))
        elif kind == "number":
            number = chance.choice((2**31 - 1, 2**63 - 1, 0))
            content[place:place + 8] = number.to_bytes(8, "little")
        else:
            content[place:place] = content[place:place + chance.randrange(1, 400)]
    return bytes(content)


def write_whole_files(folder):
    """A small file of each kind that is read: their paths."""
    generator = Generator(resolution=16, channels={4: 8, 8: 8, 16: 4}, z_dim=8, w_dim=8,
                          mapping_layers=2)
    save_module(folder / "generator.safetensors", generator)
    (folder / "generator.pkl").write_bytes(nvidia_pickle(nvidia_state(generator)))
    torch.save({"weights": torch.ones(30), "names": ["a"]}, folder / "weights.pt")
    np.save(folder / "array.npy", np.ones((20, 3), np.float32))
    return [folder / name for name in ("generator.safetensors", "generator.pkl", "weights.pt",
                                       "array.npy")]


def read(path, as_generator):
    """Read a file by what its name says, or as a generator."""
    if path.suffix == ".npy":
        return read_array(path)
    if as_generator or path.suffix == ".pkl":
        return load_generator(path)
    if path.suffix == ".pt":
        return read_torch(path)
    return read_safetensors(path)


def attack_files(folder, chance, count):
    """Files with random damage: read, or refused in a sentence, in a moment and little memory."""
    whole = {path: path.read_bytes() for path in write_whole_files(folder)}
    paths, refused = list(whole), 0
    for i in range(count):
        path = paths[i % len(paths)]
        content = damaged(whole[path], chance)
        path.write_bytes(content)
        started = time.monotonic()
        try:
            read(path, as_generator=chance.random() < 0.5)
        except Exception as error:
            if not is_sentence(error):
                kept = BUILD / f"stress-{path.name}"
                kept.write_bytes(content)
                raise AssertionError(f"{kept} gives no sentence, but {error!r}") from error
            refused += 1
        seconds = time.monotonic() - started
        assert seconds < 10, f"{path.name} took {seconds:.0f} s"
    return count, f"{refused:,} refused in a sentence, {count - refused:,} read; none took 10 s"


def attack_saves(folder, chance, count):
    """kill -9 of a process that writes one file over and over: whole at any moment."""
    path, kills = folder / "kept.safetensors", max(1, count // 12)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT,
                                   stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        tensors, header = read_safetensors(path)
        assert tensors["a"].unique().tolist() == [header["number"]], "a file of two writings"
    return kills, "the file whole after each kill -9, and of one writing"


class Misbehaving(ThreadingHTTPServer):
    """A server of one file whose status, length, body and headers are random."""

    def __init__(self, content, chance):
        super().__init__(("127.0.0.1", 0), MisbehavingHandler)
        self.content, self.chance = content, chance
        threading.Thread(target=self.serve_forever, daemon=True).start()


class MisbehavingHandler(BaseHTTPRequestHandler):
    """An answer of `Misbehaving`."""

    def do_GET(self):
        """Answer at random; more often than not with the right body."""
        chance, content = self.server.chance, self.server.content
        status = chance.choice((200, 200, 200, 206, 302, 403, 404, 416, 429, 500, 503))
        body = chance.choice((content, content, content[:chance.randrange(len(content))],
                              b"<html>quota</html>", b"", b"{}", damaged(content, chance),
                              content + b"more"))
        self.send_response(status)
        length = chance.choice((len(body), len(body), len(content), 0, 10**12, "many", None))
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in (("ETag", '"a"'), ("Location", "/elsewhere"),
                            ("Content-Range", f"bytes {chance.randrange(99)}-/9"),
                            ("Content-Encoding", "gzip")):
            if chance.random() < 0.2:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def attack_servers(folder, chance, count):
    """A server that misbehaves: the right file, or a sentence; never another file in the cache."""
    content = to_safetensors({"weights": torch.arange(20_000.0)})
    sha256, server = hashlib.sha256(content).hexdigest(), Misbehaving(content, chance)
    download.RETRY_AFTER, right = 0, 0
    for i in range(count):
        address = f"http://127.0.0.1:{server.server_port}/{i}"
        source = download.Source(address, sha256, f"{folder}/{i}.safetensors")
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                path = download.fetch([source])
            assert path.read_bytes() == content, "another file"
            right += 1
        except (ValueError, OSError) as error:
            assert is_sentence(error) and not source.path.exists(), repr(error)
    server.shutdown()
    return count, f"{right} downloads came right, {count - right} were given up in one sentence"


@contextmanager
def page():
    """The page of the avatars in a process of its own: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "helpers.commands.page", f"--port={port}"]
    process = subprocess.Popen(command, cwd=ROOT, env=avatars_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address, started = f"http://127.0.0.1:{port}", time.monotonic()
        while not answers(address):
            assert process.poll() is None and time.monotonic() - started < 120, "no page"
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def avatars_environment():
    """This process's environment variables, and the domain."""
    return os.environ | {"STYLECLIP_DOMAIN": "avatars"}


def answers(address):
    """Whether a server is there and answers with a page."""
    try:
        return requests.get(address, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def attack_page(folder, chance, count):
    """Random requests of a visitor: the page answers another visitor in between."""
    slowest = 0
    with page() as address:
        for _ in range(count):
            send_nonsense(f"{address}/gradio_api", chance)
            started = time.monotonic()
            assert answers(address), "another visitor was not answered"
            slowest = max(slowest, time.monotonic() - started)
        secret = requests.get(f"{address}/gradio_api/file={ROOT / 'README.md'}", timeout=5)
        assert secret.status_code in (403, 404), "a file of the machine was given away"
    return count, f"another visitor was answered each time, after {1000 * slowest:.0f} ms at most"


def send_nonsense(address, chance):
    """One random request to a page's interface."""
    size = chance.choice((0, 3, 64, 1000, 10**6))
    body = chance.choice((chance.randbytes(size), b"[" * size, b"{}", b"null", json.dumps(
        {"data": [None, 3, "x" * size], "fn_index": chance.randrange(9),
         "session_hash": "a"}).encode()))
    kind = chance.choice(("application/json", "multipart/form-data; boundary=x", "text/plain"))
    place = chance.choice(("queue/join", "upload", "run/predict", "call/edit", "reset", "heartbeat",
                           "file=../../etc/passwd"))
    try:
        requests.post(f"{address}/{place}", body, headers={"Content-Type": kind}, timeout=5)
    except requests.RequestException:
        pass  # it was refused


def train(folder):
    """The command of a short training into a folder."""
    return [sys.executable, "-m", "helpers.commands.train_mapper", "a person with a beard",
            "--domain=avatars", "--steps=150", "--batch=2", f"--folder={folder}"]


def trained_weights(folder):
    """The weights {name: tensor} of the one mapper in a folder."""
    (path,) = folder.glob("*.safetensors")
    return read_safetensors(path)[0]


def attack_training(folder, chance, count):
    """kill -9 of a training at random moments, begun again each time: the same weights."""
    started = time.monotonic()
    subprocess.run(train(folder / "unbroken"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    whole, kills = time.monotonic() - started, max(1, count // 15)
    theirs, done, tries = trained_weights(folder / "unbroken"), 0, 0
    while done < kills:
        tries += 1
        place = folder / str(tries)
        process = subprocess.Popen(train(place), cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.3, 0.95) * whole)  # one that was faster does not count
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            subprocess.run(train(place), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            done += 1
        ours = trained_weights(place)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), "other weights"
    return kills, "the same weights as unbroken after each kill -9"


def attack(name, folder, chance, count):
    """Run an attack by its name: how often it was tried, and what was found."""
    if name == "files":
        return attack_files(folder, chance, count)
    if name == "saves":
        return attack_saves(folder, chance, count)
    if name == "servers":
        return attack_servers(folder, chance, count)
    if name == "page":
        return attack_page(folder, chance, count)
    return attack_training(folder, chance, count)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--count", type=int, default=300,
                        help="of files, downloads and requests; kills are fewer")
    parser.add_argument("--seed", type=int, default=0)
    add_keep(parser)
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    before = load("stress", options.keep) or {"attacks": {}}
    attacks = before["attacks"]
    for name in options.only:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            tried, found = attack(name, Path(folder), random.Random(options.seed), options.count)
        print(f"{name} (seed {options.seed}): {tried:,}: {found}; "
              f"{time.monotonic() - started:.0f} s", flush=True)
        attacks[name] = {"date": datetime.date.today().isoformat(), "seeds": [options.seed],
                         "tried": tried, "found": found}
        save("stress", keep=options.keep, attacks=attacks)


if __name__ == "__main__":
    main()
