import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from seg.config import ModelConfig
from seg.data import TrainTransform, VOCSegmentation
from seg.data.images import read_image
from seg.labels import VOC, LabelSet
from seg.models.factory import build_model
from seg.training.losses import cross_entropy
from tests.helpers.toy import refused, toy_sample, toy_voc


@pytest.fixture
def root(tmp_path):
    return toy_voc(tmp_path / "voc")


def test_a_sample_is_the_image_and_the_mask_of_the_files(root):
    data = VOCSegmentation(root, "val")
    assert (len(data), data.ids, data.classes) == (3, ("toy_006", "toy_007", "toy_008"), list(VOC.names))
    for index, (image, mask) in enumerate(data[i] for i in range(len(data))):
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(image, read_image(root / "JPEGImages" / f"toy_{6 + index:03}.jpg"))
        np.testing.assert_array_equal(mask, toy_sample(6 + index)[1])


def test_a_loop_over_a_dataset_ends(root):
    assert sum(1 for _ in VOCSegmentation(root)) == 6


def test_a_transform_gets_image_and_mask(root):
    data = VOCSegmentation(root, transform=lambda image, mask: (image.shape, mask.shape))
    assert data[0] == ((48, 64, 3), (48, 64))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_the_default_loader_train_a_network(root, workers):
    data = VOCSegmentation(root, transform=TrainTransform(crop_size=33))
    network = build_model(ModelConfig(backbone="xception41", width=0.125), 21)
    seen = 0
    for images, masks in DataLoader(data, batch_size=3, shuffle=True, num_workers=workers):
        assert images.shape == (3, 3, 33, 33) and masks.shape == (3, 33, 33)
        loss = cross_entropy(network.logits(images), masks)
        loss.backward()
        full = torch.nn.functional.cross_entropy(network(images), masks, ignore_index=255)
        assert loss.item() == pytest.approx(full.item(), rel=0.5) and np.isfinite(loss.item())
        seen += len(images)
    assert seen == 6


def test_labels_are_a_name_a_file_or_a_label_set(root, tmp_path):
    names = [f"class {index}" for index in range(21)]
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"classes": names}))
    assert VOCSegmentation(root, labels=str(tmp_path / "labels.yaml")).classes == names
    assert VOCSegmentation(root, labels=LabelSet(tuple(names), VOC.colors)).classes == names
    (root / "masks").mkdir()
    with refused("masks", "no mask for this id"):
        VOCSegmentation(root, masks="masks")


def test_a_dataset_can_be_pickled_for_a_spawned_process(root):
    data = pickle.loads(pickle.dumps(VOCSegmentation(root, transform=TrainTransform(crop_size=33, transforms=["ToGray"]))))
    assert data[0][0].shape == (3, 33, 33)


@pytest.mark.parametrize(
    "argument, told",
    [
        ({"image_set": "val"}, "no argument 'image_set'; use split"),
        ({"transforms": None}, "no argument 'transforms'; use transform, which gets image and mask together"),
        ({"target_transform": None}, "use transform"),
        ({"download": True}, "run `seg data download voc2012` first"),
        ({"year": "2012"}, "give the folder of that year as root"),
        ({"spilt": "val"}, "did you mean 'split'?"),
    ],
)
def test_torchvisions_arguments_are_refused_with_our_names(root, argument, told):
    with pytest.raises(TypeError, match="VOCSegmentation") as error:
        VOCSegmentation(root, **argument)
    assert told in str(error.value)


def test_a_missing_folder_says_how_to_get_the_data(tmp_path):
    with refused(tmp_path / "none", "seg data download voc2012", "seg data init"):
        VOCSegmentation(tmp_path / "none")


def test_torchvisions_root_is_refused_with_the_right_folder(tmp_path):
    inner = toy_voc(tmp_path / "VOCdevkit" / "VOC2012")
    with refused(tmp_path, f"the data set is in {inner}"):
        VOCSegmentation(tmp_path)


def test_a_misspelled_split_is_refused_with_the_nearest_name(root):
    with refused("vaal", "did you mean 'val'?"):
        VOCSegmentation(root, "vaal")


def test_importing_the_package_does_not_import_torch():
    code = "import sys, seg.data, seg.data.voc; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
