"""Corrupt every kind of file that the command reads. Each case must succeed or print one clear line.

    python -m tests.stress.fuzz --count 1000
    python -m tests.stress.fuzz --case 123         runs one case, and keeps its folder and output
    python -m tests.stress.fuzz --good             runs every command of the cases on files that are not corrupted

Each case must end with exit code 0, 1 or 2 within 10 seconds and 2 GiB, print only its own lines to standard error, and leave
no partial file. A case runs in its own process, so a crash affects only that case.
"""

import argparse
import faulthandler
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.io import savemat

from seg.cli.main import main
from seg.data.prepare import download, sbd
from seg.labels import VOC
from seg.labels import load as load_labels
from seg.models.xception import FAMILY
from seg.training import checkpoint
from seg.weights.loading import open_model
from seg.weights.timm import aligned_name
from tests.helpers.forks import finish, fork
from tests.helpers.layouts import CASES
from tests.helpers.released import checkpoint as released
from tests.helpers.toy import toy_sample, toy_voc
from tests.stress import corrupt

SECONDS, BYTES = 10, 2 << 30
"""Limits of a case: processor time, which does not depend on other programs, and memory."""
ASLEEP = 60
"""Seconds of real time after which a case counts as waiting forever."""
LONGEST = 1100
"""Most characters of a clear line."""
TIMERS = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, ASLEEP))
OWN, PLACES = ("files", "stdout", "stderr", "hang"), ("out", "runs", "voc", "augmented", "own")
"""Names in the folder of a case, and the folders that a command may write to."""
SHOWN = 12
"""Printed lines of a failure; --case prints all."""
CONFIG = {
    "model": {
        "backbone": "xception41",
        "activation_placement": "tf",
        "width": 0.01,
        "aspp": {"channels": 8},
        "decoder": None,
        "weights": "random",
    },
    "data": {"root": "voc", "labels": "labels.yaml", "train": "train", "val": "val", "crop_size": 33, "num_workers": 0},
    "train": {"iterations": 1, "batch_size": 2, "validate_every": 1, "freeze_batch_norm": "all"},
    "evaluate": {"canvas": None},
}
TRAIN = "train small.yaml runs=out name=new"
CHECK = "data check voc --json out/check.json"
SCORE = "evaluate best.safetensors --json out/scores.json --save-masks out/masks"
MASKS = "evaluate --predictions saved --truth truth --labels labels.yaml --boundary --json out/scores.json"
WEIGHTS = f"{TRAIN} model.weights="
TRAINAUG = "data prepare trainaug --voc augmented --sbd sbd"
UNPACK = "data download voc2012 --from-archive {} --out out/VOC2012"
SHOWS = ("export {} --format safetensors --out out/exported.safetensors", "share {} --out out/shared")
REPORT = "report runs/good --against other"
LIBRARY = "convert library --labels labels.yaml --out out/converted.safetensors"
SMALL = (
    "data.crop_size=33 data.num_workers=0 train.iterations=1 train.batch_size=2 train.grad_accumulation=1 "
    "evaluate.canvas=null train.compile=false"
)
"""Limits a corrupted configuration, which may ask for a week of training."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: the file to corrupt, how, and the commands that read it."""

    file: str
    spoil: Callable[[Path, random.Random], None]
    commands: tuple[str, ...]
    names: tuple[str, ...] = ()
    """An error message must contain one of these; empty means the name of the file."""
    setting: Callable[[Path], None] = lambda file: None
    """Runs in the process of the command before it."""


def published(archive: Path) -> None:
    """Accept the corrupted archive as the published one; otherwise its checksum would refuse it before it is opened."""
    content = archive.read_bytes()
    size, md5 = len(content), hashlib.md5(content).hexdigest()
    holds = {"JPEGImages": 2, "ImageSets/Segmentation/train.txt": 0}
    download.SOURCES["voc2012"] = replace(download.SOURCES["voc2012"], size=size, md5=md5, unpacked=2**20, holds=holds)


def expect(_) -> None:
    """Accept the lists of the toy data set as the published ones."""
    sbd.prepare_trainaug.__kwdefaults__["expected"] = 2


