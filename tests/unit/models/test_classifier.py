import torch

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.models.summary import trainable_parameters


def test_the_original_with_1000_classes_has_the_papers_parameters():
    # arXiv 1610.02357, table 3.
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone="xception", output_stride=32, image_classes=1000), 21)
    assert trainable_parameters(model) == 22_855_952


def test_the_classifier_gives_one_row_per_image_with_dropout_of_one_half():
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="xception41", width=0.125, image_classes=7), 21).eval()
    images = torch.rand(2, 3, 65, 97) * 2 - 1
    with torch.no_grad():
        assert model(images).shape == (2, 7)
        features = model.backbone(images)[1].mean((2, 3))
        torch.testing.assert_close(model(images), model.image_classifier(features))
    assert model.dropout.p == 0.5
