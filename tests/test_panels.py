"""The panel, driven as a reader drives it: by setting values and clicking."""

import random
import re
import sys
import threading
import time
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import images
from helpers.methods import alpha_for
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel
from helpers.panels.edits import Edit, Edits
from helpers.panels.faces import uploaded
from helpers.panels.widgets import sentence
from helpers.panels.work import MODELS, Models, Rest
from helpers.settings import PAPER_DIRECTIONS, PAPER_OPTIMIZATION, Directions, MapperTraining, Optimization, Settings

OURS = Settings(encoding=None, gallery=None, optimization=Optimization(
    steps=60, rate=0.1, lambda_l2=0.001, lambda_id=0.1, origin={}), mapper=MapperTraining(
        steps=700, batch=8, rate=1, lambda_l2=0.03, lambda_id=0.1, origin={}),
                directions=Directions("samples", 3.2, channels=400))


@pytest.fixture(scope="module")
def domain(domain):
    """The avatars with settings of their own, so that the panels' sliders do not move when the domain is tuned."""
    return with_settings(domain, replace(OURS, gallery=domain.settings.gallery))


def with_settings(domain, settings, **fields):
    domain = replace(domain, **fields)
    domain.settings = settings
    return domain


@pytest.fixture
def panel(domain, tmp_path):
    """A panel whose long runs are short and can be held up by the test: `started` is set when one has begun."""
    go, started = threading.Event(), threading.Event()
    go.set()

    def optimize(domain, w_plus, prompt, *, objective="ours", steps=None, lambda_l2=None, lambda_id=None,
                 callback=None):
        loss, image = [], domain.generator(w_plus)
        asked.append((objective, steps, lambda_l2, lambda_id, w_plus))
        started.set()
        for step in range(1, steps + 1):
            go.wait(60)
            loss.append(1 / step)
            if callback({"step": step, "steps": steps, "image": image}):
                break
        return w_plus + 0.3, {"loss": loss}

    asked = []
    panel = OptimizationPanel(domain, invert, optimize, folder=tmp_path)
    panel.go, panel.started, panel.asked = go, started, asked
    return panel


def invert(domain, image, callback):
    """A latent for each picture: the mean, moved by how bright the picture is."""
    return domain.generator.broadcast(domain.generator.w_avg[None]) + 0.3 * image.mean(), {"loss": [1.0]}


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
    panel.faces.upload = SimpleNamespace(value=({"name": "x", "content": memoryview(content)},))
    panel.faces._ask_file()


def test_an_own_file_is_opened_and_a_bad_one_is_one_line(panel):
    buffer = BytesIO()
    Image.new("RGB", (90, 60), "orange").save(buffer, "PNG")
    before = panel.before.value
    upload(panel, buffer.getvalue())
    assert panel.before.value != before and "60 x 60" in panel.status.value
    shown = panel.before.value
    upload(panel, b"not a picture")
    assert "not a picture" in panel.status.value and panel.before.value == shown


