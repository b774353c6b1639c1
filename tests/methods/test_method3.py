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

from helpers import edits, latents, stylegan2, sweeps
from helpers.checkpoints import read_safetensors, save_tensors
from helpers.criteria import text_direction
from helpers.judging import judge, summary
from helpers.latents import random_w_plus

GLASSES = "a person with glasses"


@pytest.fixture
def few_channels(method3, monkeypatch):
    """A sweep of eight channels instead of all."""
    every = method3.swept_channels
    monkeypatch.setattr(method3, "swept_channels", lambda generator: every(generator)[::116])


def test_agrees_with_the_authors_relevance(method3):
    right = golden("channel_relevance")
    found = method3.channel_directions(right["features"])
    assert (found - right["delta_i"]).abs().max() <= 1e-6
    relevance = found @ right["delta_t"]
    assert (relevance - right["relevance"]).abs().max() <= 1e-6
    for beta in ("0.05", "0.15", "0.25"):
        assert (method3.select(relevance, float(beta)) - right[f"delta_s_{beta}"]).abs().max() <= 1e-6


def test_a_threshold_that_is_named_leaves_twenty_and_a_count_leaves_as_many(method3):
    relevance = torch.randn(300, generator=torch.Generator().manual_seed(0)) / 5
    with pytest.raises(ValueError) as caught:
        method3.select(relevance, 0.99)
    named = float(re.search(r"is (\d\.\d+)", str(caught.value))[1])
    assert 20 <= (method3.select(relevance, named) != 0).sum() <= 26
    for count in (1, 20, 300, 5000):
        threshold = method3.threshold_for(relevance, count)
        assert (method3.select(relevance, threshold) != 0).sum() == min(count, 300)


def test_a_direction_is_in_standard_deviations_of_the_strongest_channel(domain, method3):
    _, std = method3.style_statistics(domain)
    for method in ("samples", "sweep"):
        direction = method3.global_direction(domain, domain.neutral, GLASSES, method=method, channels=30)
        assert direction.shape == (domain.generator.style_dim,) and (direction != 0).sum() == 30
        assert (direction / std).abs().max() == pytest.approx(1, abs=1e-5)
    swept = method3.global_direction(domain, domain.neutral, GLASSES, method="sweep", threshold=0.05)
    colours = [part for part in domain.generator.style_layout if part.kind == "toRGB"]
    assert not any(swept[part.slice].any() for part in colours)


def test_alpha_zero_is_the_identical_picture(domain, method3, faces):
    with torch.no_grad():
        s = domain.generator.styles(faces)
        direction = method3.global_direction(domain, domain.neutral, GLASSES)
        assert torch.equal(domain.generator.synthesize(s + 0 * direction), domain.generator(faces))


def test_the_default_edits_faces_it_never_saw(domain, method3):
    """A small version of `make bench`."""
    with torch.no_grad():
        s = domain.generator.styles(random_w_plus(domain, 24, seed=99))
        before, verdicts = domain.generator.synthesize(s), []
        for prompt in (GLASSES, "a person with a beard", "an angry person", "a person with purple hair"):
            step = method3.alpha_for(domain, s, domain.neutral, prompt) * method3.global_direction(
                domain, domain.neutral, prompt)
            verdicts.append(judge(domain, before, domain.generator.synthesize(s + step), prompt))
            assert verdicts[-1].success >= 0.55 and verdicts[-1].unchanged >= 0.85, (prompt, verdicts[-1])
    assert summary(verdicts)[0] >= 0.75


def test_alpha_is_less_for_who_shows_it_already(domain, method3):
    with torch.no_grad():
        s = domain.generator.styles(random_w_plus(domain, 12, seed=99))
        seen = domain.classifier.read(domain.generator.synthesize(s))["glasses"][0]
        shows = seen != domain.classifier.attributes["glasses"].index("none")
        alpha = method3.alpha_for(domain, s, domain.neutral, GLASSES)[:, 0]
    most, settings = domain.settings.directions.alpha, domain.settings
    assert shows.any() and alpha[shows].mean() < alpha[~shows].mean() - 0.3 * most, (shows, alpha)
    assert (alpha <= most).all() and (alpha >= settings.gallery.least * most).all()


