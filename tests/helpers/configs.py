"""Configurations that train in seconds on the data of `tests.helpers.toy`."""

MODEL = {
    "backbone": "xception41",
    "width": 0.125,
    "aspp": {"channels": 16},
    "decoder": {"low_level_channels": 8, "convolutions": [[3, 16]]},
}
"""A small network with all parts."""

CONFIG = {
    "model": {"backbone": "xception41", "width": 0.125, "aspp": {"channels": 16}, "decoder": None},
    "data": {"train": "train", "val": "val", "crop_size": 33, "num_workers": 0},
    "train": {"iterations": 2, "batch_size": 2, "validate_every": 2, "precision": "float32"},
    "evaluate": {"canvas": None},
}
