"""Notebook 3's panel alone, as a web page: for a class, or a stand.

python notebooks/app.py [--port 8866] [--ip 0.0.0.0] [--token WORD] [--visitors 10]     (make app)

Beyond this machine, visitors need the address with its token, which is printed. Each has a process of their own, which
ends when they leave or do nothing for a while.
"""

import argparse
import os
import secrets
import socket
import struct
import sys
from importlib.metadata import EntryPoint
from ipaddress import ip_address

import nbformat
import tornado.web
from app_kernels import CAN_FORK, NETWORKS, ROOT
from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config
from voila.app import Voila
from voila.tornado import kernel_websocket_handler
from voila.tornado.handler import TornadoVoilaHandler

BUILD = ROOT / "build"
UPLOAD = 40  # megabytes that a visitor's picture may have
GONE, IDLE = 60, 900  # seconds without a word until a kernel ends: of a visitor who left, and of one who is there
PARTS_MAX = 64  # of a message; Jupyter's have five, and a few buffers
FULL = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="20">
<meta name="viewport" content="width=device-width"><title>Global directions</title>
<body style="font: 18px sans-serif; margin: 3em auto; max-width: 30em; padding: 0 1em">
<h1>All places are taken</h1><p>This page has room for {places} visitors at a time. It looks every 20 seconds whether
one has become free; you need not do anything.</p>"""
CHECK_UPLOAD = f"""<script>
const readFile = FileReader.prototype.readAsArrayBuffer;
FileReader.prototype.readAsArrayBuffer = function (file) {{
  if (file.size <= {UPLOAD} * 1e6) return readFile.call(this, file);
  alert(`This file has ${{Math.ceil(file.size / 1e6)}} MB, and the page takes up to {UPLOAD}: choose a smaller one.`);
}};
</script>"""


def read_header(message):
    """The header of a kernel's message in Jupyter's binary protocol v1, or None where the message is of another.

    In place of Voila's reader, which believes the number of parts that the first bytes tell.
    """
    try:
        return _read_header(message) if 3 <= int.from_bytes(message[:8], "little") <= PARTS_MAX else None
    except ValueError:  # its bytes are no JSON
        return None


_read_header = kernel_websocket_handler.read_header_from_binary_message
kernel_websocket_handler.read_header_from_binary_message = read_header


def is_sound(message, protocol):
    """Does a visitor's message have as many parts as its first bytes tell, and few? Jupyter's readers believe them."""
    if isinstance(message, str):
        return protocol == ""
    if protocol:
        size, count = 8, int.from_bytes(message[:8], "little")
    else:
        size, count = 4, struct.unpack("!i", message[:4].ljust(4, b"\0"))[0]
    return 0 < count <= PARTS_MAX and size * (count + 1) <= len(message)


class Connection(ZMQChannelsWebsocketConnection):
    """A visitor's connection with a kernel; it ends with the first message that is not as it should be."""

    def handle_incoming_message(self, message):
        if is_sound(message, self.subprotocol or ""):
            return super().handle_incoming_message(message)
        self.log.warning("A visitor's message was not as it should be; the connection is closed.")
        self.websocket_handler.close(1003)


class Kernels(AsyncMappingKernelManager):
    """At most so many kernels; those that died, whose visitor left, or who does nothing any more are ended."""

    places, starting = 10, 0
    cull_interval, cull_connected = 10, True
    cull_idle_timeout = IDLE

    async def start_kernel(self, **options):
        if len(self) + self.starting >= self.places:
            raise tornado.web.HTTPError(503)
        self.starting += 1
        try:
            return await super().start_kernel(**options)
        finally:
            self.starting -= 1

    async def cull_kernel_if_idle(self, kernel_id):
        if not await ensure_async(self._kernels[kernel_id].is_alive()):
            return await ensure_async(self.shutdown_kernel(kernel_id, now=True))
        self.cull_idle_timeout = IDLE if self._kernel_connections.get(kernel_id) else GONE
        await super().cull_kernel_if_idle(kernel_id)


