"""Fresh processes for tests, without the seconds that PyTorch takes to load.

``python fresh.py`` loads PyTorch and PyTorch Geometric, nothing of graphpool, and waits. Each line that it
reads is a list of commands to run side by side, in the words of ``python``'s own command line. Each runs in
a process split off this one (in a new interpreter where systems do not do that), which has seen nothing
but those two packages. It writes one line: what came of each command.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
import types
from pathlib import Path

import torch  # noqa: F401
import torch_geometric.data
import torch_geometric.nn  # noqa: F401


def python(words: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    """``python *words``, in the process that this is."""
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    first, *rest = words
    begin = str(Path(first).parent) if first[0] != "-" else cwd
    sys.path[:1] = [begin, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    elif first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(first, run_name="__main__")


def run(commands: list[list[str]], env: dict[str, str], cwd: str, timeout: float) -> list[dict]:
    split_off = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with tempfile.TemporaryDirectory() as folder:
        texts = [[f"{folder}/{i}.{kind}" for kind in ("out", "err")] for i in range(len(commands))]
        group = [
            split_off.Process(target=python, args=(words, env, cwd, *two))
            for words, two in zip(commands, texts, strict=True)
        ]
        for process, (out, err) in zip(group, texts, strict=True):
            Path(out).touch()
            Path(err).touch()
            process.start()
        end = time.monotonic() + timeout
        found = []
        for process, (out, err) in zip(group, texts, strict=True):
            process.join(max(0.0, end - time.monotonic()))
            process.kill()
            process.join()
            stdout, stderr = (Path(path).read_text(errors="replace") for path in (out, err))
            found.append({"returncode": process.exitcode, "stdout": stdout, "stderr": stderr})
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
