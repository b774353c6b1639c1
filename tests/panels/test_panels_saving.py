"""What the panels write: PNG, GIF and grids; and what happens where they cannot."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from drive import (
    global_panel,
    mapper_panel,
    optimization_panel,
    png,
    run,
    settled,
    shown,
    status,
    upload,
)
from PIL import Image

from helpers import images
from helpers.domains import download
from helpers.panels.widgets import sentence


@pytest.fixture(scope="module")
def domain(domain):
    return settled(domain)


@pytest.fixture
def panel(domain, tmp_path):
    return optimization_panel(domain, tmp_path)


def test_saves_png_and_gif(panel, tmp_path):
    panel.prompt.value = "a person with/glasses?"
    run(panel)
    panel.exports.png.click()
    panel.exports.gif.click()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"a-person-with-glasses.png", "a-person-with-glasses.gif"}
    assert Image.open(tmp_path / "a-person-with-glasses.gif").n_frames > 10
    assert "Saved" in status(panel)


def test_a_preview_can_be_saved(panel, tmp_path):
    panel.exports.png.click()
    assert [path.name for path in tmp_path.iterdir()] == ["a-person-with-glasses-preview.png"]


def test_a_saved_png_says_what_it_is_and_is_as_large_as_the_generator_draws(panel, tmp_path):
    panel.prompt.value, panel.objective.value = "a person with a hat \u2013 red", "paper"
    panel.steps.value = 20
    run(panel)
    panel.strength.value = 0.75
    panel.exports.png.click()
    picture = Image.open(tmp_path / "a-person-with-a-hat-red-paper.png")
    text = picture.text
    assert picture.size == (64, 64) and text["Prompt"] == panel.prompt.value
    assert text["Strength"] == "0.75" and text["Objective"] == "paper"
    assert text["Model"].startswith("avatars. Weights")
    assert "generated" in text["Description"] and text["Software"]


def test_a_saved_photograph_says_that_its_face_was_changed(domain, tmp_path, face_found):
    """And that a sample was generated, or a grid of faces."""
    tuning = replace(domain.settings.tuning, steps=1)
    own = replace(domain, align=True, settings=replace(domain.settings, tuning=tuning))
    panel = global_panel(own, tmp_path)
    panel.exports.png.click()
    upload(panel, png(120, 100))
    run(panel)
    panel.keep.click()
    panel.prompt.value = "an angry person"
    panel.exports.png.click()
    panel.exports.grid.click()
    panel.wait(60)
    sample, mine, grid = (Image.open(tmp_path / f"{name}.png") for name in (
        "a-person-with-glasses", "an-angry-person", "an-angry-person-linear-grid"))
    assert mine.size == (120, 100) and mine.text["Description"] == (
        "A photograph whose face was generated anew by a neural network (avatars), edited by: "
        "a person with glasses, an angry person.")
    for other in (sample, grid):
        assert other.text["Description"].startswith("Not a photograph: generated")


def test_a_saved_png_names_the_edits_below(domain, tmp_path):
    panel = global_panel(domain, tmp_path)
    panel.keep.click()
    panel.prompt.value = "an angry person"
    panel.exports.png.click()
    text = Image.open(tmp_path / "an-angry-person.png").text
    assert (text["Prompt"], text["Below"]) == ("an angry person", domain.prompts[0])


def test_no_file_is_written_over(panel, tmp_path):
    panel.prompt.value = "a bald person"
    (tmp_path / "a-bald-person.png").write_bytes(b"mine")
    for name in ("a-bald-person-2.png", "a-bald-person-3.png"):
        panel.faces.another.click()  # the same prompt on another face
        run(panel)
        panel.exports.png.click()
        assert status(panel) == f'<span role="status">Saved {name}</span>'  # and no folder
    assert (tmp_path / "a-bald-person.png").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_is_one_line_and_the_edit_stays(panel, tmp_path, monkeypatch):
    class Full(BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    picture, opened = panel.pictures.after.value, type(tmp_path).open
    monkeypatch.setattr("pathlib.Path.open",
                        lambda path, mode: opened(path, mode).close() or Full())
    panel.exports.png.click()
    said = "png is not saved (No space left on device), and the edit stays"
    assert said in status(panel) and str(tmp_path) not in status(panel)
    assert not list(tmp_path.iterdir())
    assert panel.pictures.after.value == picture and not panel.strength.disabled


def test_a_folder_that_cannot_be_is_one_line(panel, tmp_path):
    (tmp_path / "file").write_text("")
    panel.exports.folder = tmp_path / "file" / "pictures"
    panel.exports.png.click()
    assert "is not saved (Not a directory)" in status(panel) and str(tmp_path) not in status(panel)


@pytest.fixture
def no_working_folder(tmp_path, monkeypatch):
    """The folder in which this process works is removed."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


