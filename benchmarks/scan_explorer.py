"""Frame times of the scan explorer in JupyterLab, beside the classic way: a Play button and a matplotlib redraw.

python benchmarks/scan_explorer.py --seconds 8 --record

Both play a 64 x 64 grid in two orders with a decaying state, in one Chromium, drawn by software. A frame of the
explorer is one turn of the page's clock, a frame of the classic way a new picture on the page. Each is measured with
the display's limit of 60 frames a second and without it, the explorer also while the kernel computes. The explorer
plays 400 steps a second, for it shows no more frames than steps; the classic way 125. work_ms is the processor time of
the page's main thread for a frame: what drawing costs, also where others keep the machine busy.
"""

import argparse
import importlib
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, sync_playwright
from tqdm import tqdm

from mambaout_edu import recorded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
lab = importlib.import_module("browser.lab")
pages = importlib.import_module("browser.pages")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
UNCAPPED = ["--disable-frame-rate-limit", "--disable-gpu-vsync"]

IMPORT = "import torch\nfrom mambaout_edu.widgets import ScanExplorer"
EXPLORER = "ScanExplorer(orders=('raster', 'hilbert'), height=64, width=64, decay=0.995, speed=400)"
LARGE = "ScanExplorer(orders=('raster', 'hilbert'), height=128, width=128, decay=0.995)"
BUSY = (
    "import time\na, end = torch.randn(1000, 1000), time.monotonic() + {seconds}\nwhile time.monotonic() < end: a @ a"
)
CLASSIC = """import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from mambaout_edu import flatten
orders = [flatten.order(name, 64, 64) for name in ("raster", "hilbert")]
def show(step):
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.7))
    for ax, order in zip(axes, orders):
        ax.imshow(flatten.memory_map(order, 64, 64, step, 0.995))
        ax.axis("off")
    plt.show()
play = ipywidgets.Play(min=0, max=4095, step=2, interval=16)
display(play, ipywidgets.interactive_output(show, {"step": play}))"""

# Times between turns of the clock in which what `look` gives has changed.
FRAMES = """async ([look, seconds]) => {
    const seen = (0, eval)(look), gaps = [], begin = performance.now();
    for (let last = 0, before; ;) {
        const now = await new Promise(requestAnimationFrame), value = seen();
        if (value !== before) { if (last) gaps.push(now - last); last = now; before = value; }
        if (performance.now() - begin > 1000 * seconds) return gaps;
    }
}"""
TURN = "() => performance.now()"
PICTURE = "() => document.querySelector('.jp-OutputArea-output img')?.src.slice(-400)"
# From the pointer's move until the page has drawn it.
HOVER = """async (moves) => {
    const grid = document.querySelector('[data-testid="grid-0"]'), box = grid.getBoundingClientRect(), found = [];
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    for (let k = 0; k < moves; k++) {
        const [x, y] = [box.left + box.width * ((k * 0.37) % 1), box.top + box.height * ((k * 0.61) % 1)];
        const begin = performance.now();
        grid.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
        await new Promise(requestAnimationFrame);
        const { port1, port2 } = new MessageChannel();
        await new Promise((done) => { port1.onmessage = done; port2.postMessage(0); });
        found.push(performance.now() - begin);
        await pause(15 + (k * 7) % 16);
    }
    return found;
}"""
# From the start of the cell until its widget is drawn.
FIRST_PAINT = """async () => {
    const begin = performance.now(), cell = jupyterapp.commands.execute("notebook:run-cell");
    const drawn = () => document.querySelector('[data-testid="scan-explorer"][data-step]');
    do await new Promise(requestAnimationFrame); while (!drawn());
    await new Promise(requestAnimationFrame);
    const found = performance.now() - begin;
    await cell;
    return found;
}"""


def summary(gaps: list[float]) -> dict[str, float]:
    """Return frames a second, and median and 95th percentile of the milliseconds between frames."""
    if len(gaps) < 2:
        raise RuntimeError(f"only {len(gaps) + 1} frames were shown; is the machine very busy?")
    cuts = statistics.quantiles(gaps, n=20, method="inclusive")
    return {"fps": 1000 * len(gaps) / sum(gaps), "p50_ms": statistics.median(gaps), "p95_ms": cuts[-1]}


def task_seconds(session: CDPSession) -> float:
    """Return the processor time of the page's main thread, which other programs do not lengthen."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def executable() -> str:
    """Return where Chromium is."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(f"no Chromium on PATH (looked for {', '.join(BROWSERS)})")
    return found


