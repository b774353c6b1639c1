"""Captions: sentences that name any of an avatar's attributes, in many phrasings."""

from .world import ATTRIBUTES, hair_is_visible

# Used whatever the attributes are, so that no stereotype is learned.
PEOPLE = ("a person", "a man", "a woman", "a girl", "a boy", "someone", "a face", "a guy",
          "a lady", "a human", "an avatar", "a character")
FRAMES = ("{}", "{}", "a picture of {}", "a photo of {}", "a cartoon of {}", "a drawing of {}",
          "an image of {}", "a portrait of {}", "{}.", "an avatar of {}", "this is {}")

# How each choice is said. Kinds of phrase: "with" (a person with ...), "is" (a person who is ...,
# a ... person), "wearing" (a person wearing ...).
HAIR_WORDS = {
    "black": ("black", "dark black"), "brown": ("brown", "brunette"),
    "blonde": ("blonde", "blond", "yellow"), "red": ("red", "orange red"),
    "gray": ("gray", "grey"), "pink": ("pink",), "purple": ("purple",), "blue": ("blue",),
    "green": ("green",),
}
SKIN_WORDS = {
    "pale": ("pale", "light", "white"), "tan": ("tan", "tanned"), "brown": ("brown",),
    "dark": ("dark", "very dark"),
}
CLOTHES = {
    "t-shirt": ("t-shirt", "tee shirt", "shirt"), "hoodie": ("hoodie", "hooded sweater"),
    "blazer": ("blazer", "jacket", "suit"), "overalls": ("overalls", "dungarees"),
}
PHRASES = {
    "top": {
        "short hair": {"with": ("short hair", "a short haircut")},
        "curly hair": {"with": ("curly hair", "curls", "frizzy hair")},
        "long hair": {"with": ("long hair", "long straight hair", "hair down to the shoulders")},
        "afro": {"with": ("an afro", "afro hair", "big hair", "a big afro")},
        "bob": {"with": ("a bob", "a bob cut", "chin length hair", "a bob haircut")},
        "bun": {"with": ("a bun", "a top knot", "hair tied up", "a hair bun")},
        "dreadlocks": {"with": ("dreadlocks", "dreads", "braided hair")},
        "bald": {"with": ("no hair", "a shaved head", "a bald head"),
                 "is": ("bald", "completely bald")},
        "beanie": {"wearing": ("a beanie", "a winter hat", "a woolly hat", "a knitted hat")},
        "hat": {"wearing": ("a hat", "a wide hat", "a brimmed hat")},
        "turban": {"wearing": ("a turban",)},
        "hijab": {"wearing": ("a hijab", "a veil")},
    },
    "expression": {
        "neutral": {"with": ("a neutral expression", "a serious face", "a blank look"),
                    "is": ("serious", "calm")},
        "smiling": {"with": ("a smile", "a gentle smile"), "is": ("smiling", "happy", "content")},
        "laughing": {"with": ("a laugh", "a big laugh"),
                     "is": ("laughing", "joyful", "very happy", "laughing out loud")},
        "sad": {"with": ("a sad face", "a frown"), "is": ("sad", "unhappy", "upset")},
        "angry": {"with": ("an angry face", "clenched teeth"),
                  "is": ("angry", "mad", "very angry")},
        "surprised": {"with": ("a surprised look", "an open mouth"),
                      "is": ("surprised", "shocked", "scared")},
        "winking": {"with": ("a wink", "one eye closed"), "is": ("winking", "winking at you")},
    },
    "glasses": {
        "none": {"with": ("no glasses",), "is": ("without glasses", "not wearing glasses")},
        "glasses": {"with": ("glasses", "eyeglasses"),
                    "wearing": ("glasses", "eyeglasses", "reading glasses")},
        "sunglasses": {"with": ("sunglasses", "dark glasses"),
                       "wearing": ("sunglasses", "dark glasses", "black sunglasses")},
    },
    "facial_hair": {
        "none": {"with": ("no beard", "no facial hair", "no moustache"),
                 "is": ("clean shaven", "without a beard")},
        "beard": {"with": ("a beard", "a full beard"), "is": ("bearded",)},
        "moustache": {"with": ("a moustache", "a mustache")},
    },
}
SELDOM = ("clothes", "clothes_color", "background", "skin")  # people ask for others more often


