from datetime import date
from pathlib import Path

import pytest
import yaml

from seg.config import Config, ModelConfig, as_dict, from_dict, headline, is_configuration, load, names
from seg.errors import UserError
from tests.helpers.paths import ROOT
from tests.helpers.toy import refused


def write(folder, text):
    path = folder / "mini.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers_training_protocol():
    config = Config()
    assert config.data.crop_size == 513 and config.data.flip == 0.5
    assert (config.data.scale_min, config.data.scale_max, config.data.scale_step) == (0.5, 2.0, 0.25)
    train = config.train
    assert (train.iterations, train.batch_size, train.learning_rate, train.power) == (30000, 16, 0.007, 0.9)
    assert (train.momentum, train.weight_decay, train.head_lr_multiplier, train.warmup) == (0.9, 4e-5, 1.0, 0)
    assert train.loss == {"cross_entropy": 1.0}  # the cross-entropy alone
    assert config.model.output_stride == 16 and config.evaluate.canvas == 513


def test_a_file_overrides_only_the_settings_it_names(tmp_path):
    config = load(write(tmp_path, "model: {backbone: xception41, decoder: {separable: false}}\ntrain: {batch_size: 4}\n"))
    wanted = Config(name="mini")
    wanted.model.backbone = "xception41"
    wanted.model.decoder.separable = False
    wanted.train.batch_size = 4
    assert config == wanted


def test_overrides_win_over_the_file_and_the_last_over_the_first(tmp_path):
    path = write(tmp_path, "train: {batch_size: 4, iterations: 7}\nmodel: {aspp: {atrous_rates: [1, 2]}}\n")
    overrides = [
        "train.batch_size=5",
        "train.batch_size=6",
        "model.aspp.atrous_rates=[3]",
        "model.decoder=null",
        "data.root=a=b",
        "name=x",
    ]
    config = load(path, overrides)
    assert config.train.batch_size == 6 and config.train.iterations == 7
    assert config.model.aspp.atrous_rates == [3] and config.model.decoder is None
    assert config.data.root == "a=b" and config.name == "x"


def test_the_name_of_a_run_is_its_own_or_that_of_the_file(tmp_path):
    assert load(write(tmp_path, "runs: r")).folder == Path("r/mini")
    assert load(write(tmp_path, "name: other")).folder == Path("runs/other")


def test_numbers_take_the_type_of_their_setting(tmp_path):
    config = load(write(tmp_path, "train: {learning_rate: 1, momentum: 1e-3}"), ["model.width=1", "data.scale_min=5e-1"])
    values = config.train.learning_rate, config.train.momentum, config.model.width, config.data.scale_min
    assert values == (1.0, 0.001, 1.0, 0.5) and all(isinstance(value, float) for value in values)


def test_configurations_do_not_share_their_lists():
    first = Config()
    first.model.aspp.atrous_rates.append(24)
    first.model.decoder.convolutions[0][1] = 3
    first.train.loss["dice"] = 1.0
    assert Config() != first
    assert Config().model.aspp.atrous_rates == [6, 12, 18]


CHANGED = {
    "name": "run",
    "model": {
        "backbone": "xception71",
        "activation_placement": "tf",
        "width": 0.25,
        "aspp": {"atrous_rates": [2, 4], "dropout": 0.0},
    },
    "data": {"masks": "masks", "transforms": [{"ColorJitter": {"brightness": 0.2}}, "ToGray"], "scale_step": 0},
    "train": {"loss": {"cross_entropy": 0.5, "dice": 0.5}, "class_weights": [1, 2.5], "freeze_batch_norm": "all"},
    "evaluate": {"scales": [0.5, 1.0], "canvas": None, "output_stride": 8},
}


@pytest.mark.parametrize("value", [{}, CHANGED, {"model": {"decoder": None, "smp": "Unet", "backbone": "resnet18"}}])
def test_a_configuration_as_a_dict_is_read_back_also_through_yaml(value):
    config = from_dict(value, "here")
    assert from_dict(as_dict(config), "there") == config
    assert from_dict(yaml.safe_load(yaml.safe_dump(as_dict(config))), "there") == config