class Bench:
    """A browser, a JupyterLab, and notebooks that are opened, measured and closed."""

    def __init__(self, browser: Browser, server: Any, scratch: Path, name: str) -> None:
        self.browser, self.server, self.scratch, self.name = browser, server, scratch, name

    def open(self, *cells: str) -> Any:
        """Open a notebook of these cells in a page of its own; the first cell is run."""
        context = self.browser.new_context(viewport={"width": 1360, "height": 1200})
        view = pages.LabPage(context.new_page(), self.server, self.scratch, self.name).open_cells(*cells)
        view.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
        return view

    def close(self, view: Any) -> None:
        """Close the page and its kernel."""
        view.close()
        view.page.context.close()

    def explorer(self, seconds: float, busy: bool = False) -> dict[str, float]:
        """Measure the explorer at play."""
        view = self.open(IMPORT, EXPLORER, BUSY.format(seconds=seconds + 4))
        view.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
        root = view.widget("scan-explorer")
        root.wait_for()
        if busy:  # before the click, which selects the widget's own cell
            view.page.evaluate("() => void jupyterapp.commands.execute('notebook:run-cell')")
        root.get_by_role("button", name="Play").click()
        view.page.wait_for_timeout(1000)
        session = view.page.context.new_cdp_session(view.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = task_seconds(session)
        gaps = view.page.evaluate(FRAMES, [TURN, seconds])
        found = summary(gaps) | {"work_ms": 1000 * (task_seconds(session) - before) / len(gaps)}
        if root.get_attribute("data-playing") != "true":
            raise RuntimeError(f"the explorer stood still at step {root.get_attribute('data-step')}")
        self.close(view)
        return found

    def classic(self, seconds: float) -> dict[str, float]:
        """Measure the classic way at play."""
        view = self.open(IMPORT, CLASSIC)
        view.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell')")
        view.book.locator(".widget-play button").first.click()
        view.page.wait_for_timeout(1500)
        found = summary(view.page.evaluate(FRAMES, [PICTURE, seconds]))
        self.close(view)
        return found

    def large(self, moves: int = 60) -> dict[str, float]:
        """Measure the first paint and the answer to the pointer at 128 x 128."""
        view = self.open(IMPORT, EXPLORER)
        paint = view.page.evaluate(FIRST_PAINT)
        self.close(view)
        view = self.open(IMPORT, LARGE)
        view.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell')")
        view.widget("scan-explorer").wait_for()
        view.page.evaluate(HOVER, 10)
        times = view.page.evaluate(HOVER, moves)
        self.close(view)
        return {"first_paint_ms": paint} | {
            f"hover_{key}": value for key, value in summary(times).items() if key != "fps"
        }


def main() -> None:
    """Measure, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="length of each measurement, up to 15")
    parser.add_argument("--record", action="store_true", help="write assets/recorded/scan_explorer.json")
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    seconds = min(15.0, options.seconds)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scratch = Path(folder)
        (scratch / "root").mkdir()
        with lab.running_lab(scratch / "root", scratch) as server, tqdm(total=6, leave=False) as bar:
            for cap, flags in (("capped", []), ("uncapped", UNCAPPED)):
                browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS + flags)
                bench = Bench(browser, server, scratch, cap)
                results[f"explorer, {cap}"] = bench.explorer(seconds)
                bar.update()
                results[f"classic, {cap}"] = bench.classic(seconds)
                bar.update()
                if cap == "capped":
                    results["explorer, capped, kernel busy"] = bench.explorer(seconds, busy=True)
                    bar.update()
                    results["large"] = bench.large()
                    bar.update()
                browser.close()
    if hasattr(os, "getloadavg"):
        results["machine"] = {"load_of_the_last_minute": os.getloadavg()[0], "cores": float(os.cpu_count() or 0)}
    report(results)
    if options.record:
        recorded.save(
            "scan_explorer", {name: {k: round(v, 2) for k, v in row.items()} for name, row in results.items()}
        )


def report(results: dict[str, dict[str, float]]) -> None:
    """Print the frame times and the ratios."""
    for name, row in results.items():
        print(f"{name:32s}" + ", ".join(f"{key} {value:.1f}" for key, value in row.items()))
    for cap, wanted in (("capped", 5), ("uncapped", 10)):
        ratio = results[f"explorer, {cap}"]["fps"] / results[f"classic, {cap}"]["fps"]
        print(f"{cap}: the explorer shows {ratio:.1f} times as many frames as the classic way (aim: {wanted})")


if __name__ == "__main__":
    main()
