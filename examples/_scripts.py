"""Options of a script, and how it says what is wrong with them."""

from __future__ import annotations

import argparse
import math
import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

# What may be 0 where other numbers count something; and what may be anything.
_FROM_ZERO = {
    "seed",
    "crash",
    "wait",
    "halve_every",
    "dropout",
    "smoothing",
    "clip",
    "gamma",
    "noise",
    "missing",
    "penalty",
    "decay",
}
_ANY = {"ignore_label", "starts", "growth", "p", "strength"}
# What the library calls otherwise than the options of scripts.
_OTHER_NAMES = {
    "batch_size": "batch", "num_samples": "num_points", "per_class": "limit", "device": "device",
    "hidden_channels": "hidden", "channels": "hidden", "num_layers": "layers", "num_clusters": "clusters",
}  # fmt: skip


def peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # where the other way counts what the process that started this one held, too
        found = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(next(found).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class ScriptParser(argparse.ArgumentParser):
    """A parser that refuses numbers that no script can use, each by its option, in one line.

    :meth:`report` puts what the library refuses into the words of the options.
    """

    latest: ScriptParser | None = None

    def __init__(self, description: str | None) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=raw)
        self.given = argparse.Namespace()
        self.add_argument("--seed", type=int, default=0)
        self.add_argument("--device", default="cpu", help="cpu, cuda, ...")
        self.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results")
        self.add_argument("--traceback", action="store_true", help="show where an error came from")
        ScriptParser.latest = self

    def parse_args(self, *args: Any, **kwargs: Any) -> argparse.Namespace:  # type: ignore[override]
        self.given = super().parse_args(*args, **kwargs)
        for action in self._actions:
            if action.type in (int, float) and action.dest not in _ANY:
                for value in _flat(getattr(self.given, action.dest)):
                    self._check(action, value)
        try:
            torch.empty(0, device=self.given.device)
        # An assertion where torch was built without CUDA.
        except (RuntimeError, AssertionError) as error:
            self.error(f"--device {self.given.device}: {error}")
        return self.given

    def _check(self, action: argparse.Action, value: float) -> None:
        name = action.option_strings[-1]
        if not math.isfinite(value):
            self.error(f"{name} must be finite; got {value}")
        if action.dest in _FROM_ZERO and value < 0:
            self.error(f"{name} must not be negative; got {value}")
        # Several are numbers of seeds, one is how many there are.
        if action.dest == "seeds" and action.nargs:
            return
        if action.dest not in _FROM_ZERO and (value < 1 if action.type is int else value <= 0):
            self.error(
                f"{name} must be {'at least 1' if action.type is int else 'above 0'}; got {value}"
            )

    def error(self, message: str) -> NoReturn:
        """Ends the script with one line and the exit code 2."""
        line = re.sub(r"\s+", " ", message).strip().rstrip(".")
        self.exit(
            2, f"{self.prog}: error: {line}. Options: --help; where it came from: --traceback\n"
        )

    def report(self, error: Exception) -> NoReturn:
        """Ends the script by what went wrong, with options in the place of the library's arguments."""
        options = {a.dest: a.option_strings[-1] for a in self._actions if a.option_strings}

        def option(match: re.Match[str]) -> str:
            name = match[1] if match[1] in options else _OTHER_NAMES.get(match[1], "")
            return options.get(name, match[0])

        message = re.sub(r"`(\w+)`", option, str(error) or type(error).__name__)
        if not re.search(r"(?<!\S)--\w", message):
            # Of an option that takes several, what the message quotes first, alone or behind a colon.
            quoted = re.search(r"'([^']+)'", message)
            names = [
                options[key]
                for key, value in vars(self.given).items()
                if (
                    isinstance(value, (str, Path))
                    and str(value) not in ("", ".")
                    and str(value) in message
                )
                or (
                    isinstance(value, list)
                    and quoted
                    and any(str(one).rpartition(":")[2] == quoted[1] for one in value)
                )
            ]
            message = f"{', '.join(names)}: {message}" if names else message
        self.error(message)


def run(main: Callable[[], None]) -> None:
    """Runs a script. What was given wrongly is said in one line that names the option, without a traceback.

    ``--traceback`` shows where it came from.
    """
    try:
        main()
    except KeyboardInterrupt:
        # What a script keeps as it goes is there, and whole: the same command goes on from it.
        sys.exit("\nstopped")
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if ScriptParser.latest is None or "--traceback" in sys.argv:
            raise
        ScriptParser.latest.report(error)


def _flat(value: Any) -> Sequence[Any]:
    """Numbers of an option, however they are nested."""
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _flat(item)]
    return [] if value is None else [value]
