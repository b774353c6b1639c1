"""The page (`make page`): what a visitor asks of it, and what a visitor must not find."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

pytest.importorskip("gradio", reason="Gradio is not installed: make page")

from helpers.commands import page as command  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROMPT, NEUTRAL = "a person with sunglasses", "a person"


@pytest.fixture(scope="module")
def page(domain, tmp_path_factory):
    """The page of the avatars, whose encoding takes two steps here."""
    encoding = replace(domain.settings.encoding, steps=2)
    quick = replace(domain, settings=replace(domain.settings, encoding=encoding))
    return command.Page(quick, str(tmp_path_factory.mktemp("files")))


@pytest.fixture
def said(monkeypatch):
    """The toasts that a visitor would see."""
    toasts = []
    monkeypatch.setattr(command.gr, "Warning", toasts.append)
    return toasts


def sample(page, number=0):
    """A sample that was clicked, as Gradio describes a file."""
    path = os.path.join(page.folder, f"{number}.jpg")
    with open(path, "wb") as file:
        file.write([content for content in page.latents if content][number])
    return {"path": path}


def test_an_edit_changes_the_picture_and_alpha_0_does_not(domain, page):
    face, pictures = page.edit(None, sample(page), PROMPT, NEUTRAL, 4)
    same, _ = page.edit(face, sample(page), PROMPT, NEUTRAL, 0)
    assert same["after"].tobytes() == same["before"].tobytes() == face["before"].tobytes()
    change = np.abs(np.subtract(face["after"], face["before"], dtype=float)).mean()
    assert change > 3 and "alpha" in pictures.label
    images = torch.cat([as_image(face["before"]), as_image(face["after"])])
    before, after = domain.clip.encode_image(images) @ domain.clip.encode_text([PROMPT])[0]
    assert after > before


def as_image(picture):
    """A picture of the page as an image [1, 3, R, R] of the avatars."""
    return command.open_image(command.to_png(picture), 64)


def test_samples_bring_their_latents_and_a_photograph_is_encoded(domain, page):
    for number in (0, len(domain.samples) - 1):
        face = page.open(sample(page, number)["path"])
        assert torch.equal(face["w_plus"], domain.sample_latents[number, None].float())
    path = os.path.join(page.folder, "mine.png")
    Image.open(domain.samples[1]).rotate(5).save(path)
    mine = page.open(path)["w_plus"]
    assert mine.shape == face["w_plus"].shape and not torch.equal(mine, page.open(None)["w_plus"])


def test_a_sentence_that_cannot_be_used_is_one_toast_and_the_face_stays(page, said):
    face, _ = page.edit(None, sample(page), PROMPT, NEUTRAL, 4)
    for sentence in ("", "  ", NEUTRAL, "word " * 90):
        kept, _ = page.edit(face, sample(page, 1), sentence, NEUTRAL, 4)
        assert kept is face
        (toast,) = said
        assert is_one_sentence(toast), toast
        said.clear()


def is_one_sentence(toast):
    return toast.endswith(".") and "\n" not in toast and toast.count(". ") == 0


@pytest.mark.filterwarnings("ignore:Unknown to this small CLIP")
def test_unknown_words_are_one_toast_beside_the_edit(page, said):
    face, _ = page.edit(None, sample(page), "a person with xyzzy", NEUTRAL, 4)
    assert face["text"]["Prompt"] == "a person with xyzzy"
    (toast,) = said
    assert "xyzzy" in toast and is_one_sentence(toast), toast


@pytest.mark.parametrize("content", [b"no picture at all", b"", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_picture_is_one_toast_and_the_face_stays(page, said, content):
    face, _ = page.edit(None, sample(page), PROMPT, NEUTRAL, 4)
    path = os.path.join(page.folder, "holiday.png")
    with open(path, "wb") as file:
        file.write(content)
    kept, _ = page.edit(face, {"path": path}, PROMPT, NEUTRAL, 4)
    assert kept is face
    (toast,) = said
    assert is_one_sentence(toast) and page.folder not in toast, toast


def test_a_saved_png_is_the_edit_on_show_and_says_that_it_was_generated(domain, page):
    face, _ = page.edit(None, sample(page), PROMPT, NEUTRAL, 2.5)
    saved = Image.open(page.save(face))
    assert saved.tobytes() == face["after"].tobytes()
    assert "generated" in saved.text["Description"] and domain.licence in saved.text["Model"]
    said = [saved.text[key] for key in ("Prompt", "Neutral", "Strength")]
    assert said == [PROMPT, NEUTRAL, "2.5"]


def test_a_saved_photograph_says_that_its_face_was_changed(page, tmp_path, face_found):
    tuning = replace(page.domain.settings.tuning, steps=1)
    settings = replace(page.domain.settings, tuning=tuning)
    own = command.Page(replace(page.domain, align=True, settings=settings), page.folder)
    Image.new("RGB", (120, 100), "olive").save(tmp_path / "mine.png")
    face, _ = own.edit(None, {"path": str(tmp_path / "mine.png")}, PROMPT, NEUTRAL, 4)
    saved = Image.open(own.save(face))
    assert saved.size == (120, 100) and saved.text["Description"] == (
        "A photograph whose face was generated anew by a neural network (avatars), edited by: "
        f"{PROMPT}.")


def test_a_domain_without_samples_opens_with_a_random_face(domain, tmp_path):
    page = command.Page(replace(domain, samples=(), sample_latents=None), str(tmp_path))
    texts = [block.value for block in page.blocks().blocks.values() if hasattr(block, "value")]
    assert domain.prompts[0] in texts


def test_with_share_it_says_whose_machines_a_photograph_passes(page):
    for share in (False, True):
        notices = [str(getattr(block, "value", "")) for block in page.blocks(share).blocks.values()]
        notice = next(text for text in notices if "photograph" in text)
        assert ("gradio.live" in notice) == share and ("stays on" in notice) != share


def test_auth_without_a_word_is_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["page", "--auth", "somebody"])
    with pytest.raises(SystemExit):
        command.main()
    assert "USER:WORD" in capsys.readouterr().err


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """(address, process, folder of temporary files) of `python -m helpers.commands.page`."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "files").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"STYLECLIP_DOMAIN": "avatars", "TMPDIR": str(folder / "files")}
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.commands.page", f"--port={port}"],
            cwd=ROOT, env=environment, stdout=output, stderr=output)
    end = time.monotonic() + 300
    while "Running on" not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/", process, folder / "files"
    process.kill()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