class Visit(TornadoVoilaHandler):
    """The page; or a friendly word, if there is no room."""

    @tornado.web.authenticated
    async def get(self, path=None):
        if path:
            raise tornado.web.HTTPError(404)
        _ = self.xsrf_token  # sets the cookie without which a browser that leaves cannot end its kernel
        await super().get(path)
        self.write(CHECK_UPLOAD)

    def write_error(self, status_code, **details):
        if status_code != 503:
            return super().write_error(status_code, **details)
        self.set_header("Content-Type", "text/html")
        self.finish(FULL.format(places=self.kernel_manager.places))


class Page(Voila):
    """Voila with the classes above."""

    def init_handlers(self):
        return [(pattern, Visit if handler is TornadoVoilaHandler else handler, *rest)
                for pattern, handler, *rest in super().init_handlers()]

    @property
    def display_url(self):
        """The address to open, token and all."""
        host = this_address() if self.ip in ("", "0.0.0.0", "::") else self.ip
        token = f"?token={self.identity_provider.token}" if self.identity_provider.token else ""
        return self._url(host) + token

    def launch_browser(self):
        import webbrowser
        webbrowser.open(self.display_url)


def this_address():
    """The address by which others on the network reach this machine, as far as it can be known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; this network belongs to nobody
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def is_local(ip):
    """Does only this machine reach what listens at an address?"""
    try:
        return ip == "localhost" or ip_address(ip).is_loopback
    except ValueError:  # a name, or ""
        return False


def write_page():
    """The notebook that Voila shows; it says nothing about where it lies."""
    cells = [nbformat.v4.new_markdown_cell("# Global directions\n\nTwo sentences and two sliders: "
                                           "[StyleCLIP](https://arxiv.org/abs/2103.17249)'s third method."),
             nbformat.v4.new_code_cell("from app_kernels import panel\n\npanel()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "title": "Global directions"}
    folder = BUILD / "app"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "app.ipynb")
    return folder / "app.ipynb"


def settings(options):
    """What Voila is told."""
    Kernels.places = options.visitors
    return Config(
        Voila=dict(ip=options.ip, port=options.port, open_browser=not options.no_browser,
                   token=secrets.token_urlsafe(12) if options.token is None and not is_local(options.ip)
                   else options.token or "", kernel_websocket_connection_class=Connection,
                   tornado_settings={"websocket_max_message_size": (UPLOAD + 1) * 1_000_000}),
        VoilaConfiguration=dict(multi_kernel_manager_class=Kernels, file_allowlist=[], allow_template_override="NO",
                                allow_theme_override="NO", extension_denylist=["@voila-dashboards/jupyterlab-preview"]),
        KernelManager=dict(autorestart=False))  # a kernel begun anew would know nothing of the page's widgets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--ip", default="127.0.0.1", help="0.0.0.0 lets others on the network in")
    parser.add_argument("--token", help="what the address must hold; by default a random word, where others are let in")
    parser.add_argument("--visitors", type=int, default=10, help="how many may be there at a time")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    options = parser.parse_args()
    os.environ["STYLECLIP_PAGE"] = "1"  # panels give pictures to the browser, and write no files
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "notebooks")])  # for the kernels
    if CAN_FORK:
        KernelProvisionerFactory.provisioners["styleclip"] = EntryPoint(
            "styleclip", "app_kernels:ForkProvisioner", KernelProvisionerFactory.GROUP_NAME)
        os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "styleclip"
        print("The networks are being loaded.", flush=True)
        try:
            NETWORKS.start()
        except RuntimeError as error:
            return str(error)
    try:
        Page.launch_instance([str(write_page())], config=settings(options))
    finally:
        if CAN_FORK:
            NETWORKS.stop()


if __name__ == "__main__":
    sys.exit(main())
