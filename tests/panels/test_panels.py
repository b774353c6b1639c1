"""What all panels promise, driven as a reader drives them: by setting values and clicking."""

import html
import random
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import replace
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from drive import (
    PANELS,
    after,
    before,
    begin,
    controls,
    end,
    global_panel,
    optimization_panel,
    pixels,
    png,
    press_enter,
    run,
    settled,
    shown,
    status,
    upload,
)

from helpers.panels.background import MODEL_LOCK, Debouncer, ModelLock
from helpers.panels.widgets import FaceSource, sentence


@pytest.fixture(scope="module")
def domain(domain):
    return settled(domain)


@pytest.fixture
def panel(domain, tmp_path):
    panel = optimization_panel(domain, tmp_path)
    yield panel
    end(panel)  # also where a test has failed


@pytest.fixture(params=PANELS)
def each(request, domain, tmp_path):
    """The panel of each method in turn."""
    return PANELS[request.param](domain, tmp_path)


# It opens with an edit on show


def test_a_panel_opens_with_an_edit_of_a_sample_on_show(each, domain):
    assert each.face.value == str(domain.samples[0])
    assert np.abs(pixels(after(each)) - pixels(before(each))).mean() > 2
    assert domain.prompts[0] in each.pictures.caption.value and domain.prompts[0] in status(each)
    assert not any(control.disabled for control in (each.strength, each.pictures.compare))
    assert not each.runs.asked or each.runs.asked == [
        {"method": "linear", "threshold": None, "channels": 400}]  # and nothing has been run


def test_every_sample_comes_with_its_latent(domain):
    """And with its own: its picture is nearer to the sample's than to any other sample's."""
    source = FaceSource(domain)
    faces = []
    for path in domain.samples:
        source.choice.value = str(path)
        faces.append(source.asked(source.choice))
    images = torch.cat([face.image for face in faces])
    with torch.no_grad():
        drawn = domain.generator(torch.cat([face.w_plus for face in faces]))
    distance = (drawn[:, None] - images[None]).abs().mean(dim=(2, 3, 4))
    assert distance.argmin(dim=1).tolist() == list(range(len(faces)))


def test_without_samples_a_panel_opens_with_an_edit_of_a_random_face(domain, tmp_path):
    for make in PANELS.values():
        panel = make(replace(domain, samples=(), sample_latents=None), tmp_path)
        assert panel.face.value == "random" and after(panel) != before(panel)


def test_without_their_latents_samples_are_encoded_by_run(domain, tmp_path):
    for make in PANELS.values():
        panel = make(replace(domain, sample_latents=None), tmp_path)
        assert after(panel) == before(panel) and panel.strength.disabled
        assert "Run finds the latent of this picture first" in status(panel)
        assert "no edit yet" in panel.pictures.caption.value
        run(panel)
        assert after(panel) != before(panel) and not panel.strength.disabled


def test_rare_controls_are_folded(each):
    assert not shown(each.rare) and each.objective in each.rare.children
    each.more.value = True
    assert shown(each.rare)


# Running


def test_run_changes_the_picture_and_strength_blends(panel):
    preview = after(panel)
    run(panel)
    edited = after(panel)
    assert edited not in (preview, before(panel)) and "done after 60 steps" in status(panel)
    panel.strength.value = 0
    source = after(panel)
    panel.strength.value = 0.5
    assert len({edited, source, after(panel)}) == 3
    panel.strength.value = 0
    assert after(panel) == source
    assert torch.equal(panel.blended(0), panel.domain.generator(panel.chosen.w_plus))
    assert panel.task.progress.value == panel.task.progress.max == 60


def test_at_strength_0_every_panel_shows_the_source(each):
    each.faces.another.click()  # its picture is what the generator draws
    each.strength.value = 0
    assert after(each) == before(each)


def test_stop_keeps_the_best_so_far(panel):
    begin(panel)
    assert panel.run.disabled and not panel.task.stop.disabled
    panel.run.click()  # a second Run beside the first does nothing
    panel.task.stop.click()
    end(panel)
    assert "stopped after 1 steps" in status(panel) and not panel.strength.disabled
    assert panel.task.stop.disabled and not panel.run.disabled
    assert len(panel.runs.asked) == 1


