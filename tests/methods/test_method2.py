"""Notebook 2's functions."""

import os
import re
import resource
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT, golden
from PIL import Image

from helpers import mapper_files
from helpers.checkpoints import read_safetensors
from helpers.judging import judge, summary
from helpers.latents import random_w_plus

PROMPT = "a person with glasses"
SHORT = dict(steps=6, batch=4, seed=3)


@pytest.fixture(scope="module")
def latents(domain):
    return random_w_plus(domain, 20, seed=0)


def authors_state(keys):
    """The golden file's random weights, under the authors' names."""
    def draw(key):
        shape = (512,) if key.endswith("bias") else (512, 512)
        random = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        values = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
        return values * (10 if key.endswith("bias") else 100)

    return {f"mapper.{key}": draw(key) for key in keys}


def test_agrees_with_the_authors_mapper(method2):
    right = golden("levels_mapper", tensors=False)
    state = authors_state([str(key) for key in right["keys"]])
    mapper = mapper_files.from_authors_state(state)
    delta = mapper(torch.from_numpy(right["w"]))
    assert np.abs(delta.numpy() - right["delta"]).max() <= 1e-5


def test_ranger_begins_down_the_mean_gradient_as_the_authors_does(method2):
    """RAdam's first five steps (1908.03265, algorithm 2); the package's own default goes up the gradient there."""
    network = torch.nn.Linear(3, 1)
    start, gradient = network.bias.detach().clone(), torch.tensor([2e-3])
    optimizer = method2.paper_optimizer(network, 0.5)
    for step in range(1, 6):
        network.weight.grad, network.bias.grad = torch.zeros(1, 3), gradient.clone()
        optimizer.step()
        assert torch.allclose(network.bias, start - step * 0.5 * gradient, atol=1e-6)


def test_a_part_the_authors_left_out_stays(method2):
    keys = [f"{part}_mapping.mapping.{i}.{kind}" for part in ("course", "medium") for i in range(1, 5)
            for kind in ("weight", "bias")]
    mapper = mapper_files.from_authors_state(authors_state(keys))
    change = mapper(torch.randn(2, 18, 512))
    assert change[:, :8].any() and not change[:, 8:].any()
    with pytest.raises(ValueError, match="not the weights of a mapper"):
        mapper_files.from_authors_state({"decoder.weight": torch.zeros(1)})


def test_an_authors_file_is_read_as_data_and_only_where_it_fits(domain, method2, tmp_path):
    torch.save({"state_dict": authors_state(["fine_mapping.mapping.1.weight"]), "opts": {}}, tmp_path / "a.pt")
    with pytest.raises(Exception, match="fine_mapping|Missing key"):
        mapper_files.load_authors_mapper(tmp_path / "a.pt", domain)
    keys = [f"fine_mapping.mapping.{i}.{kind}" for i in range(1, 5) for kind in ("weight", "bias")]
    torch.save({"state_dict": authors_state(keys), "opts": {}}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="18 rows of 512; avatars has 10 of 128"):
        mapper_files.load_authors_mapper(tmp_path / "b.pt", domain)

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"state_dict": Harmful()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="c.pt"):
        mapper_files.load_authors_mapper(tmp_path / "c.pt", domain)
    assert not (tmp_path / "executed").exists()


def test_networks_act_alone_and_strength_zero_is_the_source(domain, method2, latents):
    torch.manual_seed(0)
    mapper = method2.new_mapper(domain)
    apply = method2.apply_mapper
    for name, part in domain.rows.items():
        moved = (apply(domain, mapper, latents, only=[name]) != latents).any(dim=2)
        assert moved[:, part].all() and moved.sum() == moved[:, part].sum()
        without = method2.new_mapper(domain, "paper", [other for other in domain.rows if other != name])
        assert torch.equal(apply(domain, without, latents)[:, part], latents[:, part])
    assert torch.equal(apply(domain, mapper, latents, strength=0), latents)
    twice, once = apply(domain, mapper, latents, strength=2), apply(domain, mapper, latents)
    torch.testing.assert_close(twice - latents, 2 * (once - latents), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="at least one network"):
        method2.new_mapper(domain, networks=[])


