"""The page (`make app`): what one visitor can do to it, or find out, and what another one notices."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import requests
import websockets
from conftest import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "notebooks"))
import app  # noqa: E402
from voila.tornado import kernel_websocket_handler  # noqa: E402

V1 = "v1.kernel.websocket.jupyter.org"
KERNEL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@contextmanager
def time_limit(seconds):
    """Whoever is still at it after so many seconds gets a TimeoutError."""
    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def server(folder, *arguments):
    """The page on a free port of this machine, as (its address, its process, its log)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "app.log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, ROOT / "notebooks" / "app.py", f"--port={port}", "--no-browser",
                                    *arguments], stdout=output, stderr=output,
                                   env=os.environ | {"STYLECLIP_DOMAIN": "avatars"})
    address, end = f"127.0.0.1:{port}", time.monotonic() + 600
    try:
        while "is running at" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.2)
        yield address, process, log
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page for two visitors, on this machine: (its address, its process)."""
    with server(tmp_path_factory.mktemp("page"), "--visitors=2") as (address, process, _):
        yield address, process


@contextmanager
def visit(address):
    """(HTML, kernel id) of a visitor, who leaves afterwards."""
    with requests.Session() as visitor:
        answer = visitor.get(f"http://{address}/", timeout=300)
        assert answer.status_code == 200, answer.text
        kernel = KERNEL.search(answer.text)[0]
        try:
            yield answer.text, kernel
        finally:  # as a browser does when its window is closed
            left = visitor.post(f"http://{address}/voila/api/shutdown/{kernel}", timeout=30,
                                data={"_xsrf": visitor.cookies["_xsrf"]})
            assert left.status_code == 204


def kernels_of(process):
    """The processes of a page that compute: the one that holds the networks, and its forks."""
    def children(pid):
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
        return [int(child) for child in found]

    networks = children(process.pid)
    return networks, [fork for parent in networks for fork in children(parent)]


def message(kind, **content):
    header = dict(msg_id=uuid.uuid4().hex, username="", session="s", msg_type=kind, version="5.3", date="2026-11-25")
    return json.dumps(dict(channel="shell", header=header, parent_header={}, metadata={"version": "1.0.0"},
                           content=content, buffers=[]))


async def widgets_without_v1(address, kernel):
    """All the answer to `request_states` over a websocket without the v1 subprotocol, the way that stopped Voila."""
    async with websockets.connect(f"ws://{address}/api/kernels/{kernel}/channels", max_size=None) as connection:
        await connection.send(message("comm_open", comm_id="c", target_name="jupyter.widget.control", data={}))
        await connection.send(message("comm_msg", comm_id="c", data={"method": "request_states"}))
        while not isinstance(answer := await asyncio.wait_for(connection.recv(), 20), bytes):
            pass
        return answer


async def close_code(address, kernel, payload, subprotocols):
    """With what code the server closes a websocket after a message."""
    async with websockets.connect(f"ws://{address}/api/kernels/{kernel}/channels",
                                  subprotocols=subprotocols) as connection:
        await connection.send(payload)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(connection.recv(), 20)
        return closed.value.rcvd.code


@pytest.mark.parametrize("start", [b"\x00\x00\x00\x02\x00\x00\x00\x0c", b"\xff" * 8, (10**9).to_bytes(8, "little")])
def test_the_reader_of_headers_does_not_believe_a_huge_count(start):
    with time_limit(2):
        assert kernel_websocket_handler.read_header_from_binary_message(start + b"x" * 100) is None


def test_the_reader_of_headers_reads_what_is_one():
    parts = [b"iopub", b'{"msg_type": "execute_input"}', b"{}", b"{}", b"{}"]
    ends = np.cumsum([8 * (len(parts) + 2), *(len(part) for part in parts)])
    whole = b"".join(int(number).to_bytes(8, "little") for number in (len(ends), *ends)) + b"".join(parts)
    assert kernel_websocket_handler.read_header_from_binary_message(whole) == {"msg_type": "execute_input"}
    assert app.is_sound(whole, V1)


def test_messages_that_would_stop_the_server_are_not_read():
    assert not app.is_sound(b"\xff" * 64, V1) and not app.is_sound("[]", V1)
    assert not app.is_sound(b"\x7f\xff\xff\xff" + b"x" * 64, "") and not app.is_sound(b"", "")
    assert app.is_sound("{}", "")


def test_a_visitor_without_the_protocol_stops_nobody(page):
    address, _ = page
    with visit(address) as (_, kernel):
        assert asyncio.run(widgets_without_v1(address, kernel))
        for payload, protocols in ((b"\xff" * 64, [V1]), ("[]", [V1]), (b"\x7f\xff\xff\xff" + b"x" * 64, None)):
            assert asyncio.run(close_code(address, kernel, payload, protocols)) == 1003
        assert requests.get(f"http://{address}/voila/files/app.ipynb", timeout=5).status_code == 403  # still answers


def test_nobody_finds_out_where_it_lies(page):
    address, _ = page
    (app.BUILD / "app" / "somebody.png").write_bytes(b"a visitor's picture")
    try:
        for path in ("voila/files/somebody.png", "voila/files/app.ipynb", "voila/files/../app.py"):
            assert requests.get(f"http://{address}/{path}", timeout=5).status_code in (403, 404)
        assert requests.get(f"http://{address}/app.ipynb", timeout=5).status_code == 404
    finally:
        (app.BUILD / "app" / "somebody.png").unlink()
    with visit(address) as (html, kernel):
        assert str(ROOT) not in html and str(ROOT).encode() not in asyncio.run(widgets_without_v1(address, kernel))


def test_kernels_share_the_networks_and_end_with_their_visitors(page):
    address, process = page
    with visit(address), visit(address):
        networks, forks = kernels_of(process)
        assert len(networks) == 1 and len(forks) == 2
        private = [int(re.search(r"Private_Dirty: +(\d+)", (f"{open(f'/proc/{pid}/smaps_rollup').read()}"))[1])
                   for pid in forks]
        assert max(private) < 300_000, private  # kB; a kernel with networks of its own has 700,000
        full = requests.get(f"http://{address}/", timeout=60)
        assert full.status_code == 503 and "All places are taken" in full.text and "room for 2 visitors" in full.text
    end = time.monotonic() + 20
    while kernels_of(process)[1]:
        assert time.monotonic() < end, "a kernel outlives its visitor"
        time.sleep(0.2)


def test_when_the_networks_process_is_killed_the_next_visitor_gets_a_new_one(page):
    address, process = page
    (before,), _ = kernels_of(process)
    os.kill(before, signal.SIGKILL)
    with visit(address) as (html, _):
        (after,), forks = kernels_of(process)
    assert after != before and len(forks) == 1 and "widget" in html


def test_kernels_of_visitors_who_left_are_ended(tmp_path, monkeypatch):
    class Manager:
        last_activity = datetime.now(UTC) - timedelta(seconds=app.GONE + 5)
        execution_state, kernel_name = "idle", "python3"
        kernel_spec = type("Spec", (), {"metadata": {}})

        def __init__(self, alive=True):
            self.alive = alive

        def is_alive(self):
            return self.alive

    ended = []

    async def shut(self, kernel_id, **_):
        ended.append(kernel_id)

    monkeypatch.setattr(app.Kernels, "shutdown_kernel", shut)
    kernels = app.Kernels(connection_dir=str(tmp_path))
    kernels._kernels = {"left": Manager(), "there": Manager(), "dead": Manager(alive=False)}
    kernels._kernel_connections = {"left": 0, "there": 1, "dead": 1}
    asyncio.run(kernels.cull_kernels())
    assert ended == ["left", "dead"]


def test_beyond_this_machine_a_token_is_asked_for(tmp_path):
    assert app.is_local("127.0.0.1") and app.is_local("localhost") and app.is_local("::1")
    assert not app.is_local("0.0.0.0") and not app.is_local("") and not app.is_local("192.168.1.7")
    with server(tmp_path, "--ip=0.0.0.0") as (address, _, log):
        token = re.search(r"http://[^/]+/\?token=([\w-]{16})", log.read_text())[1]
        asked = requests.get(f"http://{address}/", timeout=30)
        assert "/login" in asked.url and not KERNEL.search(asked.text) and "token" in asked.text
        with requests.Session() as visitor:
            html = visitor.get(f"http://{address}/?token={token}", timeout=300).text
            kernel = KERNEL.search(html)[0]
            with pytest.raises(websockets.InvalidStatus, match="403"):
                asyncio.run(close_code(address, kernel, "{}", None))
            assert requests.delete(f"http://{address}/api/kernels/{kernel}", timeout=5).status_code in (302, 403)


def test_an_upload_of_40_mb_works_and_a_larger_one_is_refused(page, tmp_path):
    from test_browser import CHROMIUM, Panel, sync_playwright  # skips where there is no Chromium

    address, _ = page
    noise = np.random.default_rng(0).integers(0, 256, (3640, 3640, 3), np.uint8)
    for name, rows in (("fits", 3640), ("large", 3720)):
        Image.fromarray(np.resize(noise, (rows, 3640, 3))).save(tmp_path / f"{name}.png", compress_level=0)
    assert 39e6 < (tmp_path / "fits.png").stat().st_size < 40e6 < (tmp_path / "large.png").stat().st_size
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = chromium.new_page()
        view.set_default_timeout(60_000)
        said = []
        view.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        view.goto(f"http://{address}/")
        view.wait_for_selector(".widget-image")
        panel = Panel(view, "app")
        before = panel.picture()
        for name in ("large", "fits"):
            with view.expect_file_chooser() as chooser:
                panel.button(r"open a file \(\d\)").click()
            chooser.value.set_files(tmp_path / f"{name}.png")
            if name == "large":
                view.wait_for_timeout(1000)
                assert said == ["This file has 41 MB, and the page takes up to 40: choose a smaller one."]
                assert panel.picture() == before
        panel.wait_for_change(before)
        panel.check_no_error()
        chromium.close()