@pytest.mark.parametrize("prompt,said", [("  ", "prompt is empty"),
                                         ("beard " * 90, "CLIP reads 77")])
def test_a_bad_prompt_is_one_line(each, prompt, said):
    each.prompt.value = prompt
    for _ in range(2):  # when it is typed, and when Run is pressed
        assert said in status(each) and "Traceback" not in status(each)
        assert each.strength.disabled and after(each) == before(each)
        assert not each.run.disabled
        run(each)
    each.prompt.value = each.domain.prompts[0]
    assert after(each) != before(each) and not each.strength.disabled


def test_the_error_of_a_run_is_one_escaped_line_and_the_edit_on_show_stays(panel):
    def fails(*args, callback, **options):
        callback({"step": 5, "steps": 9, "image": -panel.chosen.image})
        raise RuntimeError("<b>broken</b>")

    shown_before, panel.optimize = after(panel), fails
    run(panel)
    assert status(panel) == '<span role="status">RuntimeError: &lt;b&gt;broken&lt;/b&gt;</span>'
    assert after(panel) == shown_before and not panel.run.disabled


def test_enter_runs_with_the_text_that_the_browser_sends_after_the_key(panel):
    press_enter(panel.prompt)
    panel.prompt.value = "a bald person"
    panel.enter.wait(60)
    panel.wait(60)
    assert "a bald person: done after 60 steps" in status(panel)


def test_beside_a_run_nothing_but_stop_can_be_used(each):
    each.faces.another.click()
    upload(each, png())
    assert each.chosen.w_plus is None  # so that every panel has something to run
    begin(each)
    usable = [control for control in controls(each.widget) if not control.disabled]
    assert usable == [each.more, each.task.stop]
    end(each)
    disabled = [control for control in controls(each.widget) if control.disabled]
    assert disabled == [each.task.stop], status(each)


def test_what_arrives_beside_a_run_does_not_count(panel):
    """A browser may send it before it hears that the run has begun."""
    panel.prompt.value = "a bald person"
    begin(panel)
    face, picture = panel.face.value, before(panel)
    panel.face.value = panel.face.options[3][1]
    panel.prompt.value = "an angry person"
    panel.strength.value = 0.3
    panel.faces.another.click()
    panel.exports.png.click()
    end(panel)
    assert "a bald person: done" in status(panel)
    assert "a bald person" in panel.pictures.caption.value
    assert panel.face.value == face and before(panel) == picture
    run(panel)
    assert "an angry person: done" in status(panel)


