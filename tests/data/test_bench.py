"""What measures is right itself: the measure of an edit, the recorder of margins, the tables.

No test measures a time.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from helpers.evaluation import evaluate_edit, summary
from tests.bench import margins, results, tables

KEPT = sorted(results.KEPT.glob("*.json"))


class Sees:
    """A classifier that reads what it is told: rows of choices' numbers instead of images.

    Of halves it is less sure.
    """

    attributes = {"glasses": ["none", "glasses"], "top": ["afro", "bald"],
                  "hair_color": ["black", "purple"], "facial_hair": ["none", "beard"],
                  "clothes": ["hoodie", "shirt"]}

    def read(self, rows):
        likely = torch.where(rows == rows.floor(), 0.9, 0.6)
        return {name: (rows[:, i].int(), likely[:, i]) for i, name in enumerate(self.attributes)}


DOMAIN = SimpleNamespace(
    classifier=Sees(), entangled={"top": ("facial_hair",)},
    prompt_targets={"a person with glasses": ("glasses", "glasses"),
                    "a bald person": ("top", "bald")}, compounds={},
    occluded_by={"hair_color": ("top", "bald")})


def test_an_evaluation_counts_what_was_asked_and_what_stayed():
    before = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    after = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1]])
    found = evaluate_edit(DOMAIN, before, after, "a person with glasses")
    assert found.there == [True, False] and found.n == 2  # the second face wore glasses before
    assert found.kept["top"] == [True, True]
    assert found.kept["hair_color"] == [True, False] and found.kept["clothes"] == [True, False]
    assert summary([found]) == pytest.approx((0.5, 0.75))
    assert str(found) == "asked attribute there  50%, others unchanged  75% (n = 2)"
    with pytest.raises(ValueError, match='What "a hat" asks for is not known here'):
        evaluate_edit(DOMAIN, before, after, "a hat")


def test_what_is_occluded_and_what_is_entangled_is_not_counted():
    before, after = torch.tensor([[0, 0, 0, 0, 0]]), torch.tensor([[0, 1, 1, 1, 0]])
    found = evaluate_edit(DOMAIN, before, after, "a bald person")
    assert found.there == [True]
    assert found.kept["hair_color"] == [] and found.kept["glasses"] == [True]
    assert "facial_hair" not in found.kept


def test_an_evaluation_can_leave_out_what_the_classifier_is_not_sure_of():
    before = torch.tensor([[0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0], [0, 0, 0.5, 0, 0]])
    after = torch.tensor([[1, 1, 0.5, 1, 0], [1, 0, 0, 0.5, 0], [0.5, 0, 1, 0, 0]])
    every = evaluate_edit(DOMAIN, before, after, "a person with glasses")
    sure = evaluate_edit(DOMAIN, before, after, "a person with glasses", sure=0.7)
    assert every.there == sure.there == [True, True, False]  # what was asked for always counts
    assert every.kept["top"] == [False, True, True] and sure.kept["top"] == [False, True]
    assert every.kept["hair_color"] == [True, False] and sure.kept["hair_color"] == [True]
    assert sure.kept["facial_hair"] == [False, True] and sure.kept["clothes"] == [True] * 3


def test_margins_record_both_sides_and_leave_out_what_no_assertion_needs():
    sources = ["import math", "a = 1", "unused = 5", "def double(x):\n    return 2 * x",
               "if a:\n    assert double(a) > 3 and a < 2\nassert a == 1"]
    kept, seen = margins.needed(sources), []
    assert len(kept) == 4 and not any("unused" in source for source in kept)
    # the false assertion stops nothing
    exec("\n".join(kept), {"asserted": lambda *sides: seen.append(sides)})
    assert seen == [("double(a) > 3", 2, 3), ("a < 2", 1, 2), ("a == 1", 1, 1)]


def test_the_tables_of_the_bench_are_written_from_its_results():
    text = tables.README.read_text("utf-8")
    assert tables.filled(text) == text, "run python -m tests.bench.tables"
    assert len(tables.MARKED.findall(text)) == text.count("<!-- end -->") >= 10


def test_a_changed_result_changes_its_table(monkeypatch, tmp_path):
    content = json.loads((results.KEPT / "stress.json").read_text("utf-8"))
    content["attacks"]["files"]["tried"] = 77
    (tmp_path / "stress.json").write_text(json.dumps(content))
    before = tables.table("stress")
    monkeypatch.setattr(results, "KEPT", tmp_path)
    assert "|77|" in tables.table("stress") and "|77|" not in before


def test_an_unknown_table_is_named():
    with pytest.raises(KeyError, match="no table 'weather'"):
        tables.filled("<!-- table: weather -->\n<!-- end -->")


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_a_result_says_when_where_and_on_what_it_was_measured(path):
    result = json.loads(path.read_text("utf-8"))
    assert {"command", "date", "machine", "faces", "seed"} <= set(result)
    assert len(result["date"]) == len("2026-01-01")
    assert result["machine"]["gpu"] or result["machine"]["cores"]


def test_methods_are_kept_beside_others_of_the_same_faces(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "BUILD", tmp_path)
    results.save_methods("counts", {"1": {"there": 0.5}}, faces=2, seed=0)
    results.save_methods("counts", {"2": {"there": 0.7}}, faces=2, seed=0)
    assert list(results.load("counts", keep=False)["methods"]) == ["1", "2"]
    results.save_methods("counts", {"2": {"there": 0.6}}, faces=3, seed=0)  # other faces
    assert list(results.load("counts", keep=False)["methods"]) == ["2"]


def test_the_cover_is_a_photograph_and_edits_of_it(domain, tmp_path, face_found, monkeypatch):
    """README.md's picture, by the avatars and in one step."""
    pytest.importorskip("face_recognition_models", reason="dlib's descriptor is not installed")
    from tests.bench import photographs

    monkeypatch.setattr(photographs, "COVER_PROMPTS", domain.prompts[:3])
    few = replace(domain.settings, encoding=replace(domain.settings.encoding, steps=1),
                  tuning=replace(domain.settings.tuning, steps=1))
    photographs.write_cover(replace(domain, align=True, settings=few), tmp_path / "cover.jpg")
    with Image.open(tmp_path / "cover.jpg") as cover:
        assert cover.size == (1608, 435)
