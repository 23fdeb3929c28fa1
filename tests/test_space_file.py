"""A user's own space from a TOML file: what it makes, and what it says of a file that is wrong."""

import random
import shutil
from pathlib import Path

import pytest
from commands import MODELS, mnas, result_of

from mnas.errors import InputError
from mnas.registry import make, resolve
from mnas.search_space import NetworkSpec, StageSpec, Style, network_cost
from mnas.search_space.network import network_program
from mnas.search_space.space_file import SpaceFile, space_from_file

EXAMPLE = Path(__file__).parent.parent / "examples" / "my_space.toml"
SMALL = """\
name = "small"
stem_channels = 8
head_channels = 32

[[stages]]
op = ["mbconv", "conv"]
kernel = [3, 5]
stride = 2
out_channels = 16
expansion = [3, 6]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text)
    return path


def complaints(folder: Path, text: str) -> list[str]:
    """The lines of the message about a file."""
    with pytest.raises(InputError) as caught:
        SpaceFile.read(written(folder, text))
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("has problems:")
    return [line.strip() for line in lines]


def test_a_list_is_a_choice_and_a_value_is_not(tmp_path: Path) -> None:
    space = space_from_file(written(tmp_path, SMALL), resolution=32, num_classes=4)
    assert space.name == "small"
    assert {choice.name: choice.options for choice in space.choices} == {
        "stage1.op": ("mbconv", "conv"),
        "stage1.kernel": (3, 5),
        "stage1.expansion": (3, 6),
    }
    values = {"stage1.op": "mbconv", "stage1.kernel": 5, "stage1.expansion": 6}
    expected = NetworkSpec(8, (StageSpec("mbconv", 5, 2, 16, 1, 6),), 32, 32, 4)
    assert space.decode(space.from_values(values)) == expected


def test_a_field_of_other_operations_is_inactive(tmp_path: Path) -> None:
    """By hand: mbconv with two kernels and two expansions, conv with two kernels: six networks of eight points."""
    space = space_from_file(written(tmp_path, SMALL), resolution=32, num_classes=4)
    points = list(space.enumerate())
    assert (space.size, len(points), len({space.decode(point) for point in points})) == (8, 6, 6)
    conv = space.decode(space.from_values({"stage1.op": "conv", "stage1.kernel": 3, "stage1.expansion": 6}))
    assert conv.stages == (StageSpec("conv", 3, 2, 16),)


def test_points_that_are_one_network_have_one_key(tmp_path: Path) -> None:
    """By hand: after a stem of 8, one layer of stride 1 to 8 channels can skip and one to 16 cannot; two layers can."""
    space = space_from_file(
        written(
            tmp_path,
            """\
stem_channels = 8
head_channels = 32
[[stages]]
op = "conv"
kernel = 3
stride = 1
out_channels = [8, 16]
repeats = [1, 2]
skip = ["identity", "none"]
se_ratio = [0.25, 0.3]
""",
        )
    )
    # Of 2 x 2 x 2 points of channels, layers and skip only 16 channels in one layer has no skip to choose: 7. A ratio
    # of 0.3 is 2 channels inside after 8 as 0.25 is, and 4 after 16 as well, so that it never differs.
    networks = {network_program(space.decode(point)) for point in space.enumerate()}
    assert space.size == 16
    assert space.distinct == len(list(space.enumerate())) == len(networks) == 7


def test_stem_head_and_style_are_the_file_s(tmp_path: Path) -> None:
    text = SMALL.replace(
        "head_channels = 32", 'head = "pool"\nstem = "deep"\ndrop_path = 0.1\n[style]\nactivation = "relu"'
    )
    spec = space_from_file(written(tmp_path, text)).decode([0, 0, 0])
    assert (spec.head, spec.head_channels, spec.stem, spec.drop_path) == ("pool", 0, "deep", 0.1)
    assert (spec.style, spec.resolution, spec.num_classes) == (Style("relu"), 224, 1000)


def test_every_problem_is_told_at_once_with_its_line_and_field(tmp_path: Path) -> None:
    told = complaints(
        tmp_path,
        """\
nmae = "x"
stem_channels = 0
head = "none"
resolution = 96

[style]
activation = "gelu"

[[stages]]
op = "mbconv"
kernel = [3, 4]
stride = 3
out_channels = "24"
groups = []

