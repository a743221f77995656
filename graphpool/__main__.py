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
import json
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from graphpool import info as facts
from graphpool.files.checkpoint import Prediction, Predictor, load, save
from graphpool.files.graphs import BagFiles, GraphFiles
from graphpool.files.listing import Listed, list_files
from graphpool.files.meshes import MeshFiles
from graphpool.files.points import PointFiles
from graphpool.files.reader import Files, Item
from graphpool.files.report import write_csv
from graphpool.files.runs import Settings, doubts, judge, read_splits, train_files

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
        if option.name not in explained or option.name == "arguments":
            continue
        kind, help = (
            str(option.type).removesuffix(" | None"),
            " ".join(explained[option.name].split()),
        )
        help = re.sub(r":\w+:|`", "", help).replace("%", "%%")
        flag = f"--{option.name.replace('_', '-')}"
        if kind == "bool":
            parser.add_argument(flag, action="store_true", help=help)
        else:
            given = {
                "default": option.default,
                "type": _TYPES.get(kind, str),
                "metavar": kind.split("[")[0],
            }
            parser.add_argument(flag, help=help, **given)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the four commands."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m graphpool", description=__doc__, formatter_class=plain)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("train", help="train a network on a folder of files")
    kinds = start.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, reader in READERS.items():
        train = kinds.add_parser(
            kind,
            help=f"on {kind}",
            description=inspect.cleandoc(reader.__doc__ or "").split("\n")[0],
        )
        train.add_argument("data", type=Path, help="the folder")
        train.add_argument("--out", type=Path, default=Path("run"), help="folder for the results")
        train.add_argument(
            "--classes", type=_words, help="their names in order; all that are there"
        )
        _add_fields(train, reader)
        _add_fields(train, Settings)
        train.add_argument("--set", type=_setting, default=[], action="append", metavar="NAME=VALUE",
                           help="a further argument of the network")  # fmt: skip
        train.add_argument(
            "--quick", action="store_true", help="2 epochs on 40 files, to see that it runs"
        )
        train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    predict = commands.add_parser("predict", help="classes of new files")
    evaluate = commands.add_parser("evaluate", help="count right answers on a folder of files")
    for command in (predict, evaluate):
        command.add_argument("model", type=Path, help="a checkpoint")
        command.add_argument(
            "data", type=Path, nargs="+" if command is predict else None, help="files, folders"
        )
        command.add_argument(
            "--out", type=Path, help="a .csv or .json" if command is predict else "a folder"
        )
        command.add_argument("--device", default="cpu")
    predict.add_argument(
        "--ply", type=Path, help="folder for coloured .ply, where elements are labelled"
    )
    predict.add_argument("--pictures", type=Path, help="a .png to draw the first twelve into")
    evaluate.add_argument("--split", help="test, or all if there is none")
    for command in (evaluate, *kinds.choices.values()):
        command.add_argument("--table", type=Path, help="file,label,split of every file")
    for command in (predict, evaluate, *kinds.choices.values()):
        command.add_argument("--import", dest="modules", default=[], action="append", metavar="MODULE",
                             help="import it first, for pools and networks of your own")  # fmt: skip
    info = commands.add_parser("info", help="what is installed, or what is in a file")
    info.add_argument("file", type=Path, nargs="?")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Where it cannot, one line says why, and the result is 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *more: print(f"note: {message}", file=sys.stderr)
            sys.path.insert(0, "")
            for module in getattr(args, "modules", []):
                importlib.import_module(module)
            {"train": _train, "predict": _predict, "evaluate": _evaluate, "info": _info}[
                args.command
            ](args)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        text = " ".join(str(error).split())
        for name in vars(args):
            text = text.replace(f"`{name}`", f"--{name.replace('_', '-')}")
        print(f"{parser.prog} {args.command}: {text}", file=sys.stderr)
        return 2
    return 0


def _given(cls: type, args: argparse.Namespace) -> dict[str, Any]:
    return {f.name: getattr(args, f.name) for f in fields(cls) if hasattr(args, f.name)}


def _train(args: argparse.Namespace) -> None:
    files: Files = READERS[args.kind](**_given(READERS[args.kind], args))
    settings = Settings(**_given(Settings, args), arguments=dict(args.set))
    if args.quick:
        settings.epochs = 2
    run = args.out / "run.pt"
    if run.exists() and not args.resume:
        raise ValueError(f"`out` must be a new folder, or go on with `resume`; {run} is there.")
    parts = read_splits(args.data, files, settings, args.table, 40 if args.quick else None)
    print(", ".join(f"{len(items)} {split}" for split, items in parts.items()), "items")
    predictor = train_files(parts, files, settings, args.classes, run)
    files, classes = predictor.reading()
    path = args.out / "model.pt"
    save(predictor.model, path, classes=classes, preprocess=files, about=predictor.about)
    for doubt in doubts(parts, classes, files):
        print(f"note: {doubt}")
    held = next((split for split in ("test", "val") if parts[split]), None)
    if held is None:
        print("note: no file was held out, so nothing tells how good this is; see --test")
    else:
        _report(predictor, parts[held], held, args.out)
    print(f"python -m graphpool predict {path} FILE")


