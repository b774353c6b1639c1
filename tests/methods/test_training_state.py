"""Runs that go on after an interruption: mappers and sweeps."""

import resource
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import GOLDEN
from toy import SETTINGS, toy_domain

from helpers.domains.formats.safetensors_files import read_safetensors, save_tensors
from helpers.latents import random_w_plus
from helpers.methods.directions import sweep
from helpers.methods.mapper import train_mapper
from helpers.training_state import SweepRun, TrainingRun, fingerprint

PROMPT = "a person with glasses"


@pytest.fixture
def latents(toy):
    return random_w_plus(toy, 12, seed=0)


def line():
    """A module y = w x, w = 2, and its optimizer."""
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(2)
    return module, torch.optim.SGD(module.parameters(), lr=1)


def test_a_run_keeps_the_weights_with_the_lowest_held_out_loss():
    module, optimizer = line()
    run = TrainingRun(module, optimizer)
    for weight, loss in ((2.0, 3.0), (4.0, 1.0), (6.0, 2.0)):
        module.weight.data.fill_(weight)
        run.evaluate({"a": torch.tensor([loss, loss]), "b": torch.tensor([0.5, 1.5])})
    assert run.best["weight"].item() == 4 and run.best_loss == 2
    assert run.history["held_out"] == [4, 2, 3]


def test_a_step_goes_down_the_mean_of_the_batch():
    module, optimizer = line()
    run = TrainingRun(module, optimizer)
    x = torch.tensor([[1.0], [3.0]])
    for lr in (0.1, 0.2):
        y = module(x)[:, 0]  # w x, whose gradient is x
        run.train_step({"a": y, "b": 2 * y}, lr)
    assert module.weight.item() == pytest.approx(2 - (0.1 + 0.2) * 3 * 2)
    assert run.step == 2 and run.history["a"] == pytest.approx([4, 1.4 * 2])
    assert run.history["loss"] == pytest.approx([12, 3 * 1.4 * 2])
    state = run.state(torch.ones(1, requires_grad=True), 9)
    assert state["step"] == 2 and state["steps"] == 9 and not state["image"].requires_grad
    assert state["loss"] == run.history["loss"][-1]


def test_processes_share_a_batch_and_average_their_gradients():
    parts, batch = [], torch.arange(5)
    for rank in range(2):
        module, optimizer = line()
        accelerator = SimpleNamespace(process_index=rank, num_processes=2,
                                      reduce=lambda grad, reduction: grad / 2)
        run = TrainingRun(module, optimizer, accelerator=accelerator)
        parts.append(run.share(batch).tolist())
        run.train_step({"a": module(torch.ones(1, 1))[:, 0]}, lr=1)
        assert module.weight.item() == 2 - 0.5
    assert parts == [[0, 2, 4], [1, 3]]
    assert TrainingRun(*line()).share(batch) is batch


def test_fingerprints_tell_numbers_apart():
    one = torch.arange(6.0)
    assert fingerprint(one) == fingerprint(one.clone()) != fingerprint(one + 1e-6)


@pytest.mark.parametrize("objective", ["ours", "paper"])
@pytest.mark.parametrize("stop_at", [2, 25])
def test_a_resumed_run_is_the_unbroken_run(toy, latents, tmp_path, objective, stop_at):
    options, path = dict(objective=objective, steps=28, seed=3), tmp_path / "a.run"
    whole, whole_history = train_mapper(toy, PROMPT, latents, **options)
    train_mapper(toy, PROMPT, latents, path=path,
                 callback=lambda state: state["step"] == stop_at, **options)
    assert read_safetensors(path)[1]["step"] == stop_at
    resumed, history = train_mapper(toy, PROMPT, latents, path=path, **options)
    assert history == whole_history
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values()):
        assert torch.equal(one, two)


def test_a_run_that_was_over_is_not_trained_again(toy, latents, tmp_path):
    path = tmp_path / "a.run"
    _, history = train_mapper(toy, PROMPT, latents, path=path)
    _, again = train_mapper(toy, PROMPT, latents, path=path, callback=pytest.fail)
    assert again == history


def other(toy, **parts):
    """The toy with some parts replaced; of the settings, those of the mapper."""
    if "settings" in parts:
        parts["settings"] = replace(SETTINGS, mapper=replace(SETTINGS.mapper, **parts["settings"]))
    return replace(toy, **parts)


@pytest.mark.parametrize("what,domain,given", [
    ("prompt", {}, dict(prompt="a bald person")),
    ("objective", {}, dict(objective="paper")),
    ("resolution", {}, dict(resolution=16)),
    ("resolution", dict(preview_resolution=16), {}),
    ("clip", dict(clip_fingerprint="another clip"), {}),
    ("generator", dict(fingerprint="another"), {}),
    ("seed", {}, dict(seed=4)),
    ("networks", {}, dict(networks=["coarse", "fine"])),
    ("steps", {}, dict(steps=7)),
    ("lr", dict(settings=dict(lr=0.2)), {}),
    ("lambda_orthogonal", dict(settings=dict(lambda_orthogonal=0.3)), {}),
    ("batch", dict(settings=dict(batch=3)), {}),
    ("latents", {}, dict(latents=torch.zeros(12, 3, 4)))])