def test_samples_need_no_landmarks_and_a_file_does(domain, panel, tmp_path, monkeypatch):
    def fails(*args):
        raise ValueError("No face was found.")

    monkeypatch.setattr("helpers.images.face_landmarks", fails)
    panel = OptimizationPanel(with_settings(domain, OURS, align=True), invert, panel.optimize, folder=tmp_path)
    assert panel.chosen.name == panel.face.options[0][1]
    upload(panel, domain.samples[0].read_bytes())
    assert "No face was found" in panel.status.value
    panel.faces.aligned.value = True
    upload(panel, domain.samples[0].read_bytes())
    assert panel.chosen.name.startswith("file")


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
    assert files == {"a-person-with-glasses.png", "a-person-with-glasses.gif"}
    assert Image.open(tmp_path / "a-person-with-glasses.gif").n_frames > 10
    assert "Saved" in panel.status.value


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
    assert torch.is_tensor(panel.chosen.w_plus)


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
                panel.save_png, panel.save_gif, panel.grid)
    assert all(control.disabled for control in controls) and not panel.stop.disabled
    panel.work._first = time.perf_counter() - 10, 1
    panel.work.watch({"step": 6, "steps": 21, "image": panel.chosen.image})
    left = panel.work.time_left
    assert 30 <= int(left.value.removesuffix(" s left")) < 60  # 15 steps at 2 s, or more on a busy machine
    panel.go.set()
    panel.wait(60)
    assert not any(control.disabled for control in controls) and panel.stop.disabled and not left.value


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
    assert panel.history.value == 1
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
    mappers = {("a bald person", "ours"): 0.3}
    encoded = []

    def encode(domain, image, callback):
        encoded.append(image)
        return invert(domain, image, callback)

    def train(prompt, objective, callback):
        if prompt == "a broken person":
            raise ValueError("no mapper for that")
        for step in range(1, 11):
            if callback({"step": step, "steps": 10, "image": encoded[0]}):
                break
        mappers[prompt, objective] = -0.2
        return -0.2

    def apply(domain, mapper, w_plus, strength, only):
        edited = w_plus.clone()
        for name in only:
            edited[:, domain.rows[name]] += strength * mapper
        return edited

    panel = MapperPanel(domain, encode, lambda prompt, objective: mappers.get((prompt, objective)), train, apply,
                        folder=tmp_path)
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
    assert ("a person with an afro", "ours") in panel.mappers and panel.progress.value == 10
    assert "move the strength" in panel.status.value and not panel.strength.disabled
    panel.prompt.value = "a bald person"
    assert "move the strength" in panel.status.value
    panel.prompt.value = "a broken person"
    assert panel.strength.disabled
    run(panel)
    assert "no mapper for that" in panel.status.value and not panel.run.disabled


def test_a_mapper_that_cannot_be_read_is_one_line(mapper_panel):
    def fails(prompt, objective):
        raise ValueError("x.safetensors is a mapper of another generator")

    mapper_panel.find = fails
    mapper_panel.prompt.value = "a bald person"
    assert "another generator" in mapper_panel.status.value and mapper_panel.strength.disabled


@pytest.fixture
def live(domain, tmp_path):
    """Method 3's panel on a stand-in for `global_direction`; its random faces need no encoding."""
    def direction(domain, neutral, target, *, method=None, threshold=None, channels=None):
        if method == "gradient":
            raise ValueError("There are no gradients here.")
        domain.clip.encode_text([neutral, target])
        step = torch.zeros(domain.generator.style_dim)
        step[:channels if threshold is None else int(100 * threshold)] = len(target) / 10
        return step

    panel = GlobalPanel(domain, invert, direction, folder=tmp_path)
    panel.face.value = "random"
    return panel


def test_sliders_and_sentences_move_the_picture_at_once(live):
    seen = {live.after.value}
    for change in (lambda: setattr(live.strength, "value", 1.5), lambda: setattr(live.channels, "value", 30),
                   lambda: setattr(live.prompt, "value", "a person with a very long beard"),
                   lambda: live.again.click()):
        change()
        seen.add(live.after.value)
    assert len(seen) == 5 and not live.strength.disabled
    live.strength.value = 0
    assert torch.equal(live.blended(0), live.domain.generator(live.chosen.w_plus))
    assert live.after.value == live.before.value
    live.prompt.value = " "
    assert "prompt is empty" in live.status.value and live.strength.disabled
    live.prompt.value = "a bald person"
    assert "move alpha" in live.status.value and not live.strength.disabled


def test_the_panel_says_which_alpha_suits_the_face(live):
    """Not the same for each: less for who shows already what is asked for."""
    def suited():
        return float(re.search(r"about (\d\.\d) suits this face", live.status.value)[1])

    live.prompt.value, found = "a person with glasses", []
    for _ in range(6):
        live.again.click()
        s = live.domain.generator.styles(live.chosen.w_plus)
        found.append(suited())
        alpha = alpha_for(live.domain, s, live.domain.neutral, "a person with glasses").item()
        assert found[-1] == pytest.approx(alpha, abs=0.051)
        live.channels.value -= 10
        assert suited() == found[-1]
    assert min(found) < max(found) - 0.5
    live.objective.value = "sweep"  # the paper's alpha is one for all
    assert "suits" not in live.status.value


