"""Captions: sentences that name any of an avatar's attributes, in many phrasings."""

from world import ATTRIBUTES, hair_is_visible

PEOPLE = ("a person", "a man", "a woman", "a girl", "a boy", "someone", "a face", "a guy", "a lady", "a human",
          "an avatar", "a character")  # used whatever the attributes are, so that no stereotype is learned
FRAMES = ("{}", "{}", "a picture of {}", "a photo of {}", "a cartoon of {}", "a drawing of {}", "an image of {}",
          "a portrait of {}", "{}.", "an avatar of {}", "this is {}")

# How each choice is said. Kinds of phrase: "with" (a person with ...), "is" (a person who is ..., a ... person),
# "wearing" (a person wearing ...).
_HAIR_WORDS = {
    "black": ("black", "dark black"), "brown": ("brown", "brunette"), "blonde": ("blonde", "blond", "yellow"),
    "red": ("red", "orange red"), "gray": ("gray", "grey"), "pink": ("pink",), "purple": ("purple",),
    "blue": ("blue",), "green": ("green",),
}
_SKIN_WORDS = {"pale": ("pale", "light", "white"), "tan": ("tan", "tanned"), "brown": ("brown",),
               "dark": ("dark", "very dark")}
_TOPS = {
    "short hair": {"with": ("short hair", "a short haircut")},
    "curly hair": {"with": ("curly hair", "curls", "frizzy hair")},
    "long hair": {"with": ("long hair", "long straight hair", "hair down to the shoulders")},
    "afro": {"with": ("an afro", "afro hair", "big hair", "a big afro")},
    "bob": {"with": ("a bob", "a bob cut", "chin length hair", "a bob haircut")},
    "bun": {"with": ("a bun", "a top knot", "hair tied up", "a hair bun")},
    "dreadlocks": {"with": ("dreadlocks", "dreads", "braided hair")},
    "bald": {"with": ("no hair", "a shaved head", "a bald head"), "is": ("bald", "completely bald")},
    "beanie": {"wearing": ("a beanie", "a winter hat", "a woolly hat", "a knitted hat")},
    "hat": {"wearing": ("a hat", "a wide hat", "a brimmed hat")},
    "turban": {"wearing": ("a turban",)},
    "hijab": {"wearing": ("a hijab", "a veil")},
}
_EXPRESSIONS = {
    "neutral": {"with": ("a neutral expression", "a serious face", "a blank look"), "is": ("serious", "calm")},
    "smiling": {"with": ("a smile", "a gentle smile"), "is": ("smiling", "happy", "content")},
    "laughing": {"with": ("a laugh", "a big laugh"), "is": ("laughing", "joyful", "very happy", "laughing out loud")},
    "sad": {"with": ("a sad face", "a frown"), "is": ("sad", "unhappy", "upset")},
    "angry": {"with": ("an angry face", "clenched teeth"), "is": ("angry", "mad", "very angry")},
    "surprised": {"with": ("a surprised look", "an open mouth"), "is": ("surprised", "shocked", "scared")},
    "winking": {"with": ("a wink", "one eye closed"), "is": ("winking", "winking at you")},
}
_GLASSES = {
    "none": {"with": ("no glasses",), "is": ("without glasses", "not wearing glasses")},
    "glasses": {"with": ("glasses", "eyeglasses"), "wearing": ("glasses", "eyeglasses", "reading glasses")},
    "sunglasses": {"with": ("sunglasses", "dark glasses"),
                   "wearing": ("sunglasses", "dark glasses", "black sunglasses")},
}
_FACIAL_HAIR = {
    "none": {"with": ("no beard", "no facial hair", "no moustache"), "is": ("clean shaven", "without a beard")},
    "beard": {"with": ("a beard", "a full beard"), "is": ("bearded",)},
    "moustache": {"with": ("a moustache", "a mustache")},
}
_CLOTHES = {"t-shirt": ("t-shirt", "tee shirt", "shirt"), "hoodie": ("hoodie", "hooded sweater"),
            "blazer": ("blazer", "jacket", "suit"), "overalls": ("overalls", "dungarees")}


def _phrase(attribute, choice, rng):
    """One phrase (kind, words) for an attribute's choice."""
    if attribute == "hair_color":
        word = rng.choice(_HAIR_WORDS[choice])
        return ("is", f"{word} haired") if rng.random() < 0.25 else ("with", f"{word} hair")
    if attribute == "skin":
        word = rng.choice(_SKIN_WORDS[choice])
        return ("is", f"{word} skinned") if rng.random() < 0.3 else ("with", f"{word} skin")
    if attribute == "clothes":
        word = rng.choice(_CLOTHES[choice])
        return "wearing", word if choice == "overalls" else f"a {word}"
    if attribute == "clothes_color":
        return "wearing", f"{choice} clothes"
    if attribute == "background":
        return "before", f"{'an' if choice[0] in 'aeiou' else 'a'} {choice} background"
    said = {"top": _TOPS, "expression": _EXPRESSIONS, "glasses": _GLASSES, "facial_hair": _FACIAL_HAIR}
    said = said[attribute][choice]
    kinds = [kind for kind, words in said.items() for _ in words]
    kind = rng.choice(kinds)
    return kind, rng.choice(said[kind])


def caption(choice, rng):
    """A sentence true of an avatar, and what it says: (text, {attribute number: choice}).

    Args: choice: a row of `world.draw`; rng: `random.Random`.
    """
    names = list(ATTRIBUTES)
    visible = bool(hair_is_visible(choice[None])[0])
    usable = [i for i, name in enumerate(names) if name != "hair_color" or visible]
    # What people ask for most is named most; clothes and background are named seldom.
    weights = [0.5 if names[i] in ("clothes", "clothes_color", "background", "skin") else 1 for i in usable]
    count = rng.choices((0, 1, 2, 3, 4), (1, 12, 8, 4, 2))[0]
    said = {}
    while len(said) < count:
        said[rng.choices(usable, weights)[0]] = None
    order = list(said)
    rng.shuffle(order)
    parts = {"is": [], "with": [], "wearing": [], "before": []}
    for i in order:
        kind, words = _phrase(names[i], ATTRIBUTES[names[i]][choice[i]], rng)
        parts[kind].append(words)
    who = rng.choice(PEOPLE)
    text = who
    if parts["is"] and " " not in parts["is"][0] and rng.random() < 0.6:  # "a bald person"
        article, noun = who.split(" ", 1) if " " in who else ("a", "person")
        word = parts["is"].pop(0)
        text = f"{'an' if word[0] in 'aeiou' else 'a'} {word} {noun}"
    if parts["is"]:
        text += f" {rng.choice(('who is', 'that is', ''))} ".replace("  ", " ") + " and ".join(parts["is"])
    if parts["with"]:
        text += f" {rng.choice(('with', 'with', 'who has', 'having'))} " + " and ".join(parts["with"])
    if parts["wearing"]:
        text += f" {rng.choice(('wearing', 'wearing', 'with', 'in'))} " + " and ".join(parts["wearing"])
    if parts["before"]:
        text += f" {rng.choice(('before', 'in front of', 'on', 'with'))} " + parts["before"][0]
    if rng.random() < 0.06 and len(order) == 1:  # the bare words, as people type them
        text = next((words[0] for words in parts.values() if words), text)
    text = rng.choice(FRAMES).format(text)
    return text, {i: int(choice[i]) for i in order}
