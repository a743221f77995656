"""Ways to damage a file, and what a reader may do about it."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

#: Memory a reader may add to the process for a file of a few kilobytes, and its processor time.
MEMORY, SECONDS = 2**30, 10.0

NUMBERS = [b"0", b"-1", b"3", b"7", b"99999", b"2147483648", b"999999999999", b"9" * 25, b"1_0"]
NUMBERS += [b"nan", b"inf", b"-inf", b"1e400", b"1.5", b"0x10", b"", b"\xd9\xa3", b"x"]
PIECES = [b"\0", b"\xff\xfe", b"\xc3\xa9", b"\n", b"\r\n", b" ", b"\xef\xbb\xbf", b"#", b"\\"]


@st.composite
def damaged(draw: Any, valid: bytes) -> bytes:
    """``valid`` after one to four accidents."""
    data = valid
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(
            st.sampled_from(["cut", "flip", "number", "number", "piece", "drop", "twice", "byte"])
        )
        if kind == "cut":
            data = data[:at]
        elif kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "byte" and data:
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
        elif kind == "number":
            places = list(re.finditer(rb"\d+", data))
            if places:
                place = places[draw(st.integers(0, len(places) - 1))]
                new = draw(st.sampled_from(NUMBERS))
                data = data[: place.start()] + new + data[place.end() :]
        elif kind == "piece":
            data = data[:at] + draw(st.sampled_from(PIECES)) + data[at:]
        else:
            stop = draw(st.integers(at, min(len(data), at + 200)))
            data = data[:at] + data[at:stop] * (2 if kind == "twice" else 0) + data[stop:]
    return data


@contextmanager
def bounded() -> Iterator[None]:
    """Raises MemoryError or TimeoutError where a reader takes more than its file can justify."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s of processor time")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    old = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, old[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, old)


def read_or_refuse(read: Callable[[Path], Any], path: Path, data: bytes) -> Any:
    """What ``read`` makes of the bytes, or ``None`` if it refuses them by name."""
    path.write_bytes(data)
    with bounded():
        try:
            return read(path)
        except (ValueError, TypeError, OSError) as error:
            assert not isinstance(error, (UnicodeDecodeError, TimeoutError)), error
            assert path.name in str(error) or path.parent.name in str(error), (
                f"{type(error).__name__} without the name of the file: {error}"
            )
            assert len(str(error)) > len(path.name) + 8
            return None
