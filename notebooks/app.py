"""Notebook 3's panel alone, as a web page: for a class, or a stand.

python notebooks/app.py [--port 8866] [--ip 0.0.0.0]     (make app)
"""

import argparse
import sys
from pathlib import Path

import nbformat
from voila.app import Voila

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
PAGE = f"""import sys
sys.path.insert(0, {str(HERE.parent)!r})
from helpers.domains import load_domain
from helpers.inversion import invert
from helpers.notebook_code import notebook_code
from helpers.panels import GlobalPanel

direction = notebook_code("03_global_directions")["global_direction"]
panel = GlobalPanel(load_domain(), invert, direction, folder={str(BUILD)!r})
panel"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--ip", default="127.0.0.1", help="0.0.0.0 lets others on the network in")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    options = parser.parse_args()
    cells = [nbformat.v4.new_markdown_cell("# Global directions\n\nTwo sentences and two sliders: "
                                           "[StyleCLIP](https://arxiv.org/abs/2103.17249)'s third method."),
             nbformat.v4.new_code_cell(PAGE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "title": "Global directions"}
    BUILD.mkdir(exist_ok=True)
    path = BUILD / "app.ipynb"
    nbformat.write(notebook, path)
    arguments = [str(path), f"--port={options.port}", f"--Voila.ip={options.ip}"]
    Voila.launch_instance(arguments + ["--no-browser"] * options.no_browser)


if __name__ == "__main__":
    sys.exit(main())
