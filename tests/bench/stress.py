"""Long attacks, with a random generator that a seed makes repeatable. What a run withstood goes into README.md's table.

python tests/bench/stress.py [files saves servers page panel training] [--count 300] [--seed 0]    (make stress: all)

Each attack prints one line and ends with an exception at the first thing that it did not withstand.
"""

import argparse
import asyncio
import hashlib
import io
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "notebooks")]

from nvidia_format import nvidia_pickle, nvidia_state  # noqa: E402

from helpers import fetching  # noqa: E402
from helpers.checkpoints import load_generator, read_array, read_safetensors, read_torch, save_module  # noqa: E402
from helpers.stylegan2 import Generator  # noqa: E402

LINE = 700  # characters that a sentence may have; paths are long


def is_sentence(error):
    return isinstance(error, (ValueError, OSError)) and "\n" not in str(error) and 0 < len(str(error)) < LINE


def spoiled(content, chance):
    """The bytes of a file with one to eight things wrong."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place, kind = chance.randrange(len(content)), chance.choice(("bit", "cut", "byte", "copy", "number", "early"))
        if kind == "cut" and len(content) > 64:
            del content[max(32, place):]
        elif kind == "bit":
            content[place] ^= 1 << chance.randrange(8)
        elif kind == "early":  # where headers are
            content[chance.randrange(min(len(content), 300))] = chance.randrange(256)
        elif kind == "byte":
            content[place] = chance.choice((0, 0x7f, 0x80, 0xff))
        elif kind == "number":
            content[place:place + 8] = chance.choice((2**31 - 1, 2**63 - 1, 0)).to_bytes(8, "little")
        else:
            content[place:place] = content[place:place + chance.randrange(1, 400)]
    return bytes(content)


def attack_files(folder, chance, count):
    """Weight and data files with random damage: read, or refused in a sentence, in a moment and little memory."""
    generator = Generator(resolution=16, channels={4: 8, 8: 8, 16: 4}, z_dim=8, w_dim=8, mapping_layers=2)
    save_module(folder / "whole.safetensors", generator)
    torch.save({"weights": torch.ones(30), "names": ["a"]}, buffer := io.BytesIO())
    np.save(array := io.BytesIO(), np.ones((20, 3), np.float32))
    whole = [("a.safetensors", (folder / "whole.safetensors").read_bytes(), load_generator),
             ("b.safetensors", (folder / "whole.safetensors").read_bytes(), read_safetensors),
             ("a.pkl", nvidia_pickle(nvidia_state(generator)), load_generator),
             ("a.pt", buffer.getvalue(), read_torch), ("b.pt", buffer.getvalue(), load_generator),
             ("a.npy", array.getvalue(), read_array)]
    refused = 0
    for i in range(count):
        name, content, read = whole[i % len(whole)]
        (folder / name).write_bytes(content := spoiled(content, chance))
        started = time.monotonic()
        try:
            read(folder / name)
        except Exception as error:
            if not is_sentence(error):
                (ROOT / "build" / f"stress-{name}").write_bytes(content)
                raise AssertionError(f"build/stress-{name} gives no sentence, but {error!r}") from error
            refused += 1
        assert time.monotonic() - started < 10, f"{name} took {time.monotonic() - started:.0f} s"
    return f"{count} damaged files: {refused} refused in a sentence, {count - refused} read all the same"


def attack_saves(folder, chance, count):
    """kill -9 of a process that writes one file over and over: whole at any moment, and of one writing."""
    code = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
import torch
from helpers.checkpoints import save_tensors
i = 0
while True:
    i += 1
    save_tensors(sys.argv[1], dict(a=torch.full([500_000], float(i % 1000))), number=i % 1000)
    if i == 1: print("begun", flush=True)"""
    path, kills = folder / "kept.safetensors", max(1, count // 12)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        tensors, header = read_safetensors(path)
        assert tensors["a"].unique().tolist() == [header["number"]], "a file of two writings"
    left = len([part for part in folder.iterdir() if part.name.startswith(path.name + ".")])
    return f"{kills} kills: the file whole each time; {left} unfinished ones beside it, swept after a day"


def attack_servers(folder, chance, count):
    """A server that misbehaves at random: the right file, or a sentence; never another file in the cache."""
    content = save({"weights": torch.arange(20_000.0)})
    sha256 = hashlib.sha256(content).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status = chance.choice((200, 200, 200, 206, 302, 403, 404, 416, 429, 500, 503))
            body = chance.choice((content, content, content[:chance.randrange(len(content))], b"<html>quota</html>",
                                  b"", b"{}", spoiled(content, chance), content + b"more"))
            self.send_response(status)
            length = chance.choice((len(body), len(body), len(content), 0, 10**12, "many", None))
            if length is not None:
                self.send_header("Content-Length", str(length))
            for name, value in (("ETag", '"a"'), ("Content-Range", f"bytes {chance.randrange(99)}-/9"),
                                ("Location", "/elsewhere"), ("Content-Encoding", "gzip")):
                if chance.random() < 0.2:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    fetching.RETRY_AFTER, right = 0, 0
    for i in range(count):
        source = fetching.Source(f"http://127.0.0.1:{http.server_port}/{i}", sha256, f"{folder}/{i}.safetensors")
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                assert fetching.fetch([source]).read_bytes() == content, "another file"
            right += 1
        except (ValueError, OSError) as error:
            assert is_sentence(error) and not source.path.exists(), repr(error)
    http.shutdown()
    return f"{count} downloads: {right} came right in the end, {count - right} were given up in a sentence"


def attack_page(folder, chance, count):
    """Random messages of a visitor, with and without the protocol: the page answers another visitor in between."""
    import requests
    from test_app import V1, close_code, message, server, visit

    async def send(address, kernel, payload, protocols):
        import websockets
        async with websockets.connect(f"ws://{address}/api/kernels/{kernel}/channels",
                                      subprotocols=protocols) as connection:
            await connection.send(payload)

    slowest = 0
    with server(folder, "--visitors=2") as (address, _, _), visit(address) as (_, kernel):
        for _ in range(count):
            size = chance.choice((0, 3, 8, 64, 1000, 10**6))
            payload = chance.choice((
                chance.randbytes(size), b"\xff" * size, "[" * size, "{}", "null",
                message(chance.choice(("comm_open", "comm_msg", "execute_request", "x")), comm_id="c", data=3),
                chance.choice((0, 2, 6, 64, 65, 2**31, 2**63)).to_bytes(8, "little") + chance.randbytes(size)))
            asyncio.run(send(address, kernel, payload, chance.choice(([V1], None))))
            started = time.monotonic()
            assert requests.get(f"http://{address}/voila/files/x", timeout=5).status_code == 403
            slowest = max(slowest, time.monotonic() - started)
        assert asyncio.run(close_code(address, kernel, b"\xff" * 64, [V1])) == 1003
    return f"{count} messages: another visitor was answered each time, after {1000 * slowest:.0f} ms at most"


def attack_panel(folder, chance, count):
    """Random clicks, keys, words and files of a visitor in a browser; at the end the panel edits as ever."""
    from playwright.sync_api import Error, sync_playwright
    from test_app import server

    (folder / "broken.png").write_bytes(b"\x89PNG no picture")
    pictures = [folder / "broken.png", *sorted((ROOT / "data" / "avatars" / "samples").glob("*.png"))[:2]]
    words = ("a person with purple hair", "an angry person", "", "x " * 99, "<b>bold</b>", "a person", "\u732b")
    seen = "[...document.querySelectorAll('.widget-image')].some(image => image.naturalWidth)"
    errors, done = [], {}
    with server(folder, "--visitors=2") as (address, _, log), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://{address}/")
        page.wait_for_function(seen, timeout=60000)
        page.set_default_timeout(3000)

        def one_of(selector):
            there = page.locator(selector).all()
            return chance.choice([element for element in there if element.is_visible() and element.is_enabled()])

        def press_slider():
            handle = one_of(".widget-slider [role=slider], .widget-slider .noUi-handle")
            handle.press(chance.choice(("ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End")))

        def choose():
            menu = one_of(".widget-dropdown select")
            menu.select_option(index=chance.randrange(menu.locator("option").count()))

        def write():
            field = one_of(".widget-text input, .widget-combobox input")
            field.fill(chance.choice(words))
            field.press(chance.choice(("Enter", "Tab")))

        def open_file():
            with page.expect_file_chooser() as chooser:
                page.locator("button.widget-upload").click()
            chooser.value.set_files(chance.choice(pictures))

        actions = {"button": lambda: one_of("button.jupyter-button:not(.widget-upload)").click(),
                   "slider": press_slider, "menu": choose, "words": write, "file": open_file,
                   "wait": lambda: page.wait_for_timeout(chance.choice((50, 500)))}
        likely = [name for name in actions for _ in range({"button": 5, "slider": 4}.get(name, 2))]
        while sum(done.values()) < max(1, count // 3):
            name = chance.choice(likely)
            try:
                actions[name]()
                done[name] = done.get(name, 0) + 1
            except (Error, IndexError):  # it was disabled meanwhile, or another lies over it: does not count
                pass
            text = page.inner_text("body")
            assert "Traceback" not in text and "Error:" not in text and not errors, (name, errors, text[-500:])
        assert count < 300 or done.keys() == actions.keys(), done  # none of them fails each time
        page.wait_for_timeout(5000)
        page.set_default_timeout(60000)
        page.get_by_text("another random face").first.click()
        for name, text in (("neutral", "a person"), ("prompt", "a bald person")):
            field = page.locator(f'.widget-inline-hbox:has(label:text-is("{name}")) input').first
            field.fill(text)
            field.press("Tab")
        try:
            page.get_by_text("after: a bald person").wait_for()
        finally:
            (ROOT / "build" / "panel.png").write_bytes(page.screenshot(full_page=True))
        browser.close()
        assert "Traceback" not in log.read_text(), log.read_text()[-2000:]
    return f"{sum(done.values())} actions in a browser ({done}): no traceback, and the next sentence was edited"


def attack_training(folder, chance, count):
    """kill -9 of a training at random moments, begun again each time: the same weights as unbroken."""
    def command(place):
        return [sys.executable, str(ROOT / "notebooks" / "train_mapper.py"), "a person with a beard",
                "--domain=avatars", "--steps=150", "--batch=2", f"--folder={folder / place}"]

    def weights(place):
        (path,) = (folder / place).glob("*.safetensors")
        return read_safetensors(path)[0]

    started = time.monotonic()
    subprocess.run(command("unbroken"), check=True, stdout=subprocess.DEVNULL)
    whole, kills = time.monotonic() - started, max(1, count // 15)
    done = tries = 0
    while done < kills:
        tries += 1
        process = subprocess.Popen(command(str(tries)), stdout=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.3, 0.95) * whole)  # one that was faster does not count
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            subprocess.run(command(str(tries)), check=True, stdout=subprocess.DEVNULL)
            done += 1
        ours, theirs = weights(str(tries)), weights("unbroken")
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return f"{kills} trainings killed at a random moment: the same weights as unbroken"


ATTACKS = {"files": attack_files, "saves": attack_saves, "servers": attack_servers, "page": attack_page,
           "panel": attack_panel, "training": attack_training}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], help="all, without one")
    parser.add_argument("--count", type=int, default=300, help="of files, downloads and messages; kills are fewer")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    for name in options.attacks or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            said = ATTACKS[name](Path(folder), random.Random(options.seed), options.count)
            print(f"{name} (seed {options.seed}): {said}; {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