# a comment
[[stages]]
op = [
  "xblock",
  "warp",
]
kernel = 3
out_channels = [10, 10]
repeats = true
""",
    )
    for number, words in enumerate(
        (
            "head_channels is missing",
            "line 1, nmae is unknown; did you mean 'name'?",
            "line 2, stem_channels must be a whole number of at least 1, got 0",
            "line 3, head must be one of ",
            "line 4, resolution is given on the command line",
            "line 7, style.activation must be one of ",
            "line 11, stages.1.kernel must be odd, got 4",
            "line 12, stages.1.stride must be one of 1, 2; got 3",
            "line 13, stages.1.out_channels has the wrong type str: '24'",
            "line 14, stages.1.groups has no options",
            "line 17, stages.2.stride is missing",
            "line 18, stages.2.op must be one of ",
            "line 23, stages.2.out_channels has an option twice: [10, 10]",
            "line 24, stages.2.repeats has the wrong type bool: True",
        )
    ):
        assert told[number].startswith(words)
    assert len(told) == 14


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('op = ["mbconv", "conv"]', 'op = ["conv", "sepconv"]', "expansion belongs to mbconv"),
        ("out_channels = 16", "out_channels = 10\ngroups = 4", "groups belong to"),
        (
            'op = ["mbconv", "conv"]',
            'op = ["xblock", "conv"]',
            "needs out_channels that are a multiple of 3, got 16",
        ),
        (
            "stem_channels = 8",
            'stem_channels = 9\nstem = "deep"',
            "line 2, stem_channels does not fit: stem 'deep'",
        ),
    ],
)
def test_values_that_do_not_go_together(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert any(words in line for line in complaints(tmp_path, SMALL.replace(old, new)))


def test_a_stage_of_too_many_points_is_refused(tmp_path: Path) -> None:
    many = SMALL.replace("out_channels = 16", f"out_channels = {list(range(8, 8 * 8000, 8))}")
    assert complaints(tmp_path, many)[0].startswith("line 5, stages.1 has 63,992 points; at most 20,000")


def test_a_space_without_a_choice_is_refused(tmp_path: Path) -> None:
    text = 'stem_channels = 8\nhead_channels = 8\n[[stages]]\nop = "conv"\nkernel = 3\nstride = 1\nout_channels = 8\n'
    assert complaints(tmp_path, text) == [
        "line 3, stages has no field with several options, so that there is nothing to search"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages = 3", "stages must be tables"),
        (
            "stages = [3]\nstem_channels = 8\nhead_channels = 8",
            r"stages must be tables \[\[stages\]\], got 3",
        ),
        ("style = 3\nstem_channels = 8", "style must be a table"),
        ("name = 3", "name must be a text, got 3"),
        ("stem_channels = \nhead_channels = 8", r"is not TOML: .*line 1"),
    ],
)
def test_files_of_another_shape(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SpaceFile.read(written(tmp_path, text))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"cannot read the space no\.toml"):
        resolve("space", "no.toml")()


def test_the_example_is_a_space_by_its_file_name() -> None:
    space = make("space", str(EXAMPLE), {"resolution": 32, "num_classes": 10}, "decode")
    assert space.name == "my-space"
    rng = random.Random(0)
    ops = {stage.op for _ in range(20) for stage in space.decode(space.sample(rng)).stages}
    assert ops == {"sepconv", "mbconv", "conv", "bottleneck", "basic"}


def test_a_run_keeps_its_space(tmp_path: Path) -> None:
    """A run goes on with the space that it began with, also where the file has changed or is gone."""
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    models = ("--accuracy", "models:Accuracy", "--latency", "models:Latency")
    search = ("search", "--space", EXAMPLE.name, *models, "--resolution", "32", "--target-latency", "1ms")
    result = result_of(mnas(tmp_path, *search, "--trials", "8", "--out", "run", "--json"))
    assert (result["status"], result["space"]) == ("done", EXAMPLE.name)
    (tmp_path / EXAMPLE.name).unlink()
    again = result_of(mnas(tmp_path, "best", "run", "--target-latency", "1ms", "--json"))
    spec = space_from_file(tmp_path / "run" / "space.toml", resolution=32)
    assert again["madds"] == network_cost(spec.decode(spec.from_key(again["architecture"]))).madds
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "baseline.json").unlink()
    resumed = result_of(mnas(tmp_path, "resume", "run", *models, "--json"))
    assert resumed["baseline"]["architecture"] == result["baseline"]["architecture"]
