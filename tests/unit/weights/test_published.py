"""Published models from a local server, with archives laid out as Google's. Their networks are narrow, to be quick."""

import hashlib
import io
import os
import runpy
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import seg
from seg import download as transfer
from seg.cli.main import main
from seg.config import from_dict
from seg.data.layouts.create import create_dataset
from seg.data.voc import open_split
from seg.labels import VOC as LABELS
from seg.models.factory import build_model
from seg.weights import published, tensorflow
from seg.weights.file import Metadata, write
from seg.weights.loading import open_model, read_into
from seg.weights.zoo import MODELS
from tests.helpers.command import run, the_line
from tests.helpers.layouts import CASES
from tests.helpers.paths import ROOT
from tests.helpers.published import archive, network, serving
from tests.helpers.toy import picture, refused, same, toy_sample, toy_voc

VOC, ADE20K, CITYSCAPES = "xception65_voc_trainval", "xception65_ade20k_train", "xception71_cityscapes_trainfine"
COCO, IMAGENET = "xception65_coco", "xception41_imagenet"
WIDTH = 0.125


@pytest.fixture(scope="module")
def made():
    """The networks that were published, and the archives."""
    networks = {name: network(MODELS[name], WIDTH) for name in (VOC, ADE20K, CITYSCAPES, COCO, IMAGENET)}
    return networks, {name: archive(name, one) for name, one in networks.items()}


def narrow(monkeypatch) -> None:
    """Make checkpoints describe narrow networks, which the published ones never do."""
    inferred = tensorflow.model_settings
    monkeypatch.setattr(tensorflow, "model_settings", lambda tensors: inferred(tensors) | {"width": WIDTH})


@pytest.fixture
def server(made, tmp_path, monkeypatch):
    """A server of the archives, which stands for the published addresses; the cache is empty."""
    narrow(monkeypatch)
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    with serving({MODELS[name].file: content for name, content in made[1].items()}) as server:
        monkeypatch.setenv("SEG_MIRRORS", server.url)
        yield server


@pytest.fixture(scope="module")
def converted(made, tmp_path_factory):
    """The weights file of the VOC model."""
    folder = tmp_path_factory.mktemp("converted")
    (folder / "archive").write_bytes(made[1][VOC])
    with pytest.MonkeyPatch.context() as patch:
        narrow(patch)
        patch.setenv("SEG_CACHE", str(folder))
        return published.get(VOC, folder / "archive", quiet=True)


@pytest.fixture
def have(server, converted, tmp_path):
    """The VOC model is already in the cache."""
    (tmp_path / "cache" / "models").mkdir(parents=True)
    shutil.copy(converted, tmp_path / "cache" / "models")


def cached(tmp_path) -> list[str]:
    return sorted(os.listdir(tmp_path / "cache" / "models"))


def test_a_photo_has_a_mask_by_the_name_of_a_model_which_is_downloaded_once(server, made, tmp_path, capsys):
    Image.fromarray(picture(60, 80)).save("photo.png")
    code, _, err = run(capsys, "predict", VOC, "photo.png", "--out", "masks", "--mode", "index")
    assert code == 0 and f"{VOC}: 439 MB, once, into " in err
    assert len(server.requests) == 1 and cached(tmp_path) == sorted(
        [f"{VOC}.safetensors", f"{VOC}.lock", f"{MODELS[VOC].file}.sha256"]
    )
    model = seg.load(VOC, "cpu")
    assert len(server.requests) == 1
    np.testing.assert_array_equal(np.asarray(Image.open("masks/photo.png")), model.predict("photo.png"))
    assert run(capsys, "models")[1].count("yes") == 1
    assert run(capsys, "models", "get", VOC)[1].strip() == str(tmp_path / "cache" / "models" / f"{VOC}.safetensors")
    assert "mIoU 87.80 % on test" in (told := run(capsys, "info", VOC)[1]) and "license Apache-2.0" in told
    told = run(capsys, "info", VOC)[1]
    assert "published mIoU: 87.80 % on test (output stride 8, scales 0.5 to 1.75, flip)" in told