def test_the_time_left_is_counted_anew_for_each_part_of_a_run(panel, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    begin(panel)
    said = []
    for seconds, step, steps in ((50, 1, 9), (2, 2, 9), (2, 3, 9), (90, 1, 21), (1, 2, 21)):
        clock.now += seconds
        panel.task.watch({"step": step, "steps": steps, "image": panel.chosen.image})
        said.append(panel.task.time_left.value)
    assert said == ["", "14 s left", "12 s left", "", "19 s left"]
    end(panel)
    assert not panel.task.time_left.value


def test_a_run_goes_on_when_the_page_is_closed(panel):
    begin(panel)
    for widget in (panel.pictures.after, panel.task.progress, panel.status):
        if widget.comm:
            widget.comm.close()  # what a closed page leaves: nobody listens
    end(panel)
    assert "done" in status(panel) and not panel.run.disabled


# Choosing a face


def test_random_faces_differ(each):
    each.faces.another.click()
    first = before(each)
    each.faces.another.click()
    assert before(each) != first and each.face.value == "random"
    each.strength.value = 1.0  # method 3 leaves a face at 0 that shows what is asked for already
    assert after(each) != before(each)  # the edit follows at once


def test_an_own_file_is_opened_and_a_bad_one_is_one_line(each):
    picture = before(each)
    upload(each, png(90, 60))
    assert before(each) != picture and "60 x 60" in status(each) and each.face.value == "file"
    picture = before(each)
    upload(each, b"not a picture")
    assert "not a picture" in status(each) and before(each) == picture


def test_the_own_file_stays_in_the_list_of_faces_with_its_latent(panel):
    sample = panel.face.value
    panel.face.value = "file"
    assert "No file has been opened yet" in status(panel) and panel.face.value == sample
    upload(panel, png())
    run(panel)
    own, w_plus = before(panel), panel.chosen.w_plus
    panel.face.value = sample
    panel.face.value = "file"
    assert before(panel) == own and panel.chosen.w_plus is w_plus
    upload(panel, png(colour="navy"))  # another file has no latent yet
    assert panel.chosen.w_plus is None and before(panel) != own


def test_samples_need_no_landmarks_and_a_file_does(domain, tmp_path, monkeypatch):
    def fails(*args):
        raise ValueError("No face was found.")

    monkeypatch.setattr("helpers.domains.align.face_landmarks", fails)
    assert optimization_panel(domain, tmp_path).faces.aligned not in list(
        controls(optimization_panel(domain, tmp_path).widget))
    panel = optimization_panel(replace(domain, align=True), tmp_path)
    assert panel.chosen.name == panel.face.options[0][1]
    upload(panel, png())
    assert "No face was found" in status(panel) and panel.face.value == panel.chosen.name
    panel.faces.aligned.value = True  # opens it again
    assert panel.face.value == "file" and "aligned" in panel.faces.aligned.description


def test_uploads_of_both_ipywidgets(domain):
    source = FaceSource(domain)
    for files in ({"a.png": {"content": b"one", "metadata": {}}},
                  ({"name": "a.png", "content": memoryview(b"one")},)):
        source.upload = SimpleNamespace(value=files)
        assert source._uploaded() == b"one"


@pytest.fixture
def picture_file(tmp_path):
    path = tmp_path / "own.png"
    path.write_bytes(png(90, 60))
    return path


def test_a_file_can_be_named_by_its_path(each, picture_file, monkeypatch):
    first = before(each)
    each.faces.path.value = f" {picture_file} "
    assert before(each) != first and "60 x 60" in status(each) and each.face.value == "file"
    monkeypatch.setenv("HOME", str(picture_file.parent))
    monkeypatch.chdir(picture_file.parent)
    for path in ("~/own.png", "own.png"):
        each.face.value = each.face.options[0][1]
        each.faces.path.value = path
        assert each.face.value == "file"
    each.faces.path.value = "no.png"
    assert "No such file or directory: no.png" in status(each) and each.face.value == "file"


def test_the_file_that_came_last_counts(panel, picture_file):
    panel.faces.path.value = str(picture_file)
    upload(panel, png(colour="navy"))
    assert panel.faces.path.value == "" and pixels(before(panel)).mean(axis=(0, 1))[2] > 100
    panel.faces.path.value = str(picture_file)  # orange
    assert pixels(before(panel)).mean(axis=(0, 1))[0] > 200


def test_in_colab_the_panel_says_why_a_path_is_better(domain, tmp_path, monkeypatch):
    assert not shown(optimization_panel(domain, tmp_path).faces.advice)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    panel = optimization_panel(domain, tmp_path)
    assert shown(panel.faces.advice) and "more than 1 MB" in panel.faces.advice.value
    assert panel.faces.advice in panel.widget.children[0].children[0].children


HINT = "No face is seen where FFHQ has it"


def test_a_picture_that_is_called_aligned_and_is_not_gets_a_hint(domain, tmp_path, monkeypatch):
    aligned = []
    monkeypatch.setattr("helpers.panels.widgets.is_aligned", lambda picture: aligned.pop())
    panel = optimization_panel(replace(domain, align=True), tmp_path)
    panel.faces.aligned.value = True  # no file has been opened yet
    aligned.append(False)
    upload(panel, png())
    assert HINT in status(panel) and panel.face.value == "file"
    run(panel)  # it is a hint, no refusal
    assert panel.chosen.w_plus is not None and "done" in status(panel)
    aligned.append(True)
    upload(panel, png(colour="navy"))
    assert HINT not in status(panel) and panel.face.value == "file" and not aligned


def test_without_dlib_and_where_faces_are_not_aligned_there_is_no_hint(domain, tmp_path,
                                                                       monkeypatch):
    def fails(picture):
        raise ImportError("Finding faces needs dlib.")

    monkeypatch.setattr("helpers.panels.widgets.is_aligned", fails)
    panel = optimization_panel(replace(domain, align=True), tmp_path)
    panel.faces.aligned.value = True
    upload(panel, png())
    assert HINT not in status(panel) and panel.face.value == "file"
    monkeypatch.setattr("helpers.panels.widgets.is_aligned", lambda picture: False)
    panel = optimization_panel(domain, tmp_path)  # cartoons are not aligned like FFHQ
    upload(panel, png())
    assert HINT not in status(panel) and panel.face.value == "file"


# What one sees and hears


def test_compare_draws_a_line_between_before_and_after(panel):
    run(panel)
    edited, source = pixels(after(panel)), pixels(before(panel))
    panel.pictures.compare.value = 0.5
    both = pixels(after(panel))
    middle = both.shape[1] // 2
    assert np.abs(both[:, :middle - 8] - source[:, :middle - 8]).mean() < 2
    assert np.abs(both[:, middle + 8:] - edited[:, middle + 8:]).mean() < 2
    assert both[:, middle - 1:middle + 1].mean() > 240 and np.abs(source - edited).mean() > 4


def test_displayed_again_the_panel_is_the_same_with_its_result(panel, monkeypatch):
    displayed = []
    monkeypatch.setattr("helpers.panels.panel.display", displayed.append)
    run(panel)
    panel._ipython_display_()
    panel._ipython_display_()
    assert displayed == [panel.widget] * 2 and not panel.strength.disabled


def test_a_screen_reader_finds_labels_and_is_told_of_news(each):
    assert all(control.description for control in controls(each.widget))
    each.say("news")
    assert status(each) == '<span role="status">news</span>'


@pytest.mark.filterwarnings("ignore:Unknown")
def test_a_prompt_of_unknown_words_is_cautioned_in_a_line_of_its_own(each):
    assert each.caution.value == ""
    each.prompt.value = 'a "xylophone" <b>player</b>'
    caution = each.domain.clip.caution(each.prompt.value)
    assert "xylophone" in caution and html.escape(caution) in each.caution.value
    each.prompt.value = each.domain.prompts[0]
    assert each.caution.value == ""


def test_an_error_in_a_sentence():
    error = OSError(13, "Permission denied", "/home/somebody/secret/a.png")
    assert sentence(error) == "Permission denied: a.png"
    assert sentence(OSError(28, "No space left")) == "No space left."
    assert sentence(ValueError("one\ntwo")) == "one" and sentence(KeyError("a")) == "KeyError: 'a'"
    assert sentence(OSError("not to be had")) == "not to be had"


def move_strength(panel):
    panel.strength.value = 0.3


def move_compare(panel):
    panel.pictures.compare.value = 0.3


def choose_face(panel):
    panel.face.value = panel.face.options[1][1]


def save_png(panel):
    panel.exports.png.click()


def save_gif(panel):
    panel.exports.gif.click()


@pytest.mark.parametrize("move", [move_strength, move_compare, choose_face, save_png, save_gif])
def test_what_fails_when_a_hand_moves_is_one_line(panel, monkeypatch, move):
    def fails(*args, **options):
        raise RuntimeError("out of memory\nat some place\nTraceback")

    monkeypatch.setattr(panel, "image_of", fails)
    monkeypatch.setattr("helpers.images.to_jpeg", fails)
    move(panel)
    assert status(panel) == '<span role="status">RuntimeError: out of memory</span>'
    assert not panel.run.disabled and MODEL_LOCK.lock.acquire(blocking=False)
    MODEL_LOCK.lock.release()


# Sizes of pictures


@pytest.fixture
def drawn(domain, tmp_path):
    """A panel that draws small while a slider moves; `sizes` notes what it drew at."""
    panel = global_panel(replace(domain, preview_resolution=32), tmp_path)
    panel.rest.wait(60)  # opening it drew, too
    panel.sizes, image_of = [], panel.image_of

    def note(found, strength, resolution=None):
        panel.sizes.append(resolution)
        return image_of(found, strength, resolution)

    panel.image_of = note
    return panel


def test_small_while_a_slider_moves_and_full_size_once_it_rests(drawn):
    for value in (1.0, 1.1, 1.2, 1.3):
        drawn.strength.value = value
    assert drawn.sizes == [32] * 4
    small = after(drawn)
    drawn.rest.wait(60)
    assert drawn.sizes == [32] * 4 + [None] and after(drawn) != small
    assert pixels(after(drawn)).shape == (512, 512, 3)


def test_where_nothing_is_drawn_small_there_is_no_second_drawing(panel, monkeypatch):
    monkeypatch.setattr(panel.rest, "move", None)
    panel.strength.value = 0.7
    assert "None" not in status(panel) and pixels(after(panel)).shape == (512, 512, 3)


def test_compare_draws_nothing_anew(drawn):
    drawn.pictures.compare.value = 0.4
    assert drawn.sizes == []


class Clock:
    """Stands in for `threading.Timer`: its time comes when `ring` is called."""

    made = []

    def __init__(self, seconds, action):
        self.action, self.state = action, "made"
        Clock.made.append(self)

    def start(self):
        self.state = "started"

    def cancel(self):
        self.state = "cancelled"

    def join(self, seconds=None):
        pass

    def ring(self):
        if self.state == "started":
            self.action()


def test_a_debouncer_waits_for_the_last_move(monkeypatch):
    monkeypatch.setattr(threading, "Timer", Clock)
    done = []
    rest = Debouncer(lambda: done.append("action"), seconds=0.2)
    for _ in range(3):
        rest.move()
    for timer in Clock.made:
        timer.ring()
    assert done == ["action"]
    rest.move()
    Clock.made[-1].ring()
    assert done == ["action"] * 2


# Two panels share the networks


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.02)


