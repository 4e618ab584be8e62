"""JupyterLab on loopback with a token, in scratch folders, and a second client for its kernels."""

import ast
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient

# No news prompt, no autosave, every cell in the page, a known theme.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def wait_until(done: Callable[[], Any], what: str, timeout: float = 60) -> Any:
    """Call `done` until it returns something true; raise TimeoutError, with the last error, otherwise."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            if value := done():
                return value
        except (OSError, KeyError, ValueError) as error:
            last = error
        time.sleep(0.1)
    raise TimeoutError(f"{what} did not come within {timeout:g} s (last error: {last!r})")


@dataclass
class Lab:
    """A running JupyterLab: where it answers, its token, its folders."""

    url: str
    token: str
    root: Path
    scratch: Path

    def api(self, path: str, method: str = "GET") -> Any:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}api/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def kernel_of(self, path: str) -> str:
        return next(session["kernel"]["id"] for session in self.api("sessions") if session["path"] == path)

    def close_sessions(self) -> None:
        for session in self.api("sessions"):
            self.api(f"sessions/{session['id']}", method="DELETE")


class Kernel:
    """Ask a notebook's own kernel for values, from outside, without touching the notebook."""

    def __init__(self, lab: Lab, path: str) -> None:
        file = lab.scratch / "runtime" / f"kernel-{lab.kernel_of(path)}.json"
        self._client = BlockingKernelClient(connection_file=str(file))
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=30)

    def ask(self, expression: str, timeout: float = 30) -> Any:
        """Return the value of an expression, which must have a literal repr."""
        asked = self._client.execute("", silent=True, store_history=False, user_expressions={"value": expression})
        while True:
            message = self._client.get_shell_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") == asked:
                value = message["content"]["user_expressions"]["value"]
                if value["status"] != "ok":
                    raise RuntimeError(f"{expression}: {value['ename']}: {value['evalue']}")
                return ast.literal_eval(value["data"]["text/plain"])

    def wait_for(self, expression: str, expected: Any, timeout: float = 10) -> None:
        """Wait until an expression has a value: what the page sends arrives a little later."""
        end = time.monotonic() + timeout
        while (value := self.ask(expression)) != expected:
            if time.monotonic() > end:
                raise AssertionError(f"{expression} is {value!r} after {timeout:g} s, expected {expected!r}")
            time.sleep(0.05)

    def close(self) -> None:
        self._client.stop_channels()


def _environment(scratch: Path, token: str) -> dict[str, str]:
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "MAMBAOUT_EDU_DATA": "progress",
    }
    return {**os.environ, "JUPYTER_TOKEN": token} | {name: str(scratch / folder) for name, folder in folders.items()}


@contextlib.contextmanager
def running_lab(root: Path, scratch: Path) -> Iterator[Lab]:
    """Start JupyterLab on a free port of loopback; stop it, and with it its kernels, at the end."""
    for plugin, values in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    token = secrets.token_hex(16)
    # `-m jupyterlab`: `jupyter lab` would run whichever script comes first on PATH.
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", f"--ServerApp.root_dir={root}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    log = scratch / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=_environment(scratch, token), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            info = scratch / "runtime" / f"jpserver-{server.pid}.json"
            port = wait_until(lambda: json.loads(info.read_text())["port"], f"JupyterLab (its log: {log})")
            lab = Lab(f"http://127.0.0.1:{port}/", token, root, scratch)
            wait_until(lambda: lab.api("status"), f"an answer of JupyterLab (its log: {log})")
            yield lab
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