SMALL_RUN = ("data.root=voc", "data.train=train", "data.crop_size=65", "data.num_workers=0", "train.iterations=1")
SMALL_RUN += ("train.batch_size=2", "train.validate_every=1", "train.freeze_batch_norm=all", "device=cpu")
QUIET = {
    "predict": (VOC, "photo.png", "--out", "out"),
    "evaluate": (VOC, "--data", "voc", "--split", "val"),
    "submit": (VOC, "--data", "voc", "--split", "val", "--out", "out"),
    "export": (VOC, "--format", "safetensors", "--out", "out.safetensors"),
    "share": (VOC, "--out", "out"),
    "info": (VOC,),
    "train": ("voc_xception65", f"model.weights={VOC}", "model.width=0.125", *SMALL_RUN),
}


@pytest.mark.parametrize("verb", QUIET)
def test_quiet_also_silences_the_first_download(server, tmp_path, capsys, verb):
    Image.fromarray(picture(60, 80)).save("photo.png")
    toy_voc("voc")
    code, _, err = run(capsys, verb, *QUIET[verb], "--quiet")
    assert f"{VOC}.safetensors" in cached(tmp_path) and server.requests
    assert code == 0 and all(line.startswith("note: ") for line in err.splitlines()), err


@pytest.mark.parametrize("name", [VOC, CITYSCAPES])
def test_the_logits_are_those_of_the_network_that_was_published(server, made, name):
    images = torch.randn(1, 3, 65, 97)
    model, metadata = open_model(name)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), made[0][name](images), rtol=0, atol=0)
    wanted = MODELS[name]
    assert metadata.origin["name"] == name and metadata.trained_size == max(wanted.size)
    assert metadata.config.data.labels == wanted.labels and metadata.config.model.context == wanted.context
    assert metadata.score == {"miou": wanted.scores[0].miou, "split": wanted.scores[0].split}


def test_the_output_of_ade20k_that_was_never_a_target_is_left_out(server, made):
    images = torch.randn(1, 3, 65, 65)
    model, metadata = open_model(ADE20K)
    theirs = made[0][ADE20K]
    with torch.inference_mode():
        torch.testing.assert_close(model(images), theirs(images)[:, 1:], rtol=0, atol=1e-6)
    assert len(metadata.labels) == 150 and theirs.num_classes == 151 and metadata.labels.names[0] == "wall"


@pytest.mark.parametrize("name, case", [(CITYSCAPES, "cityscapes"), (ADE20K, "ade20k")])
def test_a_model_reads_the_masks_of_its_data_set_as_init_writes_them(server, tmp_path, name, case):
    (tmp_path / "raw").mkdir()
    CASES[case].write(tmp_path / "raw")
    out = create_dataset(tmp_path / "raw").out
    predictor = seg.load(name, "cpu", canvas=None)
    samples = open_split(out, "val", predictor.labels)
    found = [samples.mask(index) for index in range(len(samples))]
    wanted = [CASES[case].truth(toy_sample(number)[1]) for number in CASES[case].splits["val"]]
    assert sorted(map(bytes, found)) == sorted(map(bytes, wanted))


def test_a_training_starts_from_a_model_of_another_data_set_and_from_a_backbone(server, made):
    settings = {"backbone": "xception65", "activation_placement": "tf", "width": WIDTH}
    model = build_model(from_dict({"model": settings}, "test").model, 5)
    report = read_into(model, COCO)
    assert report.reinitialized == ["classifier.weight", "classifier.bias"] and not report.missing
    theirs = made[0][COCO].state_dict()
    assert torch.equal(model.state_dict()["decoder.reduce.conv.weight"], theirs["decoder.reduce.conv.weight"])
    backbone = build_model(from_dict({"model": settings | {"backbone": "xception41"}}, "test").model, 5)
    assert {name.split(".")[0] for name in read_into(backbone, IMAGENET).matched} == {"backbone"}
    with refused("a backbone trained on ImageNet, without segmentation classes", f"model.weights={IMAGENET}"):
        open_model(IMAGENET)


