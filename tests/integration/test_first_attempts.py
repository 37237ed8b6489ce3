"""What a user of torchvision, timm or segmentation-models-pytorch types first: it works, or the answer says what to write."""

import numpy as np
import pytest
import torch
from PIL import Image

import seg
import seg.data
import seg.evaluation
import seg.models
import seg.training
from tests.helpers.toy import toy_sample, toy_voc

IMAGE = toy_sample(0)[0]
WORKS = """
seg.models.deeplabv3plus_xception41(3, 8, width=0.25).output_stride == 8
seg.models.deeplabv3plus_xception41(num_classes=3, width=0.25).num_classes == 3
seg.models.deeplabv3plus_xception41(3, decoder=None, width=0.25).logits_stride == 16
net(torch.rand(1, 3, 64, 80)).shape == (1, 3, 64, 80)
net.eval().training is False
seg.load("net.safetensors").classes == ["a", "b", "c"]
model("p.png").shape == (48, 64)
len(model("photos")) == 2
len(model("photos/*.png")) == 2
len(model(["p.png", "p.png"])) == 2
model.predict(torch.rand(3, 64, 80)).shape == (64, 80)
len(model.predict(torch.rand(2, 3, 64, 80))) == 2
model.predict(np.random.rand(64, 80, 3)).shape == (64, 80)
model.predict(Image.open("p.png")).shape == (48, 64)
model.probabilities("p.png").shape == (3, 48, 64)
model.draw("p.png").size == (64, 48)
model.draw("p.png", alpha=0.3, legend=True).width == 64
model.to("cpu").device.type == "cpu"
model.palette.shape == (256, 3)
seg.data.VOCSegmentation("voc", "val")[0][0].shape == IMAGE.shape
len(seg.data.VOCSegmentation(root="voc", split="val")) > 0
seg.data.TrainTransform(crop_size=33)(*seg.data.VOCSegmentation("voc", "val")[0])[0].shape == (3, 33, 33)
seg.training.cross_entropy(torch.zeros(1, 3, 16, 16), torch.zeros(1, 64, 64, dtype=torch.long)) > 1
seg.evaluation.ConfusionMatrix(num_classes=3).labels.names[0] == "class 0"
seg.save(net, "x.safetensors", labels=["a", "b", "c"]).exists()
"Predictor" in dir(seg) and "config" in dir(seg)
"""
ANSWERED = """
seg.models.deeplabv3plus_xception65(pretrained=True) => weights='timm:xception65.tf_in1k'
seg.models.deeplabv3plus_xception65(weights="imagenet") => ImageNet weights: weights='timm:xception65.tf_in1k'
seg.models.deeplabv3plus_xception65(weights="DEFAULT") => weights='timm:xception65.tf_in1k'
seg.models.deeplabv3plus_xception65(classes=21) => num_classes
seg.models.deeplabv3plus_xception65(in_channels=4) => RGB
seg.models.deeplabv3plus_resnet50(num_classes=21) => seg train voc_smp
seg.models.deeplabv3_xception65() => decoder=None
seg.models.Unet() => segmentation-models-pytorch
seg.models.list_models() => deeplabv3plus_xception41
seg.models.create_model("xception65") => deeplabv3plus_xception41
seg.models.xception65(num_classes=1000) => deeplabv3plus_xception65(num_classes=21)
seg.create_model("deeplabv3plus_xception65") => seg.models.deeplabv3plus_xception65
seg.DeepLabV3Plus => seg.models.deeplabv3plus_xception65
seg.list_models() => seg models
seg.predict("net.safetensors", "p.png") => seg.load(WEIGHTS).predict(IMAGE)
seg.Config => seg.config.Config
seg.lode => did you mean 'load'?
seg.load("xception65_voc") => did you mean
seg.load("timm:xception65.tf_in1k") => without segmentation classes
seg.load("nowhere.safetensors") => no such weights file
seg.load(net) => seg.save(net, 'net.safetensors'
seg.export(net, "x.onnx") => seg.save(net, 'net.safetensors'
seg.export(model, "x.onx") => did you mean '.onnx'?
seg.save(net, "x.pth", labels=["a", "b", "c"]) => x.safetensors
seg.save(net, "x.safetensors", labels=["a", "b"]) => 2 labels for a network of 3 classes
seg.save(torch.nn.Conv2d(3, 3, 1), "x.safetensors", labels=["a"]) => not a segmentation network of seg
seg.train("nope") => no such configuration
seg.train("voc_mini", "train.lr=1") => train.learning_rate
seg.train("voc_mini", {"train.epochs": 3}) => train.iterations
seg.evaluate(model, "nowhere") => no such data folder
model.predict(torch.randn(3, 64, 80)) => normalizes images itself
model.predict(np.zeros((3, 64, 80), np.uint8)) => transpose(1, 2, 0)
model.predict(b"abc") => not an image
net(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)) => images uint8 [1, 3, 64, 64]
net(torch.rand(3, 64, 64)) => [N, 3, H, W]
net(torch.rand(1, 1, 64, 64)) => [1, 1, 64, 64]
seg.data.VOCSegmentation("voc", image_set="val") => use split
seg.data.VOCSegmentation("voc", "vall") => did you mean 'val'?
seg.data.VOCSegmentation("voc", "val", transforms=None) => use transform
seg.data.VOCDataset => VOCSegmentation
seg.data.DataLoader => torch.utils.data.DataLoader
seg.training.CrossEntropyLoss => cross_entropy(net.logits(images), masks)
seg.training.PolyLR => train.schedule
seg.training.cross_entropy(torch.zeros(1, 3, 16, 16), torch.full((1, 64, 64), 200)) => class indices below 3
seg.evaluation.mIoU => matrix.scores().miou
seg.evaluation.ConfusionMatrix(3).update(np.zeros((4, 4), int), np.zeros((4, 5), int)) => of one shape
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A folder of files to try, and what the lines may use."""
    folder = tmp_path_factory.mktemp("attempts")
    toy_voc(folder / "voc")
    (folder / "photos").mkdir()
    for path in ("p.png", "photos/a.png", "photos/b.png"):
        Image.fromarray(IMAGE).save(folder / path)
    net = seg.models.deeplabv3plus_xception41(num_classes=3, width=0.25)
    seg.save(net, folder / "net.safetensors", labels=["a", "b", "c"])
    model = seg.load(folder / "net.safetensors", device="cpu")
    return folder, {"seg": seg, "torch": torch, "np": np, "Image": Image, "IMAGE": IMAGE, "net": net, "model": model}


@pytest.mark.parametrize("line", WORKS.strip().splitlines())
def test_what_people_try_first_works(names, line, monkeypatch):
    monkeypatch.chdir(names[0])
    names[1]["net"].eval()
    assert eval(line, names[1])


@pytest.mark.parametrize("line", ANSWERED.strip().splitlines())
def test_what_people_try_first_is_answered_with_what_to_write(names, line, monkeypatch):
    monkeypatch.chdir(names[0])
    attempt, answer = line.split(" => ")
    with pytest.raises((seg.UserError, TypeError, AttributeError, ValueError)) as error:
        eval(attempt, names[1])
    assert answer in str(error.value)
    assert "\n" not in str(error.value)
