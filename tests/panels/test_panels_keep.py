"""The field "keep" of the panels."""

from dataclasses import replace

import pytest
from drive import PANELS, after, mapper_panel, run, settled, status
from PIL import Image

from helpers.inversion import invert
from helpers.methods.directions import alpha_for, global_direction
from helpers.panels import GlobalPanel

ANGRY = "an angry person"


@pytest.fixture(scope="module")
def settled_domain(domain):
    """The avatars, whose first prompt keeps a hat and a beard."""
    own = {domain.prompts[0]: ("hat", "beard")}
    return replace(settled(domain), keep_defaults=own)


@pytest.mark.parametrize("name", PANELS)
def test_the_field_shows_the_domains_own_until_a_hand_changes_it(settled_domain, tmp_path, name):
    panel = PANELS[name](settled_domain, tmp_path)
    assert panel.kept.value == panel.shown_keep == "hat, beard"
    panel.prompt.value = ANGRY
    assert panel.kept.value == panel.shown_keep == ""
    panel.kept.value = "glasses"
    panel.prompt.value = settled_domain.prompts[0]
    assert panel.kept.value == panel.shown_keep == "glasses"


@pytest.mark.parametrize("name", PANELS)
def test_a_saved_png_says_what_is_kept(settled_domain, tmp_path, name):
    panel = PANELS[name](settled_domain, tmp_path)
    texts = []
    for keep in ("hat, beard", ""):
        panel.kept.value = keep
        run(panel)
        panel.exports.png.click()
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        texts.append(Image.open(newest).text["Keep"])
    assert texts == ["hat, beard", "nothing"]


def test_the_picture_and_alpha_follow_the_field(domain, tmp_path):
    panel = GlobalPanel(domain, invert, global_direction, folder=tmp_path)
    panel.prompt.value = "a surprised person"
    s = domain.generator.styles(panel.chosen.w_plus)
    seen = {}
    for keep in ("", "sunglasses"):
        panel.kept.value = keep
        alpha = alpha_for(domain, s, domain.neutral, "a surprised person", keep).item()
        assert panel.strength.value == pytest.approx(alpha, abs=0.051)
        seen[after(panel)] = alpha
    assert len(seen) == 2


def test_what_cannot_be_kept_is_one_sentence(domain, tmp_path):
    panel = GlobalPanel(domain, invert, global_direction, folder=tmp_path)
    panel.kept.value = "eyeglasses"
    assert "cannot keep" in status(panel) and panel.strength.disabled
    panel.kept.value = ""
    assert "cannot keep" not in status(panel) and not panel.strength.disabled


def test_the_mapper_of_other_words_is_another_one(settled_domain, tmp_path):
    panel = mapper_panel(settled_domain, tmp_path)
    assert panel.found is not None
    panel.kept.value = "glasses"
    assert panel.found is None and "no mapper for this prompt yet" in status(panel)
    run(panel)
    assert panel.found[0] == -0.2
    panel.kept.value = "hat, beard"
    assert panel.found[0] == 0.3


def test_the_papers_objective_says_that_it_keeps_nothing(settled_domain, tmp_path):
    panel = PANELS["optimization"](settled_domain, tmp_path)
    panel.objective.value = "paper"
    run(panel)
    assert "objective keeps nothing." in status(panel) and panel.shown_keep == ""
