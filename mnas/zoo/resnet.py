"""ResNet and ResNet-RS.

Norm and padding are those of timm's models; the first releases of ResNet-RS (TensorFlow) used `same` padding, which
changes no count.
"""

from mnas.search_space.resnet import LAYERS, RS_LAYERS, resnet_network, resnet_rs_network
from mnas.zoo.member import Figures, Member

TORCHVISION = "torchvision 0.29, weights IMAGENET1K_V1"
RELEASE = "tensorflow/tpu 9e57561b, models/official/resnet/resnet_rs/README.md"
# By depth: top-1 in percent, parameters, multiply-adds.
_RESNETS = {
    18: (69.758, 11_689_512, 1.814e9),
    34: (73.314, 21_797_672, 3.664e9),
    50: (76.130, 25_557_032, 4.089e9),
    101: (77.374, 44_549_160, 7.801e9),
    152: (78.312, 60_192_808, 11.514e9),
}
# By depth: resolution, dropout and drop connect rate of the configuration for the largest resolution that it was
# released with (resnet_rs/configs), and top-1 in percent.
_RS = {
    50: (160, 0.25, 0.0, 78.8),
    101: (192, 0.25, 0.0, 81.2),
    152: (256, 0.25, 0.0, 83.0),
    200: (256, 0.25, 0.1, 83.4),
    270: (256, 0.25, 0.1, 83.8),
    350: (320, 0.4, 0.1, 84.2),
    420: (320, 0.4, 0.1, 84.4),
}

MEMBERS: dict[str, Member] = {
    f"resnet_{depth}": Member(
        f"ResNet-{depth}",
        "ResNet",
        resnet_network(layers, "basic" if depth < 50 else "bottleneck"),
        Figures(TORCHVISION, *_RESNETS[depth]),
        (f"resnet{depth}",),
    )
    for depth, layers in LAYERS.items()
} | {
    f"resnet_rs_{depth}": Member(
        f"ResNet-RS-{depth}",
        "ResNet-RS",
        resnet_rs_network(RS_LAYERS[depth], resolution=resolution, dropout=dropout, drop_path=drop_path),
        Figures(RELEASE, top1),
        (f"resnetrs{depth}",),
    )
    for depth, (resolution, dropout, drop_path, top1) in _RS.items()
}