def article(word):
    """"a" or "an"."""
    return "an" if word[0] in "aeiou" else "a"


def phrase_of(attribute, choice, rng):
    """One phrase for an attribute's choice: (kind, words)."""
    if attribute == "hair_color":
        word = rng.choice(HAIR_WORDS[choice])
        if rng.random() < 0.25:
            return "is", f"{word} haired"
        return "with", f"{word} hair"
    if attribute == "skin":
        word = rng.choice(SKIN_WORDS[choice])
        if rng.random() < 0.3:
            return "is", f"{word} skinned"
        return "with", f"{word} skin"
    if attribute == "clothes":
        word = rng.choice(CLOTHES[choice])
        return "wearing", word if choice == "overalls" else f"a {word}"
    if attribute == "clothes_color":
        return "wearing", f"{choice} clothes"
    if attribute == "background":
        return "before", f"{article(choice)} {choice} background"
    phrases = PHRASES[attribute][choice]
    kind = rng.choice([kind for kind, words in phrases.items() for _ in words])
    return kind, rng.choice(phrases[kind])


def attributes_to_name(choice, rng):
    """The numbers of zero to four attributes, in an order by chance."""
    names = list(ATTRIBUTES)
    usable = list(range(len(names)))
    if not hair_is_visible(choice[None])[0]:
        usable.remove(names.index("hair_color"))
    weights = [0.5 if names[i] in SELDOM else 1 for i in usable]
    count = rng.choices((0, 1, 2, 3, 4), (1, 12, 8, 4, 2))[0]
    numbers = []
    while len(numbers) < count:
        number = rng.choices(usable, weights)[0]
        if number not in numbers:
            numbers.append(number)
    rng.shuffle(numbers)
    return numbers


def caption(choice, rng):
    """A sentence true of an avatar, and what it says: (text, {attribute number: choice}).

    Args: choice: a row of `world.draw`'s choices; rng: `random.Random`.
    """
    names, numbers = list(ATTRIBUTES), attributes_to_name(choice, rng)
    parts = {"is": [], "with": [], "wearing": [], "before": []}
    for i in numbers:
        kind, words = phrase_of(names[i], ATTRIBUTES[names[i]][choice[i]], rng)
        parts[kind].append(words)
    who = rng.choice(PEOPLE)
    text = who
    if parts["is"] and " " not in parts["is"][0] and rng.random() < 0.6:  # "a bald person"
        noun = who.split(" ", 1)[1] if " " in who else "person"
        word = parts["is"].pop(0)
        text = f"{article(word)} {word} {noun}"
    if parts["is"]:
        link = f" {rng.choice(('who is', 'that is', ''))} ".replace("  ", " ")
        text += link + " and ".join(parts["is"])
    if parts["with"]:
        link = rng.choice(("with", "with", "who has", "having"))
        text += f" {link} " + " and ".join(parts["with"])
    if parts["wearing"]:
        link = rng.choice(("wearing", "wearing", "with", "in"))
        text += f" {link} " + " and ".join(parts["wearing"])
    if parts["before"]:
        link = rng.choice(("before", "in front of", "on", "with"))
        text += f" {link} " + parts["before"][0]
    if rng.random() < 0.06 and len(numbers) == 1:  # the bare words, as people type them
        text = next((words[0] for words in parts.values() if words), text)
    text = rng.choice(FRAMES).format(text)
    return text, {i: int(choice[i]) for i in numbers}


class Speaker:
    """Says captions of avatars.

    Args: choices: int64 [N, columns] of `world.draw`.
    """

    def __init__(self, choices):
        self.choices = choices

    def say(self, number, rng):
        """A caption of avatar `number`, and what it says: see `caption`."""
        return caption(self.choices[number], rng)
