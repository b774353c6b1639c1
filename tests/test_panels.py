"""The panel, driven as a reader drives it: by setting values and clicking."""

import threading
import time
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel, uploaded


@pytest.fixture
def panel(domain, tmp_path):
    """A panel whose long runs are short and can be held up by the test: `started` is set when one has begun."""
    go, started = threading.Event(), threading.Event()
    go.set()

    def invert(domain, image, callback):
        return domain.generator.broadcast(domain.generator.w_avg[None]), {"loss": [1.0]}

    def optimize(domain, w_plus, prompt, *, steps, lambda_l2, lambda_id, callback):
        loss = []
        started.set()
        for step in range(1, steps + 1):
            go.wait(60)
            loss.append(1 / step)
            if callback({"step": step, "steps": steps, "image": domain.generator(w_plus)}):
                break
        return w_plus + 0.3, {"loss": loss}

    panel = OptimizationPanel(domain, invert, optimize, folder=tmp_path)
    panel.go, panel.started = go, started
    return panel


def run(panel):
    panel.run.click()
    panel.wait(60)


def begin(panel):
    """Run, and hold the run up at its first step."""
    panel.go.clear()
    panel.started.clear()
    panel.run.click()
    assert panel.started.wait(60)


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
    begin(panel)
    assert panel.run.disabled and not panel.stop.disabled
    panel.run.click()  # a second Run beside the first does nothing
    panel.stop.click()
    panel.go.set()
    panel.wait(60)
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
    begin(panel)
    other.run.click()
    end = time.monotonic() + 60
    while "Waiting" not in other.status.value:
        assert time.monotonic() < end, other.status.value
        time.sleep(0.02)
    panel.go.set()
    panel.wait(60)
    other.wait(60)
    assert "done" in panel.status.value and "done" in other.status.value


def test_the_error_of_a_run_is_one_escaped_line(panel):
    def fails(*args, **options):
        raise RuntimeError("<b>broken</b>")

    panel.optimize = fails
    run(panel)
    assert panel.status.value == '<span role="status">RuntimeError: &lt;b&gt;broken&lt;/b&gt;</span>'
    assert not panel.run.disabled
    assert torch.is_tensor(panel.source)


def press_enter(text):
    """What a browser sends when Enter is pressed in a text field."""
    text._handle_custom_msg({"event": "submit"}, [])


def test_enter_runs(panel):
    press_enter(panel.prompt)
    panel.wait(60)
    assert "done after 60 steps" in panel.status.value


def test_while_busy_buttons_are_disabled_and_the_time_left_is_shown(panel):
    run(panel)
    begin(panel)
    controls = (panel.run, panel.face, panel.again, panel.upload, panel.strength, panel.compare, panel.history,
                panel.save_png, panel.save_gif)
    assert all(control.disabled for control in controls) and not panel.stop.disabled
    panel._first = time.perf_counter() - 10, 1
    panel._watch({"step": 6, "steps": 21, "image": panel.image})
    assert 30 <= int(panel.time_left.value.removesuffix(" s left")) < 60  # 15 steps at 2 s, or more on a busy machine
    panel.go.set()
    panel.wait(60)
    assert not any(control.disabled for control in controls) and panel.stop.disabled and not panel.time_left.value


def test_a_prompt_changed_in_mid_run_counts_for_the_next_run(panel):
    panel.prompt.value = "a bald person"
    begin(panel)
    panel.prompt.value = "an angry person"
    panel.go.set()
    panel.wait(60)
    assert "a bald person: done" in panel.status.value and "a bald person" in panel.caption.value
    panel.save_png.click()
    assert "a-bald-person.png" in panel.status.value
    run(panel)
    assert "an angry person: done" in panel.status.value


def test_one_can_go_back_to_earlier_edits(panel):
    assert panel.history.disabled
    panel.prompt.value = "a bald person"
    run(panel)
    panel.strength.value = 0.5
    first, shown = panel.result, panel.after.value
    panel.face.value = panel.face.options[3][1]
    panel.prompt.value = "an angry person"
    run(panel)
    assert [label for label, _ in panel.history.options[1:]] == ["1: a bald person", "2: an angry person"]
    second = panel.after.value
    panel.history.value = 0
    assert panel.result is first and panel.after.value == shown and panel.strength.value == 0.5
    assert panel.prompt.value == "a bald person" and panel.face.value == panel.face.options[0][1]
    assert "Back at edit 1: a bald person" in panel.status.value
    panel.history.value = 1
    assert panel.after.value == second and panel.face.value == panel.face.options[3][1]