def test_two_sets_of_random_faces_give_one_direction(domain, monkeypatch):
    """Linear models of one thousand faces each, and of neither of those that came along."""
    generator, known, found = domain.generator, latents.gallery(domain), []
    for seed in (1, 2):
        w = random_w_plus(domain, 1000, seed, domain.settings.gallery.psi)[:, 0]
        v = latents.w_space(generator).position(w, domain.settings.gallery.axes)
        with torch.no_grad():
            seen = torch.cat([domain.clip.encode_image(generator(generator.broadcast(part))) for part in w.split(100)])
        model = latents.linear_model(v, seen, domain.settings.gallery.ridge)
        monkeypatch.setattr(latents, "gallery", lambda domain, model=model: {**known, "clip model": model})
        found.append([latents.suggestion(domain, text_direction(domain, prompt)) for prompt in domain.prompts])
    cosines = [F.cosine_similarity(one, two, dim=0).item() for one, two in zip(*found)]
    assert sum(cosines) / len(cosines) >= 0.8, cosines


def test_a_sweep_leaves_its_codes_alone_and_finds_what_came_along(domain, method3):
    base = method3.sweep_images(domain, domain.settings.directions.images)
    before, some, channels = base.clone(), [0, 40, 300, 900], method3.swept_channels(domain.generator)
    with stylegan2.HalfPrecision(domain.generator):
        found = torch.stack([method3.channel_direction(domain, base, channels[i].item()) for i in some])
    assert torch.equal(base, before) and domain.generator.precision is None
    # 0.999; of eleven channels 0.97 on average, 0.88 at worst, where a processor has no bfloat16.
    assert (found * sweeps.find_sweep(domain, 928)[some]).sum(dim=1).mean() > 0.85
    assert len(method3.swept_channels(domain.generator)) == 928


def test_a_sweep_that_was_cut_goes_on(domain, method3, few_channels, tmp_path):
    sweep = method3.sweep
    whole, done = sweep(domain, count=3)
    assert done.all()
    path = tmp_path / "a.unfinished"
    _, done = sweep(domain, count=3, path=path, callback=lambda state: state["step"] == 5)
    assert done.sum() == 5
    steps = []
    resumed, done = sweep(domain, count=3, path=path, callback=lambda state: steps.append(state["seconds_left"]))
    assert torch.equal(resumed, whole) and done.all() and len(steps) == 3 and steps[-1] == 0
    with pytest.raises(ValueError, match="other settings: delete it"):
        sweep(domain, count=4, path=path)


def test_a_sweep_with_a_dead_channel_ends(domain, method3, few_channels, tmp_path, monkeypatch):
    """Delta-i of a channel that CLIP does not see at all is 0, and it is done all the same."""
    monkeypatch.setattr(method3, "channel_direction", lambda domain, base, channel: torch.zeros(128))
    assert sweeps.keep_sweep(domain, tmp_path / "a.safetensors", count=2)


def test_keep_sweep_writes_one_file_when_it_is_whole(domain, method3, few_channels, tmp_path, capsys):
    path = tmp_path / "sweeps" / "a.safetensors"
    assert not sweeps.keep_sweep(domain, path, count=2, callback=lambda state: state["step"] == 3)
    assert "Stopped with 3 of 8" in capsys.readouterr().out and not path.exists()
    assert sweeps.keep_sweep(domain, path, count=2)
    tensors, header = read_safetensors(path)
    assert tensors["directions"].shape == (8, 128) and header["generator"] == domain.fingerprint
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_sweep_or_another_networks_is_refused(domain, method3, tmp_path, monkeypatch):
    find = sweeps.find_sweep.__wrapped__
    path = tmp_path / "a.safetensors"
    monkeypatch.setattr(sweeps, "sweep_path", lambda domain: path)
    with pytest.raises(ValueError, match="no sweep of avatars yet: run keep_sweep"):
        find(domain, 2)
    for other in (dict(generator="another", clip=domain.clip_fingerprint),
                  dict(generator=domain.fingerprint, clip="another"), dict(generator=domain.fingerprint)):
        save_tensors(path, {"directions": torch.zeros(2, 128)}, **other)
        with pytest.raises(ValueError, match="a.safetensors is no sweep of this generator"):
            find(domain, 2)
    save_tensors(path, {"directions": torch.zeros(2, 128)}, generator=domain.fingerprint, clip=domain.clip_fingerprint)
    assert find(domain, 2).shape == (2, 128)


