"""Choosing the numbers that depend on a CLIP: what is counted, what is kept, what is said."""

import json
import sys
from dataclasses import fields, replace

import pytest
import torch

from helpers import calibration
from helpers.calibration import Calibration, Choice, Size, search, with_ridge
from helpers.clip_model import ClipModel
from helpers.commands import calibrate as command
from helpers.commands.calibrate import calibrate, describe_reading
from helpers.domains import load_domain, settings_path
from helpers.domains.formats.safetensors_files import read_safetensors, save_tensors
from helpers.domains.published import published_settings
from helpers.evaluation import UNSEEN, estimate_edit, reading_aucs
from helpers.latents import random_w_plus
from helpers.methods.linear_model import fit_linear_model
from helpers.settings import changed

FEW = (Choice("directions", "linear_model", "ridge", (50, 800)),
       Choice("directions", "directions", "match", (0.1, 6.0)),
       Choice("optimization", "optimization", "goal", (0.2, 2.0)))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Few images, prompts and values, and a cache folder of its own."""
    monkeypatch.setenv("STYLECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "CHOICES", FEW)
    monkeypatch.setattr(calibration, "MORE_SAMPLES", {"linear_model": {"samples": [300, "few"]}})
    monkeypatch.setattr(calibration, "SIZES",
                        {"directions": Size(3, 2), "optimization": Size(1, 1)})


def guessed(domain):
    """The domain with the guesses, and no linear model that came along."""
    return replace(domain, settings=published_settings(domain.preview_resolution, False),
                   linear_model_tensors=None)


def test_a_calibration_ends_with_settings_that_are_loaded(quick, domain, tmp_path, capsys,
                                                          monkeypatch):
    card = calibrate(domain, tmp_path / "here")
    said = capsys.readouterr().out
    assert "Fitting the linear model of CLIP to 300 images, once: about" in said
    assert "This takes about" in said and "minutes left" in said
    report = (tmp_path / "here" / "report.md").read_text("utf-8")
    assert "| directions.match | 6.0 |" in report and "on fresh images" in report
    assert (tmp_path / "here" / "edits.jpg").stat().st_size > 10_000
    path = settings_path("avatars", "its own")
    assert json.loads(path.read_text("utf-8")) == card and card
    again = load_domain("avatars", "cpu")
    said = capsys.readouterr().out
    assert f"With settings of your own: {path}" in said and "are guesses" not in said
    assert again.settings == changed(domain.settings, card)
    assert card["linear_model"]["samples"] == [300, "few"]
    origins = {origin for entries in card.values() for _, origin in entries.values()}
    assert sum("calibrated on" in str(origin) for origin in origins) == 2  # of two methods
    for part in ("linear_model", "optimization", "directions"):  # what was counted, and no others
        assert set(card[part]) == {field.name for field in fields(getattr(domain.settings, part))
                                   } - {"origin"}


def test_the_linear_model_of_a_calibration_is_loaded(quick, domain, tmp_path):
    """It is fitted once, not at each start; and only to these networks, with these settings."""
    card = calibrate(domain, tmp_path / "here")
    again, ridge = load_domain("avatars", "cpu"), card["linear_model"]["ridge"][0]
    trial = replace(again, linear_model_tensors=None)
    for name, values in with_ridge(trial, fit_linear_model(trial), ridge).items():
        torch.testing.assert_close(again.linear_model_tensors[name], values, rtol=1e-3, atol=1e-4)
    path = settings_path("avatars", "its own")
    card["linear_model"]["ridge"][0] = ridge + 1
    path.write_text(json.dumps(card))
    assert load_domain("avatars", "cpu").linear_model_tensors is None
    card["linear_model"]["ridge"][0] = ridge
    path.write_text(json.dumps(card))
    model = path.with_suffix(".safetensors")
    tensors, header = read_safetensors(model)
    save_tensors(model, tensors, fitted_to=header["fitted_to"] | {"generator": "another"})
    assert load_domain("avatars", "cpu").linear_model_tensors is None
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ValueError, match="avatars--its-own.safetensors is not a whole"):
        load_domain("avatars", "cpu")


def test_what_was_counted_is_not_counted_again(quick, toy, tmp_path, monkeypatch):
    counted, count_edit = [], calibration.count_edit

    def stopped(domain, method, *given):
        if len(counted) == 3:
            raise KeyboardInterrupt
        counted.append(method)
        return count_edit(domain, method, *given)

    monkeypatch.setattr(calibration, "count_edit", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(Calibration(toy, tmp_path))
    kept = json.loads((tmp_path / "progress.json").read_text("utf-8"))["counted"]
    assert len(kept) == 3
    monkeypatch.setattr(calibration, "count_edit", count_edit)
    monkeypatch.setattr(calibration, "fit_linear_model", None)  # nor is the model fitted again
    run = Calibration(toy, tmp_path)
    card, table = search(run)
    assert kept.items() <= run.counted.items()
    left = run.minutes_left()
    calibration.compare(run, card)
    assert 0 <= run.minutes_left() < left
    monkeypatch.setattr(calibration, "count_edit", None)
    assert search(Calibration(toy, tmp_path)) == (card, table)


def test_a_calibration_of_another_clip_is_not_taken_up(quick, toy, tmp_path):
    Calibration(toy, tmp_path).save()
    other = replace(toy, clip_fingerprint="another")
    with pytest.raises(ValueError, match="progress.json holds a run with another clip: delete it"):
        Calibration(other, tmp_path)


def test_a_value_is_chosen_by_its_counts_alone(quick, toy, tmp_path, monkeypatch):
    """A gain that is chance changes nothing; more than enough of what was asked for is no gain."""
    there = {0.1: 0.2, 6.0: 1.0, 1.3: 0.9}

    def counts(domain, method, *given):
        goal, match = domain.settings.optimization.goal, domain.settings.directions.match
        if method == "optimization":
            return (0.5 if goal == 0.2 else 0.2), 0.5
        return there.get(match, 0.85), 0.5

    monkeypatch.setattr(calibration, "count_edit", counts)
    card, _ = search(Calibration(toy, tmp_path))
    assert card["optimization"]["goal"][0] == card["mapper"]["goal"][0] == 0.2
    assert card["directions"]["match"][0] == 1.3 and card["linear_model"]["ridge"][0] == 200
    monkeypatch.setattr(calibration, "ENOUGH", 1)
    card, _ = search(Calibration(toy, tmp_path))
    assert card["directions"]["match"][0] == 6.0


def test_choices_that_fresh_images_do_not_confirm_are_dropped(quick, toy, tmp_path, monkeypatch):
    def counts(domain, method, *given):
        if method == "optimization":
            return (0.5 if domain.settings.optimization.goal == 0.2 else 0.2), 0.5
        return (0.3 if domain.settings.directions.match == 6.0 else 0.6), 0.5

    monkeypatch.setattr(calibration, "count_edit", counts)
    run, origin = Calibration(toy, tmp_path), "as method 1's"
    card = {"linear_model": {"ridge": [50, ""]}, "directions": {"match": [6.0, ""]},
            "optimization": {"goal": [0.2, ""]}, "mapper": {"goal": [0.2, origin]}}
    left, said = calibration.confirmed(run, card)
    assert left == run.start | {part: card[part] for part in ("optimization", "mapper")}
    assert left["linear_model"]["samples"] == [300, "few"]
    assert said == ["On fresh images the choices of method 3 are worse: its guesses stay."]
    monkeypatch.setattr(calibration, "count_edit", lambda *given: (0.5, 0.5))
    assert calibration.confirmed(Calibration(toy, tmp_path / "again"), card) == (card, [])
    card["optimization"]["goal"] = [2.7, ""]
    monkeypatch.setattr(calibration, "count_edit", lambda domain, method, *given: (
        (0.1 if method == "optimization" and domain.settings.optimization.goal == 2.7 else 0.5),
        0.5))
    left, _ = calibration.confirmed(Calibration(toy, tmp_path / "third"), card)
    assert left["optimization"]["goal"][0] == run.value(FEW[2], {}) and "mapper" not in left
    assert left["directions"] == card["directions"]


def test_the_authors_numbers_stay_with_their_sweep(quick, toy, tmp_path):
    run = Calibration(replace(toy, published_sweep=("a sweep",)), tmp_path)
    assert list(run.prompts) == ["optimization"]
    assert run.domain.settings.directions.threshold == 0.15


def test_a_linear_model_of_another_ridge_needs_no_images(toy):
    toy = guessed(toy)
    other = replace(toy.settings.linear_model, ridge=17)
    expected = fit_linear_model(replace(toy, settings=replace(toy.settings, linear_model=other)))
    found = with_ridge(toy, fit_linear_model(toy), 17)
    assert found.keys() == expected.keys() == {"clip", "clip model", "identity model"}
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-3, atol=1e-5)


def test_an_estimate_without_a_classifier(toy):
    """Nothing changed is nothing there; the linear step is there, and leaves less unchanged."""
    for part in (toy, replace(toy, identity=None)):
        w_plus = random_w_plus(part, 4, seed=1)
        before, prompt = part.generator(w_plus), part.prompts[0]
        there, unchanged = estimate_edit(part, before, before, prompt)
        assert there == 0 and unchanged == pytest.approx(1)
        direction = calibration.global_direction(part, part.neutral, prompt)
        after = part.generator.synthesize(part.generator.styles(w_plus) + 3 * direction)
        there, unchanged = estimate_edit(part, before, after, prompt)
        assert 0 < there <= 1 and unchanged < 1
    assert min(UNSEEN) >= max(toy.settings.optimization.augmentations,
                              toy.settings.mapper.augmentations)


def test_a_clip_that_reads_nothing_is_called_so(quick, domain, small_clip, tmp_path, capsys):
    """It ends at once, with a report and without settings."""
    image = domain.generator(random_w_plus(domain, 60, seed=1))
    found = reading_aucs(domain, image)
    assert len(found) >= 5 and sum(found.values()) / len(found) > 0.8
    lines, reads = describe_reading(domain)
    assert reads and "reads nothing" not in lines[-1]
    blind = replace(domain, clip=ClipModel(small_clip))
    assert calibrate(blind, tmp_path / "here") == {}
    assert "This CLIP reads nothing in these pictures" in capsys.readouterr().out
    assert "reads nothing" in (tmp_path / "here" / "report.md").read_text("utf-8")
    assert not settings_path("avatars", blind.clip_name).exists()


def test_domains_without_a_classifier_are_looked_at(toy):
    said = "No classifier tells here what CLIP can read: look at the sheet."
    assert describe_reading(toy) == ([said], True)


def test_settings_that_fit_the_linear_model_anew(domain, monkeypatch, tmp_path):
    """What came along was fitted with another ridge; a price alone changes nothing of it."""
    monkeypatch.setenv("STYLECLIP_CACHE", str(tmp_path))
    path = settings_path("avatars", "its own")
    path.parent.mkdir()
    for name, value, kept in (("lambda_orthogonal", 500, True), ("ridge", 50, False)):
        path.write_text(json.dumps({"linear_model": {name: [value, "a try"]}}))
        again = load_domain("avatars", "cpu")
        assert getattr(again.settings.linear_model, name) == value
        assert (again.linear_model_tensors is not None) == kept
    path.write_text('{"linear_model": 3}')
    with pytest.raises(ValueError, match="avatars--its-own.json must hold an object of settings"):
        load_domain("avatars", "cpu")


def test_what_cannot_be_done_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["calibrate", "ponies"])
    with pytest.raises(SystemExit, match='There is no domain "ponies"; there is: faces, avatars'):
        command.main()

    def stop(domain):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "calibrate", stop)
    monkeypatch.setattr(sys, "argv", ["calibrate", "avatars", "--clip", "its own"])
    with pytest.raises(SystemExit, match="Stopped: the same command goes on where it was"):
        command.main()
    assert "are guesses" not in capsys.readouterr().out
