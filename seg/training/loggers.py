"""Loggers of a training behind one interface: TensorBoard, Weights & Biases, MLflow and Comet."""

import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from ..config import RUN_CONFIG
from ..errors import UserError, reason
from ..extras import import_extra
from ..files import read_json, write_json
from .run_folder import EVENTS, SERVICES

FIRST = ("train.learning_rate", "model.backbone", "train.batch_size", "data.crop_size", "train.iterations")
"""Settings that come first in TensorBoard's table of runs."""
BEST_MIOU = "best_mIoU"
"""Name of the best mIoU of a training."""
MLFLOW_TEXT = 500
"""Longest parameter, in characters, that every version of MLflow accepts."""


class Logger:
    """Base class of loggers. Its methods do nothing."""

    name = ""
    """As in `train.loggers`."""
    id = ""
    """Id of the run at the service; a resumed run continues it."""

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Show numbers by name, such as {"train/loss": 0.5}."""

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, 3], RGB."""

    def text(self, iteration: int, name: str, text: str) -> None:
        """Show a text in Markdown."""

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        """Show the settings and the best mIoU, 0 to 1, when the training has ended."""

    def flush(self) -> None:
        """Write everything to disk."""

    def close(self) -> None:
        """End, finished or not."""


class TensorBoard(Logger):
    """Writes TensorBoard's `events/` in the run's folder.

    Args:
        folder: of the run.
        purge: events of this step and later ones are dropped. If a validation is repeated, its events are written again.
    """

    name = "tensorboard"

    def __init__(self, folder: Path, purge: int):
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(folder / EVENTS, purge_step=purge)
        if (folder / RUN_CONFIG).exists():
            text = indent((folder / RUN_CONFIG).read_text(encoding="utf-8"), "    ")  # indented, Markdown shows it as it is
            self.text(purge, "config", text)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self.board.add_image(name, picture, iteration, dataformats="HWC")

    def text(self, iteration: int, name: str, text: str) -> None:
        self.board.add_text(name, text, iteration)

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        from torch.utils.tensorboard.summary import hparams

        # SummaryWriter.add_hparams would make a separate run of them. The metric is the curve of the validations.
        first = {name: settings[name] for name in FIRST if name in settings}
        experiment, *session = hparams(first | settings, {"val/mIoU": miou})
        _put_first(experiment)
        for summary in (experiment, *session):
            self.board._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        self.board.flush()

    def close(self) -> None:
        self.board.close()


def _put_first(experiment: Any) -> None:
    """Make TensorBoard show the settings in `FIRST` before the others, which it sorts by name."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

    data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        # Settings that differ between runs come first; versions that do not know the field keep the order of the file.
        if "differs" in info.DESCRIPTOR.fields_by_name:
            info.differs = info.name in FIRST
    data.content = content.SerializeToString()


class WeightsAndBiases(Logger):
    """Logs to Weights & Biases. Its environment variables, such as WANDB_PROJECT and WANDB_MODE, choose the destination.

    Args:
        folder: of the run.
        id: of the run to continue; empty: a new run.
        settings: all, by their dotted names.
    """

    name, module = "wandb", "wandb"

    def __init__(self, folder: Path, id: str, settings: dict[str, Any]):
        self.wandb, self.id = import_extra(self.module), id or uuid.uuid4().hex
        self.run = self.wandb.init(
            id=self.id, name=folder.name, dir=str(folder), config=settings, resume="allow", allow_val_change=True
        )

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        self.run.log(values, step=iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self.run.log({name: self.wandb.Image(picture)}, step=iteration)

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        self.run.summary[BEST_MIOU] = miou

    def close(self) -> None:
        self.run.finish()


class MLflow(Logger):
    """Logs to MLflow. Its environment variables, such as MLFLOW_TRACKING_URI, choose the destination.

    `folder`, `id` and `settings` are those of `WeightsAndBiases`.
    """

    name, module = "mlflow", "mlflow"

    def __init__(self, folder: Path, id: str, settings: dict[str, Any]):
        self.mlflow, self.status = import_extra(self.module), "KILLED"
        nested = self.mlflow.active_run() is not None
        if id:
            self.id = self.mlflow.start_run(run_id=id, nested=nested).info.run_id
        else:
            self.id = self.mlflow.start_run(run_name=folder.name, nested=nested).info.run_id
            # A parameter cannot change later.
            self.mlflow.log_params({key: str(value)[:MLFLOW_TEXT] for key, value in settings.items()})

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics({mlflow_name(name): value for name, value in values.items()}, step=iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self.mlflow.log_image(picture, artifact_file=f"{mlflow_name(name)}/{iteration}.png")

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        self.mlflow.log_metric(BEST_MIOU, miou)
        self.status = "FINISHED"

    def close(self) -> None:
        self.mlflow.end_run(self.status)


def mlflow_name(name: str) -> str:
    """Replace the characters that MLflow does not accept in a name."""
    return re.sub(r"[^\w. /-]", "_", name)


class Comet(Logger):
    """Logs to Comet. Its environment variables, such as COMET_PROJECT_NAME, choose the destination.

    `folder`, `id` and `settings` are those of `WeightsAndBiases`.
    """

    name, module = "comet", "comet_ml"

    def __init__(self, folder: Path, id: str, settings: dict[str, Any]):
        comet, self.id = import_extra(self.module), id or uuid.uuid4().hex
        # Comet's automatic logging would repeat these values.
        quiet = comet.ExperimentConfig(
            name=folder.name, log_code=False, auto_param_logging=False, auto_metric_logging=False, display_summary_level=0
        )
        self.experiment = comet.start(experiment_key=self.id, mode="get_or_create", experiment_config=quiet)
        self.experiment.log_parameters(settings)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        self.experiment.log_metrics(values, step=iteration)

    def image(self, iteration: int, name: str, picture: np.ndarray) -> None:
        self.experiment.log_image(picture, name=name, step=iteration)

    def finish(self, settings: dict[str, Any], miou: float) -> None:
        self.experiment.log_metric(BEST_MIOU, miou)

    def close(self) -> None:
        self.experiment.end()


CLASSES: tuple[Any, ...] = (WeightsAndBiases, MLflow, Comet)


def check_loggers(names: Iterable[str]) -> None:
    """Import the packages of services. Raises UserError, with the command that installs it, for one that is missing."""
    for service in CLASSES:
        if service.name in names:
            import_extra(service.module)


def open_services(names: Iterable[str], folder: Path, start: int, settings: dict[str, Any]) -> list[Logger]:
    """Start a run at each service in the loggers, or continue the run of the resumed training.

    Args:
        names: of loggers.
        folder: of the run; a file in it stores the ids of the run at the services.
        start: iterations done.
        settings: all, by their dotted names.

    Raises:
        UserError: a service cannot begin.
    """
    path, opened = folder / SERVICES, list[Logger]()
    known: Any = read_json(path, "what the services call the run") if start and path.exists() else {}
    for service in CLASSES:
        if service.name in names:
            try:
                opened.append(service(folder, str(known.get(service.name, "")), settings))
            except Exception as error:
                for logger in opened:
                    logger.close()
                raise UserError(
                    f"train.loggers: {service.name} cannot begin ({reason(error)}); set it up, or leave it out of train.loggers"
                ) from error
    if opened:
        write_json(path, known | {logger.name: logger.id for logger in opened})
    return opened
