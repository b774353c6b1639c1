"""What measures is right itself: the judge and the recorder of margins in tests/bench/. (No test measures a time.)"""

import sys

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import judge  # noqa: E402
import margins  # noqa: E402


class Sees:
    """A classifier that reads what it is told: rows of choices' numbers instead of images."""

    attributes = {"glasses": ["none", "glasses"], "top": ["afro", "bald"], "hair_color": ["black", "purple"],
                  "facial_hair": ["none", "beard"], "clothes": ["hoodie", "shirt"]}

    def read(self, rows):
        return {name: (rows[:, i].tolist(), None) for i, name in enumerate(self.attributes)}


def test_the_judge_counts_what_was_asked_and_what_stayed():
    before = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    after = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1]])
    success, kept = judge.judge(Sees(), before, after, "a person with glasses")
    assert success == [True, False]  # the second face wore glasses before
    assert kept["top"] == [True, True] and kept["hair_color"] == [True, False] and kept["clothes"] == [True, False]
    assert judge.summary({"a person with glasses": (success, kept)}) == pytest.approx((0.5, 0.75))


def test_the_colour_of_hair_that_is_gone_is_not_judged():
    before, after = torch.tensor([[0, 0, 0, 0, 0]]), torch.tensor([[0, 1, 1, 0, 0]])
    success, kept = judge.judge(Sees(), before, after, "a bald person")
    assert success == [True] and kept["hair_color"] == [] and kept["glasses"] == [True]


def test_margins_record_both_sides_and_leave_out_what_no_assertion_needs():
    sources = ["import math", "a = 1", "unused = 5", "def double(x):\n    return 2 * x",
               "if a:\n    assert double(a) > 3 and a < 2\nassert a == 1"]
    kept, seen = margins.needed(sources), []
    assert len(kept) == 4 and not any("unused" in source for source in kept)
    exec("\n".join(kept), {"asserted": lambda *sides: seen.append(sides)})  # the false assertion stops nothing
    assert seen == [("double(a) > 3", 2, 3), ("a < 2", 1, 2), ("a == 1", 1, 1)]