def test_two_panels_take_turns(domain, panel, tmp_path):
    other = optimization_panel(domain, tmp_path, panel.runs)
    begin(panel)
    other.run.click()
    wait_until(lambda: "Waiting for another run to end." in status(other))
    end(panel)
    other.wait(60)
    assert "done" in status(panel) and "done" in status(other)


def test_a_run_that_waits_for_another_can_be_stopped(domain, panel, tmp_path):
    other = optimization_panel(domain, tmp_path, panel.runs)
    begin(panel)
    other.run.click()
    other.task.stop.click()
    other.wait(10)
    assert "Stopped while waiting" in status(other) and not other.run.disabled
    end(panel)


@pytest.mark.parametrize("move", [move_strength, choose_face])
def test_what_a_hand_asks_for_beside_another_panels_run_is_done_afterwards(domain, panel, tmp_path,
                                                                           move):
    other = global_panel(domain, tmp_path)
    picture, asked = after(other), len(other.runs.asked)
    begin(panel)
    moved = threading.Thread(target=move, args=[other])
    moved.start()
    moved.join(10)  # it does not block for the length of a run
    assert not moved.is_alive() and "Busy" in status(other) and after(other) == picture
    end(panel)
    wait_until(lambda: after(other) != picture)  # a new face is shown before its edit is asked for
    wait_until(lambda: len(other.runs.asked) == asked + (move is choose_face))
    other.rest.wait(60)  # a panel that is made while it draws would open later
    other.wait(10)


