"""Published networks as specs. Parameters and multiply-adds equal the published integers (tests hold that)."""

from mnas.errors import UnknownNameError
from mnas.search_space.spec import NetworkSpec
from mnas.zoo import ghost, igcv3, mobile, regnet, resnet
from mnas.zoo.member import Member

MEMBERS: dict[str, Member] = mobile.MEMBERS | resnet.MEMBERS | regnet.MEMBERS | igcv3.MEMBERS | ghost.MEMBERS
ZOO: dict[str, NetworkSpec] = {name: member.spec for name, member in MEMBERS.items()}
_NAMES = {alias: name for name, member in MEMBERS.items() for alias in (name, *member.aliases)}


def member(name: str) -> Member:
    """The published network of that name or alias, with its accuracy.

    Raises:
        UnknownNameError: no such network; the nearest name is named.
    """
    if name not in _NAMES:
        raise UnknownNameError("network", name, _NAMES, hint="List them with: mnas zoo list")
    return MEMBERS[_NAMES[name]]


def published(name: str) -> NetworkSpec:
    """The published network of that name or alias, at its paper's resolution with 1000 classes.

    Raises:
        UnknownNameError: no such network; the nearest name is named.
    """
    return member(name).spec


def is_published(name: str) -> bool:
    """Whether a network of that name or alias is there."""
    return name in _NAMES
