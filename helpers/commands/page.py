"""The page: edit a face in the browser by describing the change (method 3, global directions)."""

import argparse
import os
import signal
import tempfile
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache as put

from ..domains import load_domain
from ..edits import picture_text
from ..images import open_image, to_jpeg, to_pil, to_png
from ..latents import random_w_plus
from ..methods.directions import alpha_for, global_direction
from ..photographs import learn_picture

NOTICE = """<h1>Edit a face by describing the change</h1>
Your photograph {way} the machine that runs this page and is deleted within an hour. Open it only
if whoever it shows agrees. <b>What an edit shows is generated.</b>"""
DOWNLOAD = "f => Object.assign(document.createElement('a'), {href: f.url, download: ''}).click()"


class Page:
    """The page of a domain. `folder` is where Gradio keeps files."""

    def __init__(self, domain, folder):
        self.domain, self.generator, self.folder = domain, domain.generator, folder
        self.latents = {None: random_w_plus(domain, 1, seed=1)}  # or {bytes of a sample: w_plus}
        if domain.sample_latents is not None:
            small = [to_jpeg(open_image(path, 256)) for path in domain.samples]
            self.latents |= zip(small, domain.sample_latents.float().split(1))

    def draw(self, face, step=0):
        """A face whose style moves by a step [S], in its photograph if it has one."""
        learnt = face["learnt"]
        s = self.generator.styles(face["w_plus"]) + step
        if learnt and learnt.photograph:
            return learnt.picture(s)
        image = learnt.draw(s) if learnt else self.generator.synthesize(s)  # [1, 3, R, R]
        return to_pil(image, max(512, image.shape[-1]))

    def show_step(self, state):
        """A callback that moves a visitor's progress bar."""
        gr.Progress()((state["step"], state["steps"]), unit="steps of encoding, then of tuning")

    def open(self, path):
        """The face in a file; without a path, a random one. Raises: ValueError, OSError."""
        content = Path(path).read_bytes() if path else None
        face = {"path": path, "w_plus": self.latents.get(content), "learnt": None}
        if face["w_plus"] is None:
            face["learnt"] = learn_picture(self.domain, content, gr.Info, self.show_step)
            face["w_plus"] = face["learnt"].w_plus
        return face | {"before": self.draw(face)}

    def edit(self, face, file, sentence, neutral, alpha, keep=""):
        """The face in an uploaded file with its edit, and both pictures under one slider."""
        try:
            step = alpha * global_direction(self.domain, neutral, sentence, keep=keep or None)
            if face is None or (file and file["path"] != face["path"]):
                face = self.open(file["path"])
        except (ValueError, OSError) as error:
            gr.Warning(str(error))
            return face, gr.skip()
        if self.domain.clip.caution(sentence):
            gr.Warning(self.domain.clip.caution(sentence).partition(" It knows")[0])
        s, after = self.generator.styles(face["w_plus"]), self.draw(face, step)
        learnt = face["learnt"]
        own, photograph = (learnt.domain, learnt.photograph) if learnt else (self.domain, None)
        suits = alpha_for(own, s, neutral, sentence, keep or None).item()
        text = picture_text(self.domain, sentence, photograph) | {
            "Prompt": sentence, "Neutral": neutral, "Strength": f"{alpha:g}", "Keep": keep}
        return face | {"after": after, "text": text}, gr.ImageSlider(
            (face["before"], after), label=f"before | after (alpha {suits:.1f} suits this face)",
            format="jpeg", max_height=560, buttons=["fullscreen"], interactive=False)

    def save(self, face):
        """A PNG file of the edit on show. Its text says how it was made."""
        return put(to_png(face["after"], face["text"]), "edit.png", self.folder)

    def blocks(self, share=False):
        """The fields, and what follows when they are used; Gradio makes one edit at a time."""
        first = self.domain.prompts[0], self.domain.neutral, self.domain.settings.directions.alpha
        samples = [put(jpeg, "sample.jpg", self.folder) for jpeg in self.latents if jpeg] or [None]
        with gr.Blocks(title="StyleCLIP", analytics_enabled=False, delete_cache=(300, 3000)) as ui:
            gr.HTML(NOTICE.format(way="goes by gradio.live to" if share else "stays on"))
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    opening, pictures = self.edit(None, {"path": samples[0]}, *first)
                    save, png = gr.Button("Download PNG"), gr.DownloadButton(visible="hidden")
                with gr.Column(scale=2, min_width=320):
                    text = gr.Textbox(first[0], label="sentence")
                    with gr.Row():
                        keep = gr.Textbox(label="keep (- for nothing)", min_width=160)
                        neutral = gr.Textbox(first[1], label="neutral", min_width=120)
                    alpha = gr.Slider(-10, 10, first[2], step=0.1, label="alpha")
                    run = gr.Button("Edit", variant="primary")
                    photo = gr.Image(samples[0], label="photograph", height=120)
                    gr.Examples(samples, photo, label="samples", examples_per_page=10)
            face = gr.State(opening)  # {"path", "w_plus", "learnt", "before", "after", "text"}
            asked = run.click, text.submit, neutral.submit, keep.submit, alpha.change, photo.change
            gr.on(asked, self.edit, [face, photo, text, neutral, alpha, keep], [face, pictures],
                  preprocess=False, trigger_mode="always_last", show_progress="minimal")
            save.click(self.save, face, png).success(None, png, js=DOWNLOAD)
        return ui


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int)
    parser.add_argument("--share", action="store_true", help="give it an address at gradio.live")
    parser.add_argument("--auth", metavar="USER:WORD", help="what visitors must sign in with")
    options = parser.parse_args()
    auth = tuple(options.auth.split(":", 1)) if options.auth else None
    if auth and len(auth) < 2:
        parser.error("--auth must be USER:WORD")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no visitor's file is left
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        Page(load_domain(), folder).blocks(options.share).launch(
            share=options.share, auth=auth, server_port=options.port, max_file_size="40mb",
            footer_links=[], run_history=False, theme=gr.themes.Default(spacing_size="sm"))


if __name__ == "__main__":
    main()
