"""Captions: sentences that name any of an avatar's attributes, in many phrasings."""

from data.worlds.captions import Captions, article

from .world import AVATARS

# Used whatever the attributes are, so that no stereotype is learned.
PEOPLE = ("a person", "a man", "a woman", "a girl", "a boy", "someone", "a face", "a guy",
          "a lady", "a human", "an avatar", "a character")
FRAMES = ("{}", "{}", "a picture of {}", "a photo of {}", "a cartoon of {}", "a drawing of {}",
          "an image of {}", "a portrait of {}", "{}.", "an avatar of {}", "this is {}")

# How each choice is said.
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


class CaptionsOfAvatars(Captions):
    """Says sentences that are true of avatars."""

    who, frames = PEOPLE, FRAMES
    is_links, with_links = ("who is", "that is", ""), ("with", "with", "who has", "having")

    def phrase(self, attribute, choice, rng):
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
        return super().phrase(attribute, choice, rng)

    def nameable(self, row):
        """The numbers of all attributes, but for the hair's colour where no hair can be seen."""
        numbers = list(range(len(self.names)))
        if not self.world.hair_is_visible(row[None])[0]:
            numbers.remove(self.names.index("hair_color"))
        return numbers

    def rows(self, choices):
        """What `caption` is told of avatars: their choices, int64 [N, columns]."""
        return choices


CAPTIONS = CaptionsOfAvatars(AVATARS, PHRASES, SELDOM)