def test_kept_edits_stay_below_the_next_and_can_be_forgotten(live):
    live.channels.value, live.strength.value = 30, 2
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
    assert not live.strength.disabled and live.chosen.w_plus is not None
    before = live.after.value
    live.strength.value = -3
    assert live.after.value != before
    live.save_png.click()
    assert "Saved" in live.status.value and len(list(live.exports.saver.folder.glob("*.png"))) == 1


def test_a_change_during_a_run_counts_when_it_has_ended(live):
    started, go = threading.Event(), threading.Event()

    def slow(domain, image, callback):
        started.set()
        go.wait(60)
        return invert(domain, image, callback)

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


def test_a_mapper_training_prompt_change_is_looked_up_afterwards(mapper_panel):
    go, started, train = threading.Event(), threading.Event(), mapper_panel.train
    mapper_panel.train = lambda *asked: started.set() or go.wait(60) and train(*asked)
    mapper_panel.prompt.value = "a person with an afro"
    mapper_panel.run.click()
    assert started.wait(60)
    mapper_panel.prompt.value = "a bald person"
    go.set()
    mapper_panel.wait(60)
    assert ("a person with an afro", "ours") in mapper_panel.mappers and mapper_panel._prompt == "a bald person"
    assert mapper_panel.mapper == 0.3 and "a bald person: move the strength" in mapper_panel.status.value


# The objective switch


def test_the_switch_sets_the_sliders_and_reaches_the_method(panel):
    assert (panel.steps.value, panel.lambda_l2.value, panel.lambda_id.value) == (60, 0.001, 0.1)
    panel.objective.value = "paper"
    paper = PAPER_OPTIMIZATION
    assert (panel.steps.value, panel.lambda_l2.value, panel.lambda_id.value) == (300, paper.lambda_l2, paper.lambda_id)
    panel.steps.value = 20
    run(panel)
    assert panel.asked[-1][:4] == ("paper", 20, paper.lambda_l2, paper.lambda_id)
    assert "(paper)" in panel.caption.value and "(paper)" in panel.history.options[1][0]
    panel.objective.value = "ours"
    assert panel.steps.value == 60 and "(paper)" in panel.title  # of the edit on show


def test_each_objective_has_a_mapper_of_its_own(mapper_panel):
    panel = mapper_panel
    panel.prompt.value = "a bald person"
    run(panel)
    assert "700 steps of 8" in panel.training.value
    panel.objective.value = "paper"
    assert "50,000 steps of 2" in panel.training.value and "Run trains one" in panel.status.value
    run(panel)
    assert panel.mappers["a bald person", "paper"] == -0.2 and "(paper)" in panel.caption.value
    panel.objective.value = "ours"
    assert panel.mapper == 0.3


def shown(control):
    return control.layout.display != "none"


def test_a_method_shows_the_slider_that_belongs_to_it(live):
    seen, direction = [], live.direction
    live.direction = lambda *texts, **options: seen.append(options) or direction(*texts, **options)
    assert shown(live.channels) and not shown(live.threshold)
    live.objective.value = "sweep"
    assert shown(live.threshold) and not shown(live.channels)
    assert (live.threshold.value, live.strength.value) == (PAPER_DIRECTIONS.threshold, PAPER_DIRECTIONS.alpha)
    live.threshold.value = 0.3
    live.objective.value = "samples"
    assert shown(live.channels) and live.strength.value == 3.2
    assert seen == [dict(method="sweep", threshold=0.15), dict(method="sweep", threshold=0.3),
                    dict(method="samples", channels=400)]
    live.objective.value = "gradient"
    assert "There are no gradients here." in live.status.value and live.strength.disabled
    live.history.value = 0  # goes back to that edit's method, and to how it was left
    assert (live.objective.value, live.threshold.value) == ("sweep", 0.3) and int((live._step != 0).sum()) == 30
    assert shown(live.threshold) and not live.strength.disabled and "(sweep)" in live.caption.value


