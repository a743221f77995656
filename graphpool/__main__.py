"""From files to a prediction.

    python -m graphpool train points FOLDER --out run      # or meshes, graphs, bags
    python -m graphpool predict run/model.pt NEW_FILE
    python -m graphpool evaluate run/model.pt FOLDER
    python -m graphpool info [FILE]

FOLDER holds CLASS/FILE, train/CLASS/FILE, CLASS/train/FILE, or files with a table labels.csv.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from graphpool import info as facts
from graphpool.files.checkpoint import Prediction, Predictor, load, save
from graphpool.files.graphs import BagFiles, GraphFiles
from graphpool.files.listing import Located, list_files, without_companions
from graphpool.files.meshes import MeshFiles
from graphpool.files.points import PointFiles
from graphpool.files.reader import Files, Item
from graphpool.files.report import write_csv
from graphpool.files.runs import Settings, doubts, judge, read_splits, shown_before, train_files

READERS = {reader.kind: reader for reader in (PointFiles, MeshFiles, GraphFiles, BagFiles)}


class _Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _pool(text: str) -> str | list[str]:
    return list(_words(text)) if "," in text else text


def _setting(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE; got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


_TYPES: dict[str, Any] = {"int": int, "float": float, "tuple[str, ...]": _words, "Any": _pool}


def _add_fields(parser: argparse.ArgumentParser, cls: type) -> None:
    """An option for each field of a class whose docstring explains it."""
    explained: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        explained |= dict(re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE))
    for option in fields(cls):
        # A bag has no edges.
        useless = option.name == "directed" and cls is BagFiles
        if option.name not in explained or option.name == "arguments" or useless:
            continue
        kind, text = str(option.type).removesuffix(" | None"), explained[option.name]
        how: dict[str, Any] = {
            "type": _TYPES.get(kind, str),
            "default": option.default,
            "metavar": "...",
        }
        if kind == "bool":
            how = {"action": "store_true"}
        text = " ".join(re.sub(r":\w+:|`", "", text).replace("%", "%%").split())
        if option.default not in (None, False, ()) and "if not given" not in text:
            text += f" If not given: {option.default}."
        parser.add_argument(f"--{option.name.replace('_', '-')}", help=text, **how)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the four commands."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m graphpool", description=__doc__, formatter_class=plain)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("train", help="train a network on a folder of files")
    kinds = start.add_subparsers(dest="kind", required=True, metavar="KIND")
    train = [kinds.add_parser(kind, help=f"on {kind}") for kind in READERS]
    predict = commands.add_parser("predict", help="classes of new files")
    judge = commands.add_parser("evaluate", help="count right answers on a folder of files")
    info = commands.add_parser("info", help="what is installed, or what is in a file")

    def add(parsers: Sequence[argparse.ArgumentParser], *flags: str, **how: Any) -> None:
        for one in parsers:
            one.add_argument(*flags, **how)

    # fmt: off
    used, at, many = [predict, judge], {"type": Path}, {"default": [], "action": "append"}
    add(used, "model", **at, help="a checkpoint")
    add([*train, judge], "data", **at, help="the folder")
    add([predict], "data", **at, nargs="+", help="files, or folders")
    add(train, "--out", **at, default=Path("run"), help="folder for the results; run, if not given")
    add([predict], "--out", **at, help="a .csv or .json")
    add([judge], "--out", **at, help="a folder for the report")
    add(train, "--classes", type=_words, help="their names in order; all that are there")
    for one, reader in zip(train, READERS.values(), strict=True):
        _add_fields(one, reader)
        _add_fields(one, Settings)
    add(train, "--set", **many, type=_setting, metavar="NAME=VALUE", help="an argument of the network")
    add(train, "--quick", action="store_true", help="2 epochs on 40 files, to see that it runs")
    add(train, "--resume", action="store_true", help="go on with the run in --out")
    add([*train, judge], "--table", **at, help="a table with the columns file, label and maybe split")
    add([*train, *used], "--import", **many, dest="modules", metavar="MODULE", help="for pools of your own")
    add(used, "--device", default="cpu", help="cpu, cuda, ...")
    add(used, "--columns", help="names of the columns of clouds in text and arrays, where not as in training")
    add([predict], "--ply", **at, help="folder for coloured .ply, where elements are labelled")
    add([predict], "--pictures", **at, help="a .png to draw the first twelve into")
    add([predict], "--up", choices="xyz", default="z", help="the axis that points up in pictures")
    add([judge], "--split", help="test, or all if there is none")
    add([info], "file", **at, nargs="?", help="a file of data, or a checkpoint")
    # fmt: on
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Where it cannot, one line says why, and the result is 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *more: print(f"note: {message}", file=sys.stderr)
            _check_device(getattr(args, "device", "cpu"))
            for module in getattr(args, "modules", []):
                importlib.import_module(module)
            globals()[f"_{args.command}"](args)
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, RuntimeError) as error:
        text = " ".join(str(error).split())
        for name in vars(args):
            text = text.replace(f"`{name}`", f"--{name.replace('_', '-')}")
        print(f"{parser.prog} {args.command}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        on = args.command == "train" and (args.out / "run.pt").exists()
        more = "; the same command with --resume goes on" if on else ""
        print(f"{parser.prog} {args.command}: interrupted{more}", file=sys.stderr)
        return 130
    return 0


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    # PyTorch asserts that it was built for it.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` {device!r} cannot be used: {error}") from None


def _given(cls: type, args: argparse.Namespace) -> dict[str, Any]:
    # `--table` is a file that lists others; the field of that name is found out of the training set.
    names = {f.name for f in fields(cls)} - {"table"}
    return {name: value for name, value in vars(args).items() if name in names}


def _train(args: argparse.Namespace) -> None:
    files: Files = READERS[args.kind](**_given(READERS[args.kind], args))
    settings = Settings(**_given(Settings, args), arguments=dict(args.set))
    if args.quick:
        settings.epochs = 2
    run = args.out / "run.pt"
    if (run.exists() or (args.out / "model.pt").exists()) and not args.resume:
        raise ValueError(
            f"`out` must be a new folder, or `resume` go on with it; {args.out} has a run."
        )
    _make_folder(args.out, "out")
    parts = read_splits(args.data, files, settings, args.table, 40 if args.quick else None)
    print(", ".join(f"{len(items)} {split}" for split, items in parts.items()), "items")
    predictor = train_files(parts, files, settings, args.classes, run)
    files, classes = predictor.reading()
    path = args.out / "model.pt"
    save(predictor.model, path, classes=classes or None, preprocess=files, about=predictor.about)
    for doubt in doubts(parts, classes, files):
        print(f"note: {doubt}")
    held = next((split for split in ("test", "val") if parts[split]), None)
    if held is None:
        print("note: no file was held out, so nothing tells how good this is; see --test")
    else:
        _report(predictor, parts[held], held, args.out)
    print(f"python -m graphpool predict {path} FILE")


def _make_folder(path: Path, name: str) -> None:
    """Finds out before the work, not behind it, that its result cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise ValueError(f"`{name}`: {path} cannot be a folder: {error.strerror}.") from None
    if not writable:
        raise ValueError(f"`{name}`: nothing can be written to {path}.")


