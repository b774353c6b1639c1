"""How good the cats' networks are, on renders and seeds that no training used.

    python -m data.cats.recipe.evaluate      prints and writes evaluation.json
"""

from pathlib import Path

from data.worlds.evaluate import held_out_renders, measure, measure_inversion, write
from helpers.domains import DATA, load_domain

from .world import CATS

WORK = Path(__file__).resolve().parents[3] / "build" / "cats"
# Zero-shot prompts: one sentence per choice, none tuned.
ZERO_SHOT = {
    "coat": {name: f"a {name} cat" for name in CATS.attributes["coat"]} | {
        "orange": "an orange cat"},
    "pattern": {
        "plain": "a cat with a plain coat", "striped": "a striped cat",
        "spotted": "a spotted cat", "patched": "a cat with patches",
        "marbled": "a cat with swirls", "masked": "a cat with a dark face"},
    "eyes": {
        "wide": "a cat with wide eyes", "normal": "a cat with normal eyes",
        "sleepy": "a cat with sleepy eyes", "closed": "a cat with closed eyes",
        "angry": "an angry cat", "tiny": "a cat with tiny eyes",
        "lashes": "a cat with long lashes", "glasses": "a cat with glasses",
        "monocle": "a cat with a monocle"},
    "mouth": {
        "smiling": "a smiling cat", "content": "a content cat", "surprised": "a surprised cat",
        "shouting": "a shouting cat", "grinning": "a grinning cat"},
    "accessory": {
        "none": "a cat with no accessory", "bow": "a cat with a bow", "hat": "a cat with a hat",
        "headphones": "a cat with headphones", "scarf": "a cat with a scarf",
        "bandana": "a cat with a bandana", "collar": "a cat with a collar",
        "bell": "a cat with a bell", "necklace": "a cat with a necklace"},
}
# Words that no caption contains, each put in the place of its choice's sentence.
SYNONYMS = [
    ("coat", "black", "a black kitty"),
    ("eyes", "glasses", "a cat with spectacles"),
    ("eyes", "angry", "a furious cat"),
    ("mouth", "surprised", "an astonished cat"),
    ("coat", "orange", "a ginger cat"),
    ("accessory", "bow", "a cat with a ribbon"),
]
COMPOUNDS = {word: f"a {word} cat" for word in CATS.compounds}


def main():
    """Measure everything on 6,000 renders that no training used."""
    domain, test = load_domain("cats", "cpu"), held_out_renders(CATS, WORK)
    report = measure(domain, CATS, test, ZERO_SHOT, SYNONYMS, COMPOUNDS)
    report["inversion"] = measure_inversion(domain)
    write(report, DATA / "cats")


if __name__ == "__main__":
    main()