def test_a_domain_whose_own_method_is_the_sweep(domain, live, tmp_path):
    sweep = replace(OURS, directions=Directions("sweep", 2.0, threshold=0.11))
    panel = GlobalPanel(with_settings(domain, sweep), invert, live.direction, folder=tmp_path)
    assert (panel.objective.value, panel.threshold.value, panel.strength.value) == ("sweep", 0.11, 2.0)
    assert [value for _, value in panel.objective.options] == ["sweep", "samples", "gradient"]


def test_settings_of_a_domain(domain):
    assert replace(domain.settings, gallery=None) == OURS


# Sizes of pictures


@pytest.fixture
def drawn(live):
    """The panel of a domain that draws small while a slider moves, and the sizes it drew at."""
    sizes, blended = [], live.blended

    def note(strength, resolution=None):
        sizes.append(resolution)
        return blended(strength, resolution)

    live.domain, live.blended = with_settings(live.domain, OURS, draw=32), note
    live.sizes = sizes
    return live


def test_small_while_a_slider_moves_and_full_size_once_it_rests(drawn):
    for value in (1.0, 1.1, 1.2, 1.3):
        drawn.strength.value = value
    assert drawn.sizes == [32] * 4
    small = drawn.after.value
    drawn.turns.rest.wait(60)
    assert drawn.sizes == [32] * 4 + [None] and drawn.after.value != small
    assert Image.open(BytesIO(drawn.after.value)).size == (512, 512)


def test_where_nothing_is_drawn_small_there_is_no_second_drawing(live):
    live.strength.value = 1.0
    assert live.turns.rest._thread is None
    assert Image.open(BytesIO(live.after.value)).size == (512, 512)


def test_compare_draws_nothing_anew(drawn):
    drawn.strength.value = 1.0
    drawn.turns.rest.wait(60)
    before = len(drawn.sizes)
    drawn.compare.value = 0.4
    assert len(drawn.sizes) == before


def test_rest_waits_for_the_last_move():
    done = []
    rest = Rest(lambda: done.append(time.monotonic()), seconds=0.2)
    for _ in range(5):
        rest.move()
        last = time.monotonic()
        time.sleep(0.05)
    rest.wait(10)
    assert len(done) == 1 and done[0] - last >= 0.2
    rest.move()
    rest.cancel()
    rest.wait(10)
    assert len(done) == 1
    rest.move()
    rest.wait(10)
    assert len(done) == 2


# Saving


def test_a_saved_png_says_what_it_is_and_is_as_large_as_the_generator_draws(panel, tmp_path):
    panel.prompt.value, panel.objective.value = "a person with a hat \u2013 red", "paper"
    panel.steps.value = 20
    run(panel)
    panel.strength.value = 0.75
    panel.save_png.click()
    picture = Image.open(tmp_path / "a-person-with-a-hat-red-paper.png")
    text = picture.text
    assert picture.size == (64, 64) and text["Prompt"] == panel.prompt.value and text["Strength"] == "0.75"
    assert text["Model"].startswith("avatars. Weights") and text["Objective"] == "paper"
    assert "generated" in text["Description"] and text["Software"]


