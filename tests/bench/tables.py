"""Write the tables of README.md from the results in tests/bench/results/.

    python -m tests.bench.tables            writes them
    python -m tests.bench.tables --check    says whether README.md is as the results

A table stands between <!-- table: NAME --> and <!-- end -->.
"""

import argparse
import re
import sys
from pathlib import Path

from .results import load

README = Path(__file__).with_name("README.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
METHODS = ("1 · optimization", "2 · mapper", "3 · direction")


def markdown(columns, rows):
    """A table of cells, lists of strings; an empty cell for None."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("|" + "|".join(cell or "" for cell in line) + "|\n" for line in lines)


def percent(share):
    """0.854 -> "85"."""
    return f"{100 * share:.0f}"


def counts(found):
    """A method's or prompt's counts, in %: "90/80/92", there, unchanged, unchanged where sure."""
    shares = [found["there"], found["unchanged"]]
    if "unchanged where sure" in found:
        shares.append(found["unchanged where sure"])
    return "/".join(percent(share) for share in shares)


def between(pair, show=percent):
    """[least, most] -> "62–74", or one number where both are shown alike.

    Args: show: a number's text.
    """
    least, most = show(pair[0]), show(pair[1])
    return least if least == most else f"{least}–{most}"


def as_pair(value):
    """A number, or [least, most], as the latter."""
    return value if isinstance(value, list) else [value, value]


def two_digits(value):
    """0.65 -> ".65"."""
    return f"{value:.2f}".removeprefix("0")


def short(difference):
    """3e-05 -> "3e-5", 0 -> "0"."""
    return "0" if difference == 0 else f"{difference:.0e}".replace("e-0", "e-")


def rounded(value):
    """1.42 -> "1.4", 5.0 -> "5", 168.3 -> "168"."""
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:.0f}"


def duration(seconds):
    """Seconds, or [least, most], in the unit that a reader wants."""
    least, most = as_pair(seconds)
    if most < 1:
        unit, size = "ms", 0.001
    elif most < 120:
        unit, size = "s", 1
    elif most < 3600:
        unit, size = "min", 60
    elif most < 86400:
        unit, size = "h", 3600
    else:
        unit, size = "days", 86400
    return f"{between([least / size, most / size], rounded)} {unit}"


def faces_quality():
    """The three methods on held-out faces, by prompt; then the means on other faces and words."""
    methods = load("faces_quality")["methods"]
    rows = []
    for prompt, found in methods[METHODS[0]]["prompts"].items():
        row = [prompt, str(found["faces"])]
        for name in METHODS:
            of_prompt = methods[name]["prompts"].get(prompt)
            row.append(counts(of_prompt) if of_prompt else None)
        rows.append(row)
    rows.append(["**mean**", None, *(f"**{counts(methods[name])}**" for name in METHODS)])
    rows.append(["dlib's cosine", None,
                 *(two_digits(methods[name]["dlib's cosine"]) for name in METHODS)])
    rows.append(["same person by dlib", None,
                 *(percent(methods[name]["same person by dlib"]) for name in METHODS)])
    for label, result in (("mean, 32 more faces", load("faces_quality_2027")),
                          ("mean, unseen words", load("faces_words"))):
        row = [label, None]
        for name in METHODS:
            found = result["methods"].get(name)
            row.append(counts(found) if found else None)
        rows.append(row)
    return markdown(["prompt", "n", *METHODS], rows)


def faces_ablation():
    """Each change alone, on the development faces."""
    rows = []
    for name, found in load("faces_ablation")["methods"].items():
        rows.append([name, counts(found), two_digits(found["dlib's cosine"]),
                     percent(found["same person by dlib"])])
    return markdown(["setting", "mean", "dlib's cosine", "same person"], rows)


def faces_floor():
    """What the classifier calls unchanged where nothing was asked for."""
    result, levels, rows = load("faces_floor"), ("0", "0.7"), []
    for name, found in result["rows"].items():
        rows.append([name, between(found["identity"], two_digits),
                     *(between(found["unchanged"][level]) for level in levels)])
    rows.append(["readings that count", None,
                 *(between(result["counted"][level]) for level in levels)])
    return markdown(["change", "identity", "all readings", "sure ones"], rows)


def worlds_quality():
    """Each method on drawn avatars and cats: the mean over the prompts, the worst one, and the mean
    over words that no caption contains."""
    worlds, rows = ("avatars", "cats"), []
    counted = {name: load(f"{name}_quality")["methods"] for name in worlds}
    for method in (*METHODS, *(name for name in counted["avatars"] if name not in METHODS)):
        row = [method]
        for name in worlds:
            found = counted[name].get(method)
            row += [counts(found), worst_of(found)] if found else [None, None]
        rows.append(row)
    unseen = {name: load(f"{name}_words")["methods"] for name in worlds}
    for method in unseen["avatars"]:
        row = [f"{method}, unseen words"]
        for name in worlds:
            row += [counts(unseen[name][method]), None]
        rows.append(row)
    return markdown(["method", "avatars", "worst prompt", "cats", "worst prompt"], rows)


def worst_of(found):
    """The counts of the prompt of a method that was there least often, and what it asks for."""
    prompt, counted = min(found["prompts"].items(), key=lambda item: item[1]["there"])
    asked = prompt.rpartition(" with ")[2].removeprefix("a ").removeprefix("an ")
    asked = asked.removesuffix(" person")
    return f"{counts(counted)} {asked.removesuffix(' cat')}"


def originals():
    """The largest differences between our networks and the originals'."""
    found = load("originals")["differences"]
    nvidia = [values for name, values in found.items() if name.startswith("NVIDIA")]
    rosinality = [values for name, values in found.items() if name.startswith("StyleCLIP")]
    rows = [
        ["NVIDIA's generator, from its pickle: w, styles; image",
         f"{short(most(nvidia, 'w', 's'))}; {short(most(nvidia, 'image'))}"],
        ["StyleCLIP's generator, from its .pt: w, styles; image",
         f"{short(most(rosinality, 'w', 's'))}; {short(most(rosinality, 'image'))}"],
        ["image from the authors' 9,088 style channels",
         short(most(rosinality, "image from the authors' s"))],
        ["IR-SE50 with the authors' crop: vectors", short(found["IR-SE50"]["vectors"])],
        ["the authors' resize before CLIP: pixels", short(found["resize"]["pixels"])],
        ["e4e: w_plus", short(found["e4e"]["w_plus"])],
    ]
    return markdown(["network", "difference"], rows)


def most(several, *names):
    """The largest of the named values in several dicts."""
    return max(values[name] for values in several for name in names if name in values)


def authors():
    """The largest differences between our methods and the authors' scripts."""
    found = load("authors")
    first, second, third = found["method_1"], found["method_2"], found["method_3"]
    rows = [
        ["1: latent after two steps; after ten",
         f"{short(first['difference after two steps'])}; "
         f"{short(first['difference after ten steps'])}", str(first["moved"])],
        ["2: the mapper's biases after ten steps", short(second["bias"]["difference"]),
         short(second["bias"]["moved"])],
        ["2: its weights, some hundreds large", short(second["weight"]["difference"]),
         short(second["weight"]["moved"])],
        [f"3: Delta-s of {third['sentences']} sentences", short(third["difference"]), None],
    ]
    return markdown(["method", "difference", "they moved"], rows)


def photographs():
    """Photographs as somebody might bring them: encoded, then tuned."""
    found, rows = load("photographs"), []
    for stage in ("encoded", "tuned"):
        part = found[stage]
        edits = [f"{percent(part[method]['there'])}/"
                 f"{percent(part[method]['unchanged where sure'])}" for method in ("1", "3")]
        rows.append([stage, two_digits(part["dlib"]), f"{part['psnr']:.1f}",
                     f"{part['seconds']:.0f} s", *edits])
    return markdown(["", "dlib's distance", "PSNR, dB", "takes", "1 · optimization",
                     "3 · direction"], rows)


def step():
    """One step of equation (1) by the authors' code and by ours."""
    rows = []
    for name, found in load("step_amx")["rows"].items():
        ours, theirs = found["ours"], found["StyleCLIP's code"]
        rows.append([name, duration(theirs["seconds"]), duration(ours["seconds"]),
                     f"{theirs['seconds, times ours']:.3g}",
                     f"{theirs['GB above the networks, times ours']:.2g}"])
    found = load("step_h200")["rows"]["fp32, 1024 px"]
    ours, theirs = found["ours"], found["StyleCLIP's code"]
    rows.append(["fp32, 1024 px, H200", duration(theirs["seconds"]), duration(ours["seconds"]),
                 between(as_pair(theirs["seconds, times ours"]), "{:.3g}".format),
                 f"{theirs['GB above the networks'] / ours['GB above the networks']:.2g}"])
    return markdown(["setting", "theirs", "ours", "times as fast", "less memory"], rows)


def generator():
    """Milliseconds of a picture by the generator of faces, on three kinds of machines."""
    machines = {"matrix units": "generator_amx", "AVX-512": "generator_bf16",
                "AVX2": "generator_avx2"}
    results = [load(name)["milliseconds"] for name in machines.values()]
    rows = []
    for name in results[0]:
        row = [name]
        for found in results:
            values = found.get(name)
            row.append("; ".join(between(values[way], "{:.0f}".format) for way in values)
                       if values else None)
        rows.append(row)
    return markdown(["forward; and backward, ms", *machines], rows)


def times():
    """What a reader waits for on faces and avatars, beside the paper's Table 1."""
    faces, avatars = load("times_faces")["seconds"], load("times_avatars")["seconds"]
    rows = [
        ["encode a picture", None, avatars["encode one image"], None],
        ["1: an edit", faces["method 1, one edit, drawn at 1024 px"],
         avatars["method 1, the default"], 98],
        ["1: equation (1), 300 steps", None, avatars["equation (1), 300 steps"], 98],
        ["2: training", faces["method 2, training for one text"],
         avatars["method 2, training"], [36000, 43200]],
        ["2: a picture", faces["method 2, one picture at 1024 px"],
         avatars["method 2, one image"], 0.075],
        ["3: a sweep, once", None, avatars["method 3, sweep, once"], 14400],
        ["3: a new text", faces["method 3, a new text"], avatars["method 3, a new text"], None],
        ["3: slider to preview", faces["method 3, slider to preview"],
         avatars["method 3, slider to picture"], 0.072],
    ]
    lines = []
    for name, *row in rows:
        lines.append([name, *(None if seconds is None else duration(seconds) for seconds in row)])
    return markdown(["what", "faces", "avatars", "the paper"], lines)


def paper_sizes():
    """The paper's Table 1 at its own size."""
    cpu, gpu = load("paper_sizes_bf16")["seconds"], load("paper_sizes_h200")
    paper = {"method 1, 300 steps at 1024 px, fp32": 98,
             "method 2, 50,000 steps of 2 at 1024 px, fp32": [36000, 43200],
             "methods 2 and 3, one picture at 1024 px, half precision": [0.072, 0.075],
             "method 3, the sweep at 256 px, half precision": 14400}
    rows = []
    for name, seconds in gpu["seconds"].items():
        if name in cpu or name in paper:
            rows.append([name.removeprefix("method ").removeprefix("methods "),
                         duration(cpu[name]) if name in cpu else None,
                         f"{duration(seconds)}, {gpu['GB'][name]} GB",
                         duration(paper[name]) if name in paper else None])
    return markdown(["method", "two cores", "H200", "the paper"], rows)


def half_precision():
    """Half precision and early stops, beside fp32 and full pictures."""
    result, rows = load("half_precision"), []
    early = result["pictures"]["early stop at 256 px"]
    rows.append(["early stop at 256 px beside full pictures", decibels(early["PSNR"]), None, None])
    rows.append(["half precision beside fp32", decibels(early["half precision, PSNR"]), None, None])
    for name, found in result["edits"].items():
        same = found.get("readings as in fp32")
        rows.append([f"method {name}", decibels(found.get("PSNR")),
                     None if same is None else percent(same), counts(found)])
    return markdown(["what", "PSNR, dB", "same readings", "counts"], rows)


def decibels(pair):
    """[median, worst] -> "31.4, 28.7"; a median of None is that of equal pictures."""
    if pair is None:
        return None
    return ", ".join("equal" if value is None else f"{value:.3g}" for value in pair)


def stress():
    """What the last attacks found."""
    rows = []
    for name, found in load("stress")["attacks"].items():
        rows.append([name, f"{found['tried']:,}", found["found"]])
    return markdown(["attack", "tried", "found"], rows)


def visitors():
    """What ten visitors of the page at once wait for, and the memory of the page."""
    result = load("visitors")
    if result is None:
        return "Not measured yet.\n"
    rows = []
    for name, found in result["domains"].items():
        first, edit = found["first picture"], found["a sentence's picture"]
        rows.append([name, f"{rounded(first['median'])}, {rounded(first['most'])} s",
                     f"{rounded(edit['median'])}, {rounded(edit['most'])} s",
                     f"{found['peak GB']:.1f} GB"])
    return markdown(["domain", "first picture", "edit", "memory"], rows)


def keep():
    """A thing that comes along with an edit, without and with `keep`."""
    rows = []
    for row in load("keep")["rows"]:
        plain, kept = row["without"], row["with"]
        rows.append([row["prompt"], row["keep"],
                     f"{plain['gained']}→{kept['gained']}/{row['lacking it']}",
                     f"{percent(plain['there'])}→{percent(kept['there'])}",
                     f"{percent(plain['unchanged'])}→{percent(kept['unchanged'])}"])
    return markdown(["sentence", "keep", "gained by", "there", "unchanged"], rows)


def table(name):
    """The markdown of a table by its name in README.md. Raises KeyError for another name."""
    if name == "faces_quality":
        return faces_quality()
    if name == "faces_ablation":
        return faces_ablation()
    if name == "faces_floor":
        return faces_floor()
    if name == "keep":
        return keep()
    if name == "photographs":
        return photographs()
    if name == "worlds_quality":
        return worlds_quality()
    if name == "originals":
        return originals()
    if name == "authors":
        return authors()
    if name == "step":
        return step()
    if name == "generator":
        return generator()
    if name == "times":
        return times()
    if name == "paper_sizes":
        return paper_sizes()
    if name == "half_precision":
        return half_precision()
    if name == "stress":
        return stress()
    if name == "visitors":
        return visitors()
    raise KeyError(f"There is no table {name!r}.")


def filled(text):
    """The text of a README with its tables written anew."""
    parts, end = [], 0
    for found in MARKED.finditer(text):
        parts += [text[end:found.start()], found[1], table(found[2]), found[3]]
        end = found.end()
    return "".join([*parts, text[end:]])


def main():
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true",
                        help="write nothing, and fail where they differ")
    options = parser.parse_args()
    before = README.read_text("utf-8")
    after = filled(before)
    if not options.check:
        README.write_text(after, "utf-8")
    elif before != after:
        sys.exit("The tables of tests/bench/README.md are not those of the results: "
                 "run python -m tests.bench.tables.")


if __name__ == "__main__":
    main()
