"""A world: what its pictures can show, from a file, and how one of them is drawn.

One picture is a row of choices: one per attribute, one variant for each attribute that has several
drawings, and a pose. The file, world.json, holds every choice and its weight.
"""

import json
import multiprocessing

import numpy as np

POSE = ("rotate", "translate_x", "translate_y", "scale")
TRAIN_SEED, TEST_SEED = 1, 2


class World:
    """Draws from a world. A subclass says how a picture looks, and what of it cannot be seen.

    Args:
        path: of the world's file.
        varied: attributes whose choices have several drawings, the lists of the file's "variants".

    Attributes:
        file: the content of world.json.
        attributes: {attribute: its choices}.
        variants: {attribute of `varied`: how many drawings each choice has}.
        columns: what a row of choices holds, by name.
        compounds: {word: {attribute: choices}}; the word is true where all of these are.
        held: {group of rows of w+: the attributes it holds}, for the generator.
        details: attributes that are a few pixels only; details_beside: {attribute: choice} that
            would cover them.
        first: attributes that the mapping network's first layer decides.
        told: `attributes`, then ["no", "yes"] for each compound: what a caption can tell.
    """

    def __init__(self, path, varied):
        self.file = json.loads(path.read_text("utf-8"))
        self.attributes = {name: list(of) for name, of in self.file["attributes"].items()}
        self.variants = {}
        for name in varied:
            drawings = self.file["variants"][name]
            self.variants[name] = [max(1, len(drawings[of])) for of in self.attributes[name]]
        self.columns = [*self.attributes, *(f"{name}_variant" for name in self.variants)]
        of_generator = self.file["generator"]
        self.held, self.first = of_generator["held"], of_generator["first"]
        self.details = of_generator["details"]
        self.details_beside = of_generator["details_beside"]
        self.compounds = self.file.get("compounds", {})
        self.told = self.attributes | {word: ["no", "yes"] for word in self.compounds}

    def render(self, choice, pose, resolution):
        """Draw one picture, rows of `draw`'s arrays: uint8 [resolution, resolution, 3]."""
        raise NotImplementedError

    def labels(self, choices):
        """What pictures show: int64 [N, attributes], -1 for what cannot be seen.

        Args: choices: int64 [N, at least the attributes' columns].
        """
        raise NotImplementedError

    def probabilities(self, attribute):
        """The probability of each choice of an attribute, in the order of `attributes`."""
        weights = np.array(list(self.file["attributes"][attribute].values()), dtype=float)
        return weights / weights.sum()

    def draw(self, count, rng):
        """Draw pictures at random.

        Args: rng: `np.random.Generator`.

        Returns: choices int64 [count, len(columns)] and poses in [-1, 1], float32 [count, 4].
        """
        choices = {}
        for name, of in self.attributes.items():
            choices[name] = rng.choice(len(of), count, p=self.probabilities(name))
        for name, counts in self.variants.items():
            choices[f"{name}_variant"] = rng.integers(np.array(counts)[choices[name]])
        poses = rng.uniform(-1, 1, (count, len(POSE))).astype(np.float32)
        return np.stack(list(choices.values()), 1), poses

    def drawing(self, attribute, choice):
        """What the file calls the drawing of an attribute of `varied`, or None for no drawing.

        Args: choice: a row of `draw`'s choices.
        """
        name = self.attributes[attribute][choice[self.columns.index(attribute)]]
        drawings = self.file["variants"][attribute][name]
        if not drawings:
            return None
        return drawings[choice[self.columns.index(f"{attribute}_variant")]]

    def is_one_of(self, choices, attribute, names):
        """Which pictures have one of the named choices: choices [N, columns] -> bool [N].

        Raises: ValueError for a choice that the attribute does not have.
        """
        numbers = [self.attributes[attribute].index(name) for name in names]
        return np.isin(choices[:, self.columns.index(attribute)], numbers)

    def facts(self, choices):
        """What captions can tell of pictures, in the order of `told`.

        Args: choices: int64 [N, columns].

        Returns: int64 [N, attributes + compounds], -1 for what cannot be seen. A compound is 1
            where all of its parts are so and can be seen, else 0.
        """
        seen = self.labels(choices)
        columns = [seen]
        for parts in self.compounds.values():
            true = np.ones(len(choices), bool)
            for attribute, names in parts.items():
                true &= self.is_one_of(seen, attribute, names)
            columns.append(true[:, None].astype(np.int64))
        return np.concatenate(columns, 1)

    def render_one(self, job):
        """`render` of (choice, pose, resolution), for a pool of processes."""
        return self.render(*job)

    def renders(self, count, resolution, seed, folder):
        """`count` pictures, from disk where they were made before.

        Returns: choices [count, columns], poses [count, 4] and images uint8 [count, R, R, 3]
            (memory-mapped).
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"renders-{resolution}px-seed{seed}-{count}.npy"
        choices, poses = self.draw(count, np.random.default_rng(seed))
        if not path.exists():
            part = path.with_suffix(".part")
            shape = (count, resolution, resolution, 3)
            images = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
            jobs = ((choices[i], poses[i], resolution) for i in range(count))
            with multiprocessing.get_context("fork").Pool() as pool:
                for i, image in enumerate(pool.imap(self.render_one, jobs, chunksize=64)):
                    images[i] = image
                    if (i + 1) % 20_000 == 0:
                        print(f"rendered {i + 1:,} of {count:,}", flush=True)
            images.flush()
            part.rename(path)
        return choices, poses, np.load(path, mmap_mode="r")


def between(limits, position):
    """Where `position`, from -1 to 1, lies between two limits."""
    return float(limits[0] + (limits[1] - limits[0]) * (position + 1) / 2)