def _report(predictor: Predictor, items: Sequence[Item], split: str, folder: Path | None) -> None:
    report = judge(predictor, items)
    text = f"{split}: {report}\n\n{report.table()}\n"
    if split == "val":
        text += "\nThe epoch was chosen on these files, so the number is optimistic.\n"
    print(text)
    if folder is not None:
        (folder / "report.md").write_text(text, encoding="utf-8")
        report.write(folder)


def _load(args: argparse.Namespace) -> Predictor:
    predictor = load(args.model, args.device)
    if args.columns is not None:
        if not isinstance(predictor.files, PointFiles):
            raise ValueError(f"`columns` are those of clouds; {args.model} reads none.")
        predictor.files = replace(predictor.files, columns=args.columns)
    return predictor


def _evaluate(args: argparse.Namespace) -> None:
    predictor = _load(args)
    if args.out is not None:
        _make_folder(args.out, "out")
    parts = read_splits(args.data, predictor.reading()[0], Settings(val=0, test=0), args.table)
    split = args.split or ("test" if parts["test"] else "all")
    items = {**parts, "all": sum(parts.values(), [])}.get(split)
    if not items:
        raise ValueError(f"`split` must be all or one that {args.data} has; got {split!r}.")
    if seen := shown_before(predictor, items):
        print(
            f"note: {seen} of these {len(items)} items trained the network or chose its epoch, so the number "
            f"is optimistic."
        )
    _report(predictor, items, split, args.out)


