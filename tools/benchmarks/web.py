# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Memory and time of the static page of tools/web.py in a headless Chromium.

Photographs of several sizes are drawn and handed to the page. Memory is the largest
proportional set size of the renderer, in MB, with the time from choosing a photograph
to its answer; the page itself says how long reading and the network took.

Example:
    python tools/benchmarks/web.py SITE
"""

import argparse
import shutil
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from _common import show
from PIL import Image

SIZES = (640, 480), (4032, 3024), (5712, 4284), (8064, 6048)
WAIT = 120_000  # ms


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('site', help='a folder of tools/web.py')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--orientation', type=int, default=6, help='EXIF (default: 6)')
    return parser.parse_args(argv)


def renderers(profile: str) -> list[Path]:
    """Folders in /proc of the renderers of the browser that has this profile."""
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            command = (path / 'cmdline').read_text(errors='replace')
        except OSError:
            continue
        if '--type=renderer' in command and profile in command:
            found.append(path)
    return found


def megabytes(folders: list[Path]) -> float:
    """Largest proportional set size of the processes."""
    sizes = [0.0]
    for folder in folders:
        try:
            lines = (folder / 'smaps_rollup').read_text().splitlines()
        except OSError:
            continue
        sizes += [int(x.split()[1]) / 1e3 for x in lines if x.startswith('Pss:')]
    return max(sizes)


def draw(path: Path, size: tuple[int, int], orientation: int) -> Path:
    """A smooth photograph with noise, JPEG 4:2:0."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    pixels = np.asarray(rough.resize(size, Image.Resampling.BICUBIC))
    noise = rng.integers(0, 12, (64, 64, 3), np.uint8)
    noise = np.tile(noise, (-(-size[1] // 64), -(-size[0] // 64), 1))
    exif = Image.Exif()
    exif[0x112] = orientation
    shown = Image.fromarray(pixels // 16 * 15 + noise[: size[1], : size[0]])
    shown.save(path, quality=85, exif=exif.tobytes())
    return path


def measure(page, profile: str, path: Path, repeats: int) -> tuple[float, float, str]:
    """Largest MB, ms from choice to answer (the least), and what the page says."""
    peaks, times, done = [0.0], [], threading.Event()
    folders = renderers(profile)

    def watch() -> None:
        while not done.wait(0.005):
            peaks.append(megabytes(folders))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(repeats):
        page.evaluate("document.querySelector('.result').replaceChildren()")
        begun = time.perf_counter()
        page.set_input_files('.drop input', path)
        page.wait_for_selector('.sides, .refusal', timeout=WAIT)
        times.append(1e3 * (time.perf_counter() - begun))
    done.set()
    watcher.join()
    said = page.inner_text('.sides .small >> nth=0')
    return max(peaks), min(times), said.split('MB, ')[-1]


def main(argv=None) -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    args = parse_args(argv)
    chrome = shutil.which('chromium') or shutil.which('google-chrome')
    quiet = type(
        'Quiet', (SimpleHTTPRequestHandler,), dict(log_message=lambda *_: None)
    )
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(quiet, directory=args.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for size in SIZES:
            path = draw(Path(folder) / f'{size[0]}.jpg', size, args.orientation)
            profile = tempfile.mkdtemp(dir=folder)
            browser = playwright.chromium.launch_persistent_context(
                profile,
                executable_path=chrome,
                args=['--no-sandbox', '--disable-dev-shm-usage'],
            )
            page = browser.new_page()
            begun = time.perf_counter()
            page.goto(f'http://127.0.0.1:{server.server_address[1]}/')
            page.wait_for_selector('html[data-state]', state='attached', timeout=WAIT)
            ready = 1e3 * (time.perf_counter() - begun)
            idle = megabytes(renderers(profile))
            found = measure(page, profile, path, args.repeats)
            rows.append((f'{size[0]} x {size[1]}', ready, idle, *found))
            browser.close()
    server.shutdown()
    columns = [
        'photograph',
        'page ready, ms',
        'waiting, MB',
        'largest, MB',
        'answer, ms',
    ]
    show(args.site, [*columns, 'the page says'], rows)


if __name__ == '__main__':
    main()
