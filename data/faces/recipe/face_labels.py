"""Labels of generated faces: by eye for some (labels.csv), and by probes for the rest of a pool.

labels.csv has a line per face: pool and number (see pools.py, so that anyone can draw the face and look again) and a
choice for each attribute. The faces were looked at on sheets of 36, at 220 px. looked_again.csv has more looks at the
test faces, each without knowing the others: two for nine attributes at the first 324, one for all at the 576 that were
added later. 146 faces that a probe took for redheads were looked at for their hair alone, by two who did not know each
other's labels; those on which both agree are kept. "?" where it could not be told, nothing where it was not asked.
"""

import csv
from pathlib import Path

import numpy as np
from face_words import ATTRIBUTES, NAMES
from pools import POOLS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

TABLE = Path(__file__).with_name("labels.csv")
NOT_ASKED = -2
# Of the probes' fit (scikit-learn's C), on w and on a network's vectors in standard deviations, and on
# `looks.principal`; chosen by cross-validation.
IN_W, IN_VECTORS, IN_LOOKS = 1e-2, 0.1, 1.0
# The first of a pool, up to which all were looked at; others were picked, since probes hoped for something.
AS_THEY_CAME = {"train": 612, "train-more": 610, "judge": 396, "judge-more": 627, "test": 324, "test-more": 576}


def by_eye(pool):
    """The faces of a pool that were labelled by eye: numbers [N], and choices int64 [N, attributes].

    Less than 0 for none: -1 where it could not be told, `NOT_ASKED` where nobody was asked.
    """
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["pool"] == pool and row["broken"] == "no"]
    numbers = np.array([int(row["number"]) for row in rows])
    choices = np.full((len(rows), len(NAMES)), -1)
    for i, row in enumerate(rows):
        for k, (name, of) in enumerate(ATTRIBUTES.items()):
            if row[name] in of:
                choices[i, k] = of.index(row[name])
            elif not row[name]:
                choices[i, k] = NOT_ASKED
    return numbers, choices


def pooled(pool, first):
    """`by_eye` of a pool and of those drawn besides, which are numbered on from `first`; and which were looked at as
    they came."""
    names = (pool, f"{pool}-more")
    parts = [by_eye(name) for name in names]
    came = [numbers < AS_THEY_CAME[name] for name, (numbers, _) in zip(names, parts)]
    numbers = np.concatenate([parts[0][0], parts[1][0] + first])
    return numbers, np.concatenate([choices for _, choices in parts]), np.concatenate(came)


def probe(views, numbers, is_so, by_chance):
    """Who else shows it? A logistic regression on each view, their scores added up.

    Args:
        views: [(values [M, D] of everyone, scikit-learn's C)].
        numbers, is_so: int [N] and bool [N], the faces labelled by eye.
        by_chance: bool [N], those that were not picked; how likely a score makes it is learned from them.
    Returns: probabilities [M], cross-validated ones [N], and their AUC.
    """
    folds = StratifiedKFold(min(5, is_so.sum()), shuffle=True, random_state=0)
    everyone, held_out = 0, 0
    for values, strength in views:
        model = LogisticRegression(C=strength, max_iter=500)
        held_out = held_out + cross_val_predict(model, values[numbers], is_so, cv=folds, method="decision_function")
        everyone = everyone + model.fit(values[numbers], is_so).decision_function(values)
    fair = by_chance if min(is_so[by_chance].sum(), (~is_so[by_chance]).sum()) >= 6 else np.full(len(is_so), True)
    likely = LogisticRegression().fit(held_out[fair, None], is_so[fair])
    sure, held_out = (likely.predict_proba(score[:, None])[:, 1] for score in (everyone, held_out))
    return sure, held_out, roc_auc_score(is_so, held_out)


def scaled(values):
    """[N, D] in standard deviations."""
    return (values - values.mean(0)) / values.std(0).clip(1e-6)


def spread(views, pool, *, precision=0.85, errors=0.25, at_least=6):
    """What every face of a pool shows: what is sure, what the probes believe, and what the probes are worth.

    Args: views: of the pool and of those drawn besides, see `probe`.
    Returns: choices int64 [N, attributes], -1 where it is not sure; beliefs {attribute: float32 [N, choices]}, which
    sum to 1, or to 0 where there is no probe; and {(attribute, choice): (faces that show it, AUC)}.

    A choice counts where its probe is so sure that, of the faces labelled by eye, `precision` of those as sure show it
    and at most `errors` as many do not as among all faces: else nobody would have a hat, since few have. Where a probe
    is never that sure, only the faces labelled by eye count.
    """
    numbers, seen, by_chance = pooled(pool, POOLS[pool][2])
    count = len(views[0][0])
    choices, beliefs, report = np.full((count, len(NAMES)), -1), {}, {}
    for k, (name, of) in enumerate(ATTRIBUTES.items()):
        best, belief = np.zeros(count), np.zeros((count, len(of)), np.float32)
        known = seen[:, k] >= 0
        for c, choice in enumerate(of):
            is_so = seen[known, k] == c
            if is_so.sum() < at_least or (~is_so).sum() < at_least:
                continue
            sure, held_out, auc = probe(views, numbers[known], is_so, by_chance[known])
            order = np.argsort(-held_out)
            right = np.cumsum(is_so[order]) / np.arange(1, len(order) + 1)
            enough = np.flatnonzero(right >= max(precision, 1 - errors * (1 - is_so.mean())))
            enough = enough[enough >= at_least - 1]
            report[name, choice] = (int(is_so.sum()), auc)
            belief[:, c] = sure
            if len(enough):
                bound = held_out[order][enough[-1]]
                better = (sure >= bound) & (sure > best)
                choices[better, k], best[better] = c, sure[better]
        asked = seen[:, k] != NOT_ASKED
        choices[numbers[asked], k] = seen[asked, k]
        belief[numbers[known]] = np.eye(len(of), dtype=np.float32)[seen[known, k]]
        beliefs[name] = belief / belief.sum(1, keepdims=True).clip(1e-6)
    return choices, beliefs, report


def certain_by_eye(attribute, choices):
    """What all looks at the test faces agree on: 1 where all say one of `choices`, 0 where none does, else -1.

    int [N], in the order of `pooled("test", ...)`. Where the first look says what is no choice (hidden hair, another
    background), a face is left out.
    """
    first = POOLS["test"][2]
    numbers, seen, _ = pooled("test", first)
    column, place = seen[:, NAMES.index(attribute)], {number: i for i, number in enumerate(numbers)}
    found = np.where(column < 0, -1, np.isin(column, [ATTRIBUTES[attribute].index(choice) for choice in choices]))
    with TABLE.with_name("looked_again.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            i = place.get(int(row["number"]) + (first if row["pool"] == "test-more" else 0))
            said = row[attribute]
            if i is not None and said and (said == "?" or (said in choices) != (found[i] == 1)):
                found[i] = -1
    return found
