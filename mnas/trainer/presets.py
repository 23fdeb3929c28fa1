"""The recipes that come with mnas. Every constant is that of the paper or code named beside it, or said to be ours."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mnas.errors import InputError, UnknownNameError
from mnas.trainer.recipe import Recipe, unknown_field

# Chosen here, as in `mnas.training`: where somebody asks for few epochs, a warm-up takes at most a fifth of them.
LONGEST_WARM_UP = 0.2

PRESETS: Mapping[str, Recipe] = {
    # Cutout (arXiv 1708.04552), train.py of uoguelph-mlrg/Cutout: 200 epochs of 128 images, Nesterov momentum 0.9,
    # weight decay 5e-4, padded by 4 pixels of 32 and flipped. Rate 0.05 and a cosine: SGDR_WRNs.py of loshchil/SGDR
    # (arXiv 1608.03983), whose four runs of 50 epochs are one here; warm-up of 5 epochs: arXiv 1706.02677, section
    # 2.2. Cutout's 0.1 without warm-up trained MnasNet-small worse (0.60 against 0.80 on a part of CIFAR-10 with two
    # classes, 4 epochs of 8,000 images, one seed).
    "cifar": Recipe(
        preset="cifar",
        epochs=200,
        batch_size=128,
        lr=0.05,
        weight_decay=5e-4,
        warmup_epochs=5,
        crop="pad",
        flip=True,
    ),
    # Chosen here for ten to fifty epochs: `cifar` with label smoothing (arXiv 1512.00567, section 7). With the rate of
    # `mnas.training.peak_rate` and no crops it had .975 to .983 on digits, `cifar` .944 to .967 (validation split, 24
    # epochs in batches of 32, two small networks, three trainings).
    "short": Recipe(
        preset="short",
        epochs=24,
        batch_size=128,
        lr=0.05,
        weight_decay=5e-4,
        warmup_epochs=4.8,
        label_smoothing=0.1,
        crop="pad",
        flip=True,
    ),
    # EfficientNet (arXiv 1905.11946), section 5.2, and its code (tensorflow/tpu, models/official/efficientnet): the
    # flags of main.py, 218,949 steps of 2,048 images, 0.016 for 256; momentum, decay and eps of utils.py; dropout of
    # efficientnet_builder.py. Crops as in Inception (arXiv 1409.4842, section 6), as in its preprocessing.py, though
    # bilinear. AutoAugment's policy for ImageNet is torchvision's; that code has another (`policy_v0`). Its decay also
    # holds for biases, ours for none.
    "imagenet-b0": Recipe(
        preset="imagenet-b0",
        epochs=350,
        batch_size=2048,
        lr=0.128,
        optimizer="rmsprop",
        momentum=0.9,
        rms_decay=0.9,
        eps=1e-3,
        weight_decay=1e-5,
        schedule="step",
        warmup_epochs=5,
        decay_rate=0.97,
        decay_epochs=2.4,
        ema_decay=0.9999,
        label_smoothing=0.1,
        dropout=(0.2, 0.2),
        drop_path=0.2,
        crop="resized",
        flip=True,
        policy="autoaugment",
    ),
    # Bag of Tricks (arXiv 1812.01187), its code (train_imagenet.py of dmlc/gluon-cv; resnet50_v1d-mixup.sh of
    # dmlc/web-data): Nesterov momentum 0.9, 0.4 for 1,024 images, 5 epochs of warm-up, cosine, weight decay 1e-4 on
    # weights alone, label smoothing 0.1, mixup 0.2, 200 epochs. With it, chosen here, the progressive training of
    # EfficientNetV2 (arXiv 2104.00298), section 5.1 and Table 6, column S: 4 stages, image 128 to 300, dropout 0.1 to
    # 0.3, survival 0.8. RandAugment goes from 5 to 10 as in its code (google/automl; the paper has 15, the code keeps
    # dropout at 0.2). There 10 is the greatest change; here, on torchvision's scale, that is 30. Likewise for DeiT.
    "modern": Recipe(
        preset="modern",
        epochs=200,
        batch_size=256,
        lr=0.1,
        weight_decay=1e-4,
        warmup_epochs=5,
        label_smoothing=0.1,
        dropout=(0.1, 0.3),
        drop_path=0.2,
        crop="resized",
        flip=True,
        policy="randaugment",
        magnitude=(15, 30),
        mixup=0.2,
        stages=4,
        resolution=(128 / 300, 1.0),
    ),
    # DeiT (arXiv 2012.12877), Table 9: AdamW, 5e-4 for 512 images, weight decay 0.05, 300 epochs of 1,024 images, 5 of
    # warm-up, label smoothing 0.1, RandAugment 9, mixup 0.8, cutmix 1.0, drop path 0.1. Without its erasing, repeated
    # augmentation and random magnitudes; the cosine ends at 0, in main.py of facebookresearch/deit at 1e-5.
    "adamw": Recipe(
        preset="adamw",
        epochs=300,
        batch_size=1024,
        lr=1e-3,
        optimizer="adamw",
        weight_decay=0.05,
        warmup_epochs=5,
        label_smoothing=0.1,
        drop_path=0.1,
        crop="resized",
        flip=True,
        policy="randaugment",
        magnitude=(27, 27),
        mixup=0.8,
        cutmix=1.0,
    ),
}


def preset(name: str, **changes: Any) -> Recipe:
    """A preset with some fields changed.

    With another `batch_size` and no `lr`, the rate changes in proportion (arXiv 1706.02677, section 2.1); with other
    `epochs` and no `warmup_epochs`, the warm-up is at most a fifth of them, and there are no more stages than epochs.

    Raises:
        UnknownNameError: no such preset; the nearest is named.
        InputError: an unknown field, or a value outside its domain.

    >>> preset("cifar", batch_size=32).lr
    0.0125
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    base = PRESETS[name]
    known = {item.name for item in fields(Recipe)}
    if problems := [unknown_field(field, known) for field in changes if field not in known]:
        raise InputError(f"the recipe cannot be used: {'; '.join(problems)}.")
    changed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()
    }
    batch, epochs = changed.get("batch_size"), changed.get("epochs")
    if isinstance(batch, int) and batch >= 1:
        changed.setdefault("lr", base.lr * batch / base.batch_size)
    if isinstance(epochs, int) and epochs >= 1:
        changed.setdefault("warmup_epochs", min(base.warmup_epochs, LONGEST_WARM_UP * epochs))
        changed.setdefault("stages", min(base.stages, epochs))
    return replace(base, **changed)