PICTURE = "predict best.safetensors {} --out out"
NAMED = (("ground", (0, 0, 0)), ("disc", (128, 0, 0)), ("box", (64, 0, 0)), ("diamond", (64, 0, 128)), ("bar", (192, 128, 128)))
KINDS = {
    "JPEG": Kind("voc/JPEGImages/toy_002.jpg", corrupt.jpeg, (PICTURE, f"{PICTURE} --mode side-by-side", SCORE, CHECK, TRAIN)),
    "PNG": Kind("photo.png", corrupt.png, (PICTURE, f"{PICTURE} --mode index")),
    "other image": Kind("photo.tif", corrupt.other_image, (PICTURE, f"{PICTURE} --mode palette")),
    "mask": Kind(
        "voc/SegmentationClass/toy_002.png", corrupt.mask, (CHECK, f"{CHECK} --masks-only", f"{CHECK} --convert", SCORE, TRAIN)
    ),
    "saved mask": Kind("saved/toy_003.png", corrupt.mask, (MASKS, "data check . --masks saved --masks-only")),
    "split list": Kind("voc/ImageSets/Segmentation/val.txt", corrupt.list_file, (CHECK, SCORE, TRAIN)),
    "image list": Kind("voc/ImageSets/images/list.txt", corrupt.list_file, (PICTURE,)),
    "configuration": Kind(
        "small.yaml", corrupt.yaml_file, ("info {} --json out/info.json", f"{TRAIN} {SMALL}"), ("small.yaml", "=", "label set")
    ),
    "label set": Kind(
        "labels.yaml", corrupt.yaml_file, (f"{CHECK} --labels {{}}", MASKS, TRAIN, "info small.yaml"), ("label", "toy_")
    ),
    "weights": Kind(
        "best.safetensors",
        corrupt.safetensors,
        (
            "info {}",
            "predict {} photo.png --out out",
            SCORE,
            "convert {} --out out/converted.safetensors",
            WEIGHTS + "{}",
            *SHOWS,
        ),
    ),
    "timm's weights": Kind(
        "timm.safetensors", corrupt.safetensors, (WEIGHTS + "{}", f"{WEIGHTS}{{}} model.weights_use=partial")
    ),
    "TensorFlow checkpoint": Kind(
        "model.ckpt-7.index", corrupt.bundle, (f"{WEIGHTS}tf:model.ckpt-7", f"{WEIGHTS}{{}} model.weights_use=partial")
    ),
    "library's settings": Kind("library/config.json", corrupt.json_file, (LIBRARY,), ("library", "model.")),
    "library's weights": Kind(
        "library/model.safetensors",
        corrupt.safetensors,
        (LIBRARY,),
        ("library",),
    ),
    "training state": Kind(
        "runs/good/last.ckpt", corrupt.checkpoint, ("train small.yaml name=good train.iterations=3 --resume",)
    ),
    "scores": Kind("scores.json", corrupt.json_file, ("evaluate --compare {} best.json --json out/comparison.json",)),
    "archive": Kind("voc.tar", corrupt.tar, (UNPACK,), setting=published),
    "packed archive": Kind("voc.tgz", corrupt.tar, (UNPACK,), setting=published),
    "submission": Kind("submission/results.tar.gz", corrupt.tar, ("submit --check {} --data voc --split val",)),
    "SBD mask": Kind("sbd/cls/toy_001.mat", corrupt.mat, (TRAINAUG,), setting=expect),
    "SBD list": Kind("sbd/train.txt", corrupt.list_file, (TRAINAUG,), ("train.txt", "trainaug", "sbd/cls"), expect),
    "own mask": Kind("own/masks/toy_001.png", corrupt.mask, ("data init own",), ("toy_001", "own")),
    "own names": Kind("own/class_dict.csv", corrupt.list_file, ("data init own",)),
    **{
        f"{layout}: {file.rpartition('/')[2]}": Kind(
            f"layouts/{layout}/{file}", spoiled, (f"data init layouts/{layout} --out out/set",), (layout,)
        )
        for layout, file, spoiled in (
            ("labelme", "t1.json", corrupt.json_file),
            ("labelme_in_splits_with_names_and_embedded_images", "train/json/t1.json", corrupt.json_file),
            ("labelme_dataset", "t1_json/label_names.txt", corrupt.list_file),
            ("labelme_dataset", "t1_json/label.png", corrupt.mask),
            ("labelme_voc", "class_names.txt", corrupt.list_file),
            ("coco", "annotations/instances_val2017.json", corrupt.json_file),
            ("coco_rle_and_crowds", "result.json", corrupt.json_file),
            ("cvat", "labelmap.txt", corrupt.list_file),
            ("cvat", "ImageSets/Segmentation/default.txt", corrupt.list_file),
            ("roboflow", "train/_classes.csv", corrupt.list_file),
            ("label_studio_with_its_export", "project.json", corrupt.json_file),
            ("ade20k_with_its_list", "objectInfo150.txt", corrupt.list_file),
            ("oxford_pets", "annotations/trainval.txt", corrupt.list_file),
            ("a_folder_a_class", "masks/disc/t1.png", corrupt.mask),
            ("jpeg_masks", "masks/t1.jpg", corrupt.jpeg),
            ("transparent_background", "masks/t1.png", corrupt.mask),
            ("floating_point_masks", "masks/t1.tif", corrupt.any_bytes),
            ("pairs_in_a_csv", "pairs.csv", corrupt.list_file),
            ("pairs_in_a_json_of_splits", "dataset.json", corrupt.json_file),
            ("pairs_in_lists_of_two_columns", "train.txt", corrupt.list_file),
            ("pairs_in_json_lines", "train/metadata.jsonl", corrupt.json_lines),
            ("splits_in_a_csv", "split.csv", corrupt.list_file),
            ("names_of_nnunet", "dataset.json", corrupt.json_file),
            ("names_of_mapillary", "config_v2.0.json", corrupt.json_file),
            ("coco_panoptic", "annotations/panoptic_val2017.json", corrupt.json_file),
            ("coco_panoptic", "annotations/panoptic_train2017/t1.png", corrupt.mask),
            ("masks_named_after_their_class", "mask-anno/0/00001_disc.png", corrupt.mask),
            ("folders_whose_names_say_nothing", "painted/1.png", corrupt.mask),
            ("a_folder_an_image", "stage1_train/t1/masks/1f.png", corrupt.mask),
        )
    },
    "event log": Kind(
        "runs/good/metrics.jsonl", corrupt.json_lines, ("train small.yaml name=good train.iterations=3 --resume", REPORT)
    ),
    "report": Kind("other/index.html", corrupt.page, (REPORT,), ("other",)),
}


