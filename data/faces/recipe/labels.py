"""Labels of generated faces: by eye for some (labels.csv), and by probes for the rest of a pool.

labels.csv has a line per face: pool and number (see pools.py, so that anyone can draw the face
and look again) and a choice for each attribute. The faces were looked at on sheets of 36, at 220
px. looked_again.csv has more looks at the test faces, each without knowing the others: two for
nine attributes at the first 324, one for all at the 576 that were added later. 146 faces that a
probe took for redheads were looked at for their hair alone, by two who did not know each other's
labels; those on which both agree are kept. "?" stands where it could not be told, nothing where
it was not asked.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from .captions import ATTRIBUTES, NAMES
from .pools import POOLS

TABLE = Path(__file__).with_name("labels.csv")
NOT_TOLD, NOT_ASKED = -1, -2
# How strongly the probes are fitted (scikit-learn's C): on w and on a network's vectors in
# standard deviations, and on `looks.principal`. Chosen by cross-validation.
IN_W, IN_VECTORS, IN_LOOKS = 1e-2, 0.1, 1.0
# Up to which face of a pool all were looked at. Others were picked, since probes hoped for
# something.
AS_THEY_CAME = {"train": 612, "train-more": 610, "judge": 396, "judge-more": 627, "test": 324,
                "test-more": 576}


def by_eye(pool):
    """The whole faces of a pool that were labelled by eye.

    Returns: numbers [N], and choices int64 [N, attributes]: `NOT_TOLD` where it could not be
        told, `NOT_ASKED` where nobody was asked.
    """
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file)
                if row["pool"] == pool and row["broken"] == "no"]
    numbers = np.array([int(row["number"]) for row in rows])
    choices = np.full((len(rows), len(NAMES)), NOT_TOLD)
    for i, row in enumerate(rows):
        for k, (name, of) in enumerate(ATTRIBUTES.items()):
            if row[name] in of:
                choices[i, k] = of.index(row[name])
            elif not row[name]:
                choices[i, k] = NOT_ASKED
    return numbers, choices


class Looked(NamedTuple):
    """Faces that were looked at."""

    numbers: np.ndarray  # int [N]
    choices: np.ndarray  # int64 [N, attributes], see `by_eye`
    as_they_came: np.ndarray  # bool [N]: not picked


def pooled(pool, first):
    """`Looked` of a pool and of its second part, whose faces are numbered on from `first`."""
    numbers, choices = by_eye(pool)
    more, more_choices = by_eye(f"{pool}-more")
    came = [numbers < AS_THEY_CAME[pool], more < AS_THEY_CAME[f"{pool}-more"]]
    return Looked(np.concatenate([numbers, more + first]),
                  np.concatenate([choices, more_choices]), np.concatenate(came))


class View(NamedTuple):
    """What a probe sees of everyone in a pool."""

    values: np.ndarray  # [M, D]
    strength: float  # scikit-learn's C


class Probe(NamedTuple):
    """What a probe believes of an attribute's choice."""

    everyone: np.ndarray  # probabilities of all faces, [M]
    held_out: np.ndarray  # cross-validated ones of the faces labelled by eye, [N]
    auc: float  # area under the ROC curve of the latter


def probe(views, numbers, is_so, by_chance):
    """Who else shows it? A logistic regression on each view, their scores added up.

    Args:
        views: list of `View`.
        numbers, is_so: int [N] and bool [N], the faces labelled by eye.
        by_chance: bool [N], those that were not picked; how likely a score makes it is learned
            from them.

    Returns: a `Probe`.
    """
    folds = StratifiedKFold(min(5, is_so.sum()), shuffle=True, random_state=0)
    everyone, held_out = 0, 0
    for values, strength in views:
        model = LogisticRegression(C=strength, max_iter=500)
        held_out = held_out + cross_val_predict(model, values[numbers], is_so, cv=folds,
                                                method="decision_function")
        everyone = everyone + model.fit(values[numbers], is_so).decision_function(values)
    fair = by_chance
    if min(is_so[by_chance].sum(), (~is_so[by_chance]).sum()) < 6:  # too few of either kind
        fair = np.full(len(is_so), True)
    likely = LogisticRegression().fit(held_out[fair, None], is_so[fair])
    of_everyone = likely.predict_proba(everyone[:, None])[:, 1]
    of_held_out = likely.predict_proba(held_out[:, None])[:, 1]
    return Probe(of_everyone, of_held_out, roc_auc_score(is_so, of_held_out))


