"""Notebook 3's functions."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, golden
from PIL import Image

from helpers.checkpoints import read_safetensors, save_tensors
from helpers.latents import random_w_plus

GLASSES = "a person with glasses"


@pytest.fixture
def few_channels(method3, monkeypatch):
    """A sweep of eight channels instead of all."""
    every = method3["swept_channels"]
    monkeypatch.setitem(method3, "swept_channels", lambda generator: every(generator)[::116])


def test_agrees_with_the_authors_relevance(method3):
    right = golden("channel_relevance")
    found = method3["channel_directions"](right["features"])
    assert (found - right["delta_i"]).abs().max() <= 1e-6
    relevance = found @ right["delta_t"]
    assert (relevance - right["relevance"]).abs().max() <= 1e-6
    for beta in ("0.05", "0.15", "0.25"):
        assert (method3["select"](relevance, float(beta)) - right[f"delta_s_{beta}"]).abs().max() <= 1e-6


def test_beta_that_is_named_leaves_twenty_and_a_count_leaves_as_many(method3):
    relevance = torch.randn(300, generator=torch.Generator().manual_seed(0)) / 5
    with pytest.raises(ValueError) as caught:
        method3["select"](relevance, 0.99)
    named = float(re.search(r"is (\d\.\d+)", str(caught.value))[1])
    assert 20 <= (method3["select"](relevance, named) != 0).sum() <= 26
    for count in (1, 20, 300, 5000):
        assert (method3["select"](relevance, count) != 0).sum() == min(count, 300)


def test_a_direction_is_in_standard_deviations_of_the_strongest_channel(domain, method3):
    _, std = method3["style_statistics"](domain)
    for method in ("samples", "sweep"):
        direction = method3["global_direction"](domain, domain.neutral, GLASSES, method=method, beta=30)
        assert direction.shape == (domain.generator.style_dim,) and (direction != 0).sum() == 30
        assert (direction / std).abs().max() == pytest.approx(1, abs=1e-5)
    swept = method3["global_direction"](domain, domain.neutral, GLASSES, method="sweep", beta=0.05)
    colours = [part for part in domain.generator.style_layout if part.kind == "toRGB"]
    assert not any(swept[part.slice].any() for part in colours)


def test_alpha_zero_is_the_identical_picture(domain, method3, faces):
    with torch.no_grad():
        s = domain.generator.styles(faces)
        direction = method3["global_direction"](domain, domain.neutral, GLASSES)
        assert torch.equal(domain.generator.synthesize(s + 0 * direction), domain.generator(faces))


def test_the_default_edits_faces_it_never_saw(domain, method3):
    """A small version of `make bench`."""
    with torch.no_grad():
        s = domain.generator.styles(random_w_plus(domain, 24, seed=99))
        before, done = domain.generator.synthesize(s), []
        for prompt, asked in {GLASSES: ("glasses", "glasses"), "a person with a beard": ("facial_hair", "beard"),
                              "an angry person": ("expression", "angry"),
                              "a person with purple hair": ("hair_color", "purple")}.items():
            after = domain.generator.synthesize(s + domain.alpha * method3["global_direction"](
                domain, domain.neutral, prompt))
            there, kept = domain.classifier.count(before, after, *asked)
            assert there >= 0.55 and kept >= 0.85, (prompt, there, kept)
            done.append(there)
    assert sum(done) / len(done) >= 0.75


def test_two_sets_of_random_faces_give_one_direction(domain, method3, monkeypatch):
    found = []
    for other in (method3["random_faces"](domain), method3["random_faces"](domain, seed=8)):  # the first is kept
        monkeypatch.setitem(method3, "random_faces", lambda domain, other=other: other)
        found.append([method3["select"](method3["samples_relevance"](domain, domain.neutral, prompt), domain.beta)
                      for prompt in domain.prompts])
        monkeypatch.undo()
    cosines = [F.cosine_similarity(one, two, dim=0).item() for one, two in zip(*found)]
    assert sum(cosines) / len(cosines) >= 0.9, cosines


def test_a_sweep_leaves_its_codes_alone_and_finds_what_came_along(domain, method3):
    base = method3["sweep_images"](domain)
    before, some, channels = base.clone(), [0, 40, 300, 900], method3["swept_channels"](domain.generator)
    with method3["HalfPrecision"](domain.generator):
        found = torch.stack([method3["channel_direction"](domain, base, channels[i].item()) for i in some])
    assert torch.equal(base, before) and domain.generator.precision is None
    # 0.999; of eleven channels 0.97 on average, 0.88 at worst, where a processor has no bfloat16.
    assert (found * method3["find_sweep"](domain)[some]).sum(dim=1).mean() > 0.85
    assert len(method3["find_sweep"](domain)) == len(method3["swept_channels"](domain.generator)) == 928


def test_a_sweep_that_was_cut_goes_on(domain, method3, few_channels, tmp_path):
    sweep = method3["sweep"]
    whole = sweep(domain, count=3)
    path = tmp_path / "a.unfinished"
    cut = sweep(domain, count=3, path=path, callback=lambda state: state["step"] == 5)
    assert cut.any(dim=1).sum() == 5
    steps = []
    resumed = sweep(domain, count=3, path=path, callback=lambda state: steps.append(state["seconds_left"]))
    assert torch.equal(resumed, whole) and len(steps) == 3 and steps[-1] == 0
    with pytest.raises(ValueError, match="other settings: delete it"):
        sweep(domain, count=4, path=path)


def test_keep_sweep_writes_one_file_when_it_is_whole(domain, method3, few_channels, tmp_path, capsys):
    path = tmp_path / "sweeps" / "a.safetensors"
    assert not method3["keep_sweep"](domain, path, count=2, callback=lambda state: state["step"] == 3)
    assert "Stopped with 3 of 8" in capsys.readouterr().out and not path.exists()
    assert method3["keep_sweep"](domain, path, count=2)
    tensors, header = read_safetensors(path)
    assert tensors["directions"].shape == (8, 128) and header["generator"] == domain.fingerprint
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_sweep_or_another_generators_is_refused(domain, method3, tmp_path, monkeypatch):
    find = method3["find_sweep"].__wrapped__
    path = tmp_path / "a.safetensors"
    monkeypatch.setitem(method3, "sweep_path", lambda domain: path)
    with pytest.raises(ValueError, match="no sweep of avatars yet: run keep_sweep"):
        find(domain)
    save_tensors(path, {"directions": torch.zeros(2, 2)}, generator="another")
    with pytest.raises(ValueError, match="a.safetensors is no sweep of this generator"):
        find(domain)


def test_two_processes_sweep_the_same(domain, method3, tmp_path):
    """`accelerate launch` with two CPU processes finds what this process finds, here for one image."""
    path = tmp_path / "sweep.safetensors"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port",
               "0", str(ROOT / "notebooks" / "sweep.py"), "--domain", "avatars", "--count", "1", "--to", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found, channels = read_safetensors(path)[0]["directions"], method3["swept_channels"](domain.generator)
    assert len(found) == len(channels) and found.any(dim=1).all()
    base, some = method3["sweep_images"](domain, 1), range(0, len(channels), 29)  # odd and even: of both processes
    with method3["HalfPrecision"](domain.generator):
        here = torch.stack([method3["channel_direction"](domain, base, channels[i].item()) for i in some])
    assert (found[list(some)] * here).sum(dim=1).mean() > 0.99


def test_gradient_is_the_derivative(domain, method3):
    """Against a finite difference."""
    s = method3["sweep_images"](domain, 2)
    direction = method3["text_difference"](domain, domain.neutral, GLASSES)
    gradient, channel = method3["score_gradients"](domain, s, direction), 779
    with torch.no_grad():
        ends = []
        for step in (-0.05, 0.05):
            moved = s.clone()
            moved[:, channel] += step
            ends.append(domain.clip.encode_image(domain.generator.synthesize(moved)) @ direction)
    torch.testing.assert_close(gradient[:, channel], (ends[1] - ends[0]) / 0.1, rtol=0.05, atol=1e-5)


def test_text_difference_is_unit_and_says_what_is_wrong(domain, method3):
    difference = method3["text_difference"]
    assert len(method3["TEMPLATES"]) == 79 and all(t.count("{}") == 1 for t in method3["TEMPLATES"])
    assert difference(domain, "a person", GLASSES).norm() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="says the same as the neutral sentence"):
        difference(domain, "a person", "a person")
    with pytest.raises(ValueError, match="prompt is empty"):
        difference(domain, "a person", " ")
    with pytest.raises(ValueError, match="CLIP reads 77"):
        difference(domain, "a person", "beard " * 90)
    with pytest.raises(ValueError, match="method must be one of samples, sweep, gradient"):
        method3["global_direction"](domain, "a person", GLASSES, method="magic")


def test_edits_add_up_are_muted_saved_and_loaded(domain, method3, faces, tmp_path):
    edit, apply = method3["Edit"], method3["apply_edits"]
    edits = [edit("a person", GLASSES, 2.0, 50), edit("a person", "a person with a beard", 3.0, 20)]
    with torch.no_grad():
        s = domain.generator.styles(faces)
    both = apply(domain, s, edits)
    torch.testing.assert_close(both, apply(domain, s, edits[::-1]), atol=1e-4, rtol=1e-4)
    expected = s + 2 * method3["global_direction"](domain, "a person", GLASSES, beta=50)
    edits[1].muted = True
    torch.testing.assert_close(apply(domain, s, edits), expected)
    method3["save_edits"](tmp_path / "a.json", edits)
    assert method3["load_edits"](tmp_path / "a.json") == edits


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"target": "x"}]', '[{"neutral": "a", "target": 3, "alpha": 1, '
                                     '"beta": 1}]', '[{"neutral": "a", "target": "b", "alpha": NaN, "beta": 1}]',
                                     '[{"neutral": "a", "target": "b", "alpha": "x", "beta": 1}]'])
def test_a_file_that_is_no_list_of_edits_is_refused_in_one_sentence(method3, tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="a.json") as caught:
        method3["load_edits"](tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_folder_is_edited_and_what_is_no_picture_is_named(domain, method3, tmp_path, monkeypatch):
    monkeypatch.setitem(method3, "invert", lambda domain, image: (random_w_plus(domain, 1, seed=1), {}))
    source, said = tmp_path / "in", []
    source.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(source / f"{name}.jpg")
    (source / "notes.txt").write_text("not a picture")
    count = method3["edit_folder"](domain, source, tmp_path / "out",
                                   [method3["Edit"]("a person", GLASSES, 3.0, 50)], said.append)
    assert count == 2 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert len(said) == 1 and "notes.txt is not a picture" in said[0]