def write_good(place: Path) -> Path:
    """Write one good file of every kind to `place`, and return it."""
    place.mkdir(parents=True)
    toy_voc(place / "voc", train=2, val=2, size=(33, 40))
    (place / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    (place / "labels.yaml").write_text(yaml.safe_dump(VOC.as_dict()))
    with Image.open(place / "voc/JPEGImages/toy_000.jpg") as image:
        image.save(place / "photo.png")
        image.save(place / "photo.tif")
    (place / "voc/ImageSets/images").mkdir()
    (place / "voc/ImageSets/images/list.txt").write_text("photo.png\ntoy_002\n../../JPEGImages/toy_003.jpg\n")
    for folder in ("saved", "truth"):
        (place / folder).mkdir()
        for name in ("toy_002.png", "toy_003.png"):
            shutil.copy(place / "voc/SegmentationClass" / name, place / folder)
    succeed(place, "train small.yaml name=good")
    succeed(place, "train small.yaml name=good train.iterations=2 --resume")  # writes the previous checkpoint too
    shutil.copy(place / "runs/good/best.safetensors", place)
    succeed(place, "evaluate best.safetensors --json scores.json --report other")
    shutil.copy(place / "scores.json", place / "best.json")
    succeed(place, "submit best.safetensors --data voc --split val --out submission")
    for name in ("voc.tar", "voc.tgz"):
        archive(place / name)
    augmented(place / "augmented", place / "sbd")
    for folder, source in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
        shutil.copytree(place / "voc" / source, place / "own" / folder)
    (place / "own/class_dict.csv").write_text("name,r,g,b\n" + "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in NAMED))
    for kind in KINDS.values():
        name = kind.file.removeprefix("layouts/").partition("/")[0]
        if kind.file.startswith("layouts/") and not (place / "layouts" / name).exists():
            (place / "layouts" / name).mkdir(parents=True)
            CASES[name].write(place / "layouts" / name)
    model = open_model(place / "best.safetensors")[0]
    released(place, model)
    with torch.device("meta"):
        theirs = timm.create_model("xception41").state_dict()
    modules, state = [row.name for row in FAMILY["xception41"][0]], model.state_dict()
    pairs = {name: aligned_name(name, modules) for name in theirs}
    save_file({name: state[ours].clone() for name, ours in pairs.items() if ours in state}, place / "timm.safetensors")
    library(place / "library")
    return place


def check_good(start: int = 0, step: int = 1) -> int:
    """Check that every `step`-th command succeeds on good files; otherwise its cases would prove nothing."""
    lines = {line.replace("{}", kind.file): kind for kind in KINDS.values() for line in kind.commands}
    chosen = list(lines.items())[start::step]
    with tempfile.TemporaryDirectory() as folder:
        good, files = write_good(Path(folder) / "good" / "files"), Path(folder) / "files"
        for line, kind in chosen:
            shutil.copytree(good, files)
            succeed(files, line, lambda kind=kind: kind.setting(files / kind.file))
            shutil.rmtree(files)
    print(f"{len(chosen)} of {len(lines)} commands succeed on good files")
    return 0


def succeed(place: Path, line: str, setting: Callable[[], None] = lambda: None) -> None:
    """Run a command in a forked process, and assert that it succeeds."""
    pid = fork(lambda: setting() or command(place, f"{line} --quiet"))
    assert finish(pid) == 0, f"seg {line}: {(place.parent / 'stderr').read_text()}"


def archive(path: Path) -> None:
    """Write a data set in VOC layout as a tar archive, gzipped if the suffix is .tgz."""
    with tarfile.open(path, f"w:{'gz' if path.suffix == '.tgz' else ''}") as tar:
        for name in ("JPEGImages/0.jpg", "JPEGImages/1.jpg", "ImageSets/Segmentation/train.txt"):
            member = tarfile.TarInfo(f"VOCdevkit/VOC2012/{name}")
            member.size = 700
            tar.addfile(member, io.BytesIO(bytes(700)))


def augmented(voc: Path, boundaries: Path) -> None:
    """Write VOC with train toy_000 and val toy_002, and SBD with train toy_001 and val toy_000."""
    toy_voc(voc, train=2, val=1, size=(33, 40))
    (voc / "ImageSets/Segmentation/train.txt").write_text("toy_000\n")
    (boundaries / "cls").mkdir(parents=True)
    for name, number in (("train", 1), ("val", 0)):
        (boundaries / f"{name}.txt").write_text(f"toy_00{number}\n")
        mask = toy_sample(number, (33, 40))[1] % 255
        fields = {"Boundaries": [], "CategoriesPresent": np.unique(mask)[1:], "Segmentation": mask}
        savemat(boundaries / f"cls/toy_00{number}.mat", {"GTcls": fields}, do_compression=True)


def library(folder: Path) -> None:
    """Save the smallest network of segmentation-models-pytorch."""
    import segmentation_models_pytorch as smp

    smp.Linknet("tu-test_resnet", encoder_weights=None, classes=21).save_pretrained(folder)


def command(place: Path, line: str) -> int:
    """Run a command in `place`, in this process, and return its exit code, 70 for a traceback. Its output goes to files."""
    os.chdir(place)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(place.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    try:
        return main(line.split())
    except SystemExit as error:
        return error.code
    except BaseException:
        traceback.print_exc()
        return 70


def limited(place: Path, line: str) -> int:
    """Run a command within the limits. A signal of TIMERS ends the process after too much time."""
    file = open(place.parent / "hang", "w")  # noqa: SIM115
    for timer, number, seconds in TIMERS:
        faulthandler.register(number, file=file, chain=True)
        signal.setitimer(timer, seconds)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES,) * 2)
    return command(place, line)


@dataclass
class Outcome:
    """How a case ended."""

    kind: str
    line: str
    code: int
    wrong: str
    """What is wrong; empty if nothing is."""


def run_case(seed: int, good: Path, place: Path) -> Outcome:
    """Corrupt a copy of the good files and run a command on it. The seed decides everything."""
    rng = random.Random(seed)
    name = list(KINDS)[seed % len(KINDS)]
    kind, files = KINDS[name], place / "files"
    place.mkdir()
    shutil.copytree(good, files)
    kind.spoil(files / kind.file, rng)
    before = set(files.rglob("*"))
    line = rng.choice(kind.commands).replace("{}", kind.file) + " --quiet"
    pid = fork(lambda: kind.setting(files / kind.file) or limited(files, line))
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    wrong = verdict(place, code, used.ru_maxrss * 1024, kind.names or (Path(kind.file).stem,))
    return Outcome(name, line, code, wrong or remains(files, before, code))


def verdict(place: Path, code: int, peak: int, names: tuple[str, ...]) -> str:
    """Return what is wrong with the exit code and output of a command; an error message must contain one of `names`."""
    said = (place / "stderr").read_text(errors="surrogateescape")
    lines = said.splitlines()
    for _, number, seconds in TIMERS:
        if code == -number:
            return f"took over {seconds} s: {(place / 'hang').read_text()}"
    if code < 0:
        return f"died of {signal.Signals(-code).name}: {said}"
    if code not in (0, 1, 2):
        return f"exit code {code}: {said}"
    if peak > BYTES:
        return f"used {peak >> 20} MiB"
    for line in lines:
        if not line.startswith(("seg: ", "seg ", "note: ")) or not line.isprintable() or len(line) > LONGEST:
            return f"not a clear line: {line[:LONGEST]!r}"
    out = (place / "stdout").read_text(errors="surrogateescape")
    for line in out.splitlines():
        if not line.isprintable():
            return f"not for a terminal: {line[:LONGEST]!r}"
    if code and not lines and not out:
        return f"exit code {code} without a message"
    if code and not any(name in said + out for name in names):
        return f"the file is not named: {said}"
    if code and sum("warning:" not in line for line in lines) > 1:
        return f"more than one line: {said}"
    return ""


def remains(files: Path, before: set[Path], code: int) -> str:
    """Return what is wrong with the files that a command left."""
    new = [path for path in sorted(set(files.rglob("*")) - before) if path.is_file()]
    for path in new:
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
            elif path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.name == "labels.yaml":
                load_labels(str(path))
            elif path.suffix == ".ckpt":
                checkpoint.read(path)
            elif path.name.startswith(".") and path.name != ".lock":
                return f"left {path.name}"
        except Exception as error:  # any error: the file is not complete
            return f"left {path.name}, which is incomplete: {error!r}"
        if code and path.suffix in (".safetensors", ".ckpt", ".txt", ".tar"):
            return f"refused, but left {path.name}"
    if any(path.name == "ran" for path in files.rglob("*")):
        return "ran code from a file"
    strange = [path for path in (*new, *files.parent.iterdir()) if path.relative_to(files.parent).parts[0] not in OWN]
    strange += [path for path in new if path.relative_to(files).parts[0] not in PLACES]
    if strange or Path("/tmp/seg-fuzz-x").exists():
        return f"wrote to another folder: {strange}"
    return ""


def fuzz(seeds: Iterable[int], say: Callable[[str], None] = print) -> int:
    """Run the cases, print a table and return the number of failures."""
    ends: dict[str, Counter] = {name: Counter() for name in KINDS}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        good = write_good(Path(folder) / "good" / "files")
        for seed in seeds:
            place = Path(folder) / f"case-{seed}"
            done = run_case(seed, good, place)
            shutil.rmtree(place)
            ends[done.kind]["failed" if done.wrong else "refused" if done.code else "success"] += 1
            if done.wrong:
                last = "\n".join(done.wrong.splitlines()[-SHOWN:])
                say(f"case {seed}: {done.kind}: seg {done.line}\n{last}\n")
    columns = ("success", "refused", "failed")
    say(f"{'':24}{''.join(f'{column:>9}' for column in columns)}")
    for name, count in ends.items():
        say(f"{name:24}{''.join(f'{count[column]:>9}' for column in columns)}")
    total = sum(ends.values(), Counter())
    say(f"{'total':24}{''.join(f'{total[column]:>9}' for column in columns)}")
    say(f"{total.total()} cases in {time.monotonic() - began:.0f} s")
    return total["failed"]


def run() -> int:
    """Parse the arguments and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of cases; default: 1000")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; default: 0")
    parser.add_argument("--case", type=int, metavar="SEED", help="run only this case, and keep its folder")
    parser.add_argument(
        "--good",
        type=int,
        nargs="*",
        metavar="START STEP",
        help="corrupt nothing: every command must succeed; START STEP selects some",
    )
    args = parser.parse_args()
    if args.good is not None:
        return check_good(*args.good)
    if args.case is None:
        return 1 if fuzz(range(args.seed, args.seed + args.count)) else 0
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{args.case}-"))
    done = run_case(args.case, write_good(place / "good" / "files"), place / "case")
    print(f"{done.kind} {KINDS[done.kind].file}: cd {place / 'case/files'} && seg {done.line}")
    print((place / "case/stdout").read_text() + (place / "case/stderr").read_text() + f"exit code {done.code}")
    print(done.wrong or "no fault")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run())
