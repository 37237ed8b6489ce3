"""Settings under the names that other trainers give them: what a wrong key or value of a configuration probably means."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

EPOCHS = ("epochs", "epoch", "num_epochs", "max_epochs", "n_epochs", "total_epochs", "train_epochs")
_KEYS = {
    "train.learning_rate": "lr, base_lr, initial_lr, init_lr, lr0, max_lr, learningrate, blr",
    "train.head_lr_multiplier": "head_lr, lr_mult, lr_multiplier, slow_lr, backbone_lr, head_multiplier",
    "train.iterations": "steps, max_steps, num_steps, iters, max_iters, max_iter, num_iterations, total_steps",
    "train.batch_size": "batch, bs, batchsize, train_batch_size, per_device_train_batch_size, samples_per_gpu",
    "train.weight_decay": "wd, l2, decay_weight",
    "train.optimizer": "optim, optimiser, solver",
    "train.schedule": "lr_scheduler, scheduler, lr_policy, learning_policy, lr_schedule, policy, lr_decay",
    "train.power": "poly_power, lr_power, learning_power",
    "train.warmup": "warmup_iters, warmup_steps, warmup_iterations, warmup_epochs, slow_start_step",
    "train.loss": "criterion, loss_fn, loss_type, loss_function, objective, losses",
    "train.class_weights": "weights_of_classes, class_weight, weight_classes, balance_classes",
    "train.precision": "amp, fp16, bf16, half, mixed_precision, use_amp, dtype, autocast",
    "train.grad_clip_norm": "clip_grad, clip_grad_norm, gradient_clip_val, max_grad_norm, grad_clip, gradient_clipping",
    "train.grad_accumulation": "accumulate, accumulate_grad_batches, gradient_accumulation_steps, accumulation_steps",
    "train.freeze_batch_norm": "freeze_bn, bn_freeze, fine_tune_batch_norm, frozen_bn, bn_eval, freeze_norm",
    "train.freeze_backbone": "freeze, freeze_encoder, frozen, frozen_stages",
    "train.batch_norm_momentum": "bn_momentum, bn_mom, batchnorm_momentum",
    "train.ema_decay": "ema, use_ema, moving_average_decay, model_ema",
    "train.validate_every": "val_every, eval_every, eval_interval, val_interval, check_val_every_n_epoch",
    "train.patience": "early_stopping, early_stop, early_stopping_patience, stop_patience",
    "train.keep_best": "save_top_k, keep_checkpoints, save_best, max_keep_ckpts, save_total_limit",
    "train.log_every": "log_interval, log_steps, logging_steps, print_freq, print_interval, log_every_n_steps",
    "train.loggers": "logger, report_to, log_with, tracker, trackers, use_wandb, wandb, mlflow, comet, tensorboard, use_tb",
    "train.seed": "random_seed, manual_seed, seeds, random_state",
    "train.compile": "torch_compile, jit",
    "train.deterministic": "deterministic_algorithms, cudnn_deterministic, reproducible",
    "train.checkpoint_activations": "gradient_checkpointing, use_checkpoint, activation_checkpointing, with_cp, remat",
    "train.label_smoothing": "smoothing, smooth",
    "train.hard_pixels": "ohem, ohem_ratio, top_k, hard_mining, hard_example_mining, topk, top_k_percent_pixels",
    "data.root": "dataset, data_path, data_dir, data_root, dataset_dir, dataset_path, dataroot, path, dir, folder",
    "data.labels": "classes, class_names, names, num_classes, nc, n_classes, nclass, label_map, labelmap, id2label",
    "data.masks": "mask_dir, masks_dir, ann_dir, annotations, label_dir, gt_dir",
    "data.train": "train_split, train_list, train_set, split",
    "data.val": "val_split, val_list, val_set, validation, valid, test",
    "data.crop_size": "crop, size, img_size, image_size, imgsz, input_size, train_crop_size, resolution, resize",
    "data.flip": "hflip, horizontal_flip, random_flip, flip_prob, mirror",
    "data.transforms": "augment, augmentation, augmentations, aug, color_jitter, albumentations, augs, transform",
    "data.balanced": "oversample, balanced_sampling, weighted_sampler, class_balanced, balance, sampler",
    "data.num_workers": "workers, dataloader_num_workers, workers_per_gpu, n_workers, num_threads, loader_workers",
    "data.scale_min": "scale, scales, min_scale, min_scale_factor, random_scale, ratio_range, multi_scale",
    "data.scale_max": "max_scale, max_scale_factor",
    "model.backbone": "encoder, encoder_name, arch, architecture, model_name, model_variant, network, net, bb",
    "model.weights": "pretrained, encoder_weights, pretrained_weights, pretrained_backbone, checkpoint, ckpt",
    "model.output_stride": "os, stride, out_stride, dilation",
    "model.aspp.atrous_rates": "rates, aspp_rates, dilations, aspp_dilate",
    "model.aspp.dropout": "drop_rate, dropout_ratio",
    "evaluate.flip": "tta, mirror_test, flip_test, test_flip, add_flipped_images",
    "evaluate.scales": "multi_scale_test, ms, test_scales, eval_scales, ms_test",
    "evaluate.canvas": "eval_crop_size, vis_crop_size, test_size, val_size",
    "name": "run_name, exp_name, experiment, exp, run, experiment_name, tag",
    "runs": "output_dir, out_dir, out, save_dir, log_dir, logdir, train_logdir, work_dir, output, checkpoint_dir",
    "device": "gpu, cuda, use_gpu, gpu_id, gpu_ids, accelerator",
}
"""What other trainers call each setting."""
_BY_NAME = {name.strip(): setting for setting, names in _KEYS.items() for name in names.split(",")}
_INSTEAD = {
    **dict.fromkeys(
        ("gpus", "n_gpu", "ngpu", "num_gpus", "devices", "world_size", "nproc_per_node", "num_clones"),
        "the number of GPUs is that of the processes: torchrun --nproc_per_node=N -m seg train ...",
    ),
    **dict.fromkeys(
        ("ignore_index", "ignore_label", "void", "ignore"),
        "value 255 is void; other values are listed in labels.yaml: values: {11: void}",
    ),
    **dict.fromkeys(("resume", "resume_from", "auto_resume", "continue"), "give --resume"),
    **dict.fromkeys(("mean", "std", "normalize", "normalization"), "images are normalized as the backbone's weights need it"),
    **dict.fromkeys(("cfg", "config", "config_file"), "the configuration stands first: seg train CONFIG KEY=VALUE ..."),
}
"""What has no setting of its own."""
_VALUES = {
    **dict.fromkeys(("fit", "finetune", "learn"), "train"),
    **dict.fromkeys(("eval", "val", "validate", "test", "score"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "segment", "detect", "demo"), "predict"),
    **dict.fromkeys(("fp16", "half", "float", "16"), "float16"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("fp32", "32", "full", "single"), "float32"),
    **dict.fromkeys(("amp", "mixed"), "auto"),
    **dict.fromkeys(("adam", "adam_w"), "adamw"),
    **dict.fromkeys(("wb", "weights_and_biases", "weightsandbiases", "weights&biases"), "wandb"),
    **dict.fromkeys(("tb", "tensorboardx"), "tensorboard"),
    **dict.fromkeys(("comet_ml", "cometml"), "comet"),
    **dict.fromkeys(("polynomial", "polylr", "polynomiallr"), "poly"),
    **dict.fromkeys(("cos", "cosineannealing", "cosineannealinglr", "cosine_annealing"), "cosine"),
    **dict.fromkeys(("step", "steplr", "exp", "multistep"), "exponential"),
    **dict.fromkeys(("ce", "crossentropy", "cross-entropy", "crossentropyloss", "softmax", "nll", "xent"), "cross_entropy"),
    **dict.fromkeys(("iou", "miou", "soft_iou"), "jaccard"),
    **dict.fromkeys(("lovasz_softmax", "lovaszsoftmax", "lovasz-softmax"), "lovasz"),
    **dict.fromkeys(("diceloss", "dice_loss", "f1"), "dice"),
    **dict.fromkeys(("focalloss", "focal_loss"), "focal"),
    **dict.fromkeys(("gpu", "nvidia"), "cuda"),
    **dict.fromkeys(("metal", "m1", "apple"), "mps"),
    **dict.fromkeys(("modified_xception", "aligned_xception", "xception_65", "aligned_xception65"), "xception65"),
    **dict.fromkeys(("xception_71", "aligned_xception71"), "xception71"),
    **dict.fromkeys(("xception_41", "aligned_xception41"), "xception41"),
}
"""What other trainers call a choice."""


def key_hint(path: str, settings: Iterable[str], section: Iterable[str]) -> str:
    """What an unknown setting probably means, such as "did you mean 'train.learning_rate'?".

    Args:
        path: the dotted name as given, such as "train.lr".
        settings: the dotted names of all settings.
        section: the names in the section where it was given, for a list if nothing is close.
    """
    known = [name for name in settings if name != path.rpartition(".")[0]]
    prefix, _, key = path.rpartition(".")
    key = _plain(key)
    last = {name: name.rpartition(".")[2] for name in known}
    # A key in the wrong section is as common as a misspelled one: look for its last word everywhere.
    close = [name for name in known if last[name] == key]
    if not close and key in _INSTEAD:
        return _INSTEAD[key]
    if not close and _BY_NAME.get(key) in known:
        return f"did you mean '{_BY_NAME[key]}'?"
    # A part of a name, such as `rate`, is not a close match by letters.
    words = {name: {word.rstrip("s") for word in last[name].split("_")} for name in known}
    close = close or [name for name in known if name.startswith(f"{prefix}.") and key.rstrip("s") in words[name]]
    close = close or difflib.get_close_matches(path, known, n=1, cutoff=0.75)
    return f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(section)}"


def inner_key(path: str, value: Any, settings: Iterable[str]) -> str:
    """The path of what is set in an unknown section, such as "hyp.lr0", if its name says more than that of the section.

    Args:
        path: of the section.
        value: what the section holds; of a single setting, its value.
        settings: the dotted names of all settings.
    """
    names = {name.rpartition(".")[2] for name in settings} | _BY_NAME.keys() | _INSTEAD.keys()
    keys = [str(key) for key in value] if isinstance(value, Mapping) else []
    return next((f"{path}.{key}" for key in keys if _plain(key) in names), path)


def choice_meant(value: Any, choices: Iterable[Any]) -> str | None:
    """The choice that a value means: another trainer's word for it, or one that is close to it; None if none is."""
    known = [str(choice) for choice in choices]
    meant = _VALUES.get(str(value).lower())
    return meant if meant in known else next(iter(difflib.get_close_matches(str(value), known, n=1, cutoff=0.6)), None)


def flag_hint(flag: str, settings: Iterable[str]) -> str | None:
    """The setting that a flag of another trainer means, such as "train.learning_rate" for "--lr"; None if none is close.

    settings: the dotted names of all settings.
    """
    key = _plain(flag.lstrip("-").partition("=")[0].rpartition(".")[2])
    if key in EPOCHS:
        return "train.iterations"
    own = next((name for name in settings if name.rpartition(".")[2] == key and not name.endswith("data")), None)
    return "data.root" if key == "data" else own or _BY_NAME.get(key)


def find_epochs(settings: Mapping[str, Any]) -> float | None:
    """The number of epochs that somebody has set, at the top or in a section of any name; None if nobody has."""
    for section in (settings, *(value for value in settings.values() if isinstance(value, Mapping))):
        for key, value in section.items():
            if _plain(str(key)) in EPOCHS and isinstance(value, int | float):
                return value
    return None


def _plain(key: str) -> str:
    """A key in lower case with underscores: `batchSize` and `batch-size` are `batch_size`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
