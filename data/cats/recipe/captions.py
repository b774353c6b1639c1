"""Captions of cats; the words stand in world.json."""

from data.worlds.captions import Captions

from .world import CATS


class CaptionsOfCats(Captions):
    """Says sentences that are true of kittens."""

    who = ("a cat", "a cat", "a cat", "a kitten", "a kitten", "a feline", "an animal", "a pet")
    frames = ("{}", "{}", "a picture of {}", "a photo of {}", "a cartoon of {}", "a drawing of {}",
              "an image of {}", "a portrait of {}", "{}.", "this is {}")
    is_links, with_links = ("that is", "that is", ""), ("with", "with", "that has", "having")

    def nameable(self, row):
        """The numbers of the attributes that can be seen, and of the compounds that are true."""
        numbers = []
        for i, name in enumerate(self.names):
            least = 1 if name in self.world.compounds else 0
            if row[i] >= least:
                numbers.append(i)
        return numbers

    def rows(self, choices):
        """What `caption` is told of cats: `World.facts`, int64 [N, attributes + compounds]."""
        return self.world.facts(choices)


CAPTIONS = CaptionsOfCats(CATS, CATS.file["words"], seldom=("facing", "background"))