def test_compare_draws_a_line_between_before_and_after(panel):
    run(panel)
    edited = np.asarray(Image.open(BytesIO(panel.after.value)), dtype=float)
    before = np.asarray(Image.open(BytesIO(panel.before.value)), dtype=float)
    panel.compare.value = 0.5
    both = np.asarray(Image.open(BytesIO(panel.after.value)), dtype=float)
    middle = both.shape[1] // 2
    assert np.abs(both[:, :middle - 8] - before[:, :middle - 8]).mean() < 2
    assert np.abs(both[:, middle + 8:] - edited[:, middle + 8:]).mean() < 2
    assert both[:, middle - 1:middle + 1].mean() > 240 and np.abs(before - edited).mean() > 10


def test_displayed_again_the_panel_is_the_same_with_its_result(panel, monkeypatch):
    displayed = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    run(panel)
    panel._ipython_display_()
    panel._ipython_display_()
    assert displayed == [panel.widget] * 2 and not panel.strength.disabled


def test_a_run_goes_on_when_the_page_is_closed(panel):
    begin(panel)
    for widget in (panel.after, panel.progress, panel.status):
        widget.comm.close() if widget.comm else None  # what a closed page leaves: nobody listens
    panel.go.set()
    panel.wait(60)
    assert panel.result is not None and not panel.run.disabled


def test_a_screen_reader_finds_labels_and_is_told_of_news(panel):
    inputs = (panel.face, panel.prompt, panel.strength, panel.compare, panel.history, panel.steps, panel.lambda_l2,
              panel.run, panel.stop, panel.save_png, panel.upload)
    assert all(control.description for control in inputs)
    panel.say("news")
    assert 'role="status"' in panel.status.value


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
    assert "no mapper for that" in panel.status.value and not panel.run.disabled


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


def test_a_change_during_a_run_counts_when_it_has_ended(live):
    started, go = threading.Event(), threading.Event()

    def slow(domain, image, callback):
        started.set()
        go.wait(60)
        return domain.generator.broadcast(domain.generator.w_avg[None]), {"loss": [1.0]}

    live.invert, live.face.value = slow, live.face.options[1][1]
    press_enter(live.prompt)  # Enter finds the latent, as Run does
    started.wait(60)
    live.prompt.value = "a bald person"
    assert "counts when it has ended" in live.status.value
    go.set()
    live.wait(60)
    assert "a bald person" in live.status.value and live._prompt == "a bald person" and not live.strength.disabled


def test_one_can_go_back_to_earlier_sentences_and_kept_edits(live):
    live.prompt.value = "a bald person"
    live.strength.value = 2.0
    live.keep.click()
    live.prompt.value, live.strength.value = "an angry person", 1.5
    shown, labels = live.after.value, [label for label, _ in live.history.options[1:]]
    assert labels == ["1: a bald person", "2: a bald person", "3: an angry person"]
    live.history.value = 0
    assert live.kept == [] and live.strength.value == 2 and live.prompt.value == "a bald person"
    live.history.value = 2
    assert live.after.value == shown and len(live.kept) == 1 and live.strength.value == 1.5


def test_a_domain_with_a_threshold_gets_a_slider_for_it(domain, live, tmp_path):
    from dataclasses import replace
    panel = GlobalPanel(replace(domain, beta=0.15, alpha=4.1), live.invert,
                        lambda domain, neutral, target, beta: torch.full([domain.generator.style_dim], beta),
                        folder=tmp_path)
    assert (panel.beta.value, panel.beta.max, panel.strength.value) == (0.15, 0.4, 4.1)


def test_a_mapper_training_prompt_change_is_looked_up_afterwards(mapper_panel):
    go, started, train = threading.Event(), threading.Event(), mapper_panel.train
    mapper_panel.train = lambda prompt, callback: started.set() or go.wait(60) and train(prompt, callback)
    mapper_panel.prompt.value = "a person with an afro"
    mapper_panel.run.click()
    assert started.wait(60)
    mapper_panel.prompt.value = "a bald person"
    go.set()
    mapper_panel.wait(60)
    assert "a person with an afro" in mapper_panel.mappers and mapper_panel._prompt == "a bald person"
    assert mapper_panel.mapper == 0.3 and "a bald person: move the strength" in mapper_panel.status.value