def test_a_panel_made_during_a_run_opens_after_it(domain, panel, tmp_path):
    begin(panel)
    other = optimization_panel(domain, tmp_path)
    assert "Busy" in status(other) and other.strength.disabled
    other.prompt.value = "a bald person"
    assert "Choose a face first" in status(other)
    end(panel)
    wait_until(lambda: other.chosen is not None and not other.strength.disabled)
    assert after(other) != before(other)


def attempt(lock):
    try:
        with lock.for_picture():
            return None
    except Exception as error:
        return str(error)


def test_a_picture_waits_for_a_picture_but_not_for_a_run():
    lock, found = ModelLock(), []
    with lock.for_run(SimpleNamespace(stopped=False)), lock.for_picture():  # a run may draw
        thread = threading.Thread(target=lambda: found.append(attempt(lock)))
        thread.start()
        thread.join(5)
        assert "Busy" in found[0]
    assert attempt(lock) is None


# Kernels whose threads cannot send


def sends(monkeypatch, send):
    """Have a function called, with a widget, whenever one of its values changes."""
    notify = widgets.Widget.notify_change

    def notify_and_send(widget, change):
        send(widget)
        notify(widget, change)

    monkeypatch.setattr(widgets.Widget, "notify_change", notify_and_send)


def test_threads_send_as_the_cell_does_that_began_them(panel, monkeypatch):
    """ipykernel 7.0.0 looks for that cell in a variable of the context, and sends nothing else."""
    cell, failed = ContextVar("cell"), []
    monkeypatch.setattr(threading, "excepthook", lambda broken: failed.append(broken.exc_value))
    sends(monkeypatch, lambda widget: cell.get())
    cell.set("this one")
    panel.prompt.value = "a bald person"
    run(panel)
    assert "done" in status(panel) and not panel.task.busy and not panel.run.disabled
    panel.prompt.value = ""
    run(panel)
    assert "prompt is empty" in status(panel) and not panel.task.busy and not failed


