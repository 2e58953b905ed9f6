"""Writes log lines in a thread, so that nothing else waits for a slow reader.

A pipe without a reader, a stopped terminal or a stalled disk blocks the writer. So the event loop hands its
lines to this thread and continues. Lines that exceed the buffer are dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Characters of all lines that wait to be written.
_MAX_BUFFERED: Final = 4 * 1024 * 1024
#: Seconds between two writes. Under load, all lines of this time share one write.
_PAUSE: Final = 0.005
#: Bytes that reach a pipe in one piece, even when others write to it (POSIX's PIPE_BUF, on Linux).
ATOMIC_WRITE: Final = 4096


class LineWriter:
    """Writes lines to a stream. For a file, pipe or terminal it uses a thread.

    One write has at most `max_write` bytes: longer writes could be interleaved with those of other
    processes. `dropped_line` creates the line that reports dropped lines; it is written once there is room.
    """

    def __init__(self, stream: TextIO, max_write: int, dropped_line: Callable[[int], str]) -> None:
        self._stream = stream
        self._max_write = max_write
        self._dropped_line = dropped_line
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._file = _descriptor_of(stream)
        #: Lines of the current iteration of the event loop.
        self._lines: list[str] = []
        self._waiting: deque[str] = deque()
        # Each counter is changed by only one thread, so no update is lost.
        self._put = self._overflowed = 0
        self._taken = self._failed = self._reported = 0
        #: Whether the thread is awake, and will check for lines once more before it sleeps.
        self._is_awake = False
        #: An item wakes the thread. This is much cheaper than an event.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_ended = False

    @property
    def dropped(self) -> int:
        """The number of dropped lines."""
        return self._overflowed + self._failed

    def msg(self, line: str) -> None:
        """Queue a line for writing. Never blocks, unless the stream is in memory."""
        self._lines.append(line)
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.hand_over)
        except RuntimeError:  # no event loop here: nothing else would write the line
            self.hand_over()

    debug = info = warning = error = critical = msg

    def hand_over(self) -> None:
        """Hand the queued lines to the thread."""
        lines, self._lines = self._lines, []
        if self._file is None:
            for text in _join_lines(lines, self._max_write):
                self._stream.write(text)
                self._stream.flush()
            return
        for line in lines:
            size = len(line)
            if self._put - self._taken + size > _MAX_BUFFERED:
                self._overflowed += 1
            else:
                self._put += size
                self._waiting.append(line)
        if not self._is_awake:
            self._wake_thread()

    def _wake_thread(self) -> None:
        self._is_awake = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._wake.put(None)

    def flush(self, timeout: float) -> None:
        """Wait until all lines are written, for at most `timeout` seconds."""
        self.hand_over()
        until = time.monotonic() + timeout
        while (self._waiting or self._is_awake) and time.monotonic() < until:
            time.sleep(0.001)

    def close(self, timeout: float) -> None:
        """Flush, then end the thread. A blocked thread stays, but it does not keep the process alive."""
        self.flush(timeout)
        self._is_ended = True
        self._wake.put(None)

    def _run(self) -> None:
        while not self._is_ended:
            self._wake.get()
            while self._waiting:
                self._write_waiting()
                time.sleep(_PAUSE)
            self._is_awake = False
            # A line arrived after the last check, while its sender believed that the thread was awake.
            if self._waiting:
                self._wake_thread()

    def _write_waiting(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for text in _join_lines(lines, self._max_write):
            if not self._write(text):
                self._failed += text.count("\n")
        self._taken += sum(map(len, lines))
        self._report()

    def _report(self) -> None:
        """Report the number of dropped lines."""
        missing = self.dropped - self._reported
        if missing and self._write(self._dropped_line(missing) + "\n"):
            self._reported += missing

    def _write(self, text: str) -> bool:
        """Write the whole text, however long that takes. Return False when the write fails."""
        assert self._file is not None  # noqa: S101 - without one there is no thread
        rest = text.encode(self._encoding, "replace")
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:
                # Another process that shares the pipe has made it non-blocking.
                select.select((), (self._file,), ())
            except OSError:
                return False
        return True


def _descriptor_of(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream; None for a stream in memory."""
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _join_lines(lines: list[str], max_write: int) -> Iterator[str]:
    """Join lines to texts of at most `max_write` bytes. A longer line stays whole."""
    joined: list[str] = []
    length = 0
    for line in lines:
        more = len(line.encode("utf-8", "replace")) + 1 if max_write < sys.maxsize else 0
        if joined and length + more > max_write:
            yield "\n".join([*joined, ""])
            joined, length = [], 0
        joined.append(line)
        length += more
    if joined:
        yield "\n".join([*joined, ""])
