"""What is said of a face: its attributes and choices, and captions in many phrasings."""

ATTRIBUTES = {
    "glasses": ("none", "glasses", "sunglasses"),
    "facial_hair": ("none", "stubble", "moustache", "beard"),
    "hat": ("no", "yes"),
    "expression": ("neutral", "smile", "laugh", "surprised", "angry", "sad"),
    "mouth": ("closed", "teeth", "open"),
    "hair": ("black", "brown", "blonde", "red", "grey"),
    "length": ("bald", "short", "medium", "long"),
    "curly": ("straight", "wavy", "curly"),
    "fringe": ("no", "yes"),
    "sex": ("woman", "man"),
    "age": ("child", "young", "middle", "old"),
    "makeup": ("no", "yes"),
    "earrings": ("no", "yes"),
    "skin": ("pale", "medium", "tanned", "dark"),
    "gaze": ("left", "front", "right"),
    "background": ("dark", "bright", "green", "blue"),
}
NAMES = tuple(ATTRIBUTES)

# Kinds of phrase: "with" (a person with ...), "is" (a person who is ..., a ... person), "noun"
# (in place of a person), "before" (a person in front of ...).
PHRASES = {
    ("glasses", "none"): {
        "with": ("no glasses",),
        "is": ("without glasses", "not wearing glasses"),
    },
    ("glasses", "glasses"): {
        "with": ("glasses", "eyeglasses", "reading glasses", "specs", "eyewear", "bifocals",
                 "horn-rimmed glasses"),
        "is": ("wearing glasses", "wearing eyewear"),
    },
    ("glasses", "sunglasses"): {
        "with": ("sunglasses", "dark glasses", "shades"),
        "is": ("wearing sunglasses",),
    },
    ("facial_hair", "none"): {
        "with": ("no beard", "no facial hair", "a shaved chin", "smooth cheeks"),
        "is": ("clean shaven", "beardless"),
    },
    ("facial_hair", "stubble"): {
        "with": ("stubble", "a three-day beard", "bristles"),
        "is": ("unshaven",),
    },
    ("facial_hair", "moustache"): {
        "with": ("a moustache", "a mustache", "a handlebar moustache"),
    },
    ("facial_hair", "beard"): {
        "with": ("a beard", "a full beard", "facial hair", "a goatee", "a bushy beard"),
        "is": ("bearded",),
    },
    ("hat", "no"): {
        "with": ("no hat",),
        "is": ("without a hat", "bareheaded"),
    },
    ("hat", "yes"): {
        "with": ("a hat", "a hat on the head", "a beanie", "a sunhat", "headgear"),
        "is": ("wearing a hat", "wearing a headgear", "wearing a helmet"),
    },
    ("expression", "neutral"): {
        "with": ("a neutral expression", "a serious face"),
        "is": ("serious", "calm"),
    },
    ("expression", "smile"): {
        "with": ("a smile", "a friendly smile", "a happy face", "a cheerful look", "a smirk"),
        "is": ("smiling", "happy", "cheerful", "beaming", "joyful", "delighted", "amused",
               "pleased", "smirking"),
    },
    ("expression", "laugh"): {
        "with": ("a laugh", "a big laugh"),
        "is": ("laughing", "laughing out loud", "giggling", "chuckling"),
    },
    ("expression", "surprised"): {
        "with": ("a surprised look", "raised eyebrows", "a startled look"),
        "is": ("surprised", "shocked", "amazed", "startled"),
    },
    ("expression", "angry"): {
        "with": ("an angry face", "an angry look"),
        "is": ("angry", "mad", "very angry", "furious", "annoyed"),
    },
    ("expression", "sad"): {
        "with": ("a sad face", "a sad look"),
        "is": ("sad", "unhappy", "miserable", "depressed"),
    },
    ("mouth", "closed"): {
        "with": ("a closed mouth", "closed lips"),
    },
    ("mouth", "teeth"): {
        "with": ("visible teeth", "white teeth"),
        "is": ("showing teeth",),
    },
    ("mouth", "open"): {
        "with": ("an open mouth", "the mouth open"),
    },
    ("hair", "black"): {
        "with": ("black hair", "jet black hair"),
        "is": ("black haired",),
    },
    ("hair", "brown"): {
        "with": ("brown hair", "brunette hair"),
        "is": ("brown haired",),
    },
    ("hair", "blonde"): {
        "with": ("blonde hair", "blond hair", "golden hair", "yellow hair"),
        "is": ("blonde", "blond", "fair haired"),
    },
    ("hair", "red"): {
        "with": ("red hair", "auburn hair", "copper hair", "orange hair"),
        "is": ("red haired",),
        "noun": ("a redhead",),
    },
    ("hair", "grey"): {
        "with": ("grey hair", "gray hair", "white hair"),
        "is": ("grey haired",),
    },
    ("length", "bald"): {
        "with": ("no hair", "a bald head", "a shaved head"),
        "is": ("bald",),
    },
    ("length", "short"): {
        "with": ("short hair", "a short haircut"),
    },
    ("length", "medium"): {
        "with": ("medium length hair", "chin length hair", "a bob cut"),
    },
    ("length", "long"): {
        "with": ("long hair", "hair down to the shoulders"),
        "is": ("long haired",),
    },
    ("curly", "straight"): {
        "with": ("straight hair",),
    },
    ("curly", "wavy"): {
        "with": ("wavy hair",),
    },
    ("curly", "curly"): {
        "with": ("curly hair", "curls", "an afro"),
        "is": ("curly haired",),
    },
    ("fringe", "no"): {
        "with": ("no fringe", "a free forehead"),
    },
    ("fringe", "yes"): {
        "with": ("a fringe", "bangs", "hair on the forehead"),
    },
    ("sex", "woman"): {
        "noun": ("a woman", "a lady", "a female person"),
        "is": ("female", "feminine"),
    },
    ("sex", "man"): {
        "noun": ("a man", "a guy", "a male person"),
        "is": ("male", "masculine"),
    },
    ("age", "child"): {
        "noun": ("a child", "a kid", "a little child", "an infant", "a baby", "a youngster"),
        "is": ("a child", "very young"),
    },
    ("age", "young"): {
        "is": ("young", "a young adult"),
        "noun": ("a young person",),
    },
    ("age", "middle"): {
        "is": ("middle-aged", "middle aged"),
        "noun": ("a middle-aged person",),
    },
    ("age", "old"): {
        "is": ("old", "very old", "aged", "retired"),
        "with": ("wrinkles",),
        "noun": ("an old person", "a senior", "a pensioner", "a grandparent"),
    },
    ("makeup", "no"): {
        "with": ("no make-up", "no makeup"),
    },
    ("makeup", "yes"): {
        "with": ("lipstick", "red lipstick", "make-up", "makeup"),
    },
    ("earrings", "no"): {
        "with": ("no earrings",),
    },
    ("earrings", "yes"): {
        "with": ("earrings",),
        "is": ("wearing earrings",),
    },
    ("skin", "pale"): {
        "with": ("pale skin", "fair skin"),
        "is": ("pale",),
    },
    ("skin", "medium"): {
        "with": ("light skin",),
    },
    ("skin", "tanned"): {
        "with": ("tanned skin", "brown skin", "a tan"),
        "is": ("tanned",),
    },
    ("skin", "dark"): {
        "with": ("dark skin", "black skin"),
        "is": ("dark skinned",),
    },
    ("gaze", "left"): {
        "is": ("looking left", "looking to the left", "turned left"),
    },
    ("gaze", "front"): {
        "is": ("looking at the camera", "looking straight ahead", "facing the camera"),
    },
    ("gaze", "right"): {
        "is": ("looking right", "looking to the right", "turned right"),
    },
    ("background", "dark"): {
        "before": ("a dark background", "a black background"),
    },
    ("background", "bright"): {
        "before": ("a bright background", "a white background"),
    },
    ("background", "green"): {
        "before": ("a green background", "trees"),
    },
    ("background", "blue"): {
        "before": ("a blue background", "the sky"),
    },
}
PEOPLE = ("a person", "a person", "someone", "a face", "a human")
GENDERED = {"man": ("a man", "a guy"), "woman": ("a woman", "a lady")}
FRAMES = ("{}", "{}", "{}", "a photo of {}", "a picture of {}", "a portrait of {}",
          "an image of {}", "{}.", "a photograph of {}", "the face of {}", "this is {}",
          "a close-up of {}")
