"""What measures is right itself: the one measure of an edit, and the recorder of margins. (No test measures a time.)"""

import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from helpers.judging import judge, summary

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import margins  # noqa: E402


class Sees:
    """A classifier that reads what it is told: rows of choices' numbers instead of images. Halves are less sure."""

    attributes = {"glasses": ["none", "glasses"], "top": ["afro", "bald"], "hair_color": ["black", "purple"],
                  "facial_hair": ["none", "beard"], "clothes": ["hoodie", "shirt"]}

    def read(self, rows):
        likely = torch.where(rows == rows.floor(), 0.9, 0.6)
        return {name: (rows[:, i].int(), likely[:, i]) for i, name in enumerate(self.attributes)}


DOMAIN = SimpleNamespace(
    classifier=Sees(), asked={"a person with glasses": ("glasses", "glasses"), "a bald person": ("top", "bald")},
    hidden={"hair_color": ("top", "bald")}, related={"top": ("facial_hair",)})


def test_the_judge_counts_what_was_asked_and_what_stayed():
    before = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    after = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1]])
    verdict = judge(DOMAIN, before, after, "a person with glasses")
    assert verdict.there == [True, False] and verdict.n == 2  # the second face wore glasses before
    kept = verdict.kept
    assert kept["top"] == [True, True] and kept["hair_color"] == [True, False] and kept["clothes"] == [True, False]
    assert summary([verdict]) == pytest.approx((0.5, 0.75))
    assert str(verdict) == "asked attribute there  50%, others unchanged  75% (n = 2)"
    with pytest.raises(ValueError, match='What "a hat" asks for is not known here'):
        judge(DOMAIN, before, after, "a hat")


def test_what_is_hidden_and_what_goes_with_it_is_not_judged():
    before, after = torch.tensor([[0, 0, 0, 0, 0]]), torch.tensor([[0, 1, 1, 1, 0]])
    verdict = judge(DOMAIN, before, after, "a bald person")
    assert verdict.there == [True] and verdict.kept["hair_color"] == [] and verdict.kept["glasses"] == [True]
    assert "facial_hair" not in verdict.kept


def test_the_judge_can_leave_out_what_it_is_not_sure_of():
    before = torch.tensor([[0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0], [0, 0, 0.5, 0, 0]])
    after = torch.tensor([[1, 1, 0.5, 1, 0], [1, 0, 0, 0.5, 0], [0.5, 0, 1, 0, 0]])
    every = judge(DOMAIN, before, after, "a person with glasses")
    sure = judge(DOMAIN, before, after, "a person with glasses", sure=0.7)
    assert every.there == sure.there == [True, True, False]  # what was asked for counts in any case
    assert every.kept["top"] == [False, True, True] and sure.kept["top"] == [False, True]
    assert every.kept["hair_color"] == [True, False] and sure.kept["hair_color"] == [True]
    assert sure.kept["facial_hair"] == [False, True] and sure.kept["clothes"] == [True] * 3


def test_margins_record_both_sides_and_leave_out_what_no_assertion_needs():
    sources = ["import math", "a = 1", "unused = 5", "def double(x):\n    return 2 * x",
               "if a:\n    assert double(a) > 3 and a < 2\nassert a == 1"]
    kept, seen = margins.needed(sources), []
    assert len(kept) == 4 and not any("unused" in source for source in kept)
    exec("\n".join(kept), {"asserted": lambda *sides: seen.append(sides)})  # the false assertion stops nothing
    assert seen == [("double(a) > 3", 2, 3), ("a < 2", 1, 2), ("a == 1", 1, 1)]
