"""Frame times of the memory widget at play, on a page without a kernel.

python benchmarks/memory_bank.py --record

Play is pressed with so many tokens read already; the more there are, the more arrive at a time. Chromium draws by
software. work_ms is the processor time of the page's main thread for a frame. The display allows 60 frames a second.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from scan_explorer import FLAGS, FRAMES, TURN, executable, summary, task_seconds

from mambaout_edu import recorded
from mambaout_edu.widgets import MemoryBank, page

STARTS = (1_000, 100_000, 400_000)


def at_play(browser: Browser, tokens: int, seconds: float) -> dict[str, float]:
    """Return the frame times while the widget plays, with its largest state."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "widget.html")
        file.write_text(page(MemoryBank(tokens=tokens, d_state=256), "Memory"), encoding="utf-8")
        context = browser.new_context(viewport={"width": 1360, "height": 1200})
        view = context.new_page()
        view.goto(file.as_uri())
        view.get_by_role("button", name="Play").click()
        session = context.new_cdp_session(view)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = task_seconds(session)
        gaps = view.evaluate(FRAMES, [TURN, seconds])
        work = 1000 * (task_seconds(session) - before) / len(gaps)
        read = int(view.locator("[data-tokens]").first.get_attribute("data-tokens") or 0)
        context.close()
    if read <= tokens:
        raise RuntimeError(f"the widget stood still at {read:,} tokens")
    return summary(gaps) | {"work_ms": work}


def main() -> None:
    """Measure, print, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=5, help="plays from each start; the median of each figure counts"
    )
    parser.add_argument("--record", action="store_true", help="write assets/recorded/memory_bank.json")
    options = parser.parse_args()
    results = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        for tokens in STARTS:
            plays = [at_play(browser, tokens, seconds=1.2) for _ in range(options.repeats)]
            results[f"from {tokens:,} tokens"] = {
                key: round(statistics.median(play[key] for play in plays), 1) for key in plays[0]
            }
        browser.close()
    for name, found in results.items():
        print(f"{name:<22}" + ", ".join(f"{key} {value:.1f}" for key, value in found.items()))
    if options.record:
        recorded.save("memory_bank", results)


if __name__ == "__main__":
    main()
