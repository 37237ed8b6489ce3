"""DeepLab V3+ on the modified Xception: train, evaluate mIoU, look at masks."""

__version__ = "0.1.0"