def scaled(values):
    """values [N, D] in standard deviations."""
    return (values - values.mean(0)) / values.std(0).clip(1e-6)


def bound_of(held_out, is_so, *, precision, errors, at_least):
    """How sure a probe must be for its choice to count, or None if it never is.

    As sure as this, `precision` of the faces labelled by eye show it, and at most `errors` as
    many do not as among all faces.

    Args: held_out: float [N]; is_so: bool [N]; at_least: faces that must be as sure.
    """
    order = np.argsort(-held_out)
    right = np.cumsum(is_so[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(right >= max(precision, 1 - errors * (1 - is_so.mean())))
    enough = enough[enough >= at_least - 1]
    return held_out[order][enough[-1]] if len(enough) else None


def spread(views, pool, *, precision=0.85, errors=0.25, at_least=6):
    """What every face of a pool shows: what is sure, what probes believe, what they are worth.

    A choice counts where its probe is as sure as `bound_of` asks. The share of errors is needed
    for what few have, or nobody would have a hat. Where a probe is never that sure, only the
    faces labelled by eye count.

    Args: views: list of `View`, of the pool and its second part.

    Returns:
        choices: int64 [M, attributes], -1 where it is not sure.
        beliefs: {attribute: float32 [M, choices]}, which sum to 1, or to 0 without a probe.
        report: {(attribute, choice): (faces that show it, area under the ROC curve)}.
    """
    numbers, seen, by_chance = pooled(pool, POOLS[pool].drawn)
    count = len(views[0].values)
    choices, beliefs, report = np.full((count, len(NAMES)), -1), {}, {}
    for k, (name, of) in enumerate(ATTRIBUTES.items()):
        best, belief = np.zeros(count), np.zeros((count, len(of)), np.float32)
        known = seen[:, k] >= 0
        for c, choice in enumerate(of):
            is_so = seen[known, k] == c
            if is_so.sum() < at_least or (~is_so).sum() < at_least:
                continue
            sure, held_out, auc = probe(views, numbers[known], is_so, by_chance[known])
            report[name, choice] = (int(is_so.sum()), auc)
            belief[:, c] = sure
            bound = bound_of(held_out, is_so, precision=precision, errors=errors,
                             at_least=at_least)
            if bound is not None:
                better = (sure >= bound) & (sure > best)
                choices[better, k], best[better] = c, sure[better]
        asked = seen[:, k] != NOT_ASKED
        choices[numbers[asked], k] = seen[asked, k]
        belief[numbers[known]] = np.eye(len(of), dtype=np.float32)[seen[known, k]]
        beliefs[name] = belief / belief.sum(1, keepdims=True).clip(1e-6)
    return choices, beliefs, report


def certain_by_eye(attribute, choices):
    """What all looks at the test faces agree on.

    Where the first look says what is no choice (hidden hair, another background), a face is left
    out.

    Args: choices: names of some of the attribute's choices.

    Returns: int [N], in the order of `pooled("test", ...)`: 1 where all looks say one of
        `choices`, 0 where none does, else -1.
    """
    first = POOLS["test"].drawn
    numbers, seen, _ = pooled("test", first)
    column, place = seen[:, NAMES.index(attribute)], {number: i for i, number in enumerate(numbers)}
    wanted = [ATTRIBUTES[attribute].index(choice) for choice in choices]
    found = np.where(column < 0, -1, np.isin(column, wanted))
    with TABLE.with_name("looked_again.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            i = place.get(int(row["number"]) + (first if row["pool"] == "test-more" else 0))
            said = row[attribute]
            if i is not None and said and (said == "?" or (said in choices) != (found[i] == 1)):
                found[i] = -1
    return found
