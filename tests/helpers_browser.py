"""A real browser for tests and benchmarks: headless Chromium, a static server, the npm packages."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxcam.web import runtime

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
).split()


def why_no_browser() -> str | None:
    """What is missing for tests in a browser, or None."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return "Chromium and its driver are not installed (Debian: chromium, chromium-driver)"
    return why_no_npm()


def why_no_npm() -> str | None:
    """What is missing for npm packages, or None."""
    return None if shutil.which("npm") else "npm is not installed: it fetches onnxruntime"


@contextlib.contextmanager
def chromium(downloads: Path | None = None) -> Iterator[Any]:
    """A selenium driver of a fresh browser."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if downloads is not None:
            preferences = {"download.default_directory": str(downloads)}
            options.add_experimental_option("prefs", preferences)
        driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
        try:
            yield driver
        finally:
            driver.quit()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing into the test's output."""


class _Elaborate(_Handler):
    """A server that knows of gzip files, and isolates its pages so that they may have threads."""

    def end_headers(self) -> None:
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextlib.contextmanager
def served(folder: Path, elaborate: bool = False) -> Iterator[str]:
    """The address of a folder behind Python's own static server, as the docs say."""
    kind = _Elaborate if elaborate else _Handler
    handler = functools.partial(kind, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def packed_onnxruntime_web(folder: Path) -> Path:
    """The npm package onnxruntime-web, unpacked into a folder; its own folder."""
    _npm(folder, "pack", f"{runtime.PACKAGE}@{runtime.VERSION}", "--silent")
    (archive,) = folder.glob("*.tgz")
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()
    return folder / "package"


def install_onnxruntime_node(folder: Path, *others: str) -> None:
    """onnxruntime-node into `folder/node_modules`, without the CUDA files that it would fetch."""
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    wanted = [f"onnxruntime-node@{runtime.VERSION}", *others]
    _npm(folder, "install", *wanted, "--no-audit", "--no-fund")


def _npm(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    command = [str(shutil.which("npm")), *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
