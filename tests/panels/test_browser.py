"""The three panels in JupyterLab, driven by a real browser; screenshots in build/browser/."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT

sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium: apt-get install chromium", allow_module_level=True)
SHOTS = ROOT / "build" / "browser"
SET_UP = """import sys
sys.path.insert(0, "..")
from helpers.domains import load_domain
from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.methods.directions import global_direction
from helpers.methods.mapper import apply_mapper, train_mapper
from helpers.methods.optimization import optimize_latent
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel
from helpers.training_files import find_mapper

domain = load_domain("avatars")


def find(prompt, objective):
    return find_mapper(domain, prompt, objective)


def train(prompt, objective, callback):
    latents = random_w_plus(domain, 40, seed=0)
    return train_mapper(domain, prompt, latents, objective=objective, callback=callback)[0]
"""
PANELS = {"optimization": "OptimizationPanel(domain, invert, optimize_latent)",
          "mapper": "MapperPanel(domain, invert, find, train, apply_mapper)",
          "global": "GlobalPanel(domain, invert, global_direction)"}
READY = """() => {
    const session = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session;
    return session?.kernel?.connectionStatus == 'connected' && session.kernel.status == 'idle';
}"""
SAID = """text => [...document.querySelectorAll('span[role=status]')].some(
    line => line.textContent.includes(text))"""
# Scroll the panel to the top of the notebook, and measure what it is made of.
MEASURE = """() => {
    const panel = document.querySelector('.widget-image').closest('.jp-OutputArea-output');
    panel.scrollIntoView({block: 'start'});
    const page = document.querySelector('.jp-NotebookPanel-notebook').getBoundingClientRect();
    const box = element => {
        const {left, right, top, bottom} = element.getBoundingClientRect();
        return {left: left - page.left, right: right - page.left,
                top: top - page.top, bottom: bottom - page.top};
    };
    const seen = element => element.getClientRects().length > 0;
    return {width: page.width, height: page.height, panel: box(panel),
            controls: [...panel.querySelectorAll('button, input, select, .noUi-target')]
                .filter(seen).map(box),
            pictures: [...panel.querySelectorAll('img')].filter(seen).map(box)};
}"""


def start_server(command, log, **environment):
    """Start a server on a free port, {port} in its command; wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [part.format(port=port) for part in command]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output,
                                   env=os.environ | environment)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read(1)
            return process, port
        except OSError:
            time.sleep(0.5)
    process.terminate()
    raise AssertionError(f"no answer on port {port}: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder of notebooks, each with one panel, beside links to what they use: so that nothing of
    the repository is touched."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "notebooks").mkdir()
    for name, source in PANELS.items():
        cells = [nbformat.v4.new_code_cell(text) for text in (SET_UP, source)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python",
                                            "name": "python3"}}
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    for name in ("helpers", "data"):
        (folder / name).symlink_to(ROOT / name)
    SHOTS.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(house, tmp_path_factory):
    """The port of a JupyterLab that asks nobody about news."""
    settings = house / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port={port}", "--allow-root",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={house}",
               "--LabApp.expose_app_in_browser=True"]
    log = tmp_path_factory.mktemp("log") / "lab.log"
    process, port = start_server(command, log, JUPYTERLAB_SETTINGS_DIR=str(house / "settings"))
    yield port
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Panel:
    """The panel of an open notebook."""

    def __init__(self, page, name):
        self.page, self.name = page, name

    def open(self, port):
        self.page.goto(f"http://127.0.0.1:{port}/lab/workspaces/{self.name}"
                       f"/tree/notebooks/{self.name}.ipynb?reset")
        self.page.wait_for_selector(".jp-NotebookPanel", timeout=120_000)
        self.page.wait_for_function(READY, timeout=120_000)
        self.command("notebook:run-all-cells")
        self.page.wait_for_selector(".widget-image", timeout=120_000, state="attached")
        self.wait_until(lambda: self.picture() is not None)
        return self

    def command(self, name):
        self.page.evaluate(f"window.jupyterapp.commands.execute('{name}')")

    def wait_until(self, condition, seconds=60):
        """The kernel answers a click when it has the time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"still not so after {seconds} s: {self.status()}"
            time.sleep(0.2)

    def check_no_error(self):
        for kind in ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr"):
            found = self.page.locator(f'[data-mime-type="{kind}"]')
            texts = [text for text in found.all_inner_texts() if "Warning" not in text]
            assert not texts, texts[0][-1500:]
        assert "Traceback" not in self.page.inner_text("body")

    def shot(self, name):
        self.page.screenshot(path=SHOTS / f"{self.name}_{name}.png")

    def button(self, text):
        label = re.compile(rf"^\s*{text}\s*$")
        return self.page.locator("button.jupyter-button", has_text=label).first

    def control(self, label):
        """The widget with a label."""
        return self.page.locator(f'.widget-inline-hbox:has(label:text-is("{label}"))').first

    def type(self, text, label="prompt"):
        field = self.control(label).locator("input").first
        field.fill(text)
        return field

    def slide(self, label, key, times):
        handles = ".noUi-target:not([disabled]) .noUi-handle"  # waits for the end of a run
        handle = self.control(label).locator(handles).first
        handle.focus()
        for _ in range(times):
            handle.press(key)

    def value(self, label):
        """What a slider reads out."""
        return self.control(label).locator(".widget-readout").inner_text()

    def status(self):
        return self.page.locator('span[role="status"]').first.inner_text()

    def wait_for(self, text, seconds=180):
        """Until the panel says so."""
        try:
            self.page.wait_for_function(SAID, arg=text, timeout=1000 * seconds)
        except Exception:
            self.shot("failed")
            raise AssertionError(f'the panel never said "{text}" but "{self.status()}"; see '
                                 "build/browser/") from None

    def picture(self, number=1):
        """The address of the picture "after", which changes with the picture; 0: "before"."""
        pictures = self.page.locator(".widget-image")
        return pictures.nth(number).get_attribute("src") if pictures.count() > number else None

    def wait_for_change(self, before, seconds=120):
        self.wait_until(lambda: self.picture() != before, seconds)
        time.sleep(0.5)  # several updates may be on their way
        return self.picture()


@pytest.fixture(scope="module")
def panel(request, browser, lab):
    """A notebook's panel, in a page of its own."""
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    page.set_default_timeout(60_000)
    panel = Panel(page, request.param).open(lab)
    panel.check_no_error()
    yield panel
    panel.check_no_error()
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()


