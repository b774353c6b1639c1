"""The panel, driven as a reader drives it: by setting values and clicking."""

import threading
import time
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from helpers.panels import OptimizationPanel, uploaded


@pytest.fixture
def panel(domain, tmp_path):
    """A panel whose long runs are short and can be held up by the test."""
    go = threading.Event()
    go.set()

    def invert(domain, image, callback):
        return domain.generator.broadcast(domain.generator.w_avg[None]), {"loss": [1.0]}

    def optimize(domain, w_plus, prompt, *, steps, lambda_l2, lambda_id, callback):
        loss = []
        for step in range(1, steps + 1):
            go.wait(10)
            loss.append(1 / step)
            if callback({"step": step, "steps": steps, "image": domain.generator(w_plus)}):
                break
        return w_plus + 0.3, {"loss": loss}

    panel = OptimizationPanel(domain, invert, optimize, folder=tmp_path)
    panel.go = go
    return panel


def run(panel):
    panel.run.click()
    panel.wait(30)


def test_run_changes_the_picture_and_strength_blends(panel):
    before = panel.after.value
    assert before == panel.before.value and panel.strength.disabled
    run(panel)
    after = panel.after.value
    assert after != before and not panel.strength.disabled and "done after 60 steps" in panel.status.value
    panel.strength.value = 0
    source = panel.after.value
    panel.strength.value = 0.5
    assert len({before, after, source, panel.after.value}) == 4
    panel.strength.value = 0
    assert panel.after.value == source
    assert panel.progress.value == panel.progress.max == 60


def test_stop_keeps_the_best_so_far(panel):
    panel.go.clear()
    panel.run.click()
    time.sleep(0.2)
    assert panel.run.disabled and not panel.stop.disabled
    panel.run.click()  # a second Run beside the first does nothing
    panel.stop.click()
    panel.go.set()
    panel.wait(30)
    assert "stopped after 1 steps" in panel.status.value and panel.result is not None
    assert panel.stop.disabled and not panel.run.disabled


@pytest.mark.parametrize("prompt,said", [("  ", "prompt is empty"), ("beard " * 90, "CLIP reads 77")])
def test_a_bad_prompt_is_one_line(panel, prompt, said):
    panel.prompt.value = prompt
    run(panel)
    assert said in panel.status.value and "Traceback" not in panel.status.value
    assert panel.result is None and not panel.run.disabled
    panel.prompt.value = "a bald person"
    run(panel)
    assert "done" in panel.status.value


def test_random_faces_differ(panel):
    panel.again.click()
    first = panel.before.value
    panel.again.click()
    assert panel.before.value != first and panel.face.value == "random"
    run(panel)
    assert panel.result is not None


def upload(panel, content):
    """Hand a file over as ipywidgets 8 and 7 do: the panel reads `upload.value`."""
    panel.upload = SimpleNamespace(value=({"name": "x", "content": memoryview(content)},))
    panel._open()


def test_an_own_file_is_opened_and_a_bad_one_is_one_line(panel):
    buffer = BytesIO()
    Image.new("RGB", (90, 60), "orange").save(buffer, "PNG")
    before = panel.before.value
    upload(panel, buffer.getvalue())
    assert panel.before.value != before and "60 x 60" in panel.status.value
    shown = panel.before.value
    upload(panel, b"not a picture")
    assert "not a picture" in panel.status.value and panel.before.value == shown


def test_uploads_of_both_ipywidgets():
    seven = SimpleNamespace(value={"a.png": {"content": b"old", "metadata": {}}})
    eight = SimpleNamespace(value=({"name": "a.png", "content": memoryview(b"new")},))
    assert (uploaded(seven), uploaded(eight), uploaded(SimpleNamespace(value=()))) == (b"old", b"new", None)


def test_saves_png_and_gif(panel, tmp_path):
    panel.prompt.value = "a person with/glasses?"
    run(panel)
    panel.save_png.click()
    panel.save_gif.click()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"a-person-with-glasses-.png", "a-person-with-glasses-.gif"}
    assert Image.open(tmp_path / "a-person-with-glasses-.gif").n_frames > 10
    assert "Saved" in panel.status.value


def test_a_full_disk_is_one_line(panel, monkeypatch):
    run(panel)
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda path, content: (_ for _ in ()).throw(
        OSError(28, "No space left on device")))
    panel.save_png.click()
    assert "No space left" in panel.status.value


def test_two_panels_take_turns(domain, panel, tmp_path):
    other = OptimizationPanel(domain, panel.invert, panel.optimize, folder=tmp_path)
    panel.go.clear()
    panel.run.click()
    time.sleep(0.2)
    other.run.click()
    time.sleep(0.2)
    assert "Waiting" in other.status.value
    panel.go.set()
    panel.wait(30)
    other.wait(30)
    assert "done" in panel.status.value and "done" in other.status.value


def test_the_error_of_a_run_is_one_escaped_line(panel):
    def fails(*args, **options):
        raise RuntimeError("<b>broken</b>")

    panel.optimize = fails
    run(panel)
    assert panel.status.value == "RuntimeError: &lt;b&gt;broken&lt;/b&gt;" and not panel.run.disabled
    assert torch.is_tensor(panel.source)
