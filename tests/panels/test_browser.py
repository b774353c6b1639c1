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
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def start_server(command, log, **environment):
    """Start a web server on a free port, {port} in its command, and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen([part.format(port=port) for part in command], stdout=output, stderr=output,
                                   env=os.environ | environment)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read(1)
            return process, port
        except OSError:
            time.sleep(0.5)
    process.terminate()
    raise AssertionError(f"no answer on port {port}: {log.read_text()[-2000:]}")


SET_UP = """import sys
sys.path.insert(0, "..")
from helpers.domains import load_domain
from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.mapper_files import find_mapper
from helpers.methods import apply_mapper, global_direction, optimize_latent, train_mapper
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel

domain = load_domain()"""
PANELS = {
    "01": "OptimizationPanel(domain, invert, optimize_latent)",
    "02": """MapperPanel(domain, invert, lambda prompt, objective: find_mapper(domain, prompt, objective),
            lambda prompt, objective, callback: train_mapper(
                domain, prompt, random_w_plus(domain, 40, seed=0), objective=objective, callback=callback)[0],
            apply_mapper)""",
    "03": "GlobalPanel(domain, invert, global_direction)"}


def panel_alone(name):
    """A notebook's panel and nothing else: what else a notebook shows, nbval runs; here keys and a mouse are moved."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)
                                               for source in (SET_UP, PANELS[name[:2]])])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder of the panels' notebooks beside links to what they use, so that nothing of the repository is touched."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "notebooks").mkdir()
    for name in NOTEBOOKS:
        nbformat.write(panel_alone(name), folder / "notebooks" / f"{name}.ipynb")
    for name in ("helpers", "data"):
        (folder / name).symlink_to(ROOT / name)
    SHOTS.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(house, tmp_path_factory):
    """The port of a JupyterLab that asks nobody about news."""
    settings = house / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port={port}", "--allow-root",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={house}", "--LabApp.expose_app_in_browser=True"]
    process, port = start_server(command, tmp_path_factory.mktemp("log") / "lab.log",
                                 JUPYTERLAB_SETTINGS_DIR=str(house / "settings"), STYLECLIP_DOMAIN="avatars")
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
        self.page.goto(f"http://127.0.0.1:{port}/lab/workspaces/{self.name}/tree/notebooks/{self.name}.ipynb?reset")
        self.page.wait_for_selector(".jp-NotebookPanel", timeout=120_000)
        self.page.wait_for_function(
            "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus == 'connected'"
            " && window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle'", timeout=120_000)
        return self

    def run_all(self, seconds=300):
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        end, quiet = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            time.sleep(1)
            prompts = self.page.evaluate("[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
                                         ".map(prompt => prompt.textContent)")
            waiting = any("*" in text or text == "[ ]:" for text in prompts)
            quiet = 0 if waiting or self.kernel() != "idle" else quiet + 1
            if quiet == 2:  # seconds; between two cells it is quiet for a moment too
                return self
        raise AssertionError(f"{self.name} was not done after {seconds} s")

    def kernel(self):
        return self.page.locator(".jp-Notebook-ExecutionIndicator").first.get_attribute("data-status")

    def wait_until(self, condition, seconds=60):
        """The kernel answers a click when it has the time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"still not so after {seconds} s"
            time.sleep(0.2)

    def check_no_error(self):
        for kind in ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr"):
            found = self.page.locator(f'[data-mime-type="{kind}"]')
            texts = [text for text in found.all_inner_texts() if "Warning" not in text]
            assert not texts, texts[0][-1500:]
        assert "Traceback" not in self.page.inner_text("body")

    def shot(self, name):
        self.page.screenshot(path=SHOTS / f"{self.name}_{name}.png")

    def show(self):
        self.button("Run").scroll_into_view_if_needed()
        return self

    def button(self, text):
        return self.page.locator("button.jupyter-button", has_text=re.compile(rf"^\s*{text}\s*$")).first

    def control(self, label):
        """The widget with a label."""
        return self.page.locator(f'.widget-inline-hbox:has(label:text-is("{label}"))').first

    def type(self, text, label="prompt"):
        field = self.control(label).locator("input").first
        field.fill(text)
        return field

    def slide(self, label, key, times):
        handle = self.control(label).locator(".noUi-target:not([disabled]) .noUi-handle").first  # waits for a run's end
        handle.focus()
        for _ in range(times):
            handle.press(key)

    def value(self, label):
        """What a slider reads out."""
        return self.control(label).locator(".widget-readout").inner_text()

    def status(self):
        return self.page.locator('span[role="status"]').first.inner_text()

    def wait_for(self, text, seconds=180):
        try:
            self.page.wait_for_function(
                "text => [...document.querySelectorAll('span[role=status]')].some(x => x.textContent.includes(text))",
                arg=text, timeout=1000 * seconds)
        except Exception:
            self.shot("failed")
            said = self.page.locator('span[role="status"]').all_text_contents()
            raise AssertionError(f'the panel never said "{text}" but {said}; see build/browser/') from None

    def picture(self):
        """The address of the picture "after", which changes with the picture."""
        return self.page.locator(".widget-image").nth(1).get_attribute("src")

    def wait_for_change(self, before, seconds=120):
        end = time.monotonic() + seconds
        while self.picture() == before:
            assert time.monotonic() < end, f"the picture did not change: {self.status()}"
            time.sleep(0.1)
        time.sleep(0.5)  # several updates may be on their way
        return self.picture()


@pytest.fixture(scope="module")
def panel(request, browser, lab):
    """A notebook's panel, in a page of its own."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(60_000)
    panel = Panel(page, request.param).open(lab).run_all()
    panel.check_no_error()
    panel.show()
    yield panel
    panel.check_no_error()
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()