def test_another_run_is_refused(toy, latents, tmp_path, what, domain, given):
    path = tmp_path / "a.run"
    train_mapper(toy, PROMPT, latents, path=path, seed=3, callback=lambda state: True)
    before = path.read_bytes()
    options = dict(prompt=PROMPT, latents=latents, seed=3) | given
    with pytest.raises(ValueError, match=f"a.run holds a run with another .*{what}.*delete it"):
        train_mapper(other(toy, **domain), path=path, **options)
    assert path.read_bytes() == before


def test_a_damaged_run_is_refused(toy, latents, tmp_path):
    path = tmp_path / "a.run"
    train_mapper(toy, PROMPT, latents, path=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        train_mapper(toy, PROMPT, latents, path=path)


def former_latents():
    """Those of tests/golden/former_mapper.safetensors, the same on every machine."""
    return (torch.arange(12 * 3 * 4) % 7 - 3).view(12, 3, 4) / 4


def test_a_run_of_the_former_version_is_taken_up(toy, tmp_path):
    """Its settings have their former names; of clip and resolution it says nothing."""
    path = shutil.copy(GOLDEN / "former_mapper.safetensors", tmp_path / "a.run")
    header = read_safetensors(path)[1]
    assert header["settings"]["rate"] == 0.1 and "clip" not in header["settings"]
    steps = []
    mapper, history = train_mapper(toy, PROMPT, former_latents(), steps=8, seed=3, path=path,
                                   callback=lambda state: steps.append(state["step"]))
    assert steps == [4, 5, 6, 7, 8]
    assert history["loss"][:3] == header["history"]["loss"] and len(history["loss"]) == 8
    assert all(value.isfinite().all() for value in mapper.state_dict().values())
    # From here on it is a run of this version.
    assert read_safetensors(path)[1]["settings"]["clip"] == "toy clip"


@pytest.mark.parametrize("name,setting", [
    ("lr", "lr"), ("lambda_orthogonal", "lambda_orthogonal"),
    ("training_latents", "training_latents"), ("last_layer_scale", "last_layer_scale"),
    ("goal", "goal")])
def test_a_run_of_the_former_version_with_other_settings_is_refused(toy, tmp_path, name, setting):
    path = shutil.copy(GOLDEN / "former_mapper.safetensors", tmp_path / "a.run")
    settings = replace(SETTINGS.mapper, steps=8, **{setting: 1})
    with pytest.raises(ValueError, match=f"a run with another {name}:"):
        train_mapper(toy, PROMPT, former_latents(), settings=settings, seed=3, path=path)


def test_stop_and_ctrl_c_return_the_best_so_far(toy, latents, tmp_path):
    def interrupt(state):
        if state["step"] == 2:
            raise KeyboardInterrupt

    path = tmp_path / "a.run"
    mapper, history = train_mapper(toy, PROMPT, latents, path=path, callback=interrupt)
    assert len(history["loss"]) == 2 and len(history["held_out"]) == 2
    assert all(value.isfinite().all() for value in mapper.state_dict().values())
    assert read_safetensors(path)[1]["step"] == 2


def test_a_full_disk_leaves_the_file_of_before(toy, latents, tmp_path, capsys):
    path = tmp_path / "a.run"
    train_mapper(toy, PROMPT, latents, path=path, callback=lambda state: state["step"] == 2)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file of this process may grow larger.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        mapper, history = train_mapper(toy, PROMPT, latents, path=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(history["loss"]) == 6 and path.read_bytes() == before
    assert "could not be written" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["a.run"]


def test_a_sweep_that_was_cut_goes_on(toy, tmp_path):
    whole, done = sweep(toy, images=3)
    assert done.all() and whole.shape == (8, 5)
    path = tmp_path / "a.unfinished"
    _, done = sweep(toy, images=3, path=path, callback=lambda state: state["step"] == 5)
    assert done.tolist() == 5 * [True] + 3 * [False]
    steps = []
    resumed, done = sweep(toy, images=3, path=path,
                          callback=lambda state: steps.append(state["seconds_left"]))
    assert torch.equal(resumed, whole) and done.all() and len(steps) == 3 and steps[-1] == 0


@pytest.mark.parametrize("what,domain,given", [
    ("count", {}, dict(images=4)), ("seed", {}, dict(seed=1)),
    ("clip", dict(clip_fingerprint="another clip"), {}),
    ("generator", dict(fingerprint="another"), {})])
def test_another_sweep_is_refused(toy, tmp_path, what, domain, given):
    path = tmp_path / "a.unfinished"
    sweep(toy, images=3, path=path, callback=lambda state: True)
    with pytest.raises(ValueError, match=f"a.unfinished holds .*another {what}: delete it"):
        sweep(replace(toy, **domain), path=path, **dict(images=3) | given)


def test_processes_share_the_channels_of_a_sweep(tmp_path):
    """Each has its own part and file; what they found is added up."""
    found = []
    for rank in range(2):
        accelerator = SimpleNamespace(process_index=rank, num_processes=2, device="cpu",
                                      reduce=lambda values: values)
        toy = toy_domain()
        found.append(sweep(toy, images=3, path=tmp_path / "a", accelerator=accelerator))
    whole, _ = sweep(toy_domain(), images=3)
    assert found[0][1].tolist() == 4 * [True, False] and found[1][1].tolist() == 4 * [False, True]
    assert torch.equal(found[0][0] + found[1][0], whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.0", "a.1"]


def test_a_sweep_of_another_file_is_refused(tmp_path):
    save_tensors(tmp_path / "a", {"directions": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="it lacks"):
        SweepRun(2, 3, tmp_path / "a").resume({})