def test_training_lowers_the_loss_on_latents_it_never_saw(domain, method2):
    latents = random_w_plus(domain, 60, seed=0)
    _, history = method2.train_mapper(domain, PROMPT, latents, steps=50, batch=4)
    assert history["held_out"][-1] < history["held_out"][0]
    assert {"clip", "latent", "identity", "loss"} <= set(history) and len(history["loss"]) == 50
    total = [sum(history[name][i] for name in ("clip", "latent", "identity")) for i in range(50)]
    assert total == pytest.approx(history["loss"], rel=1e-4)


@pytest.mark.parametrize("stop_at", [2, 25])
def test_a_resumed_run_is_the_unbroken_run(domain, method2, latents, tmp_path, stop_at):
    train, settings = method2.train_mapper, SHORT | dict(steps=28)
    whole, whole_history = train(domain, PROMPT, latents, **settings)
    path = tmp_path / "a.run"
    train(domain, PROMPT, latents, path=path, callback=lambda state: state["step"] == stop_at, **settings)
    assert read_safetensors(path)[1]["step"] == stop_at
    resumed, history = train(domain, PROMPT, latents, path=path, **settings)
    assert history == whole_history
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


def test_a_run_with_other_settings_is_refused(domain, method2, latents, tmp_path):
    train, path = method2.train_mapper, tmp_path / "a.run"
    train(domain, PROMPT, latents, path=path, **SHORT)
    with pytest.raises(ValueError, match="another prompt"):
        train(domain, "a bald person", latents, path=path, **SHORT)
    with pytest.raises(ValueError, match="another latents"):
        train(domain, PROMPT, latents[1:], path=path, **SHORT)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        train(domain, PROMPT, latents, path=path, **SHORT)


def test_stop_and_ctrl_c_return_the_best_so_far(domain, method2, latents, tmp_path):
    def interrupt(state):
        if state["step"] == 2:
            raise KeyboardInterrupt

    mapper, history = method2.train_mapper(domain, PROMPT, latents, path=tmp_path / "a.run", callback=interrupt,
                                              **SHORT)
    assert len(history["loss"]) == 2 and len(history["held_out"]) == 2
    assert all(value.isfinite().all() for value in mapper.state_dict().values())
    assert read_safetensors(tmp_path / "a.run")[1]["step"] == 2


