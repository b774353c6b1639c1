"""What trainings leave on disk: mappers, ours and the authors', latents, and sweeps."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from authors_mapper import authors_state
from conftest import ROOT, golden
from PIL import Image

from helpers import training_files
from helpers.domains.formats.safetensors_files import read_safetensors
from helpers.evaluation import evaluate_edit, summary
from helpers.latents import random_w_plus
from helpers.methods import directions
from helpers.methods.mapper import apply_mapper, new_mapper, train_mapper
from helpers.training_files import (
    find_mapper,
    from_authors_state,
    keep_sweep,
    load_authors_mapper,
    load_mapper,
    mapper_path,
    save_mapper,
    train_and_keep,
    training_latents,
)

PROMPT = "a person with glasses"
PARTS = ("course", "medium", "fine")  # the authors' names


def keys_of(*parts):
    return [f"{part}_mapping.mapping.{i}.{kind}" for part in parts for i in range(1, 5)
            for kind in ("weight", "bias")]


def test_agrees_with_the_authors_mapper():
    right = golden("levels_mapper", tensors=False)
    mapper = from_authors_state(authors_state([str(key) for key in right["keys"]]))
    delta = mapper(torch.from_numpy(right["w"]))
    assert np.abs(delta.detach().numpy() - right["delta"]).max() <= 1e-5


def test_a_part_the_authors_left_out_stays():
    mapper = from_authors_state(authors_state(keys_of("course", "medium")))
    change = mapper(torch.randn(2, 18, 512))
    assert change[:, :8].any() and not change[:, 8:].any()
    with pytest.raises(ValueError, match="not the weights of a mapper"):
        from_authors_state({"decoder.weight": torch.zeros(1)})


def test_an_authors_file_is_read_as_data_and_only_where_it_fits(domain, tmp_path):
    state = authors_state(["fine_mapping.mapping.1.weight"])
    torch.save({"state_dict": state, "opts": {}}, tmp_path / "a.pt")
    with pytest.raises(ValueError):
        load_authors_mapper(tmp_path / "a.pt", domain)
    torch.save({"state_dict": authors_state(keys_of("fine")), "opts": {}}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="18 rows of 512; avatars has 10 of 128"):
        load_authors_mapper(tmp_path / "b.pt", domain)

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"state_dict": Harmful()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="c.pt"):
        load_authors_mapper(tmp_path / "c.pt", domain)
    assert not (tmp_path / "executed").exists()


def test_training_latents_are_as_many_as_the_settings_say(toy):
    expected = random_w_plus(toy, 12, 5, truncation=0.7)
    toy.psi = 0.2  # that of other images
    assert torch.equal(training_latents(toy, seed=5), expected)


def test_training_latents_of_a_folder(domain, tmp_path, monkeypatch):
    monkeypatch.setattr(training_files, "invert",
                        lambda domain, image: (torch.zeros(len(image), 10, 128), {}))
    said = []
    with pytest.raises(ValueError, match="no picture that can be opened"):
        training_latents(domain, tmp_path)
    for i in range(3):
        Image.new("RGB", (80, 80 + i)).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    assert training_latents(domain, tmp_path, say=said.append).shape == (3, 10, 128)
    assert "Skipped 2 files that cannot be used: cut.png, notes.txt" in said[0]
    with pytest.raises(ValueError, match="no folder"):
        training_latents(domain, tmp_path / "nowhere")


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_any_picture_of_a_training_folder_may_fail(toy, tmp_path, monkeypatch, error):
    def failing(path, *options):
        if path.name == "b.png":
            raise error("odd")
        return -torch.ones(1, 3, 32, 32)

    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    said = []
    monkeypatch.setattr("helpers.images.open_image", failing)
    assert len(training_latents(toy, tmp_path, say=said.append)) == 2
    assert said == ["Skipped 1 files that cannot be used: b.png", "Encoding 2 pictures."]


def test_training_latents_of_an_array(domain, tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((5, 10, 128), np.float32))
    assert training_latents(domain, tmp_path / "w.npy").shape == (5, 10, 128)
    np.save(tmp_path / "w.npy", np.zeros((5, 18, 512), np.float32))
    with pytest.raises(ValueError, match="another generator"):
        training_latents(domain, tmp_path / "w.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="objects.npy"):
        training_latents(domain, tmp_path / "objects.npy")


def test_a_mapper_is_small_and_fits_one_generator(domain, tmp_path, monkeypatch):
    path, mapper = tmp_path / "a.safetensors", new_mapper(domain)
    save_mapper(path, mapper, domain, PROMPT)
    again = load_mapper(path, domain)
    for one, two in zip(mapper.parameters(), again.parameters()):
        assert torch.equal(one.half().float(), two)
    size = sum(2 * value.numel() for value in mapper.parameters())
    assert path.stat().st_size < 1.1 * size + 5000
    header = read_safetensors(path)[1]
    assert header["prompt"] == PROMPT and header["generator"] == domain.fingerprint
    monkeypatch.setattr(domain, "fingerprint", "another")
    with pytest.raises(ValueError, match="a.safetensors is a mapper of another generator"):
        load_mapper(path, domain)
    with pytest.raises(ValueError, match="it lacks prompt"):
        load_mapper(ROOT / "data" / "avatars" / "identity.safetensors", domain)


def test_the_mappers_that_came_along_do_what_they_say(domain):
    """A small version of `make bench`, on faces that no training saw."""
    faces, evaluations = random_w_plus(domain, 24, seed=99, truncation=1), []
    before = domain.generator(faces)
    for prompt in domain.prompts:
        mapper = find_mapper(domain, prompt)
        if mapper:
            after = domain.generator(apply_mapper(domain, mapper, faces))
            evaluations.append(evaluate_edit(domain, before, after, prompt))
            assert evaluations[-1].success >= 0.6, (prompt, evaluations[-1])
            assert evaluations[-1].unchanged >= 0.85, (prompt, evaluations[-1])
    assert len(evaluations) >= 5 and summary(evaluations)[0] >= 0.85


def test_prompts_that_look_alike_do_not_share_a_file(domain, tmp_path):
    prompts = ("a, b", "a. b", "\N{GRINNING FACE}", "\N{WINKING FACE}", "beard " * 40,
               "beard " * 41)
    assert len({mapper_path(domain, prompt, tmp_path) for prompt in prompts}) == len(prompts)
    assert mapper_path(domain, "A b ") == mapper_path(domain, "a b")
    assert mapper_path(domain, "a b") != mapper_path(domain, "a b", objective="paper")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder where one's own mappers are kept, empty."""
    monkeypatch.setattr(training_files, "MINE", tmp_path)
    return tmp_path