def on_panel(*names):
    return pytest.mark.parametrize("panel", names, indirect=True)


@on_panel(*PANELS)
def test_it_opens_with_an_edit_and_fits_a_page_without_scrolling(panel):
    """Within 1,300 x 800, JupyterLab's own bars and its list of files included."""
    size, edit = panel.page.viewport_size, panel.page.evaluate(
        "() => document.querySelectorAll('.widget-image')[1].closest('.widget-vbox').innerText")
    assert panel.picture() != panel.picture(0) and "after: a person with glasses" in edit
    for unfolded in (False, True):
        if unfolded:
            panel.button("more").click()
            panel.wait_until(lambda: panel.control("neutral").is_visible()
                             or panel.button("the paper's").is_visible())
        found = panel.page.evaluate(MEASURE)
        time.sleep(0.3)
        panel.shot("1300_unfolded" if unfolded else "1300")
        assert found["panel"]["top"] > -2 and found["panel"]["bottom"] < found["height"]
        assert len(found["pictures"]) == 2 and found["pictures"][1]["right"] < found["width"]
        before, after = found["pictures"]
        assert before["top"] == after["top"] and before["right"] < after["left"]
        assert all(control["right"] < before["left"] for control in found["controls"])
    panel.button("more").click()
    panel.wait_until(lambda: not panel.control("neutral").is_visible()
                     and not panel.button("the paper's").is_visible())

    panel.page.set_viewport_size({"width": 400, "height": 800})
    panel.command("application:toggle-left-area")
    panel.wait_until(lambda: panel.page.evaluate(MEASURE)["width"] > 250)
    time.sleep(0.5)
    found = panel.page.evaluate(MEASURE)
    panel.shot("400")
    before, after = found["pictures"]
    assert all(control["bottom"] < after["top"] for control in found["controls"])
    assert after["bottom"] < before["top"]
    boxes = [*found["controls"], *found["pictures"]]
    assert all(0 <= box["left"] and box["right"] <= found["width"] for box in boxes)
    panel.command("application:toggle-left-area")
    panel.page.set_viewport_size(size)


