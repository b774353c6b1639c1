"""The panel, driven as a reader drives it: by setting values and clicking."""

import threading
import time
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel, uploaded


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


@pytest.fixture
def mapper_panel(domain, tmp_path):
    """A panel with one ready text, and a training that is short."""
    mappers = {"a bald person": 0.3}
    encoded = []

    def invert(domain, image, callback):
        encoded.append(image)
        return domain.generator.broadcast(domain.generator.w_avg[None]), {"loss": [1.0]}

    def train(prompt, callback):
        if prompt == "a broken person":
            raise ValueError("no mapper for that")
        for step in range(1, 11):
            if callback({"step": step, "steps": 10, "image": encoded[0]}):
                break
        mappers[prompt] = -0.2
        return mappers[prompt]

    def apply(domain, mapper, w_plus, strength, only):
        edited = w_plus.clone()
        for name in only:
            edited[:, domain.rows[name]] += strength * mapper
        return edited

    panel = MapperPanel(domain, invert, mappers.get, train, apply, folder=tmp_path)
    panel.mappers, panel.encoded = mappers, encoded
    return panel


def test_a_ready_mapper_edits_at_once_and_follows_the_slider(mapper_panel):
    panel = mapper_panel
    panel.prompt.value = "a bald person"
    assert "Run finds the latent" in panel.status.value and panel.strength.disabled
    run(panel)
    edited = panel.after.value
    assert edited != panel.before.value and not panel.strength.disabled
    panel.strength.value = 0
    source = panel.after.value
    panel.strength.value = -1
    assert len({edited, source, panel.after.value}) == 3
    panel.strength.value = 1
    assert panel.after.value == edited
    panel.again.click()  # a random face needs no encoding: the picture follows at once
    assert panel.after.value not in (edited, panel.before.value) and len(panel.encoded) == 1


def test_each_network_can_be_switched_off(mapper_panel):
    panel = mapper_panel
    panel.prompt.value = "a bald person"
    run(panel)
    seen = {panel.after.value}
    for box in panel.networks:
        box.value = False
        seen.add(panel.after.value)
    assert len(seen) == 4
    panel.strength.value = 0.5
    last = panel.after.value
    panel.strength.value = 0
    assert panel.after.value == last  # no network acts


def test_a_new_text_is_trained_once(mapper_panel):
    panel = mapper_panel
    panel.prompt.value = "a person with an afro"
    assert "Run trains one" in panel.status.value
    run(panel)
    assert "a person with an afro" in panel.mappers and panel.progress.value == 10
    assert "move the strength" in panel.status.value and not panel.strength.disabled
    panel.prompt.value = "a bald person"
    assert "move the strength" in panel.status.value
    panel.prompt.value = "a broken person"
    assert panel.strength.disabled
    run(panel)
    assert panel.status.value == "no mapper for that" and not panel.run.disabled


def test_a_mapper_that_cannot_be_read_is_one_line(mapper_panel):
    def fails(prompt):
        raise ValueError("x.safetensors is a mapper of another generator")

    mapper_panel.find = fails
    mapper_panel.prompt.value = "a bald person"
    assert "another generator" in mapper_panel.status.value and mapper_panel.strength.disabled


@pytest.fixture
def live(domain, tmp_path):
    """Method 3's panel on a stand-in for `global_direction`; its random faces need no encoding."""
    def direction(domain, neutral, target, beta):
        domain.clip.encode_text([neutral, target])
        step = torch.zeros(domain.generator.style_dim)
        step[:beta] = len(target) / 10
        return step

    def invert(domain, image, callback):
        return domain.generator.broadcast(domain.generator.w_avg[None]), {"loss": [1.0]}

    panel = GlobalPanel(domain, invert, direction, folder=tmp_path)
    panel.face.value = "random"
    return panel


def test_sliders_and_sentences_move_the_picture_at_once(live):
    seen = {live.after.value}
    for change in (lambda: setattr(live.strength, "value", 1.5), lambda: setattr(live.beta, "value", 30),
                   lambda: setattr(live.prompt, "value", "a person with a very long beard"),
                   lambda: live.again.click()):
        change()
        seen.add(live.after.value)
    assert len(seen) == 5 and not live.strength.disabled
    live.strength.value = 0
    assert torch.equal(live.blended(0), live.domain.generator(live.source)) and live.after.value == live.before.value
    live.prompt.value = " "
    assert "prompt is empty" in live.status.value and live.strength.disabled
    live.prompt.value = "a bald person"
    assert "move alpha" in live.status.value and not live.strength.disabled


def test_kept_edits_stay_below_the_next_and_can_be_forgotten(live):
    live.beta.value, live.strength.value = 30, 2
    first = live.after.value
    live.keep.click()
    assert live.strength.value == 0 and live.after.value == first and "Kept" in live.status.value
    live.prompt.value, live.strength.value = "an angry person", 2
    assert live.after.value != first and "on top of" in live.status.value
    live.strength.value = 0
    assert live.after.value == first
    live.forget.click()
    assert live.after.value == live.before.value


def test_a_picture_of_ones_own_is_encoded_first(live):
    live.face.value = live.face.options[0][1]
    assert live.strength.disabled and "Run finds the latent" in live.status.value
    run(live)
    assert not live.strength.disabled and live.source is not None
    before = live.after.value
    live.strength.value = -3
    assert live.after.value != before
    live.save_png.click()
    assert "Saved" in live.status.value and len(list(live.folder.glob("*.png"))) == 1