def test_two_processes_sweep_the_same(domain, method3, tmp_path):
    """`accelerate launch` with two CPU processes finds what this process finds, here for one image."""
    path = tmp_path / "sweep.safetensors"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port",
               "0", str(ROOT / "notebooks" / "sweep.py"), "--domain", "avatars", "--count", "1", "--to", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found, channels = read_safetensors(path)[0]["directions"], method3.swept_channels(domain.generator)
    assert len(found) == len(channels) and found.any(dim=1).all()
    base, some = method3.sweep_images(domain, 1), range(0, len(channels), 29)  # odd and even: of both processes
    with stylegan2.HalfPrecision(domain.generator):
        here = torch.stack([method3.channel_direction(domain, base, channels[i].item()) for i in some])
    assert (found[list(some)] * here).sum(dim=1).mean() > 0.99


def test_gradient_is_the_derivative(domain, method3):
    """Against a finite difference."""
    s = method3.sweep_images(domain, 2)
    direction = method3.text_difference(domain, domain.neutral, GLASSES)
    gradient, channel = method3.score_gradients(domain, s, direction[None]), 779
    with torch.no_grad():
        ends = []
        for step in (-0.05, 0.05):
            moved = s.clone()
            moved[:, channel] += step
            ends.append(domain.clip.encode_image(domain.generator.synthesize(moved)) @ direction)
    torch.testing.assert_close(gradient[:, channel], (ends[1] - ends[0]) / 0.1, rtol=0.05, atol=1e-5)


def test_text_difference_is_unit_and_says_what_is_wrong(domain, method3):
    difference = method3.text_difference
    assert len(method3.TEMPLATES) == 79 and all(t.count("{}") == 1 for t in method3.TEMPLATES)
    assert difference(domain, "a person", GLASSES).norm() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="says the same as the neutral sentence"):
        difference(domain, "a person", "a person")
    with pytest.raises(ValueError, match="prompt is empty"):
        difference(domain, "a person", " ")
    with pytest.raises(ValueError, match="CLIP reads 77"):
        difference(domain, "a person", "beard " * 90)
    with pytest.raises(ValueError, match="method must be one of samples, sweep, gradient"):
        method3.global_direction(domain, "a person", GLASSES, method="magic")


def test_edits_add_up_are_muted_saved_and_loaded(domain, method3, faces, tmp_path):
    mine = [edits.Edit("a person", GLASSES, 2.0, channels=50),
            edits.Edit("a person", "a person with a beard", 3.0, channels=20)]
    with torch.no_grad():
        s = domain.generator.styles(faces)
    both = edits.apply_edits(domain, s, mine)
    torch.testing.assert_close(both, edits.apply_edits(domain, s, mine[::-1]), atol=1e-4, rtol=1e-4)
    expected = s + 2 * method3.global_direction(domain, "a person", GLASSES, channels=50)
    mine[1].muted = True
    torch.testing.assert_close(edits.apply_edits(domain, s, mine), expected)
    edits.save_edits(tmp_path / "a.json", mine)
    assert edits.load_edits(tmp_path / "a.json") == mine


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"target": "x"}]', '[{"neutral": "a", "target": 3, "alpha": 1, '
                                     '"channels": 1}]', '[{"neutral": "a", "target": "b", "alpha": NaN}]',
                                     '[{"neutral": "a", "target": "b", "alpha": "x"}]'])
def test_a_file_that_is_no_list_of_edits_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="a.json") as caught:
        edits.load_edits(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_folder_is_edited_and_what_is_no_picture_is_named(domain, tmp_path, monkeypatch):
    monkeypatch.setattr(edits, "invert", lambda domain, image: (random_w_plus(domain, 1, seed=1), {}))
    source, said = tmp_path / "in", []
    source.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(source / f"{name}.jpg")
    (source / "notes.txt").write_text("not a picture")
    count = edits.edit_folder(domain, source, tmp_path / "out",
                                   [edits.Edit("a person", GLASSES, 3.0)], said.append)
    assert count == 2 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-jpg.png", "b-jpg.png"]
    assert len(said) == 1 and "notes.txt is not a picture" in said[0]
    edits.edit_folder(domain, source, tmp_path / "out", [], said.append)  # again: nothing is overwritten
    assert len(list((tmp_path / "out").iterdir())) == 4
    with pytest.raises(ValueError, match="need a folder of their own"):
        edits.edit_folder(domain, source, source, [])
