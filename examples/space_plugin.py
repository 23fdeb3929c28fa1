"""A search space of your own, here small mobile networks for images of 32 to 96 pixels.

    cd examples
    mnas search --space space_plugin:small_mobile --data digits --target-madds 1M --trials 12 --out digits

The factory may ask for `resolution` and `num_classes`; digits are searched at 32 pixels (`--resolution 96` for more).
After a minute or two, on two cores, this prints (excerpt):

    baseline 0-0-0-0-0-1-1-1-1-1-1-0-0: 45,610 parameters, 326,624 MAdds
      latency  0.03 ms (0.03 to 0.03; plain wall clock 0.03), measured on this device
      accuracy 98.05%: trained 6 epochs on digits (1,078 images), scored on 359 validation images
      accuracy 97.22% on the test split, which the search never saw
      weights  trained 6 epochs on digits (1,078 images), scored on 359 validation images
      ir_r1_k3_s2_e3_c8
      ir_r1_k5_s2_e6_c16
      ir_r2_k5_s2_e6_c32
      ir_r1_k3_s2_e3_c48

Give the flag `--space` again to resume such a run. Without images, a space of your own needs an accuracy model of your
own: `--accuracy my_module:MyModel`.
"""

from collections.abc import Mapping
from typing import Any

from mnas.search_space import Choice, NetworkSpec, SearchSpace, StageSpec, Style, round_filters

# Channels and layers of each stage; the first layer of each halves the image. Chosen here.
STAGES = {"early": (16, (1, 2)), "middle": (32, (1, 2, 3)), "late": (64, (1, 2, 3)), "extra": (96, (0, 1, 2))}
WIDTHS, KERNELS, EXPANSIONS = (0.5, 0.75, 1.0), (3, 5), (3, 6)


def small_mobile(*, resolution: int = 96, num_classes: int = 10) -> SearchSpace:
    """Depth, kernel and expansion of each stage and one width for all; mnas says how large images are."""
    choices = [Choice("width", WIDTHS)]
    for name, (_, depths) in STAGES.items():
        # A stage of no layers has no kernel either: networks that differ in nothing else are one network.
        there = {f"{name}.layers": tuple(n for n in depths if n)} if 0 in depths else {}
        choices.append(Choice(f"{name}.layers", depths))
        choices.append(Choice(f"{name}.kernel", KERNELS, active_if=there))
        choices.append(Choice(f"{name}.expansion", EXPANSIONS, active_if=there))

    def build(values: Mapping[str, Any]) -> NetworkSpec:
        """The network with these values."""
        width = values["width"]
        stages = tuple(
            StageSpec(
                "mbconv",
                kernel=values[f"{name}.kernel"],
                stride=2,
                out_channels=round_filters(width * channels),
                repeats=values[f"{name}.layers"],
                expansion=values[f"{name}.expansion"],
            )
            for name, (channels, _) in STAGES.items()
            if values[f"{name}.layers"]
        )
        stem, head = round_filters(width * 16), round_filters(width * 256)
        return NetworkSpec(stem, stages, head, resolution, num_classes, style=Style(activation="relu6"))

    return SearchSpace("small-mobile", tuple(choices), build)