def test_a_visitor_in_a_browser(visited, tmp_path):
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    address, _, _ = visited
    (tmp_path / "holiday.png").write_bytes(b"no picture at all")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = chromium.new_page(viewport={"width": 1300, "height": 800})
        view.set_default_timeout(60_000)
        asked = []
        view.on("request", lambda request: asked.append(request.url))
        view.goto(address)
        after = view.get_by_test_id("imageslider-image").last
        after.wait_for()
        assert view.get_by_text("stays on the machine").is_visible()
        assert view.evaluate("document.documentElement.scrollHeight") <= 800

        def type_sentence(sentence):
            view.get_by_label("sentence").fill(sentence)
            view.get_by_label("sentence").press("Enter")

        first = after.get_attribute("src")
        type_sentence(PROMPT)
        view.wait_for_function("""first => [...document.querySelectorAll(
            "[data-testid=imageslider-image]")].at(-1).src != first""", arg=first)
        with view.expect_download() as download:
            view.get_by_text("Download PNG").click()
        assert download.value.suggested_filename == "edit.png"
        assert Image.open(download.value.path()).text["Prompt"] == PROMPT

        type_sentence("")
        view.get_by_text("The prompt is empty").wait_for()
        type_sentence(PROMPT)
        view.get_by_label("Remove Image").click()
        view.locator("input[type=file]").set_input_files(tmp_path / "holiday.png")
        view.get_by_text("is not a picture").first.wait_for()
        foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
        assert not foreign
        chromium.close()


def test_only_this_machine_is_served_and_no_file_is_left(visited):
    psutil = pytest.importorskip("psutil")
    _, process, files = visited
    sockets = psutil.Process(process.pid).net_connections("inet")
    served = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert served == {"127.0.0.1"}
    assert any(files.iterdir())
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert not list(files.rglob("*.jp*g")) and not list(files.rglob("*.png"))
