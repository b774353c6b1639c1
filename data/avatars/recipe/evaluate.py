"""How good the avatars' networks are, on renders and seeds that no training used.

    python -m data.avatars.recipe.evaluate      prints and writes evaluation.json
"""

from pathlib import Path

from data.worlds.evaluate import held_out_renders, measure, measure_inversion, write
from helpers.domains import DATA, load_domain

from .train_identity import verification
from .world import AVATARS

WORK = Path(__file__).resolve().parents[3] / "build" / "models"
# Zero-shot prompts: one sentence per choice, none tuned.
ZERO_SHOT = {
    "hair_color": {name: f"a person with {name} hair" for name in AVATARS.attributes["hair_color"]},
    "glasses": {
        "none": "a person with no glasses", "glasses": "a person with glasses",
        "sunglasses": "a person with sunglasses"},
    "facial_hair": {
        "none": "a person with no beard", "beard": "a person with a beard",
        "moustache": "a person with a moustache"},
    "top": {
        "short hair": "a person with short hair", "curly hair": "a person with curly hair",
        "long hair": "a person with long hair", "afro": "a person with an afro",
        "bob": "a person with a bob", "bun": "a person with a bun",
        "dreadlocks": "a person with dreadlocks", "bald": "a bald person",
        "beanie": "a person with a beanie", "hat": "a person with a hat",
        "turban": "a person with a turban", "hijab": "a person with a hijab"},
    "expression": {
        "neutral": "a person with a neutral expression", "smiling": "a smiling person",
        "laughing": "a laughing person", "sad": "a sad person", "angry": "an angry person",
        "surprised": "a surprised person", "winking": "a winking person"},
}
# Words that no caption contains, each put in the place of its choice's sentence.
SYNONYMS = [
    ("glasses", "glasses", "a person with spectacles"),
    ("glasses", "sunglasses", "a person wearing shades"),
    ("hair_color", "red", "a person with ginger hair"),
    ("hair_color", "purple", "a person with violet hair"),
    ("hair_color", "blonde", "a person with golden hair"),
    ("hair_color", "gray", "a person with silver hair"),
    ("expression", "angry", "a furious person"),
    ("expression", "angry", "an enraged person"),
    ("expression", "surprised", "an astonished person"),
    ("expression", "surprised", "an amazed person"),
    ("expression", "sad", "a sorrowful person"),
    ("expression", "sad", "a gloomy person"),
    ("expression", "smiling", "a grinning person"),
    ("expression", "laughing", "a giggling person"),
    ("facial_hair", "beard", "a person with a goatee"),
    ("top", "bald", "a hairless person"),
]


def main():
    """Measure everything on 6,000 renders that no training used."""
    domain, test = load_domain("avatars", "cpu"), held_out_renders(AVATARS, WORK)
    report = measure(domain, AVATARS, test, ZERO_SHOT, SYNONYMS, {})
    choices, _, pixels = test
    report["identity: AUC on strangers"] = verification(domain.identity, choices, pixels)
    report["inversion"] = measure_inversion(domain)
    write(report, DATA / "avatars")


if __name__ == "__main__":
    main()