@on_panel("optimization")
def test_optimization(panel, house):
    before = panel.picture()
    panel.type("a person with sunglasses").press("Enter")  # Enter runs
    panel.wait_for("a person with sunglasses: done after")
    after = panel.wait_for_change(before)
    panel.slide("strength", "ArrowLeft", 10)
    assert panel.value("strength") == "0.50"
    half = panel.wait_for_change(after)
    panel.slide("compare", "ArrowRight", 50)
    panel.wait_for_change(half)
    panel.shot("compared")
    panel.button("more").press("Enter")  # without a mouse, too
    panel.button("the paper's").click()
    panel.wait_until(lambda: panel.value("steps") == "300")
    assert panel.value("lambda_l2") == "0.0080"
    panel.button("ours").click()
    panel.button("Save PNG").click()
    panel.wait_for("Saved")
    saved = house / "notebooks" / "a-person-with-sunglasses.png"
    assert saved.stat().st_size > 1000

    before = panel.picture(0)
    with panel.page.expect_file_chooser() as chooser:
        panel.button(r"open a file \(0\)").click()
    chooser.value.set_files(ROOT / "data/avatars/samples/avatar_07.png")
    panel.wait_until(lambda: panel.picture(0) != before)
    panel.wait_for("Run finds the latent of this picture first")
    panel.button("Run").click()
    panel.wait_for("Finding the latent")
    panel.wait_until(lambda: panel.button("Run").is_disabled())
    panel.shot("running")
    others = ("Save PNG", "Grid", "another random face", "ours")
    assert all(panel.button(text).is_disabled() for text in others)
    assert panel.control("prompt").locator("input").is_disabled()
    assert panel.control("face").locator("select").is_disabled()
    panel.button("Stop").click()
    panel.wait_for("Stopped before the edit began")
    panel.wait_until(lambda: not panel.button("Run").is_disabled())
    assert panel.control("face").locator("select").input_value() == "your own file"


@on_panel("optimization")
def test_the_page_is_closed_during_a_run(panel):
    page = panel.page
    panel.button("another random face").click()
    panel.wait_for("a quick preview")
    panel.slide("steps", "ArrowRight", 9)
    panel.type("an angry person").press("Enter")
    panel.wait_for("Editing: an angry person")
    panel.command("docmanager:save")
    time.sleep(1.5)
    page.reload()
    page.wait_for_selector(".widget-image", timeout=120_000, state="attached")
    panel.wait_for("an angry person: done after 1")  # 150; a busy browser may lose a key
    panel.wait_until(lambda: not panel.button("Run").is_disabled())
    assert panel.button("Stop").is_disabled()
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme',"
                  " {theme: 'JupyterLab Dark'})")
    time.sleep(2)
    panel.shot("dark_after_reload")


@on_panel("mapper")
def test_mapper(panel):
    before = panel.picture()
    panel.button("another random face").click()
    before = panel.wait_for_change(before)
    panel.type("a person with purple hair").press("Tab")  # a mapper came along for it
    panel.wait_for("a person with purple hair: move the strength")
    before = panel.wait_for_change(before)
    panel.slide("strength", "Home", 1)
    panel.wait_for_change(before)
    panel.type("a person with an afro").press("Tab")
    panel.wait_for("Run trains one")
    panel.button("Run").click()
    panel.wait_for("Training")
    panel.page.locator(".widget-label", has_text=re.compile(r"\d+ s left")).first.wait_for()
    panel.shot("training")
    panel.button("Stop").click()
    panel.wait_for("best so far")


@on_panel("global")
def test_directions(panel):
    picture = panel.picture()
    panel.button("another random face").click()
    picture = panel.wait_for_change(picture)
    panel.type("an angry person").press("Tab")  # found at once, without a run
    panel.wait_for("an angry person, ")
    picture = panel.wait_for_change(picture)
    panel.slide("alpha", "ArrowRight", 20)
    picture = panel.wait_for_change(picture)
    panel.button("more").click()
    panel.slide("channels", "ArrowLeft", 20)
    picture = panel.wait_for_change(picture)
    panel.button("Keep this edit").click()
    panel.wait_for("Kept: an angry person")
    panel.type("a person with purple hair").press("Tab")
    panel.wait_for("a person with purple hair on top of an angry person")
    panel.wait_for_change(picture)
    panel.shot("two_edits")
    panel.type("   ").press("Enter")
    panel.wait_for("The prompt is empty")