def _report(predictor: Predictor, items: Sequence[Item], split: str, folder: Path | None) -> None:
    report = judge(predictor, items)
    text = f"{split}: {report}\n\n{report.table()}\n"
    if split == "val":
        text += "\nThe epoch was chosen on these files, so the number is optimistic.\n"
    print(text)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(text, encoding="utf-8")
        report.write(folder)


def _evaluate(args: argparse.Namespace) -> None:
    predictor = load(args.model, args.device)
    parts = read_splits(args.data, predictor.reading()[0], Settings(val=0, test=0), args.table)
    split = args.split or ("test" if parts["test"] else "all")
    items = {**parts, "all": sum(parts.values(), [])}.get(split)
    if not items:
        raise ValueError(f"`split` must be all or one that {args.data} has; got {split!r}.")
    _report(predictor, items, split, args.out)


def _predict(args: argparse.Namespace) -> None:
    predictor = load(args.model, args.device)
    files, classes = predictor.reading()
    if args.out is not None and args.out.suffix not in (".csv", ".json"):
        raise ValueError(f"`out` must end in .csv or .json; got {args.out}.")
    if args.ply is not None and files.labels is None:
        raise ValueError(
            f"`ply` needs a network that labels each {files.element}; got one class per file."
        )
    entries = [
        e
        for path in args.data
        for e in (list_files(path, files) if path.is_dir() else [Listed(path)])
    ]
    found = []
    for entry in entries:
        found += (new := predictor.predict(entry.file))
        if args.ply is not None:
            target = args.ply / f"{entry.file.stem}.ply"
            files.write_ply(entry.file, new[0].label.numpy(), target, len(classes))
    _write(found, args.out, files)
    if args.pictures is not None:
        args.pictures.parent.mkdir(parents=True, exist_ok=True)
        shown = found[:12]
        items = [item for e in entries[:12] for item in files.read(e.file)][: len(shown)]
        said = ["" if files.labels else f"\n{p.word} {p.probabilities.max():.0%}" for p in shown]
        titles = [Path(p.name).name + text for p, text in zip(shown, said, strict=True)]
        files.draw(items, titles, [p.label for p in shown], args.pictures)


def _write(found: Sequence[Prediction], out: Path | None, files: Files) -> None:
    """Predictions as a table on the screen, or in a file."""
    each = [files.element] if files.labels else []
    rows: list[list[Any]] = []
    for name, scores, classes in found:
        if out is None and each:
            shares = scores.argmax(1).bincount(minlength=len(classes)) / max(len(scores), 1)
            print(name, *(f"{n} {s:.1%}" for n, s in zip(classes, shares, strict=True)), sep="  ")
            continue
        for i, row in enumerate(scores.view(-1, len(classes)).tolist()):
            best = row.index(max(row))
            rows.append([name, *([i] if each else []), classes[best], row[best], *row])
    head = ["file", *each, "class", "probability", *(found[0].classes if found else [])]
    if out is None:
        for row in rows:
            print(f"{row[0]}  {row[1]}  {row[2]:.4f}")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        write_csv(out, [head, *rows])
    else:
        out.write_text(
            json.dumps([dict(zip(head, row, strict=True)) for row in rows]), encoding="utf-8"
        )


def _info(args: argparse.Namespace) -> None:
    if args.file is None:
        return facts.main()
    said = {}
    for kind, reader in READERS.items():
        try:
            items = reader().read(args.file)
        except ValueError as error:
            said[f"not {kind}"] = str(error)
            continue
        held = [
            f"{n} ({min(v.tolist())} to {max(v.tolist())})"
            for n, v in items[0].columns.items()
            if len(v)
        ]
        said[kind] = (
            f"{len(items)}, the first {items[0].raw}; {', '.join(held) or 'no further columns'}"
        )
    if args.file.suffix == ".pt" and all(name.startswith("not") for name in said):
        predictor = load(args.file)
        count = sum(p.numel() for p in predictor.model.parameters())
        print(
            f"{type(predictor.model).__name__}, {count:,} parameters, graphpool {predictor.version}"
        )
        said = {
            "classes": ", ".join(predictor.classes or ["not said"]),
            "files": str(predictor.files),
        }
        said |= {name: str(value) for name, value in predictor.about.items()}
    for name, text in said.items():
        if " is no file of " not in text:
            print(f"{name}: {text}")


if __name__ == "__main__":
    sys.exit(main())
