import pytest

from seg.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "photo.jpg", "--out", "m"], "required: INPUT; seg predict WEIGHTS INPUT ... --out DIR"),
        (["predict", "w.safetensors", "photo.jpg"], "required: --out; seg predict WEIGHTS INPUT ... --out DIR"),
        (["predict", "w.safetensors", "photo.jpg", "--output", "m"], "unknown flag --output; did you mean --out?"),
        (["report", "run", "--out", "m"], "unknown flag --out; see seg report"),  # not --quiet
        (["predict", "w.safetensors", "photo.jpg", "--out", "m", "--gpu", "0"], "did you mean --device?"),
        (["predict", "--weights", "w.safetensors", "--input", "photo.jpg"], "unknown flag --weights: write its value without"),
        (["predict", "w.safetensors", "photo.jpg", "--out", "m", "--mode", "masks"], "invalid choice: 'masks'"),
        (["evaluate", "w.safetensors", "--scale", "1,2"], "did you mean --scales?"),
        (["segment", "photo.jpg"], "invalid choice: 'segment'"),
        (["data", "check", "voc", "--label", "x.yaml"], "did you mean --labels?"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.count("\n") == 1 and message in err and err.endswith("--help\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "photo.jpg", "w.safetensors", "--out", "m"], "photo.jpg: an image or video, where the weights come first"),
        (["predict", "w.safetensors", "photo.jpg", "--out", "mask.png"], "--out mask.png: the name of a file; give a folder"),
    ],
)
def test_arguments_in_the_wrong_place_are_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "voc_mini"], "'trian'; did you mean 'train'?"),
        (["eval", "w.safetensors"], "did you mean 'evaluate'?"),
        (["data", "chek", "voc"], "did you mean 'check'?"),
        (["export", "w.safetensors", "--format", "onx", "--out", "m"], "did you mean 'onnx'?"),
        (["predict", "w.safetensors", "a.jpg", "--out", "m", "--precision", "bf16"], "did you mean 'bfloat16'?"),
        (["info", "voc_mini", "--siz", "65"], "did you mean --size?"),
        (["train", "voc_mini", "--lr", "0.1"], "settings have no dashes: train.learning_rate=VALUE"),
        (["evaluate", "--weights", "w.safetensors"], "write its value without a flag: seg evaluate [WEIGHTS]"),
    ],
)
def test_a_wrong_word_finds_the_right_one_and_its_help_once(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(arguments)
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == err.count("see seg") == 1