def message(value, overrides=()) -> str:
    with pytest.raises(UserError) as error:
        from_dict(value, "mini.yaml", overrides)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "value, wanted",
    [
        ({"trian": {}}, "unknown setting 'trian'; did you mean 'train'?"),
        ({"train": {"iteration": 3}}, "unknown setting 'train.iteration'; did you mean 'train.iterations'?"),
        ({"model": {"aspp": {"rate": [1]}}}, "unknown setting 'model.aspp.rate'; did you mean 'model.aspp.atrous_rates'?"),
        ({"crop": 65}, "unknown setting 'crop'; did you mean 'data.crop_size'?"),
        ({"train": {"output_stride": 8}}, "unknown setting 'train.output_stride'; did you mean 'model.output_stride'?"),
        ({"data": {"xyzzy": 8}}, "unknown setting 'data.xyzzy'; known here: root, labels, masks"),
        ({3: 4}, "unknown setting '3'; known here: name, runs, model"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(value, wanted):
    text = message(value)
    assert text.startswith("mini.yaml: ") and wanted in text


@pytest.mark.parametrize(
    "value, place",
    [
        ({"train": {"iterations": "many"}}, "train.iterations"),
        ({"train": {"iterations": 1.5}}, "train.iterations"),
        ({"train": {"iterations": None}}, "train.iterations"),
        ({"train": {"iterations": True}}, "train.iterations"),
        ({"data": {"flip": "often"}}, "data.flip"),
        ({"model": {"aspp": {"atrous_rates": 6}}}, "model.aspp.atrous_rates"),
        ({"model": {"aspp": {"atrous_rates": [6, "x"]}}}, "model.aspp.atrous_rates[1]"),
        ({"model": {"aspp": None}}, "model.aspp"),
        ({"evaluate": {"scales": ["x"]}}, "evaluate.scales[0]"),
        ({"train": {"loss": {"dice": "x"}}}, "train.loss.dice"),
        ({"data": {"root": "${nowhere}"}}, "data.root"),
        ({"data": {"root": "${"}}, "data.root"),
        ({"data": {"labels": date(2001, 1, 1)}}, "data.labels"),
        ({"data": {"crop_size": 32}}, "data.crop_size=32"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_user_error_that_names_file_and_setting(value, place):
    assert message(value).startswith((f"mini.yaml: {place}: ", f"mini.yaml: {place}="))


@pytest.mark.parametrize(
    "value, overrides",
    [
        ({"train": {"loss": ["dice"]}}, []),
        ({"model": {"aspp": {"atrous_rates": {"first": 6}}}}, []),
        ({}, ["model.aspp.atrous_rates.0=6"]),
        ({}, ["data.transforms.ToGray=1"]),
    ],
)
def test_a_list_instead_of_a_mapping_and_the_reverse_are_user_errors(value, overrides):
    message(value, overrides)


@pytest.mark.parametrize(
    "value, place", [({"train": 3}, "'train'"), ({"model": {"aspp": [6]}}, "'model.aspp'"), ({"data": "x"}, "'data'")]
)
def test_a_value_instead_of_a_section_is_a_user_error(value, place):
    assert f"{place} is a section of settings" in message(value)


@pytest.mark.parametrize(
    "override, wanted",
    [
        ("model.backbone=xception66", "model.backbone=xception66: not a backbone; did you mean 'xception65'?"),
        ("model.activation_placement=after", "model.activation_placement=after: must be one of paper, tf"),
        ("model.output_stride=4", "model.output_stride=4: must be one of 8, 16, 32"),
        ("model.width=0", "model.width=0.0: must be above 0, at most 8"),
        ("model.aspp.channels=0", "model.aspp.channels=0: must be from 1 to 32768"),
        ("model.aspp.atrous_rates=[6,0]", "model.aspp.atrous_rates=[6, 0]: must be from 1 to 32768"),
        ("model.aspp.dropout=1", "model.aspp.dropout=1.0: must be from 0 to below 1"),
        ("model.decoder.low_level_channels=-1", "model.decoder.low_level_channels=-1: must be from 1 to 32768"),
        ("model.decoder.convolutions=[[5,256]]", "model.decoder.convolutions=[[5, 256]]: must be pairs of kernel"),
        ("model.decoder.convolutions=[3,256]", "model.decoder.convolutions=[3, 256]: must be pairs of kernel"),
        ("data.crop_size=32", "data.crop_size=32: must be at least 33"),
        ("data.crop_size=[512,32]", "data.crop_size=[512, 32]: must be at least 33"),
        *(
            (f"data.crop_size={value}", f"data.crop_size={said}: must be a whole number of pixels, or two: [height, width]")
            for value, said in (
                ("[512]", "[512]"),
                ("[65,65,3]", "[65, 65, 3]"),
                ("[65,a]", "[65, 'a']"),
                ("65.5", "65.5"),
                ("true", "True"),
                ("null", "None"),
                ("65x97", "65x97"),
                ("{h: 65}", "{'h': 65}"),
            )
        ),
        (
            "data.crop_size=32769",
            "data.crop_size=32769: must be at least 33, the smallest image the network takes, and at most 32768",
        ),
        ("model.aspp.channels=9223372036854775808", "model.aspp.channels=9223372036854775808: must be from 1 to 32768"),
        ("model.decoder.convolutions=[[3,32769]]", "model.decoder.convolutions=[[3, 32769]]: must be pairs of kernel"),
        ("data.scale_max=inf", "data.scale_max=inf: must be at most 16"),
        ("data.scale_step=1e-300", "data.scale_step=1e-300: must be 0, or from 0.001 to 16"),
        ("train.seed=9223372036854775808", "train.seed=9223372036854775808: must be from 0 to 2147483648"),
        ("evaluate.tile=1000000001", "evaluate.tile=1000000001: must be 16 k + 1, from 257 to 32768"),
        ("data.scale_min=0", "data.scale_min=0.0: must be above 0, at most data.scale_max"),
        ("data.scale_max=0.25", "data.scale_min=0.5: must be above 0, at most data.scale_max"),
        ("data.scale_step=-1", "data.scale_step=-1.0: must be 0, or from 0.001 to 16"),
        ("data.flip=1.5", "data.flip=1.5: must be a probability"),
        ("data.num_workers=-1", "data.num_workers=-1: must be from 0 to 256"),
        ("train.iterations=0", "train.iterations=0: must be from 1 to 2147483648"),
        ("train.batch_size=true", "train.batch_size=True: must be auto, or from 1 to 32768"),
        ("train.batch_size=most", "train.batch_size=most: must be auto, or from 1 to 32768"),
        ("train.target_batch_size=32769", "train.target_batch_size=32769: must be from 1 to 32768"),
        ("train.batch_size=0", "train.batch_size=0: must be auto, or from 1 to 32768"),
        ("train.learning_rate=-1", "train.learning_rate=-1.0: must be 0 or more"),
        ("train.learning_rate=nan", "train.learning_rate=nan: must be 0 or more"),
        ("train.batch_norm_momentum=0", "train.batch_norm_momentum=0.0: must be above 0, at most 1"),
        ("train.schedule=step", "train.schedule=step: must be one of poly, exponential, cosine"),
        ("train.decay=0", "train.decay=0.0: must be above 0, at most 1"),
        ("train.decay_every=0", "train.decay_every=0: must be from 1 to"),
        ("train.ema_decay=1", "train.ema_decay=1.0: must be from 0 to below 1"),
        ("model.weights_use=some", "model.weights_use=some: must be one of full, partial, warm_start"),
        ("model.separable_activation=tanh", "model.separable_activation=tanh: must be one of null, none, relu, elu"),
        ("model.spatial_groups=0", "model.spatial_groups=0: must be null or at least 1"),
        ("model.image_classes=0", "model.image_classes=0: must be null or from 1 to 32768"),
        ("train.freeze_batch_norm=some", "train.freeze_batch_norm=some: must be one of none, backbone, all"),
        ("train.loggers=[wand]", "train.loggers: 'wand' is not a logger; did you mean 'wandb'?"),
        ("train.loggers=[tensorboard,tb]", "train.loggers: 'tb' is not a logger; did you mean 'tensorboard'?"),
        ("train.loggers=[file]", "'file' is not a logger; known here: tensorboard, wandb, mlflow, comet"),
        ("train.loss.dicee=1", "train.loss.dicee: not a loss; did you mean 'dice'?"),
        ("train.loss.dice=-1", "train.loss.dice=-1.0: must be 0 or more"),
        ("train.loss.cross_entropy=0", "must be at least one loss with a weight above 0"),
        ("train.label_smoothing=1", "train.label_smoothing=1.0: must be from 0 to below 1"),
        (
            "train.class_weights=even",
            "train.class_weights=even: must be null, balanced, a list of numbers or {class name",
        ),
        (
            "train.class_weights=[1,-1]",
            "train.class_weights=[1, -1]: must be null, balanced, a list of numbers or {class name",
        ),
        ("evaluate.scales=[]", "evaluate.scales=[]: must be numbers from 0.1 to 8"),
        ("evaluate.scales=[1,9]", "evaluate.scales=[1.0, 9.0]: must be numbers from 0.1 to 8"),
        ("evaluate.canvas=32", "evaluate.canvas=32: must be null, or from 33 to 32768"),
        ("evaluate.output_stride=4", "evaluate.output_stride=4: must be one of null, 8, 16, 32"),
    ],
)
def test_a_value_out_of_range_is_a_user_error_that_states_the_range(override, wanted):
    assert wanted in message({}, [override])


@pytest.mark.parametrize(
    "limits",
    [
        "data.crop_size=33",
        "data.crop_size=[33,32768]",
        "data.flip=1",
        "model.width=8",
        "evaluate.scales=[0.1,8]",
        "data.num_workers=0",
    ],
)
def test_the_limits_of_a_range_are_allowed(limits):
    from_dict({}, "mini.yaml", [limits])


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_any_backbone_is_allowed_with_smp_alone(backbone):
    assert from_dict({"model": {"smp": "Unet", "backbone": backbone}}, "mini.yaml").model.backbone == backbone
    assert f"model.backbone={backbone}: not a backbone" in message({"model": {"backbone": backbone}})


@pytest.mark.parametrize(
    "override, wanted",
    [
        ("train.iterations", "'train.iterations': an override is KEY=VALUE, such as train.iterations=100"),
        ("--quiet", "'--quiet': an override is KEY=VALUE"),
        ("train.loss={dice: 1", "train.loss={dice: 1: not KEY=VALUE with a YAML value"),
        ("train.iteration=3", "command line: unknown setting 'train.iteration'; did you mean 'train.iterations'?"),
        ("iterations=3", "command line: unknown setting 'iterations'; did you mean 'train.iterations'?"),
        ("train=3", "command line: 'train' is a section of settings"),
        ("=3", "command line: unknown setting ''"),
    ],
)
def test_an_invalid_override_is_a_user_error(override, wanted):
    assert wanted in message({}, [override])


def test_compiling_with_checkpointing_is_refused():
    with refused("train.compile", "train.checkpoint_activations", "set one of them to false"):
        from_dict({"train": {"compile": True, "checkpoint_activations": True}}, "test")


def test_a_missing_or_invalid_configuration_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such configuration file; seg train --list shows"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="must be a mapping of keys to values, not list"):
        load(write(tmp_path, "- 1"))


def test_losses_named_in_a_file_are_added_to_cross_entropy():
    config = from_dict({"train": {"loss": {"dice": 1.0}}}, "test")
    assert config.train.loss == {"cross_entropy": 1.0, "dice": 1.0}
    assert from_dict({"train": {"loss": "dice"}}, "test").train.loss == {"cross_entropy": 0.0, "dice": 1.0}
    assert from_dict(as_dict(config), "test") == config


def test_anything_but_a_mapping_is_a_user_error():
    assert message([1]) == "mini.yaml: a configuration must be a mapping of settings, not [1]"


def test_an_error_names_the_command_line_if_it_may_have_set_the_value():
    assert message({}, ["data.crop_size=32"]).startswith("mini.yaml and command line: data.crop_size=32: must be at least 33")


def test_a_wrong_override_is_reported_as_an_error_of_the_command_line():
    with pytest.raises(UserError, match=r"^command line: train\.iterations=x: "):
        from_dict({}, "mini.yaml", ["train.iterations=x"])


def test_a_misspelled_setting_is_not_answered_with_its_own_section():
    with pytest.raises(UserError, match=r"'model\.decoder\.seperable'; did you mean 'model\.decoder\.separable'"):
        from_dict({}, "test", ["model.decoder.seperable=3"])


def test_a_configuration_of_the_package_is_loaded_by_its_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names() == sorted(path.stem for path in (ROOT / "configs").iterdir())
    for name in names():
        config = load(name)
        assert config.name == name and config == load(ROOT / "configs" / f"{name}.yaml")
        assert 20 < len(headline(name)) < 100 and not headline(name).startswith("#")
    assert load("voc_mini", ["train.batch_size=3"]).train.batch_size == 3


def test_a_file_may_have_any_name_but_that_of_a_configuration_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "voc_mini", "mine.yml"):
        Path(name).write_text("train: {batch_size: 3}")
    assert load("mine").train.batch_size == load("mine.yml").train.batch_size == 3
    assert load("voc_mini").train.batch_size == 6
    found = [
        name for name in ("mine.yml", "voc_mini", "voc_minni", "mine", "xception65_voc_trainaug") if is_configuration(name)
    ]
    assert found == ["mine.yml", "voc_mini", "voc_minni"]


def test_the_folder_of_a_run_stands_for_its_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/mine", "runs/empty", "voc_mini"):
        Path(place).mkdir(parents=True)
    Path("runs/mine/config.yaml").write_text("{name: mine, train: {batch_size: 3}}")
    for given in ("runs/mine", "runs/mine/", tmp_path / "runs" / "mine"):
        assert (load(given).train.batch_size, load(given).name) == (3, "mine")
    assert load("voc_mini").train.batch_size == 6
    with refused("runs/empty: no such configuration"):
        load("runs/empty")


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("voc_xception66", "no such configuration; did you mean 'voc_xception65'? Or give the path"),
        ("voc-mini", "did you mean 'voc_mini'?"),
        ("ade20k_hrnet", "no such configuration; give the path of a YAML file, or a name: camvid, cityscapes_xception65,"),
        ("configs/voc_mini.yaml", "no such file; did you mean the configuration that comes with seg, 'voc_mini'?"),
        ("folder/voc_mini", "did you mean 'voc_mini'?"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_name_and_the_list(tmp_path, monkeypatch, name, wanted):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load(name)
    assert wanted in str(error.value)


def test_a_choice_is_checked_also_without_a_file():
    with pytest.raises(UserError, match=r"model\.output_stride=12: must be one of 8, 16, 32"):
        ModelConfig(output_stride=12)


def test_a_choice_may_be_a_reference_to_another():
    assert from_dict({"evaluate": {"output_stride": "${model.output_stride}"}}, "test").evaluate.output_stride == 16


@pytest.mark.parametrize(
    "model, title",
    [
        ({}, "DeepLab V3+, xception65"),
        ({"backbone": "xception41", "width": 0.5, "decoder": None}, "DeepLab V3+, xception41, width 0.5, no decoder"),
        ({"smp": "Unet", "backbone": "resnet18"}, "Unet, resnet18"),
    ],
)
def test_a_network_has_a_title(model, title):
    assert from_dict({"model": model}, "test").model.title == title


def test_paths_expand_the_home_folder_and_environment_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/disk")
    given = {"data": {"root": "~/voc", "labels": "${HOME}/labels.yaml"}, "runs": "$DATA/runs"}
    found = from_dict(given, "a.yaml", ["model.weights=tf:~/x/model.ckpt", "data.masks=${DATA}/masks"])
    assert (found.data.root, found.data.labels, found.runs) == ("/home/ann/voc", "/home/ann/labels.yaml", "/disk/runs")
    assert (found.model.weights, found.data.masks) == ("tf:/home/ann/x/model.ckpt", "/disk/masks")
    assert from_dict({"data": {"root": "a~b/${data.val}"}}, "a.yaml").data.root == "a~b/val"  # a setting
    for root in ("$NOWHERE/voc", "${NOWHERE}/voc"):
        with refused("a.yaml", "nvironment variable", "NOWHERE"):
            from_dict({"data": {"root": root}}, "a.yaml")


@pytest.mark.parametrize(
    "setting, wanted",
    [
        ("evaluate.canvas=native", "evaluate.canvas=native: must be a whole number or null"),
        ("train.iterations=2.5", "train.iterations=2.5: must be a whole number"),
        ("train.iterations=null", "train.iterations=null: must be a whole number"),
        ("train.learning_rate=fast", "train.learning_rate=fast: must be a number or null"),
        ("train.loss={dice: x}", "train.loss.dice=x: must be a number"),
        ("model.aspp.atrous_rates=[x]", "model.aspp.atrous_rates[0]=x: must be a whole number"),
        ("model.decoder.low_level_channels=few", "model.decoder.low_level_channels=few: must be a whole number"),
        ("data.balanced=maybe", "data.balanced=maybe: must be true or false"),
        ("data.root=[1]", "data.root=[1]: must be a text"),
        ("model.weights=no", "model.weights=false: must be a text or null"),
        ("name=true", "name=true: must be a text"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_type_that_is_wanted(setting, wanted):
    with pytest.raises(UserError) as error:
        from_dict({}, "test", [setting])
    assert str(error.value) == f"command line: {wanted}"
