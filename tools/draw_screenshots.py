"""Take the screenshots of the documents: docs/report.jpg and docs/serve.jpg. Needs playwright and Chromium.

make quickstart
python tools/draw_screenshots.py runs/quickstart docs
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

import seg
from seg.data.voc import open_split

SIZE = {"width": 1280, "height": 860}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="folder of a run, with its report")
parser.add_argument("out", type=Path, help="folder to write")


def main() -> None:
    """Take the screenshots."""
    args = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        raise seg.UserError("no browser found; install Chromium")
    model = seg.load(args.run)
    assert model.metadata is not None
    data = model.metadata.config.data
    split = open_split(model.metadata.data_root(), data.val, model.labels, data.masks)
    service = subprocess.Popen(
        [sys.executable, "-m", "seg", "serve", args.run, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert service.stdout is not None
        address = next(found[0] for line in service.stdout if (found := re.search(r"http://[\w.]+:\d+", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport=SIZE)
            page.goto((args.run / "report" / "index.html").absolute().as_uri())
            page.screenshot(path=args.out / "report.jpg", quality=85)
            page.goto(address)
            page.set_input_files("input[type=file]", split.images[0])
            page.get_by_text(" pixels in ").wait_for()
            page.screenshot(path=args.out / "serve.jpg", quality=85)
            browser.close()
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
