"""What each method's panel promises."""

from dataclasses import replace

import pytest
import torch
from drive import (
    after,
    before,
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

from helpers.inversion import invert
from helpers.losses import text_direction
from helpers.methods.directions import alpha_for, global_direction
from helpers.methods.linear_model import keep_directions, linear_model
from helpers.methods.mapper import apply_mapper
from helpers.methods.optimization import optimize_latent
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel
from helpers.settings import PAPER_DIRECTIONS, PAPER_OPTIMIZATION, DirectionSettings
from helpers.training_files import find_mapper


@pytest.fixture(scope="module")
def settled_domain(domain):
    return settled(domain)


# Method 1


@pytest.fixture
def panel(settled_domain, tmp_path):
    return optimization_panel(settled_domain, tmp_path)


def test_the_preview_is_the_linear_models_step_scaled_by_what_the_face_lacks(domain, tmp_path):
    panel = OptimizationPanel(domain, invert, optimize_latent, folder=tmp_path)
    model, w_plus = linear_model(domain), panel.chosen.w_plus
    direction = text_direction(domain.clip, domain.neutral, domain.prompts[0])
    with torch.no_grad():
        remaining = model.remaining(direction, domain.generator(w_plus))
        keep = keep_directions(domain, domain.neutral, domain.prompts[0])
        step = domain.settings.optimization.start * remaining * model.step(direction, keep)
        assert torch.allclose(panel.found, w_plus + domain.w_space.offset(step), atol=1e-5)
        features = domain.clip.encode_image(torch.cat([panel.blended(0), panel.blended(1)]))
    assert (features[1] - features[0]) @ direction > 0.3 * model.margin(direction)
    assert "a quick preview" in status(panel) and "(preview)" in panel.pictures.caption.value


def test_the_preview_follows_the_prompt_and_the_face(panel):
    seen = {after(panel)}
    panel.prompt.value = "a bald person"
    assert "a bald person (preview)" in panel.pictures.caption.value
    panel.face.value = panel.face.options[2][1]
    assert after(panel) not in seen and not panel.runs.asked
    run(panel)
    assert "preview" not in panel.pictures.caption.value


def test_the_switch_sets_the_sliders_and_reaches_the_method(panel):
    sliders = panel.steps, panel.lambda_l2, panel.lambda_id
    paper = PAPER_OPTIMIZATION
    assert [slider.value for slider in sliders] == [60, 0.001, 0.1]
    panel.objective.value = "paper"
    assert [slider.value for slider in sliders] == [300, paper.lambda_l2, paper.lambda_id]
    panel.steps.value = 20
    run(panel)
    assert panel.runs.asked[-1][:4] == ("paper", 20, paper.lambda_l2, paper.lambda_id)
    assert "(paper)" in panel.pictures.caption.value
    panel.objective.value = "ours"
    assert panel.steps.value == 60 and "(paper)" in panel.title  # of the edit on show


def test_without_an_identity_network_there_is_no_weight_for_it(settled_domain, tmp_path):
    panel = optimization_panel(replace(settled_domain, identity=None), tmp_path)
    run(panel)
    assert panel.lambda_id not in panel.inputs and "done" in status(panel)


# Method 2


@pytest.fixture
def mappers(settled_domain, tmp_path):
    """A panel with one ready mapper, and a training that is short."""
    return mapper_panel(settled_domain, tmp_path)


def test_a_ready_mapper_of_the_domain_is_on_show(domain, tmp_path):
    panel = MapperPanel(domain, invert, lambda *asked: find_mapper(domain, *asked), None,
                        apply_mapper, folder=tmp_path)
    mapper = find_mapper(domain, domain.prompts[0], "ours")
    with torch.no_grad():
        edited = domain.generator(apply_mapper(domain, mapper, panel.chosen.w_plus))
        assert torch.equal(panel.blended(1), edited)
    assert after(panel) != before(panel) and "move the strength" in status(panel)


def test_a_ready_mapper_follows_the_slider(mappers):
    edited = after(mappers)
    mappers.strength.value = 0
    source = after(mappers)
    mappers.strength.value = -1
    assert len({edited, source, after(mappers)}) == 3
    mappers.strength.value = 1
    assert after(mappers) == edited


def test_each_network_can_be_switched_off(mappers):
    seen = {after(mappers)}
    for box in mappers.networks:
        box.value = False
        seen.add(after(mappers))
    assert len(seen) == 4
    mappers.strength.value = 0.5
    last = after(mappers)
    mappers.strength.value = 0
    assert after(mappers) == last  # no network acts


@pytest.mark.filterwarnings("ignore:Unknown")
def test_a_new_text_is_trained_once(mappers):
    mappers.prompt.value = "a person with an afro"
    mappers.strength.value = -1
    assert "Run trains one, 700 steps of 8 latents" in status(mappers)
    assert after(mappers) == before(mappers) and mappers.strength.disabled
    run(mappers)
    assert ("a person with an afro", "ours") in mappers.runs.kept
    assert mappers.task.progress.value == 10 and after(mappers) != before(mappers)
    assert "move the strength" in status(mappers) and not mappers.strength.disabled
    assert mappers.strength.value == 1
    mappers.prompt.value = mappers.domain.prompts[0]
    assert "move the strength" in status(mappers)
    mappers.prompt.value = "a broken person"
    run(mappers)
    assert "no mapper for that" in status(mappers) and not mappers.run.disabled
    assert after(mappers) == before(mappers)


def test_a_mapper_that_cannot_be_read_is_one_line(mappers):
    def fails(prompt, objective):
        raise ValueError("x.safetensors is a mapper of another generator")

    mappers.find = fails
    mappers.prompt.value = "a bald person"
    assert "another generator" in status(mappers) and mappers.strength.disabled


def test_each_objective_has_a_mapper_of_its_own(mappers):
    prompt = mappers.domain.prompts[0]
    mappers.objective.value = "paper"
    assert "Run trains one, 50,000 steps of 2 latents" in status(mappers)
    run(mappers)
    assert mappers.runs.kept[prompt, "paper"] == -0.2
    assert "(paper)" in mappers.pictures.caption.value
    mappers.objective.value = "ours"
    assert mappers.found[0] == 0.3


def test_a_mapper_that_cannot_be_saved_is_used_all_the_same(mappers):
    def train(prompt, objective, callback):
        return 0.4  # as `train_and_keep` does on a full disk: nothing can be found afterwards

    mappers.train, mappers.prompt.value = train, "a person with an afro"
    run(mappers)
    assert "It is not saved, and lasts until this panel is closed." in status(mappers)
    assert mappers.found[0] == 0.4 and not mappers.strength.disabled
    mappers.prompt.value = "a bald person"
    mappers.prompt.value = "a person with an afro"
    assert mappers.found[0] == 0.4  # it is still there


def test_a_training_that_is_stopped_shows_the_best_and_goes_on_with_the_next_run(mappers):
    mappers.prompt.value, train = "a person with an afro", mappers.train

    def stopped(prompt, objective, callback):
        mappers.task.stop.click()
        return train(prompt, objective, callback)

    mappers.train = stopped
    run(mappers)
    assert "stopped; this is the best so far" in status(mappers) and not mappers.strength.disabled
    assert not mappers._trained


def test_a_training_that_fails_with_nothing_trained_is_one_line(mappers):
    def train(prompt, objective, callback):
        raise OSError(30, "Read-only file system", "/folder/a.run")

    mappers.train, mappers.prompt.value = train, "a bald person"
    run(mappers)
    assert "Read-only file system: a.run" in status(mappers) and not mappers.run.disabled


# Method 3


@pytest.fixture
def live(settled_domain, tmp_path):
    return global_panel(settled_domain, tmp_path)


def test_the_direction_is_on_show_at_the_alpha_that_suits_the_face(domain, tmp_path):
    panel = GlobalPanel(domain, invert, global_direction, folder=tmp_path)
    assert torch.equal(panel.found, global_direction(domain, domain.neutral, domain.prompts[0]))
    found = []
    for _, name in panel.face.options[:6]:
        panel.face.value = name
        s = domain.generator.styles(panel.chosen.w_plus)
        alpha = alpha_for(domain, s, domain.neutral, domain.prompts[0]).item()
        assert panel.strength.value == pytest.approx(alpha, abs=0.051)
        assert f"about {alpha:.1f} suits this face" in status(panel)
        found.append(alpha)
    assert min(found) < max(found) - 0.5  # less for who shows already what is asked for
    panel.strength.value = 1.5  # a hand's choice stays while the channels are moved
    panel.channels.value -= 10
    run(panel)
    assert panel.strength.value == 1.5 and f"about {alpha:.1f} suits" in status(panel)
    panel.objective.value = "sweep"  # the paper's alpha is one for all
    assert "suits" not in status(panel) and panel.strength.value == PAPER_DIRECTIONS.alpha


def test_sliders_and_sentences_move_the_picture_at_once(live):
    seen = [after(live)]
    live.strength.value = 1.5
    seen.append(after(live))
    live.channels.value = 30
    seen.append(after(live))
    live.prompt.value = "a person with a very long beard"
    seen.append(after(live))
    live.neutral.value = "a bald person"
    assert len(set(seen)) == 4 and not live.strength.disabled
    assert "a person with a very long beard, 30 channels" in status(live)


def test_a_picture_of_ones_own_is_encoded_by_run(live):
    upload(live, png())
    assert live.strength.disabled and "Run finds the latent" in status(live)
    run(live)
    assert not live.strength.disabled and live.chosen.w_plus is not None
    edited = after(live)
    live.strength.value = -3
    assert after(live) != edited


def test_kept_edits_stay_below_the_next_and_can_be_forgotten(live):
    live.faces.another.click()
    live.channels.value = 30
    live.strength.value = 2
    first = after(live)
    live.keep.click()
    assert live.strength.value == 0 and after(live) == first and "Kept" in status(live)
    live.prompt.value, live.strength.value = "an angry person", 2
    assert after(live) != first
    assert f"an angry person on top of {live.domain.prompts[0]}, 30 channels" in status(live)
    live.strength.value = 0
    assert after(live) == first
    live.keep.click()
    assert live.below == f"{live.domain.prompts[0]}, an angry person"
    live.drop.click()
    live.strength.value = 0
    assert after(live) == before(live) and "on top of" not in status(live)


def test_a_method_shows_the_slider_that_belongs_to_it(live):
    assert shown(live.channels) and not shown(live.threshold)
    live.runs.asked.clear()
    live.objective.value = "sweep"
    assert shown(live.threshold) and not shown(live.channels)
    paper = PAPER_DIRECTIONS
    assert (live.threshold.value, live.strength.value) == (paper.threshold, paper.alpha)
    live.threshold.value = 0.3
    live.objective.value = "linear"
    assert shown(live.channels) and not shown(live.threshold)
    assert live.runs.asked == [
        {"method": "sweep", "threshold": 0.15, "channels": None},
        {"method": "sweep", "threshold": 0.3, "channels": None},
        {"method": "linear", "threshold": None, "channels": 400}]
    live.objective.value = "gradient"
    assert "There are no gradients here." in status(live) and live.strength.disabled
    assert after(live) == before(live)


def test_a_domain_whose_own_method_is_the_sweep(settled_domain, tmp_path):
    directions = DirectionSettings("sweep", 2.0, threshold=0.11)
    settings = replace(settled_domain.settings, directions=directions)
    panel = global_panel(replace(settled_domain, settings=settings), tmp_path)
    assert (panel.objective.value, panel.threshold.value, panel.strength.value) == (
        "sweep", 0.11, 2.0)
    assert [value for _, value in panel.objective.options] == ["sweep", "linear", "gradient"]