def test_a_trained_mapper_is_kept_and_its_run_goes(toy, mine):
    latents = random_w_plus(toy, 12, seed=0)
    assert find_mapper(toy, PROMPT) is None
    train_and_keep(toy, PROMPT, latents, callback=lambda state: state["step"] == 2)
    assert [path.suffix for path in mine.iterdir()] == [".run"]
    steps = []
    mapper, _ = train_and_keep(toy, PROMPT, latents,
                               callback=lambda state: steps.append(state["step"]))
    assert steps == [3, 4, 5, 6] and [path.suffix for path in mine.iterdir()] == [".safetensors"]
    again = find_mapper(toy, " A person with GLASSES")
    for one, two in zip(mapper.parameters(), again.parameters()):
        assert torch.equal(one.half().float(), two)


def test_a_mapper_that_is_trained_with_settings_of_ones_own_is_kept(toy, mine):
    settings = replace(toy.settings.mapper, steps=2)
    train_and_keep(toy, PROMPT, random_w_plus(toy, 12, seed=0), settings=settings)
    assert [path.suffix for path in mine.iterdir()] == [".safetensors"]


def test_a_file_with_another_sentence_is_refused(toy, mine):
    save_mapper(mapper_path(toy, PROMPT, mine), new_mapper(toy), toy, "a bald person")
    with pytest.raises(ValueError, match="holds the mapper of another sentence: delete it"):
        find_mapper(toy, PROMPT)


