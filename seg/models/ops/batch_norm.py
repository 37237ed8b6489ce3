"""Batch norm of the networks."""

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that does not count batches: PyTorch's, with the same numbers and the same state dict.

    PyTorch adds 1 to `num_batches_tracked` in each training step: 146 small operations in DeepLab V3+ on Xception-65. Only
    `momentum=None` reads that counter. Here it stays 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the maps [N, C, H, W]: with the batch's statistics in training mode, else with the moving statistics."""
        if self.momentum is None or self.running_mean is None:
            return super().forward(x)
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)


class SinglePixelBatchNorm2d(BatchNorm2d):
    """Batch norm that also trains on a single value per channel, such as the pooled features of one image.

    One value has no variance. It is normalized with the moving statistics, which do not change.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the maps [N, C, H, W]."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
