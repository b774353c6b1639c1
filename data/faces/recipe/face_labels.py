"""Labels of generated faces: by eye for some (labels.csv), and by probes in W for the rest of a pool.

labels.csv has a line per face: pool and number (see pools.py, so that anyone can draw the face and look again) and a
choice for each attribute. The faces were looked at on sheets of 36, at 220 px.
"""

import csv
from pathlib import Path

import numpy as np
from face_words import ATTRIBUTES, NAMES
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

TABLE = Path(__file__).with_name("labels.csv")
STRENGTH = 1e-2  # of the probes' fit (scikit-learn's C), on w in standard deviations; chosen by cross-validation


def by_eye(pool):
    """The faces of a pool that were labelled by eye: numbers [N], and choices int64 [N, attributes], -1 for none."""
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["pool"] == pool and row["broken"] == "no"]
    numbers = np.array([int(row["number"]) for row in rows])
    choices = np.full((len(rows), len(NAMES)), -1)
    for i, row in enumerate(rows):
        for k, (name, of) in enumerate(ATTRIBUTES.items()):
            if row[name] in of:
                choices[i, k] = of.index(row[name])
    return numbers, choices


def probe(w, is_so, everyone):
    """Who else shows it? A logistic regression on w, and how well it does.

    Args: w [N, w_dim] and is_so bool [N] of the faces labelled by eye; everyone [M, w_dim].
    Returns: probabilities [M], cross-validated ones [N], and their AUC.
    """
    mean, std = everyone.mean(0), everyone.std(0)
    model = LogisticRegression(C=STRENGTH, max_iter=500)
    folds = StratifiedKFold(min(5, is_so.sum()), shuffle=True, random_state=0)
    held_out = cross_val_predict(model, (w - mean) / std, is_so, cv=folds, method="predict_proba")[:, 1]
    model.fit((w - mean) / std, is_so)
    return model.predict_proba((everyone - mean) / std)[:, 1], held_out, roc_auc_score(is_so, held_out)


def spread(w, pool, *, precision=0.85, errors=0.25, at_least=6):
    """What every face of a pool shows: what is sure, what the probes believe, and what the probes are worth.

    Returns: choices int64 [N, attributes], -1 where it is not sure; beliefs {attribute: float32 [N, choices]}, which
    sum to 1, or to 0 where there is no probe; and {(attribute, choice): (faces that show it, AUC)}.

    A choice counts where its probe is so sure that, of the faces labelled by eye, `precision` of those as sure show it
    and at most `errors` as many do not as among all faces: else nobody would have a hat, since few have. Where a probe
    is never that sure, only the faces labelled by eye count.
    """
    numbers, seen = by_eye(pool)
    choices, beliefs, report = np.full((len(w), len(NAMES)), -1), {}, {}
    for k, (name, of) in enumerate(ATTRIBUTES.items()):
        best, belief = np.zeros(len(w)), np.zeros((len(w), len(of)), np.float32)
        known = seen[:, k] >= 0
        for c, choice in enumerate(of):
            is_so = seen[known, k] == c
            if is_so.sum() < at_least or (~is_so).sum() < at_least:
                continue
            sure, held_out, auc = probe(w[numbers[known]], is_so, w)
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
        choices[numbers, k] = seen[:, k]
        belief[numbers[known]] = np.eye(len(of), dtype=np.float32)[seen[known, k]]
        beliefs[name] = belief / belief.sum(1, keepdims=True).clip(1e-6)
    return choices, beliefs, report
