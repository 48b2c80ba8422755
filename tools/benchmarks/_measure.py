# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run a command and write how long it took and how much memory it had.

Also the memory and CPU time of a tree of processes, from Linux's ``/proc``.

A process of its own, run with ``python -S``: it is small, so that the peak
memory is the command's and not that of the process it was forked from.

Example:
    python -S _measure.py REPORT.json COMMAND ARGUMENT...
"""

import json
import os
import sys
import threading
import time

KIBIBYTE = 1024


def main() -> None:
    """Run the command of the command line."""
    report, command = sys.argv[1], sys.argv[2:]
    begun = time.time()
    pid = os.posix_spawn(command[0], command, os.environ)
    watch = TreeMemory(pid)
    watch.start()
    _, status, usage = os.wait4(pid, 0)
    seconds = time.time() - begun
    watch.stop()
    unit = 1 if sys.platform == 'darwin' else KIBIBYTE
    largest = usage.ru_maxrss * unit
    found = dict(
        begun=begun,
        seconds=seconds,
        bytes=largest,
        tree_bytes=max(watch.peak, largest),
        status=os.waitstatus_to_exitcode(status),
    )
    with open(report, 'w') as file:
        json.dump(found, file)


class TreeMemory(threading.Thread):
    """Sample the memory of a process and its descendants.

    A sample of a large process takes some 20 ms; there are so few of them
    that they take 1 % of a core at most.

    Args:
        root: process id.

    Attributes:
        peak: largest sum so far, bytes; 0 where there is no ``/proc``.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak = root, 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until :meth:`stop`."""
        while os.path.exists('/proc/self/smaps_rollup'):
            begun = time.thread_time()
            self.peak = max(self.peak, tree_bytes(self.root))
            taken = time.thread_time() - begun
            if self._ended.wait(max(0.25, 100 * taken)):
                break

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self.join()


def tree_bytes(root: int) -> int:
    """Memory of a process and its descendants, each page counted once.

    Private and shared memory are proportional (``Pss``): a page of n
    processes is 1/n in each. Mapped files, mostly libraries, are those of
    the process that has most of them: other programs of the machine that
    have the same libraries open do not make the sum smaller.
    """
    anonymous, files = 0, 0
    for pid in _descendants(root, _process_table()):
        found = _values(f'/proc/{pid}/smaps_rollup', 'Pss_Anon', 'Pss_Shmem')
        anonymous += sum(found)
        files = max(files, *_values(f'/proc/{pid}/status', 'RssFile'), 0)
    return anonymous + files


def tree_cpu_seconds(root: int) -> float | None:
    """CPU time of a process, its descendants and those that have ended.

    None where there is no ``/proc``.
    """
    if not os.path.exists('/proc/self/stat'):
        return None
    table = _process_table()
    ticks = sum(sum(table[pid][1:]) for pid in _descendants(root, table))
    return ticks / os.sysconf('SC_CLK_TCK')


def _process_table() -> dict[int, tuple[int, int, int, int, int]]:
    """Process -> parent; user and system ticks, its and ended children's."""
    table = {}
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{entry}/stat') as file:
                # the name before the last bracket may hold anything
                words = file.read().rpartition(')')[2].split()
        except OSError:  # it has ended
            continue
        table[int(entry)] = (int(words[1]), *map(int, words[11:15]))
    return table


def _descendants(root: int, table: dict[int, tuple[int, ...]]) -> list[int]:
    """The process, its children, and so on; only those of the table."""
    children: dict[int, list[int]] = {}
    for pid, (parent, *_) in table.items():
        children.setdefault(parent, []).append(pid)
    found = [root] if root in table else []
    for pid in found:  # grows on the way
        found += children.get(pid, [])
    return found


def _values(path: str, *names: str) -> list[int]:
    """Bytes of lines such as ``Pss_Anon:   112 kB``."""
    try:
        with open(path) as file:
            rows = [line.split() for line in file]
    except OSError:  # the process has ended
        return []
    return [
        int(row[1]) * KIBIBYTE
        for row in rows
        if len(row) == 3 and row[0].rstrip(':') in names
    ]


if __name__ == '__main__':
    main()
