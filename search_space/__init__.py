"""What can be searched: choices, spaces, networks as data, blocks as programs, and their exact costs."""

from mnas.search_space.block_strings import decode_stage, decode_stages, encode_stage, encode_stages
from mnas.search_space.blocks import BLOCKS
from mnas.search_space.cost import Cost, LayerCost, layer_costs, network_cost, operation_cost, segment_cost
from mnas.search_space.efficientnetv2 import efficientnetv2_space
from mnas.search_space.layer import Layer
from mnas.search_space.macro import macro_space, nas_bench_macro_key
from mnas.search_space.mbconv import mbconv_space
from mnas.search_space.mnasnet import mnasnet_space
from mnas.search_space.network import Segment, network_program, segment_program, segments, stage_segments
from mnas.search_space.program import Block, walk
from mnas.search_space.regnet import RegNetNumbers, regnet_network, regnet_space
from mnas.search_space.resnet import resnet_network, resnet_rs_network, resnet_rs_space
from mnas.search_space.rounding import round_filters
from mnas.search_space.scaling import Coefficients, compound_scale, released, scale
from mnas.search_space.space import Architecture, Choice, Factor, SearchSpace, extremes
from mnas.search_space.spec import NetworkSpec, StageSpec, Style
from mnas.search_space.timm_names import timm_names

__all__ = [
    "BLOCKS",
    "Architecture",
    "Block",
    "Choice",
    "Coefficients",
    "Cost",
    "Factor",
    "Layer",
    "LayerCost",
    "NetworkSpec",
    "RegNetNumbers",
    "SearchSpace",
    "Segment",
    "StageSpec",
    "Style",
    "compound_scale",
    "decode_stage",
    "decode_stages",
    "efficientnetv2_space",
    "encode_stage",
    "encode_stages",
    "extremes",
    "layer_costs",
    "macro_space",
    "mbconv_space",
    "mnasnet_space",
    "nas_bench_macro_key",
    "network_cost",
    "network_program",
    "operation_cost",
    "regnet_network",
    "regnet_space",
    "released",
    "resnet_network",
    "resnet_rs_network",
    "resnet_rs_space",
    "round_filters",
    "scale",
    "segment_cost",
    "segment_program",
    "segments",
    "stage_segments",
    "timm_names",
    "walk",
]