@pytest.mark.parametrize("panel", NOTEBOOKS[:1], indirect=True)
def test_optimization(panel, house):
    before = panel.picture()
    panel.type("a person with sunglasses").press("Enter")  # Enter runs
    panel.wait_for("a person with sunglasses: done after")
    after = panel.wait_for_change(before)
    panel.shot("edited")
    panel.slide("strength", "ArrowLeft", 10)
    assert panel.value("strength") == "0.50"
    half = panel.wait_for_change(after)
    panel.slide("compare", "ArrowRight", 50)
    panel.wait_for_change(half)
    panel.shot("compared")
    panel.button("the paper's").click()
    panel.wait_until(lambda: panel.value("steps") == "300" and panel.value("lambda_l2") == "0.0080")
    panel.button("ours").click()
    panel.button("Save PNG").click()
    panel.wait_for("Saved")
    assert (house / "notebooks" / "a-person-with-sunglasses.png").stat().st_size > 1000

    before = panel.picture()
    with panel.page.expect_file_chooser() as chooser:
        panel.button(r"open a file \(0\)").click()
    chooser.value.set_files(ROOT / "data/avatars/samples/avatar_07.png")
    panel.wait_for_change(before)
    panel.slide("steps", "End", 1)
    panel.type("a bald person")
    panel.button("Run").click()
    panel.wait_for("Editing: a bald person")
    panel.shot("running")
    assert panel.button("Run").is_disabled() and not panel.button("Stop").is_disabled()
    panel.button("Stop").click()
    panel.wait_for("stopped after")
    panel.control("go back").locator("select").select_option(index=1)
    panel.wait_for("Back at edit 1")


@pytest.mark.parametrize("panel", NOTEBOOKS[:1], indirect=True)
def test_the_page_is_closed_during_a_run(panel):
    page = panel.page
    panel.slide("steps", "End", 1)
    panel.type("an angry person").press("Enter")
    panel.wait_for("Editing: an angry person")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    time.sleep(1.5)
    page.reload()
    page.wait_for_selector(".widget-image", timeout=120_000, state="attached")
    panel.show().wait_for("an angry person: done after 300 steps")
    time.sleep(2)
    assert not panel.button("Run").is_disabled() and panel.button("Stop").is_disabled()
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    time.sleep(2)
    panel.shot("dark_after_reload")


@pytest.mark.parametrize("panel", NOTEBOOKS[1:2], indirect=True)
def test_mapper(panel):
    before = panel.picture()
    panel.button("another random face").click()
    before = panel.wait_for_change(before)
    panel.type("a person with purple hair")  # a mapper came along for it
    panel.wait_for("a person with purple hair: move the strength")
    before = panel.wait_for_change(before)
    panel.slide("strength", "Home", 1)
    panel.wait_for_change(before)
    panel.shot("edited")
    panel.type("a person with an afro")
    panel.wait_for("Run trains one")
    panel.button("Run").click()
    panel.wait_for("Training")
    panel.page.locator(".widget-label", has_text=re.compile(r"\d+ s left")).first.wait_for()
    panel.shot("training")
    panel.button("Stop").click()
    panel.wait_for("best so far")


@pytest.mark.parametrize("panel", NOTEBOOKS[2:], indirect=True)
def test_directions(panel):
    picture = panel.picture()
    panel.button("another random face").click()
    picture = panel.wait_for_change(picture)
    panel.type("an angry person").press("Tab")  # found at once, without a run
    panel.wait_for("an angry person, ")
    picture = panel.wait_for_change(picture)
    for label, key in (("alpha", "ArrowRight"), ("channels", "ArrowLeft")):
        panel.slide(label, key, 20)
        picture = panel.wait_for_change(picture)
    panel.button("Keep this edit").click()
    panel.wait_for("Kept: an angry person")
    panel.type("a person with purple hair").press("Tab")
    panel.wait_for("a person with purple hair on top of an angry person")
    panel.slide("alpha", "ArrowRight", 30)
    panel.wait_for_change(picture)
    panel.shot("two_edits")
    panel.type("   ").press("Enter")
    panel.wait_for("The prompt is empty")


def test_the_app_on_a_phone(browser, tmp_path):
    process, port = start_server([sys.executable, str(ROOT / "notebooks" / "app.py"), "--port", "{port}",
                                  "--no-browser"], tmp_path / "app.log", STYLECLIP_DOMAIN="avatars")
    try:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(300_000)  # the page comes when its cells have run
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(".widget-image")
        panel = Panel(page, "app")
        before = panel.picture()
        panel.button("another random face").click()
        before = panel.wait_for_change(before)
        panel.type("a person with purple hair").press("Enter")
        panel.wait_for("a person with purple hair")
        panel.wait_for_change(before)
        panel.check_no_error()
        panel.show().shot("phone")
        wide = page.evaluate("document.documentElement.scrollWidth") - 390
        assert wide <= 0, f"{wide} pixels lie beyond the edge of a phone's page"
        boxes = [box.bounding_box() for box in page.locator(".widget-image, button, select, input").all()]
        assert all(box is None or box["x"] + box["width"] <= 391 for box in boxes)
        page.close()
    finally:
        process.terminate()
        process.wait(20)
