"""Lists of edits, and folders of pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import photographs
from helpers.edits import Edit, apply_edits, edit_folder, load_edits, save_edits
from helpers.latents import random_w_plus
from helpers.methods.directions import global_direction

GLASSES = "a person with glasses"


def test_edits_add_up_are_muted_saved_and_loaded(domain, faces, tmp_path):
    mine = [Edit("a person", GLASSES, 2.0, channels=50),
            Edit("a person", "a person with a beard", 3.0, channels=20)]
    with torch.no_grad():
        s = domain.generator.styles(faces)
    both = apply_edits(domain, s, mine)
    torch.testing.assert_close(both, apply_edits(domain, s, mine[::-1]), atol=1e-4, rtol=1e-4)
    expected = s + 2 * global_direction(domain, "a person", GLASSES, channels=50)
    mine[1].muted = True
    torch.testing.assert_close(apply_edits(domain, s, mine), expected)
    save_edits(tmp_path / "a.json", mine)
    assert load_edits(tmp_path / "a.json") == mine


def test_an_edit_has_its_threshold_or_the_domains_own(toy):
    s = toy.generator.styles(random_w_plus(toy, 2, seed=1))
    for edit in (Edit("a person", GLASSES, 1.5), Edit("a person", GLASSES, 1.5, threshold=0.1)):
        found = apply_edits(toy, s, [edit])
        direction = global_direction(toy, "a person", GLASSES, threshold=edit.threshold)
        torch.testing.assert_close(found, s + 1.5 * direction)


@pytest.mark.parametrize("content", [
    "", "{}", "[1]", '[{"target": "x"}]',
    '[{"neutral": "a", "target": 3, "alpha": 1, "channels": 1}]',
    '[{"neutral": "a", "target": "b", "alpha": NaN}]',
    '[{"neutral": "a", "target": "b", "alpha": "x"}]',
    '[{"neutral": "a", "target": "b", "alpha": 1, "delta": 2}]'])
def test_a_file_that_is_no_list_of_edits_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="a.json") as caught:
        load_edits(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name,value", [
    ("alpha", 1000), ("alpha", True), ("alpha", float("inf")), ("channels", 0), ("channels", -3),
    ("channels", 2.5), ("channels", True), ("channels", float("nan")), ("threshold", -0.1),
    ("threshold", "x"), ("threshold", float("nan")), ("muted", "no"), ("muted", 1),
    ("neutral", 3), ("target", None)])
def test_what_is_wrong_with_an_edit_is_named(tmp_path, name, value):
    edit = dict(neutral="a person", target=GLASSES, alpha=2.0)
    (tmp_path / "a.json").write_text(json.dumps([edit, edit | {name: value}]))
    with pytest.raises(ValueError, match=f"a.json, edit 2: .*{name}.* must be") as caught:
        load_edits(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_whole_numbers_are_read(tmp_path, encoding):
    content = '[{"neutral": "a person", "target": "Zoë", "alpha": 2, "channels": 30}]'
    (tmp_path / "a.json").write_text(content, encoding)
    assert load_edits(tmp_path / "a.json") == [Edit("a person", "Zoë", 2, channels=30)]


@pytest.fixture
def quick(monkeypatch):
    """Encoding takes no time, and finds the same latent for every picture; nothing is tuned."""
    monkeypatch.setattr(photographs, "invert", lambda domain, image, callback:
                        (random_w_plus(domain, 1, seed=1), {}))
    monkeypatch.setattr(photographs, "tune_generator",
                        lambda domain, image, w_plus, callback:
                        replace(domain, tuned_from=domain))


def test_a_folder_is_edited_and_what_is_no_picture_is_named(domain, tmp_path, quick):
    source, said = tmp_path / "in", []
    source.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(source / f"{name}.jpg")
    (source / "notes.txt").write_text("not a picture")
    mine = [Edit("a person", GLASSES, 3.0)]
    count = edit_folder(domain, source, tmp_path / "out", mine, said.append)
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert count == 2 and there == ["a-jpg.png", "b-jpg.png"]
    with Image.open(tmp_path / "out" / "a-jpg.png") as picture:
        assert "Not a photograph" in picture.text["Description"]
    assert "notes.txt is not a picture" in said[0]
    assert said[-1] == "Skipped 1 of 3 files: notes.txt."
    assert edit_folder(domain, source, tmp_path / "out", mine, said.append) == 0  # all is done
    edit_folder(domain, source, tmp_path / "out", [], said.append)  # nothing is overwritten
    assert len(list((tmp_path / "out").iterdir())) == 4
    with pytest.raises(ValueError, match="need a folder of their own"):
        edit_folder(domain, source, source, [])


def test_a_photograph_of_a_folder_says_that_its_face_was_changed(domain, tmp_path, quick,
                                                                 face_found):
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGB", (120, 100), "olive").save(source / "a.png")
    mine = [Edit("a person", GLASSES, 3.0), Edit("a person", "a bald person", 3.0, muted=True)]
    assert edit_folder(replace(domain, align=True), source, tmp_path / "out", mine) == 1
    with Image.open(tmp_path / "out" / "a-png.png") as picture:
        assert picture.size == (120, 100) and picture.text["Source"] == "a.png"
        assert picture.text["Model"] == f"avatars. {domain.licence}"
        assert picture.text["Description"] == (
            "A photograph whose face was generated anew by a neural network (avatars), edited by: "
            "a person with glasses.")


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_a_folder_goes_on_after_any_picture_that_fails(toy, tmp_path, quick, monkeypatch, error):
    source, said = tmp_path / "in", []
    source.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(source / name)

    def failing(path, *options):
        if path.name == "b.png":
            raise error("the disk does not answer")
        return torch.zeros(1, 3, 32, 32)

    monkeypatch.setattr(photographs, "open_image", failing)
    assert edit_folder(toy, source, tmp_path / "out", [], said.append) == 2
    assert said == ["Skipped: the disk does not answer", "Skipped 1 of 3 files: b.png."]