def test_a_thread_that_cannot_send_leaves_nothing_busy(panel, monkeypatch):
    main, failed, broken = threading.get_ident(), [], [True]

    def send(widget):
        if broken and threading.get_ident() != main:
            raise LookupError("this thread has no cell")

    monkeypatch.setattr(threading, "excepthook", lambda error: failed.append(error.exc_value))
    sends(monkeypatch, send)
    run(panel)
    assert failed and not panel.task.busy and MODEL_LOCK.lock.acquire(blocking=False)
    MODEL_LOCK.lock.release()
    panel.strength.value = 0.5  # any move enables Run again
    assert not panel.run.disabled
    broken.clear()
    run(panel)
    assert "done" in status(panel)


# Anything at any time


@pytest.mark.parametrize("kind", PANELS)
@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_random_actions(domain, tmp_path, monkeypatch, kind, seed):
    panel = PANELS[kind](replace(domain, preview_resolution=32), tmp_path)
    chance, failed = random.Random(seed), []
    monkeypatch.setattr(threading, "excepthook", lambda broken: failed.append(broken.exc_value))
    texts, choices, sliders, boxes, buttons = [], [], [], [], []
    for control in controls(panel.widget):
        if hasattr(control, "click"):
            buttons.append(control)
        elif hasattr(control, "ensure_option") or type(control).__name__ == "Text":
            texts.append(control)
        elif hasattr(control, "options"):
            choices.append(control)
        elif hasattr(control, "max"):
            sliders.append(control)
        elif type(control.value) is bool:
            boxes.append(control)
    assert texts and choices and sliders and buttons and boxes
    for _ in range(100):
        what = chance.randrange(7)
        if what == 0:
            control = chance.choice(choices)
            control.value = chance.choice([value for _, value in control.options])
        elif what in (1, 2):
            control = chance.choice(sliders)
            control.value = type(control.value)(chance.uniform(control.min, control.max))
        elif what in (3, 4):
            chance.choice(buttons).click()
        elif what == 5:
            texts[chance.randrange(len(texts))].value = chance.choice(
                [*domain.prompts, "", "x " * 99])
        elif chance.random() < 0.5:
            upload(panel, chance.choice([b"no picture", png()]))
        else:
            control = chance.choice(boxes)
            control.value = not control.value
        assert "Traceback" not in status(panel) and not failed, failed
    panel.task.stop.click()
    panel.wait(60)
    panel.rest.wait(60)
    panel.enter.wait(60)
    assert not failed and not panel.run.disabled and panel.task.stop.disabled
    panel.objective.value = panel.objective.options[0][1]
    for text in texts:
        text.value = domain.neutral
    panel.prompt.value, panel.kept.value = domain.prompts[0], ""
    run(panel)
    assert domain.prompts[0] in status(panel) and not panel.strength.disabled, status(panel)
