"""What a visitor of the page runs (`panel`), and where it runs: a process forked from one that holds the networks.

Loading the networks takes seconds and hundreds of megabytes, so one process does it once. It has one thread, as
fork asks for, and never trains. Each visitor's kernel is a fork of it: there in a moment, its memory the parent's until
it writes there. Where a process cannot be forked so (not Linux), each kernel loads the networks itself.
"""

import asyncio
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from jupyter_client.provisioning import LocalProvisioner

ROOT = Path(__file__).resolve().parent.parent
CAN_FORK = hasattr(os, "pidfd_open")  # Linux
MESSAGE = 1 << 17  # bytes, of what is asked of the process that forks
THREADS = max(1, (os.cpu_count() or 1) // 2)  # of a visitor's kernel; several run at once


@functools.cache
def networks():
    """(domain, global_direction), loaded once, with what the first direction finds out for all others."""
    from helpers.domains import load_domain
    from helpers.methods import global_direction

    domain = load_domain(device="cpu")  # what a GPU holds cannot be forked
    global_direction(domain, domain.neutral, domain.prompts[0])
    return domain, global_direction


def panel():
    """Notebook 3's panel."""
    from helpers.inversion import invert
    from helpers.panels import GlobalPanel

    domain, direction = networks()
    return GlobalPanel(domain, invert, direction)


# In the process that holds the networks

def serve(connection):
    """Load the networks, say so, and fork a kernel for each request, until the other end is closed."""
    import torch
    from ipykernel import ipkernel, kernelapp  # noqa: F401  (imported before the fork)
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # starts no thread
    torch.set_num_threads(1)
    try:
        networks()
        panel().widget.close_all()  # what is imported or read on the way is there then
    except (OSError, ValueError) as error:  # a sentence that says what to do
        return f"{error}"
    gc.collect()
    gc.freeze()  # so that collecting writes nothing into shared pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    connection.send(b"ready")
    while request := connection.recv(MESSAGE):
        pid = os.fork()
        if pid == 0:
            try:
                connection.close()
                _be_kernel(**json.loads(request))
            finally:
                os._exit(0)  # nothing of the parent's is flushed or closed twice
        handle = os.pidfd_open(pid)
        socket.send_fds(connection, [str(pid).encode()], [handle])
        os.close(handle)


def _be_kernel(connection_file, env, cwd):
    import ipywidgets
    import numpy as np
    import torch
    from ipykernel.kernelapp import IPKernelApp

    parent = os.getppid()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(THREADS)
    torch.seed()
    np.random.seed()
    kernel = IPKernelApp.instance()
    kernel.initialize(["-f", connection_file, f"--IPKernelApp.parent_handle={parent}",
                       "--HistoryManager.enabled=False"])
    ipywidgets.register_comm_target()  # what importing it does where there is a kernel already
    kernel.start()


# In the process of the web server

class Networks:
    """The process that holds the networks, as the web server sees it; started anew if it was killed."""

    def __init__(self):
        self.process, self.connection, self.lock = None, None, threading.Lock()

    def start(self):
        """Start it and wait until it is ready. Raises RuntimeError, with its own sentence, if it cannot be."""
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], stdin=subprocess.DEVNULL,
                                            pass_fds=[theirs.fileno()], start_new_session=True,
                                            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        if not self.connection.recv(MESSAGE):
            raise RuntimeError("The networks of the page could not be loaded.")

    def stop(self):
        """End it and, within a second, all that it forked."""
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def fork(self, **request):
        """A new kernel, as `Forked`. Args: connection_file, env, cwd: as `_be_kernel`."""
        with self.lock:
            try:
                return self._fork(json.dumps(request).encode())
            except OSError:  # it was killed
                self.stop()
                self.start()
                return self._fork(json.dumps(request).encode())

    def _fork(self, request):
        self.connection.send(request)
        pid, handles, _, _ = socket.recv_fds(self.connection, 100, 1)
        if not handles:
            raise ConnectionError("The process that holds the networks of the page has ended.")
        return Forked(int(pid), handles[0])


class Forked:
    """A forked kernel, with the methods of a Popen that `LocalProvisioner` calls."""

    stdin = stdout = stderr = None

    def __init__(self, pid, handle):
        self.pid, self.handle = pid, handle
        self.returncode = None  # as long as it runs; nobody needs to know how it ended

    def poll(self):
        if self.returncode is None and select.select([self.handle], [], [], 0)[0]:
            os.close(self.handle)
            self.returncode = 0
        return self.returncode

    def wait(self):
        if self.poll() is None:
            select.select([self.handle], [], [])
        return self.poll()

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self.handle, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


NETWORKS = Networks()


class ForkProvisioner(LocalProvisioner):
    """Starts kernels by forking; Jupyter finds it under the name "styleclip" (see app.py)."""

    async def launch_kernel(self, cmd, **kwargs):
        self.process = await asyncio.to_thread(NETWORKS.fork, connection_file=self.parent.connection_file,
                                               env=kwargs["env"], cwd=str(kwargs["cwd"]))
        self.pid = self.process.pid
        return self.connection_info


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from app_kernels import serve as serve_as_imported  # the module that `panel` is imported from in a kernel

    sys.exit(serve_as_imported(socket.socket(fileno=int(sys.argv[1]))))