def test_a_full_disk_does_not_lose_a_trained_mapper(toy, mine, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(training_files, "save_mapper", full)
    latents = random_w_plus(toy, 12, seed=0)
    mapper, history = train_and_keep(toy, PROMPT, latents)
    assert len(history["loss"]) == 6
    assert torch.isfinite(apply_mapper(toy, mapper, latents)).all()
    assert "trained but not saved" in capsys.readouterr().out


def test_keep_sweep_writes_one_file_when_it_is_whole(toy, tmp_path, capsys):
    path = tmp_path / "sweeps" / "a.safetensors"
    assert not keep_sweep(toy, path, images=2, callback=lambda state: state["step"] == 3)
    assert "Stopped with 3 of 8" in capsys.readouterr().out and not path.exists()
    assert keep_sweep(toy, path, images=2)
    tensors, header = read_safetensors(path)
    assert tensors["directions"].shape == (8, 5) and header["generator"] == toy.fingerprint
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_new_sweep_counts_at_once(toy, tmp_path, monkeypatch):
    """It is kept where the domain looks for it, and what an older one said is forgotten."""
    monkeypatch.chdir(tmp_path)
    found = []
    for images in (1, 4):
        assert keep_sweep(toy, images=images, callback=None)
        swept = directions.channel_relevance(toy, toy.neutral, PROMPT, "sweep")
        found.append((toy.swept_directions(8), swept))
    assert not torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][1], found[1][1])


def test_a_sweep_with_a_dead_channel_ends(toy, tmp_path, monkeypatch):
    """Delta-i of a channel that CLIP does not see at all is 0, and it is done all the same."""
    monkeypatch.setattr(directions, "channel_direction", lambda *given: torch.zeros(5))
    assert keep_sweep(toy, tmp_path / "a.safetensors", images=2)


def launch(*command):
    """Run Python in two processes on the CPU, as the commands' help says; returns the output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", *map(str, command)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT,
                          env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_train_the_same_mapper(domain, tmp_path):
    """They give the weights of this process, with the same total batch."""
    latents = random_w_plus(domain, 20, seed=0)
    np.save(tmp_path / "w.npy", latents.numpy())
    said = launch("-m", "helpers.commands.train_mapper", PROMPT, "--domain", "avatars",
                  "--source", tmp_path / "w.npy", "--steps", 5, "--batch", 4,
                  "--folder", tmp_path)
    assert len(re.findall("held-out loss", said)) == 1
    theirs = load_mapper(mapper_path(domain, PROMPT, tmp_path), domain)
    settings = replace(domain.settings.mapper, steps=5, batch=4)
    here, _ = train_mapper(domain, PROMPT, latents, settings=settings)
    for one, two in zip(here.parameters(), theirs.parameters()):
        # Adam makes a whole step of the sign of a gradient that is nearly 0.
        torch.testing.assert_close(one, two, rtol=0, atol=1e-2 * one.abs().max().item())


def test_two_processes_sweep_the_same(toy, tmp_path):
    """They find what this process finds; one of them writes it."""
    script, path = tmp_path / "script.py", tmp_path / "sweeps" / "a.safetensors"
    script.write_text("from accelerate import Accelerator\n"
                      "from helpers.training_files import keep_sweep\n"
                      "from toy import toy_domain\n"
                      "accelerator = Accelerator(cpu=True)\n"
                      f"keep_sweep(toy_domain(), {str(path)!r}, accelerator=accelerator)\n"
                      "accelerator.wait_for_everyone()\n"
                      "accelerator.end_training()\n")
    launch(script)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    found = read_safetensors(path)[0]["directions"]
    here, _ = directions.sweep(toy)
    torch.testing.assert_close(found.float(), here, atol=2e-3, rtol=0)


def test_the_command_that_sweeps(toy, tmp_path, monkeypatch):
    from helpers.commands import sweep as command
    monkeypatch.setattr(command, "load_domain", lambda name, device: toy)
    monkeypatch.setattr(sys, "argv", ["sweep", "--count", "2", "--seed", "3",
                                      "--to", str(tmp_path / "a.safetensors")])
    command.main()
    found = read_safetensors(tmp_path / "a.safetensors")[0]["directions"]
    here, _ = directions.sweep(toy, images=2, seed=3)
    torch.testing.assert_close(found.float(), here, atol=2e-3, rtol=0)