def test_no_file_is_written_over(panel, tmp_path):
    panel.prompt.value = "a bald person"
    (tmp_path / "a-bald-person.png").write_bytes(b"mine")
    for name in ("a-bald-person-2.png", "a-bald-person-3.png"):
        panel.again.click()  # the same prompt on another face
        run(panel)
        panel.save_png.click()
        assert panel.status.value == f'<span role="status">Saved {name}</span>'  # and no folder
    assert (tmp_path / "a-bald-person.png").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_is_one_line_and_the_edit_stays(panel, tmp_path, monkeypatch):
    class Full(BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    run(panel)
    shown, opened = panel.after.value, type(tmp_path).open
    monkeypatch.setattr("pathlib.Path.open", lambda path, mode: opened(path, mode).close() or Full())
    panel.save_png.click()
    assert "png is not saved (No space left on device), and the edit stays" in panel.status.value
    assert str(tmp_path) not in panel.status.value and not list(tmp_path.iterdir())
    assert panel.after.value == shown and panel.result is not None


def test_a_folder_that_cannot_be_is_one_line(panel, tmp_path):
    (tmp_path / "file").write_text("")
    panel.exports.saver.folder = tmp_path / "file" / "pictures"
    run(panel)
    panel.save_png.click()
    assert "is not saved (Not a directory)" in panel.status.value and str(tmp_path) not in panel.status.value


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_on_a_web_page_save_is_a_download(panel, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("STYLECLIP_PAGE", "1")
    panel.prompt.value = 'a "bald" <b>person</b>'
    run(panel)
    getattr(panel, f"save_{kind}").click()
    assert f'href="data:image/{kind};base64,' in panel.exports.saver.link.value
    assert f'download="a-bald-b-person-b.{kind}"' in panel.exports.saver.link.value and not list(tmp_path.iterdir())
    assert "downloads it" in panel.status.value


# Grids


def test_a_grid_has_its_tiles_in_order_beside_their_labels():
    colours = torch.linspace(-1, 1, 6)[:, None, None, None].expand(-1, 3, 8, 8)
    sheet = images.labelled_grid(colours, ["strength 0", "a very long row label of many words"],
                                 ["one", "two words", "lambda_l2 0.001"], size=40)
    pixels = np.asarray(sheet.convert("L")).astype(int)
    shades = [round((level + 1) * 127.5) for level in torch.linspace(-1, 1, 6).tolist()]
    found = [np.argwhere(pixels == shade) for shade in shades[1:-1]]  # labels are black, the rest white
    assert all(len(places) >= 1600 for places in found)
    rows, columns = np.round([np.median(places, axis=0) / 10 for places in found]).astype(int).T * 10
    assert rows[0] == rows[1] < rows[2] == rows[3] and columns[2] < columns[0] == columns[3] < columns[1]
    left, top = columns[2] - 20, rows[0] - 20  # where the tiles begin
    assert (pixels[top:, :left - 5] < 100).any() and (pixels[:top - 5, left:] < 100).any()


def test_a_grid_with_a_tile_missing_is_refused():
    with pytest.raises(ValueError, match="2 rows and 3 columns need 6 images, got 5"):
        images.labelled_grid(torch.zeros(5, 3, 8, 8), ["a", "b"], ["c", "d", "e"])


def test_a_grid_of_strength_and_lambda(panel, tmp_path):
    panel.prompt.value = "a bald person"
    run(panel)
    panel.steps.value, result = 20, panel.result
    panel.grid.click()
    panel.wait(60)
    assert [asked[2] for asked in panel.asked[1:]] == [0, 0.0005, 0.001, 0.002]
    assert "Saved a-bald-person-ours-grid.png" in panel.status.value, panel.status.value
    picture = Image.open(tmp_path / "a-bald-person-ours-grid.png")
    assert picture.width > 4 * 256 and picture.height > 4 * 256 and picture.text["Strength"] == "0, 0.5, 1, 1.5"
    assert shown(panel.exports.sheet) and panel.exports.sheet.value
    assert panel.result is result and not panel.run.disabled


def test_a_grid_of_strength_and_network(mapper_panel, tmp_path, monkeypatch):
    labels = grid_labels(monkeypatch)
    mapper_panel.prompt.value = "a bald person"
    run(mapper_panel)
    mapper_panel.grid.click()
    mapper_panel.wait(60)
    assert labels == [["strength -1", "strength 0", "strength 0.5", "strength 1", "strength 1.5"],
                      ["coarse", "medium", "fine", "all"]]
    assert (tmp_path / "a-bald-person-ours-grid.png").exists()


def test_a_grid_of_alpha_and_channels_or_threshold(live, monkeypatch):
    labels = grid_labels(monkeypatch)
    for method in ("samples", "sweep"):
        live.objective.value = method
        live.grid.click()
        live.wait(60)
    alphas, channels, _, thresholds = labels
    assert alphas == ["alpha -3.2", "alpha 0", "alpha 1.6", "alpha 3.2", "alpha 6.4"]
    assert channels == ["channels 200", "channels 400", "channels 600", "channels 800"]
    assert thresholds == ["threshold 0.075", "threshold 0.15", "threshold 0.225", "threshold 0.3"]


def grid_labels(monkeypatch):
    """The rows and columns of each grid from now on."""
    labels, made = [], images.labelled_grid
    monkeypatch.setattr(images, "labelled_grid", lambda image, rows, columns, size: labels.extend([rows, columns])
                        or made(image, rows, columns, size))
    return labels


def test_a_grid_that_is_stopped_keeps_its_columns(panel, monkeypatch):
    run(panel)
    labels, optimize = grid_labels(monkeypatch), panel.optimize

    def stop_in_the_third(*args, **settings):
        if len(panel.asked) == 3:
            panel.stop.click()
        return optimize(*args, **settings)

    panel.optimize = stop_in_the_third
    panel.grid.click()
    panel.wait(60)
    assert labels[1] == ["lambda_l2 0", "lambda_l2 0.0005"] and "Saved" in panel.status.value


# Nothing blocks, nothing is lost


def test_a_slider_moved_while_another_panel_runs_does_not_block(panel, live):
    before = live.after.value
    begin(panel)
    start = time.monotonic()
    live.strength.value = 1.0
    live.channels.value = 40
    live.save_png.click()
    live.again.click()
    live.compare.value = 0.1
    assert time.monotonic() - start < 1
    assert "Busy" in live.status.value and not live.strength.disabled
    panel.go.set()
    panel.wait(60)
    live.turns.rest.wait(60)
    assert live.after.value != before and live.chosen.name == "random 2"  # drawn when it is free again
    assert "40 channels: move alpha" in live.status.value


def test_a_run_that_waits_for_another_can_be_stopped(domain, panel, tmp_path):
    other = OptimizationPanel(domain, invert, panel.optimize, folder=tmp_path)
    begin(panel)
    other.run.click()
    other.stop.click()
    other.wait(5)
    assert "Stopped while waiting" in other.status.value and not other.run.disabled
    panel.go.set()
    panel.wait(60)


def test_a_picture_waits_for_a_picture_but_not_for_a_run():
    models, stop = Models(), threading.Event()
    with models.for_run(print, stop), models.for_picture():  # a run may draw
        found = []
        thread = threading.Thread(target=lambda: found.append(attempt(models)))
        thread.start()
        thread.join(1)
        assert "Busy" in found[0]
    assert attempt(models) is None and models.wait() is False


def attempt(models):
    try:
        with models.for_picture():
            return None
    except Exception as error:
        return str(error)


@pytest.mark.parametrize("move", [lambda panel: setattr(panel.strength, "value", 0.3),
                                  lambda panel: setattr(panel.compare, "value", 0.3),
                                  lambda panel: setattr(panel.history, "value", 0),
                                  lambda panel: panel.save_png.click(), lambda panel: panel.save_gif.click()])
def test_what_fails_on_a_slider_is_one_line(panel, monkeypatch, move):
    run(panel)
    run(panel)

    def fails(*args, **options):
        raise RuntimeError("out of memory\nat some place\nTraceback")

    monkeypatch.setattr(panel, "blended", fails)
    panel.observe(panel.compare, fails)
    move(panel)
    assert panel.status.value == '<span role="status">RuntimeError: out of memory</span>'
    assert not panel.run.disabled and MODELS.wait() is False


def test_an_error_in_a_sentence():
    assert sentence(OSError(13, "Permission denied", "/home/somebody/secret/a.png")) == "Permission denied: a.png"
    assert sentence(ValueError("one\ntwo")) == "one" and sentence(KeyError("a")) == "KeyError: 'a'"
    assert sentence(OSError("not to be had")) == "not to be had"


def test_a_face_chosen_in_mid_run_is_the_face_of_the_next_run(panel):
    begin(panel)
    first = panel.chosen.w_plus
    panel.face.value = panel.face.options[3][1]
    assert "counts when it has ended" in panel.status.value
    panel.go.set()
    panel.wait(60)
    assert panel.chosen.name == panel.face.options[3][1] and "under &quot;go back&quot;" in panel.status.value
    run(panel)
    assert not torch.equal(panel.asked[-1][-1], first) and panel.asked[-1][-1] is panel.chosen.w_plus
    panel.history.value = 0
    assert panel.chosen.w_plus is first and panel.face.value == panel.face.options[0][1]


def test_a_file_opened_in_mid_run_is_not_forgotten(panel):
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "orange").save(buffer, "PNG")
    begin(panel)
    upload(panel, buffer.getvalue())
    panel.go.set()
    panel.wait(60)
    assert panel.chosen.name.startswith("file")


def test_a_mapper_that_cannot_be_saved_is_used_all_the_same(mapper_panel):
    def train(prompt, objective, callback):
        return 0.4  # as `train_and_keep` does on a full disk: nothing is there to be found afterwards

    panel = mapper_panel
    panel.train, panel.prompt.value = train, "a person with an afro"
    run(panel)
    assert "It is not saved, and lasts until this panel is closed." in panel.status.value
    assert panel.mapper == 0.4 and not panel.strength.disabled
    panel.prompt.value = "a bald person"
    panel.prompt.value = "a person with an afro"
    assert panel.mapper == 0.4  # it is still there


def test_a_training_that_fails_with_nothing_trained_is_one_line(mapper_panel):
    def train(prompt, objective, callback):
        raise OSError(30, "Read-only file system", "/folder/a.run")

    mapper_panel.train = train
    run(mapper_panel)
    assert "Read-only file system: a.run" in mapper_panel.status.value and not mapper_panel.run.disabled


@pytest.mark.parametrize("kind", ["panel", "mapper_panel", "live"])
@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_random_actions(request, monkeypatch, kind, seed):
    panel, chance = request.getfixturevalue(kind), random.Random(seed)
    panel.domain = with_settings(panel.domain, OURS, draw=32)
    failed = []
    monkeypatch.setattr(threading, "excepthook", lambda broken: failed.append(broken.exc_value))
    if kind == "panel":
        panel.steps.min = 1

    def option(control):
        control.value = chance.choice([value for _, value in control.options])

    def number(control):
        control.value = type(control.value)(chance.uniform(control.min, control.max))

    texts = [panel.prompt, *([panel.neutral] if kind == "live" else [])]
    own = {"panel": ["lambda_l2", "lambda_id"], "mapper_panel": [], "live": ["threshold", "channels"]}[kind]
    sliders = [getattr(panel, name) for name in ("strength", "compare", *own)]
    buttons = [panel.run, panel.stop, panel.again, panel.save_png, panel.grid]
    buttons += [panel.keep, panel.forget] if kind == "live" else []
    actions = [lambda: option(panel.face), lambda: option(panel.history), lambda: option(panel.objective),
               lambda: number(chance.choice(sliders)), lambda: number(chance.choice(sliders)),
               lambda: chance.choice(buttons).click(), lambda: chance.choice(buttons).click(),
               lambda: setattr(chance.choice(texts), "value", chance.choice([*panel.domain.prompts, "", "x " * 99])),
               lambda: upload(panel, b"no picture"), lambda: time.sleep(0.02), lambda: panel.wait(10)]
    for _ in range(100):
        chance.choice(actions)()
        assert "Traceback" not in panel.status.value and not failed, failed
    panel.stop.click()
    panel.wait(60)
    panel.turns.rest.wait(60)
    assert not failed and not panel.run.disabled and panel.stop.disabled
    if kind == "panel":
        panel.steps.value = 1
    panel.prompt.value = "a bald person"
    run(panel)
    assert "a bald person" in panel.status.value and not panel.strength.disabled, panel.status.value


def test_edits_put_on_show_by_two_threads_are_not_taken_for_a_choice():
    """What the panel itself sets is no hand's choice, even where another thread takes it off show meanwhile."""
    went_back = []
    edits = Edits(lambda edit, number: went_back.append(number))
    for name in "abc":
        edits.add(Edit(name, {}, {}))

    def keep_showing(edit):
        for _ in range(2000):
            edits.on_show(edit)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=keep_showing, args=[shown]) for shown in (edits._edits[2], None)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not went_back
    edits.on_show(None)
    edits.choice.value = 1  # as a hand does
    assert went_back == [2]