def save_in(panel, folder):
    panel.exports.folder = Path(folder)
    panel.exports.png.click()


def save_grid_in(panel, folder):
    panel.exports.folder = Path(folder)
    make_grid(panel)


def open_in(panel, folder):
    panel.faces.path.value = f"{folder}/own.png"


@pytest.mark.parametrize("use", [save_in, save_grid_in, open_in])
def test_without_a_working_folder_a_relative_path_is_one_line(panel, no_working_folder, use):
    picture = panel.pictures.after.value
    use(panel, "pictures")
    assert "The working folder of this kernel was removed: change to one" in status(panel)
    assert panel.pictures.after.value == picture and not panel.run.disabled


def test_without_a_working_folder_other_paths_work(panel, no_working_folder, tmp_path):
    save_in(panel, tmp_path)
    assert "Saved" in status(panel) and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "own.png").write_bytes(png())
    open_in(panel, tmp_path)
    assert panel.face.value == "file"
    open_in(panel, tmp_path / "nowhere")
    assert "No such file or directory: own.png" in status(panel)


def test_without_a_working_folder_a_relative_cache_is_one_sentence(no_working_folder, monkeypatch):
    """Raised by whatever is fetched; a panel shows the first line of it."""
    monkeypatch.setenv("STYLECLIP_CACHE", "cache")
    source = download.Source("http://127.0.0.1:9/file", "0" * 64)
    with pytest.raises(OSError, match="STYLECLIP_CACHE|working folder") as caught:
        download.fetch((source,))
    assert "\n" not in sentence(caught.value)


# Grids


@pytest.fixture
def labels(monkeypatch):
    """The rows and columns of each grid."""
    found, made = [], images.labelled_grid

    def note(image, rows, columns, size):
        found.extend([rows, columns])
        return made(image, rows, columns, size)

    monkeypatch.setattr(images, "labelled_grid", note)
    return found


def make_grid(panel):
    panel.exports.grid.click()
    panel.wait(60)


def test_a_grid_of_strength_and_lambda(panel, tmp_path):
    panel.prompt.value = "a bald person"
    run(panel)
    panel.steps.value, found = 20, panel.found
    make_grid(panel)
    assert [asked[2] for asked in panel.runs.asked[1:]] == [0, 0.0005, 0.001, 0.002]
    assert "Saved a-bald-person-ours-grid.png" in status(panel)
    picture = Image.open(tmp_path / "a-bald-person-ours-grid.png")
    assert picture.width > 4 * 256 and picture.height > 4 * 256
    assert picture.text["Strength"] == "0, 0.5, 1, 1.5"
    assert shown(panel.exports.sheet) and panel.exports.sheet.value
    assert panel.found is found and not panel.run.disabled


def test_a_grid_of_strength_and_network(domain, tmp_path, labels):
    panel = mapper_panel(domain, tmp_path)
    make_grid(panel)
    assert labels == [["strength -1", "strength 0", "strength 0.5", "strength 1", "strength 1.5"],
                      ["coarse", "medium", "fine", "all"]]
    assert (tmp_path / "a-person-with-glasses-ours-grid.png").exists()


def test_a_grid_of_alpha_and_channels_or_threshold(domain, tmp_path, labels):
    panel = global_panel(domain, tmp_path)
    for method in ("linear", "sweep"):
        panel.objective.value, panel.strength.value = method, 3.2
        make_grid(panel)
    alphas, channels, _, thresholds = labels
    assert alphas == ["alpha -3.2", "alpha 0", "alpha 1.6", "alpha 3.2", "alpha 6.4"]
    assert channels == ["channels 200", "channels 400", "channels 600", "channels 800"]
    assert thresholds == ["threshold 0.075", "threshold 0.15", "threshold 0.225", "threshold 0.3"]


def test_a_grid_that_is_stopped_keeps_its_columns(panel, labels):
    optimize = panel.optimize

    def stop_in_the_third(*args, **settings):
        if len(panel.runs.asked) == 2:
            panel.task.stop.click()
        return optimize(*args, **settings)

    panel.optimize = stop_in_the_third
    make_grid(panel)
    assert labels[1] == ["lambda_l2 0", "lambda_l2 0.0005"] and "Saved" in status(panel)


def test_a_grid_that_is_stopped_at_once_is_one_line(panel, tmp_path):
    optimize = panel.optimize

    def stop(*args, **settings):
        panel.task.stop.click()
        return optimize(*args, **settings)

    panel.optimize = stop
    make_grid(panel)
    assert "Stopped before the first column" in status(panel) and not list(tmp_path.iterdir())