ORDINARY = ("none", "no", "neutral", "medium", "front")  # choices that are seldom spoken of


def pick_phrase(attribute, choice, rng):
    """One of the phrases of an attribute's choice: (kind, words)."""
    phrases = []
    for kind, several in PHRASES[attribute, choice].items():
        phrases += [(kind, words) for words in several]
    return rng.choice(phrases)


def caption(seen, rng, about=None):
    """A sentence true of a face, and what it says: (text, {attribute number: choice}).

    Args:
        seen: a choice for each attribute, -1 where it is not known; such are never spoken of.
        rng: `random.Random`.
        about: the number of an attribute that it speaks of, beside others.
    """
    known, weights = [], []
    for k, choice in enumerate(seen):
        if choice >= 0:
            known.append((k, int(choice)))
            weights.append(0.15 + (ATTRIBUTES[NAMES[k]][choice] not in ORDINARY))
    count = min(len(known), rng.choice((1, 1, 2, 2, 3)))
    said, parts = {}, {"is": [], "with": [], "before": []}
    noun = rng.choice(PEOPLE)
    while len(said) < count:
        if about is not None and not said:
            k, choice = about, int(seen[about])
        else:
            k, choice = rng.choices(known, weights)[0]
        if k in said:
            continue
        kind, words = pick_phrase(NAMES[k], ATTRIBUTES[NAMES[k]][choice], rng)
        said[k] = choice
        if kind != "noun":
            parts[kind].append(words)
        elif noun in PEOPLE:
            noun = words
        else:  # there is another noun already
            del said[k]
            count -= 1
    sex = NAMES.index("sex")
    if noun in PEOPLE and seen[sex] >= 0 and sex not in said and rng.random() < 0.3:
        noun, said[sex] = rng.choice(GENDERED[ATTRIBUTES["sex"][seen[sex]]]), int(seen[sex])
    one_word = len(parts["is"]) == 1 and rng.random() < 0.5 and " " not in parts["is"][0]
    if one_word and noun.startswith(("a ", "an ")):
        adjective = parts["is"].pop()
        article = "an" if adjective[0] in "aeiou" else "a"
        noun = f"{article} {adjective} {noun.split(' ', 1)[1]}"
    text = noun
    if parts["with"]:
        text += " with " + " and ".join(parts["with"])
    if parts["is"]:
        text += " who is " + " and ".join(parts["is"])
    if parts["before"]:
        text += " in front of " + parts["before"][0]
    return rng.choice(FRAMES).format(text), said


class Speaker:
    """Says captions of faces.

    Args: seen: int64 [N, attributes], -1 where a choice is not known.
    """

    def __init__(self, seen):
        self.seen = seen

    def say(self, number, rng, about=None):
        """A caption of face `number`, and what it says: see `caption`."""
        return caption(self.seen[number], rng, about)