def _predict(args: argparse.Namespace) -> None:
    predictor = _load(args)
    files, classes = predictor.reading()
    if args.out is not None and args.out.suffix not in (".csv", ".json"):
        raise ValueError(f"`out` must end in .csv or .json; got {args.out}.")
    if args.ply is not None and files.labels is None:
        raise ValueError(
            f"`ply` needs a network that labels each {files.element}; got one class per file."
        )
    if args.pictures is not None and type(files).draw is Files.draw:
        raise ValueError(f"`pictures` are for points and meshes; got {files.kind}.")
    for name, folder in (
        ("out", args.out and args.out.parent),
        ("ply", args.ply),
        ("pictures", args.pictures and args.pictures.parent),
    ):
        if folder is not None:
            _make_folder(folder, name)
    if lost := [path for path in args.data if not path.exists()]:
        raise FileNotFoundError(f"There is no file {lost[0]}.")
    listed = [list_files(path, files) if path.is_dir() else [Located(path)] for path in args.data]
    paths = without_companions([entry.file for entries in listed for entry in entries], files)
    if args.ply is not None and len({path.stem for path in paths}) < len(paths):
        raise ValueError("`ply` needs files of different names, for it writes all into one folder.")
    found: list[Prediction] = []
    shown: list[Item] = []
    failed = 0
    for path in paths:
        try:
            items = files.read(path)
            new = [predictor.of_item(item) for item in items]
        except ValueError as error:
            # One bad file among thousands must not cost the others their predictions.
            if failed + 1 == len(paths):
                raise
            failed += 1
            print(f"note: no prediction: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        found += new
        if args.ply is not None:
            for i, (item, one) in enumerate(zip(items, new, strict=True)):
                target = args.ply / f"{path.stem}{f'_{i}' * (len(items) > 1)}.ply"
                files.write_ply(item, one.label.numpy(), target, len(classes))
        if args.pictures is not None:
            shown += items[: 12 - len(shown)]
    _write(found, args.out, files)
    if args.out is not None:
        print(f"{len(found)} item{'s' * (len(found) != 1)}: {args.out}")
    if args.pictures is not None:
        args.pictures.parent.mkdir(parents=True, exist_ok=True)
        of = found[: len(shown)]
        said = [Path(p.name).name + ("" if files.labels else f"\n{p.in_words()}") for p in of]
        files.draw(shown, said, [p.label for p in of if classes], args.pictures, classes, args.up)
    if failed:
        raise ValueError(f"{failed} of {len(paths)} files have no prediction.")


def _rows(said: Prediction, each: bool) -> Iterator[list[Any]]:
    """What is said of an item as rows of a table, one by one: a scene has millions."""
    if said.value is not None:
        yield [said.name, said.value]
    number = itertools.count()
    for part in said.probabilities.view(-1, max(len(said.classes), 1)).split(4096):
        for row in part.tolist():
            best = row.index(max(row))
            place = [next(number)] if each else []
            yield [said.name, *place, said.classes[best], row[best], *row]


def _write(found: Sequence[Prediction], out: Path | None, files: Files) -> None:
    """Predictions as a table on the screen, or in a file."""
    each, numbers = files.labels is not None, files.target == "regression"
    if out is None:
        for said in found:
            if each:
                shares = said.label.bincount(minlength=len(said.classes)) / max(len(said.label), 1)
                text = [f"{n} {s:.1%}" for n, s in zip(said.classes, shares, strict=True)]
            else:
                text = [said.in_words()]
            print(said.name, *text, sep="  ")
        return
    own = (
        ["file", "value"] if numbers else ["file", *[files.element] * each, "class", "probability"]
    )
    rows = (row for said in found for row in _rows(said, each))
    if out.suffix == ".csv":
        return write_csv(
            out, itertools.chain([[*own, *found[0].classes]] if found else [own], rows)
        )
    listed = []
    for row in rows:
        listed.append(dict(zip(own, row, strict=False)))
        if not numbers:
            names = found[0].classes
            listed[-1]["probabilities"] = dict(zip(names, row[len(own) :], strict=True))
    out.write_text(json.dumps(listed), encoding="utf-8")


def _info(args: argparse.Namespace) -> None:
    if args.file is None:
        return facts.main()
    said = {}
    if args.file.is_dir() and not [*args.file.glob("*_A.txt"), *args.file.glob("raw/*_A.txt")]:
        raise ValueError(f"What is told of is one file; {args.file} is a folder.")
    # Nothing is trained here, so what a network would not see is no news.
    warnings.simplefilter("ignore")
    for kind, reader in READERS.items():
        try:
            items = reader().read(args.file)
        except ValueError as error:
            said[f"not {kind}"] = str(error)
            continue
        first = items[0]
        held = [f"{n} ({_range(v)})" for n, v in first.columns.items() if v.size]
        held += [f"of edges {n} ({_range(v)})" for n, v in first.edges.items() if v.size]
        said[kind] = (
            f"{len(items)}, the first {first.raw}; {', '.join(held) or 'no further columns'}"
        )
    if args.file.suffix == ".pt" and all(name.startswith("not") for name in said):
        said = load(args.file).facts()
    told = {name: text for name, text in said.items() if " is no file of " not in text}
    if not told:
        raise ValueError(f"{args.file} ends like no file that can be read, and is no model.")
    for name, text in told.items():
        print(f"{name}: {text}")


def _range(values: Any) -> str:
    """The smallest and the largest of some numbers, or of some words."""
    width = f"{values.shape[1]} columns, " if values.ndim > 1 and values.shape[1] > 1 else ""
    flat = values.reshape(-1)
    if flat.dtype.kind in "fiub":
        return f"{width}{flat.min():.4g} to {flat.max():.4g}"
    return f"{width}{min(flat.tolist())} to {max(flat.tolist())}"


if __name__ == "__main__":
    sys.exit(main())
