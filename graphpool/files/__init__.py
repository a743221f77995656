"""From files to a prediction: readers of folders, training on them, checkpoints that say what is in them."""

from graphpool.files.checkpoint import Prediction, Predictor, load, save
from graphpool.files.graphs import BagFiles, GraphFiles
from graphpool.files.meshes import MeshFiles
from graphpool.files.points import PointFiles
from graphpool.files.reader import Files
from graphpool.files.report import NumberReport, Report
from graphpool.files.runs import Settings, judge, read_splits, train_files

__all__ = [
    "BagFiles", "Files", "GraphFiles", "MeshFiles", "NumberReport", "PointFiles", "Prediction", "Predictor",
    "Report", "Settings", "judge", "load", "read_splits", "save", "train_files",
]  # fmt: skip