def test_a_full_disk_leaves_the_file_of_before(domain, method2, latents, tmp_path, capsys):
    path, train = tmp_path / "a.run", method2.train_mapper
    train(domain, PROMPT, latents, path=path, callback=lambda state: state["step"] == 2, **SHORT)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file of this process may grow larger
    try:
        mapper, history = train(domain, PROMPT, latents, path=path, **SHORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(history["loss"]) == 6 and path.read_bytes() == before
    assert "could not be written" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["a.run"]


def test_bad_input_gets_one_sentence(domain, method2, latents):
    train = method2.train_mapper
    with pytest.raises(ValueError, match="too few for a batch of 8"):
        train(domain, PROMPT, latents[:5], batch=8)
    with pytest.raises(ValueError, match="prompt is empty"):
        train(domain, " ", latents, **SHORT)
    with pytest.raises(ValueError, match="CLIP reads 77"):
        train(domain, "beard " * 90, latents, **SHORT)
    with pytest.raises(ValueError, match="another generator"):
        method2.apply_mapper(domain, method2.new_mapper(domain), torch.zeros(1, 18, 512))


def test_training_latents_of_a_folder(domain, method2, tmp_path, monkeypatch):
    monkeypatch.setattr(mapper_files, "invert", lambda domain, image: (torch.zeros(len(image), 10, 128), {}))
    said = []
    with pytest.raises(ValueError, match="no picture that can be opened"):
        mapper_files.training_latents(domain, tmp_path)
    for i in range(3):
        Image.new("RGB", (80, 80 + i)).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    assert mapper_files.training_latents(domain, tmp_path, say=said.append).shape == (3, 10, 128)
    assert "Skipped 2 files that cannot be used: cut.png, notes.txt" in said[0]
    with pytest.raises(ValueError, match="no folder"):
        mapper_files.training_latents(domain, tmp_path / "nowhere")


def test_training_latents_of_an_array(domain, method2, tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((5, 10, 128), np.float32))
    assert mapper_files.training_latents(domain, tmp_path / "w.npy").shape == (5, 10, 128)
    np.save(tmp_path / "w.npy", np.zeros((5, 18, 512), np.float32))
    with pytest.raises(ValueError, match="another generator"):
        mapper_files.training_latents(domain, tmp_path / "w.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="objects.npy"):
        mapper_files.training_latents(domain, tmp_path / "objects.npy")


def test_a_mapper_is_small_and_fits_one_generator(domain, method2, tmp_path, monkeypatch):
    path, mapper = tmp_path / "a.safetensors", method2.new_mapper(domain)
    mapper_files.save_mapper(path, mapper, domain, PROMPT)
    again = mapper_files.load_mapper(path, domain)
    assert all(torch.equal(a.half().float(), b) for a, b in zip(mapper.parameters(), again.parameters()))
    assert path.stat().st_size < 1.1 * sum(2 * value.numel() for value in mapper.parameters()) + 5000
    header = read_safetensors(path)[1]
    assert header["prompt"] == PROMPT and header["generator"] == domain.fingerprint
    monkeypatch.setattr(domain, "fingerprint", "another")
    with pytest.raises(ValueError, match="a.safetensors is a mapper of another generator"):
        mapper_files.load_mapper(path, domain)
    with pytest.raises(ValueError, match="it lacks prompt"):
        mapper_files.load_mapper(ROOT / "data" / "avatars" / "identity.safetensors", domain)


def test_the_mappers_that_came_along_do_what_they_say(domain, method2):
    """A small version of `make bench`, on faces that no training saw."""
    faces, verdicts = random_w_plus(domain, 24, seed=99, truncation=1), []
    before = domain.generator(faces)
    for prompt in domain.prompts:
        mapper = mapper_files.find_mapper(domain, prompt)
        if mapper:
            after = domain.generator(method2.apply_mapper(domain, mapper, faces))
            verdicts.append(judge(domain, before, after, prompt))
            assert verdicts[-1].success >= 0.6 and verdicts[-1].unchanged >= 0.85, (prompt, verdicts[-1])
    assert len(verdicts) >= 5 and summary(verdicts)[0] >= 0.85


def test_prompts_that_look_alike_do_not_share_a_file(domain, tmp_path):
    prompts = ("a, b", "a. b", "\N{GRINNING FACE}", "\N{WINKING FACE}", "beard " * 40, "beard " * 41)
    assert len({mapper_files.mapper_path(domain, prompt, tmp_path) for prompt in prompts}) == len(prompts)
    assert mapper_files.mapper_path(domain, "A b ") == mapper_files.mapper_path(domain, "a b")


def test_a_full_disk_does_not_lose_a_trained_mapper(domain, method2, latents, tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(mapper_files, "MINE", tmp_path)
    monkeypatch.setattr(mapper_files, "save_mapper", full)
    mapper, history = mapper_files.train_and_keep(domain, PROMPT, latents, **SHORT)
    assert len(history["loss"]) == 6 and torch.isfinite(method2.apply_mapper(domain, mapper, latents)).all()
    assert "trained but not saved" in capsys.readouterr().out


def test_two_processes_train_the_same_mapper(domain, method2, tmp_path):
    """`accelerate launch` with two CPU processes gives the weights of this process, with the same total batch."""
    script, latents = str(ROOT / "notebooks" / "train_mapper.py"), random_w_plus(domain, 20, seed=0)
    np.save(tmp_path / "w.npy", latents.numpy())
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
               "--main_process_port", "0", script, PROMPT, "--domain", "avatars", "--source",
               str(tmp_path / "w.npy"), "--steps", "5", "--batch", "4", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall("held-out loss", done.stdout)) == 1
    theirs = mapper_files.load_mapper(mapper_files.mapper_path(domain, PROMPT, tmp_path), domain)
    here, _ = method2.train_mapper(domain, PROMPT, latents, steps=5, batch=4)
    for one, two in zip(here.parameters(), theirs.parameters()):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3 * one.abs().max().item())
