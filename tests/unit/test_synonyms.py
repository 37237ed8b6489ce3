import pytest

from seg import synonyms
from seg.cli.main import main
from seg.config import Config, flat, load
from tests.helpers.toy import refused, toy_voc


@pytest.mark.parametrize(
    "override, answer",
    [
        ("lr=0.1", "train.learning_rate"),
        ("train.lr=0.1", "train.learning_rate"),
        ("train.batchSize=4", "train.batch_size"),
        ("data.batch_size=4", "train.batch_size"),
        ("batch=2", "train.batch_size"),
        ("train.wd=1", "train.weight_decay"),
        ("train.lr_scheduler=poly", "train.schedule"),
        ("train.fp16=true", "train.precision"),
        ("train.max_steps=9", "train.iterations"),
        ("data.path=x", "data.root"),
        ("data.num_classes=4", "data.labels"),
        ("img_size=300", "data.crop_size"),
        ("train.workers=3", "data.num_workers"),
        ("model.encoder=resnet50", "model.backbone"),
        ("model.pretrained=true", "model.weights"),
        ("evaluate.tta=true", "evaluate.flip"),
        ("train.early_stopping=3", "train.patience"),
        ("hyp.lr0=1", "train.learning_rate"),
        ("optimizer.lr=1", "train.learning_rate"),
        ("dataloader.num_workers=3", "data.num_workers"),
        ("loss.dice=1", "train.loss"),
        ("train.save_top_k=3", "train.keep_best"),
        ("output_dir=x", "runs"),
        ("train.gpus=2", "torchrun --nproc_per_node=N"),
        ("train.ignore_index=0", "values: {11: void}"),
        ("train.crop=300", "data.crop_size"),
        ("train.learning_rat=1", "train.learning_rate"),
    ],
)
def test_a_key_of_another_trainer_finds_the_setting_that_it_means(override, answer):
    with refused("unknown setting", answer):
        load("voc_mini", [override])


@pytest.mark.parametrize(
    "override, answer",
    [
        ("train.precision=fp16", "did you mean 'float16'?"),
        ("train.precision=bf16", "did you mean 'bfloat16'?"),
        ("train.optimizer=adam", "did you mean 'adamw'?"),
        ("train.schedule=polynomial", "did you mean 'poly'?"),
        ("train.loss=ce", "did you mean 'cross_entropy'?"),
        ("train.loss.lovasz_softmax=1", "did you mean 'lovasz'?"),
        ("model.backbone=aligned_xception", "did you mean 'xception65'?"),
        ("model.backbone=resnet50", "seg train voc_smp model.backbone=resnet50"),
        ("model.output_stride=4", "8, 16, 32"),
        ("device=gpu", "did you mean 'cuda'?"),
        ("device=1", "did you mean 'cuda:1'?"),
        ("device=metal", "did you mean 'mps'?"),
    ],
)
def test_a_value_of_another_trainer_finds_the_choice_that_it_means(override, answer):
    with refused(override.partition("=")[0].partition(".loss")[0], answer):
        load("voc_mini", [override])


def test_epochs_are_answered_with_the_iterations_of_the_data_set(tmp_path):
    root = toy_voc(tmp_path / "voc")
    images = len((root / "ImageSets" / "Segmentation" / "train.txt").read_text().split())
    settings = [f"data.root={root}", "data.train=train", "train.batch_size=2"]
    for key in ("epochs", "train.epochs", "train.num_epochs", "train.maxEpochs", "trainer.max_epochs"):
        with refused(
            f"epochs=5: the length of training is set in iterations; 5 epochs of the {images} images of train in batches of 2",
            f"train.iterations={-(-5 * images // 2)}",
        ):
            load("voc_mini", [*settings, f"{key}=5"])
    with refused(f"in batches of 2 are train.iterations={-(-5 * images // 2)}"):
        load("voc_mini", [*settings[:2], "train.batch_size=auto", "train.target_batch_size=2", "epochs=5"])
    with refused("epochs * images / train.batch_size"):
        load("voc_mini", ["data.root=nowhere", "epochs=5"])
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{root: {root}, train: train}}\ntrain: {{epochs: 5, batch_size: {images}}}\n")
    with refused("train.iterations=5"):
        load(file)


@pytest.mark.parametrize(
    "flag, setting",
    [("--lr", "train.learning_rate"), ("--train.batch", "train.batch_size"), ("--data", "data.root"), ("--batch-size=4", None)],
)
def test_a_flag_of_another_trainer_is_answered_with_its_setting(flag, setting, capsys):
    with pytest.raises(SystemExit):
        main(["train", "voc_mini", *([flag] if "=" in flag else [flag, "2"])])
    assert f"settings have no dashes: {setting or 'train.batch_size'}=VALUE" in capsys.readouterr().err


def test_every_synonym_is_that_of_a_setting_and_none_is_a_setting_itself():
    settings = set(flat(Config()))
    settings |= {name.rpartition(".")[0] for name in settings} | {"train.loss"}
    for name, setting in synonyms._BY_NAME.items():
        assert setting in settings, setting
        assert setting.rpartition(".")[2] != name
    assert len(synonyms._BY_NAME) == sum(names.count(",") + 1 for names in synonyms._KEYS.values()), "a name in two lists"
