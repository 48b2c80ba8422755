# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Memory of the demo page under many uploads of large flat pictures at once.

Largest resident memory of the server while ``--uploads`` clients send a picture of the
most pixels that it takes, as a multiple of that of the waiting page; each kind has a
server of its own.

Example:
    python tools/benchmarks/demo_memory.py student=work_dirs/quickstart/RUN
"""

import argparse
import collections
import io
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from _common import ROOT, show
from PIL import Image

KINDS = {  # name -> format, mode, side in pixels, options of the writer
    'png': ('PNG', 'RGB', 7071, {}),
    'png with alpha': ('PNG', 'RGBA', 7071, {}),
    'jpeg': ('JPEG', 'RGB', 7071, {}),
    'progressive jpeg': ('JPEG', 'RGB', 6324, dict(progressive=True)),
    'webp': ('WEBP', 'RGB', 5000, {}),
    'tiff': ('TIFF', 'RGB', 7071, dict(compression='tiff_deflate')),
}


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('network', help='as tools/demo.py takes it: student=RUN')
    parser.add_argument('--uploads', type=int, default=50)
    parser.add_argument('--kinds', nargs='+', default=list(KINDS), choices=KINDS)
    return parser.parse_args(argv)


def megabytes(process: int) -> float:
    """Resident memory of a process, in MB."""
    with open(f'/proc/{process}/status') as status:
        (line,) = (line for line in status if line.startswith('VmRSS'))
    return int(line.split()[1]) / 1e3


def attack(address: str, picture: bytes, uploads: int) -> collections.Counter:
    """Send a picture so many times at once; how often which status came back."""

    def send(_: int) -> int:
        headers = {'Content-Type': 'application/octet-stream'}
        request = urllib.request.Request(f'{address}/look', picture, headers)
        try:
            return urllib.request.urlopen(request, timeout=120).status
        except urllib.error.HTTPError as error:
            return error.code

    with ThreadPoolExecutor(uploads) as pool:
        return collections.Counter(pool.map(send, range(uploads)))


def measure(network: str, kind: str, uploads: int) -> tuple:
    """Kind, MB of the waiting page, largest MB, their ratio, and the answers."""
    suffix, mode, side, options = KINDS[kind]
    file = io.BytesIO()
    Image.new(mode, (side, side), 'gray').save(file, suffix, **options)
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    address, peaks, done = f'http://127.0.0.1:{port}', [], threading.Event()
    command = [sys.executable, str(ROOT / 'tools/demo.py'), network]
    server = subprocess.Popen(
        [*command, '--port', str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in server.stdout:
            break  # the address: it listens
        time.sleep(5)
        idle = megabytes(server.pid)

        def watch() -> None:
            while not done.wait(0.01):
                peaks.append(megabytes(server.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        answers = attack(address, file.getvalue(), uploads)
        done.set()
        watcher.join()
    finally:
        server.terminate()
        server.wait()
    said = ', '.join(f'{count} x {code}' for code, count in sorted(answers.items()))
    return kind, idle, max(peaks), max(peaks) / idle, said


def main(argv=None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    show(
        f'{args.uploads} uploads at once',
        ['kind', 'waiting, MB', 'largest, MB', 'times', 'answers'],
        [measure(args.network, kind, args.uploads) for kind in args.kinds],
    )


if __name__ == '__main__':
    main()
