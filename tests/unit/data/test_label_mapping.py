from dataclasses import replace

import numpy as np
from PIL import Image

from seg.data.label_mapping import labels_text, map_by_name, mapping_notes
from seg.data.masks import read_mask
from seg.labels import VOC, VOID, LabelSet, load
from tests.helpers.toy import refused


def test_a_data_set_is_read_as_the_models_classes_by_their_names():
    model = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    other = LabelSet(("Dog", "background"), ((9, 9, 9), (8, 8, 8)), (7, 7, 7))
    assert map_by_name(model, model, "here") is model
    mapped = map_by_name(other, model, "here")
    assert mapped.indexed == model
    assert dict(mapped.values) == {0: 2, 1: 0, 255: 255, (9, 9, 9): 2, (8, 8, 8): 0, (7, 7, 7): 255}
    coded = replace(other, values=((40, 0), (50, 1), (60, VOID)))
    assert map_by_name(coded, model, "here").values == ((40, 2), (50, 0), (60, VOID))
    with refused("labels.yaml: ", "Data set: Dog, cow", "Model: background, cat, dog"):
        map_by_name(replace(other, names=("Dog", "cow")), model, "labels.yaml")
    with refused("Only in the predictions: cow. Only in the truth: background, cat"):
        map_by_name(replace(other, names=("Dog", "cow")), model, "labels.yaml", "predictions", "truth")
    with refused("and 220 more"):
        map_by_name(LabelSet(tuple(map(str, range(250))), ((0, 0, 0),) * 250), model, "labels.yaml")


def test_masks_without_colors_of_their_own_are_read_in_vocs(tmp_path):
    (tmp_path / "data.yaml").write_text("classes: [cow, background]")
    data, model = load(str(tmp_path / "data.yaml")), LabelSet(("background", "cow"), ((1, 1, 1), (2, 2, 2)))
    Image.fromarray(np.array([[VOC.colors[0], VOC.colors[1]]], np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", map_by_name(data, model, "here")).tolist() == [[1, 0]]


def test_what_is_mapped_is_said():
    model = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    assert mapping_notes(model, model) == []
    turned = replace(model, names=("background", "dog", "cat"))
    assert mapping_notes(turned, model) == [
        "classes of the data set have a different order from those of the model; they are matched by name"
    ]
    fewer = LabelSet(("background", "Dog"), ((0, 0, 0), (1, 1, 1)))
    assert mapping_notes(fewer, model, "predictions", "truth") == ["cat: classes of the truth that are not in the predictions"]


def test_the_text_of_a_label_set_is_read_back(tmp_path):
    labels = replace(VOC, values=((3, 1), ((1, 2, 3), VOID)))
    (tmp_path / "labels.yaml").write_text(labels_text(labels))
    assert load(str(tmp_path / "labels.yaml")) == labels
