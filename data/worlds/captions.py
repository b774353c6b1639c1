"""Captions: sentences that name any of a picture's attributes, in many phrasings."""

import random

import numpy as np

# Words of captions that say nothing of a picture.
PLAIN = {"a", "an", "of", "with", "who", "is", "that", "has", "having", "and", "in", "on", "the",
         "to", "at", "you", "it", "its", "this", "not", "no", "front", "before", "picture", "photo",
         "image", "portrait", "drawing", "cartoon"}


def article(word):
    """"a" or "an"."""
    return "an" if word[0] in "aeiou" else "a"


class Captions:
    """Says sentences that are true of a world's pictures. A subclass has the words.

    Args:
        world: a `World`.
        phrases: {attribute: {choice: {kind: phrases}}}. Kinds of phrase: "with" (a cat with ...),
            "is" (a cat that is ..., a ... cat), "wearing" (a cat wearing ...), "before" (a cat
            before ...).
        seldom: attributes that are named half as often.
    """

    who = ()  # what all pictures show: "a cat"
    frames = ()  # "a picture of {}"
    is_links, with_links = (), ()  # between it and what it is, or has

    def __init__(self, world, phrases, seldom):
        self.world, self.phrases, self.seldom = world, phrases, seldom
        self.names = list(world.told)

    def phrase(self, attribute, choice, rng):
        """One phrase for an attribute's choice: (kind, words)."""
        phrases = self.phrases[attribute][choice]
        kind = rng.choice([kind for kind, words in phrases.items() for _ in words])
        return kind, rng.choice(phrases[kind])

    def nameable(self, row):
        """The numbers of the attributes and compounds that a caption may name."""
        raise NotImplementedError

    def to_name(self, row, rng):
        """The numbers of zero to four attributes, in an order by chance."""
        usable = self.nameable(row)
        weights = [0.5 if self.names[i] in self.seldom else 1 for i in usable]
        count = rng.choices((0, 1, 2, 3, 4), (1, 12, 8, 4, 2))[0]
        numbers = []
        while len(numbers) < count:
            number = rng.choices(usable, weights)[0]
            if number not in numbers:
                numbers.append(number)
        rng.shuffle(numbers)
        return numbers

    def caption(self, row, rng):
        """A sentence true of a picture, and what it says: (text, {attribute number: choice}).

        Args:
            row: int64 [at least attributes + compounds], a choice of each, in the order of `told`.
            rng: `random.Random`.
        """
        numbers = self.to_name(row, rng)
        parts = {"is": [], "with": [], "wearing": [], "before": []}
        for i in numbers:
            name = self.names[i]
            kind, words = self.phrase(name, self.world.told[name][row[i]], rng)
            parts[kind].append(words)
        who = rng.choice(self.who)
        text = who
        if parts["is"] and " " not in parts["is"][0] and rng.random() < 0.6:  # "a bald person"
            noun = who.split(" ", 1)[1] if " " in who else "person"  # of "someone"
            word = parts["is"].pop(0)
            text = f"{article(word)} {word} {noun}"
        if parts["is"]:
            link = f" {rng.choice(self.is_links)} ".replace("  ", " ")
            text += link + " and ".join(parts["is"])
        if parts["with"]:
            text += f" {rng.choice(self.with_links)} " + " and ".join(parts["with"])
        if parts["wearing"]:
            link = rng.choice(("wearing", "wearing", "with", "in"))
            text += f" {link} " + " and ".join(parts["wearing"])
        if parts["before"]:
            link = rng.choice(("before", "in front of", "on", "with"))
            text += f" {link} " + parts["before"][0]
        if rng.random() < 0.06 and len(numbers) == 1:  # the bare words, as people type them
            text = next((words[0] for words in parts.values() if words), text)
        text = rng.choice(self.frames).format(text)
        return text, {i: int(row[i]) for i in numbers}

    def rows(self, choices):
        """What `caption` is told of pictures: choices int64 [N, columns] -> int64 [N, ...]."""
        raise NotImplementedError

    def phrases_of_choices(self):
        """The set of phrases for all choices, from 100 draws of each."""
        rng, phrases = random.Random(0), set()
        for attribute, choices in self.world.told.items():
            for choice in choices:
                if attribute in self.world.compounds and choice == "no":
                    continue  # nobody says what a picture is not
                phrases.update(self.phrase(attribute, choice, rng)[1] for _ in range(100))
        return phrases

    def words(self):
        """Every word of 100,000 captions, to tell a reader which ones the small CLIP has met."""
        choices, _ = self.world.draw(100_000, np.random.default_rng(0))
        rng, words = random.Random(0), set()
        for row in self.rows(choices):
            words.update(self.caption(row, rng)[0].lower().replace(".", " ").split())
        return sorted(words - PLAIN)


class Speaker:
    """Says captions of pictures.

    Args: captions: of the world; choices: int64 [N, columns] of its `draw`.
    """

    def __init__(self, captions, choices):
        self.captions, self.rows = captions, captions.rows(choices)

    def say(self, number, rng):
        """A caption of picture `number`, and what it says: see `Captions.caption`."""
        return self.captions.caption(self.rows[number], rng)