def test_a_model_without_its_classifier_is_one_to_start_from(server, made):
    """Nobody says whether the checkpoint for initialization has the last layer."""
    bare = network(MODELS[COCO], WIDTH)
    del bare.classifier
    server.files[MODELS[COCO].file] = archive(COCO, bare)
    model = build_model(from_dict({"model": {"activation_placement": "tf", "width": WIDTH}}, "test").model, 21)
    assert read_into(model, COCO).missing == ["classifier.weight", "classifier.bias"]
    with refused("holds a network without its classifier", f"model.weights={COCO}"):
        open_model(COCO)


def test_a_download_that_broke_off_goes_on_and_wrong_bytes_are_never_used(server, made, tmp_path, capsys):
    good = made[1][VOC]
    server.stops = [len(good) // 2, 0, 0, 0]
    assert "no address delivered" in run(capsys, "models", "get", VOC)[2]
    assert f"{MODELS[VOC].file}.part" in cached(tmp_path)
    server.requests.clear()
    assert run(capsys, "models", "get", VOC)[0] == 0
    assert [begin for _, begin in server.requests] == [len(good) // 2]
    recorded = (tmp_path / "cache" / "models" / f"{MODELS[VOC].file}.sha256").read_text()
    assert recorded == f"{hashlib.sha256(good).hexdigest()}  {MODELS[VOC].file}\n"
    # Another archive than the first: well-formed, but with another checksum.
    (tmp_path / "cache" / "models" / f"{VOC}.safetensors").unlink()
    server.files[MODELS[VOC].file] = archive(VOC, network(MODELS[VOC], WIDTH), {"x": b"y"})
    assert "wrong bytes: another sha256" in run(capsys, "models", "get", VOC)[2]
    assert run(capsys, "models", "get", VOC, "--quiet")[2].count("\n") == 1


def damaged_tensor(good: bytes) -> bytes:
    """The archive with one bit of a tensor changed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(good)) as tar, tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as changed:
        for member in tar:
            content = bytearray(tar.extractfile(member).read())
            if ".data-" in member.name:
                content[1000] ^= 1
            changed.addfile(member, io.BytesIO(content))
    return out.getvalue()


def leading_out(good: bytes) -> bytes:
    return archive(VOC, network(MODELS[VOC], WIDTH), {"../model.ckpt.index": b""})


def with_link(good: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo("x/model.ckpt.index")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_tensor, "its checksum differs"),
        (lambda good: good[:-100], "not a whole tar archive"),
        (lambda good: b"<html>moved</html>", "not a whole tar archive"),
        (leading_out, "leads out of the archive"),
        (with_link, "is a link"),
    ],
)
def test_a_damaged_archive_is_refused_and_downloaded_again(server, made, tmp_path, capsys, damage, message):
    good = made[1][VOC]
    server.files[MODELS[VOC].file] = damage(good)
    code, out, err = run(capsys, "models", "get", VOC, "--quiet")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err and "the download is removed: run it again, or set a mirror in SEG_MIRRORS" in err
    assert cached(tmp_path) == [f"{VOC}.lock"]
    server.files[MODELS[VOC].file] = good
    assert run(capsys, "models", "get", VOC)[0] == 0


def test_an_archive_of_another_model_is_refused(server, made, tmp_path):
    with refused("a checkpoint of xception41, aspp, None outputs: not xception65_voc_trainval"):
        (tmp_path / "other.tar.gz").write_bytes(made[1][IMAGENET])
        published.get(VOC, tmp_path / "other.tar.gz")


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(server, made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SEG_MIRRORS", "http://127.0.0.1:9")
    file = MODELS[VOC].file
    Image.fromarray(picture(60, 80)).save("photo.png")
    last = run(capsys, "predict", VOC, "photo.png", "--out", "masks")[2].splitlines()[-1]
    assert f"download http://download.tensorflow.org/models/{file} on another machine and run: " in last
    command = f"seg models get {VOC} --from-archive {file}"
    assert last.endswith(command)
    (tmp_path / file).write_bytes(made[1][VOC])
    assert main(command.split()[1:]) == 0
    # Or into the folder of the models.
    for path in (tmp_path / "cache" / "models").iterdir():
        path.unlink()
    (tmp_path / file).rename(tmp_path / "cache" / "models" / file)
    assert published.get(VOC).is_file() and (tmp_path / "cache" / "models" / file).is_file()
    assert not server.requests


def test_names_are_spelled_right_and_a_folder_of_that_name_is_another_thing(have, tmp_path, capsys):
    Image.fromarray(picture(60, 80)).save("x.png")
    mistake = the_line(capsys, "predict", "xception65_voc_trainvl", "x.png", "--out", "y")
    assert "did you mean 'xception65_voc_trainval'?" in mistake
    assert "did you mean 'xception71_imagenet'?" in the_line(capsys, "models", "get", "xception71_imagnet")
    assert "; seg models lists them" in the_line(capsys, "models", "get", "resnet")
    (tmp_path / VOC).mkdir()
    assert seg.load(VOC, "cpu").metadata.origin["name"] == VOC
    with refused("not the folder of a run"):
        seg.load(f"./{VOC}")


def test_who_scores_on_images_of_the_training_is_told(have, tmp_path, capsys):
    data = toy_voc(tmp_path / "voc", train=1, val=1)
    code, out, err = run(capsys, "evaluate", VOC, "--data", data, "--split", "val", "--quiet")
    assert code == 0 and "mIoU" in out
    assert "note: the model was trained on trainval, which contains val: this score is not valid" in err
    assert "give one with the classes of xception65_voc_trainval with --data" in run(capsys, "evaluate", VOC)[2]


def test_processes_that_want_a_model_at_once_download_it_once(server):
    with ThreadPoolExecutor(3) as pool:
        found = {*pool.map(lambda _: published.get(IMAGENET, quiet=True), range(3))}
    assert len(server.requests) == 1 and found == {published.place_of(MODELS[IMAGENET])}


def test_a_shared_model_says_where_it_is_from(have, tmp_path):
    from seg.weights.share import share

    folder = share(VOC, tmp_path / "shared", "me/model")
    card = (folder / "README.md").read_text()
    for text in ("license: apache-2.0", MODELS[VOC].file, "87.80 % on test", "PASCAL VOC 2012 trainaug and trainval"):
        assert text in card, text
    assert "trained with `seg`" not in card
    assert open_model(folder)[1].origin == MODELS[VOC].origin


def test_torch_hub_loads_the_models_by_their_names(server, tmp_path):
    whole = network(MODELS[IMAGENET])
    config = from_dict({"model": {"backbone": "xception41", "activation_placement": "tf"}}, "test")
    write(tmp_path / "cache" / "models" / f"{IMAGENET}.safetensors", whole, Metadata(config, LABELS, {}), only="backbone.")
    found = torch.hub.load(str(ROOT), IMAGENET, source="local")
    assert not found.training and same(found.state_dict(), whole.backbone.state_dict())
    hub = runpy.run_path(str(ROOT / "hubconf.py"))
    assert {name for name, value in hub.items() if callable(value) and not name.startswith("_")} == {*MODELS}


@pytest.mark.parametrize(
    ("system", "environment", "wanted"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/seg"),
        ("linux", {"HOME": "/home/me", "XDG_CACHE_HOME": "/fast"}, "/fast/seg"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/seg"),
        ("win32", {"LOCALAPPDATA": "/C/Users/me/AppData/Local"}, "/C/Users/me/AppData/Local/seg"),
        ("linux", {"SEG_CACHE": "/mine", "XDG_CACHE_HOME": "/fast"}, "/mine"),
    ],
)
def test_models_are_kept_where_the_system_keeps_caches(monkeypatch, system, environment, wanted):
    for name in ("SEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("seg.files.sys.platform", system)
    assert published.place_of(MODELS[VOC]).as_posix() == f"{wanted}/models/{VOC}.safetensors"
