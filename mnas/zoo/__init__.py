"""Published networks as specs. Parameters and multiply-adds equal the published integers (tests hold that)."""

from mnas.errors import UnknownNameError
from mnas.search_space.spec import NetworkSpec
from mnas.zoo import efficientnet, efficientnetv2, ghost, igcv3, mnasnet, mobilenet, regnet, resnet
from mnas.zoo.member import Member

MEMBERS: dict[str, Member] = {
    name: member
    for family in (efficientnet, efficientnetv2, mnasnet, mobilenet, ghost, igcv3, resnet, regnet)
    for name, member in family.MEMBERS.items()
}
ZOO: dict[str, NetworkSpec] = {name: member.spec for name, member in MEMBERS.items()}
NAMES = {alias: name for name, member in MEMBERS.items() for alias in (name, *member.aliases)}


def own_name(name: str) -> str:
    """The name that a published network has here, by it or an alias.

    Raises:
        UnknownNameError: no such network; the nearest name is named.
    """
    if name not in NAMES:
        raise UnknownNameError("network", name, NAMES, hint="List them with: mnas zoo list")
    return NAMES[name]


def member(name: str) -> Member:
    """The published network of that name or alias, with its accuracy; raises as `own_name`."""
    return MEMBERS[own_name(name)]


def published(name: str) -> NetworkSpec:
    """The published network of that name or alias, at its paper's resolution with 1000 classes.

    Raises:
        UnknownNameError: as `own_name`.
    """
    return member(name).spec


def is_published(name: str) -> bool:
    """Whether a network of that name or alias is there."""
    return name in NAMES
