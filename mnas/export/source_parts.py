"""Pieces of Python that a written source is put together from; each only where the network needs it."""

from mnas.export.layout import WIDTH

_DROP_PATH = '''\
class DropPath(nn.Module):
    """Stochastic depth: in training, sets the features of an image to zero with the probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape; images that are kept are scaled up, so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return x
        kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * kept.div_(1.0 - self.rate)
'''

_GATE = '''\
class Gate(nn.Sequential):
    """Multiplies the input by the result of the layers, one factor for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        return x * super().forward(x)
'''

_CONCAT = '''\
class Concat(nn.Sequential):
    """The channels of the result of the layers stand behind those of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c + channels of the result, h, w)."""
        return torch.cat((x, super().forward(x)), dim=1)
'''

_FIRST_CHANNELS = '''\
class FirstChannels(nn.Module):
    """The first `out` of the channels, zero channels appended where there are fewer."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.channels = channels
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, out, h, w)."""
        if self.channels >= self.out:
            return x[:, : self.out]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.out - self.channels))
'''

_CLASSES = {"Gate": _GATE, "Concat": _CONCAT, "FirstChannels": _FIRST_CHANNELS}


def classes(called: set[str], *, drop_path: bool, after: bool) -> list[str]:
    """The classes among the names that are called.

    Args:
        called: names.
        drop_path: whether drop path stands before any skip.
        after: whether an activation stands after any sum.
    """
    names = called | ({"DropPath"} if drop_path else set())
    residuals = [name for name in ("Residual", "ShortcutResidual") if name in names]
    return [
        *([_DROP_PATH] if "DropPath" in names else []),
        *(_residual(name == "ShortcutResidual", drop_path=drop_path, after=after) for name in residuals),
        *(text for name, text in _CLASSES.items() if name in names),
    ]


def _residual(shortcut: bool, *, drop_path: bool, after: bool) -> str:
    """The class that adds, with what the network needs of it."""
    name, what = (
        ("ShortcutResidual", "what `shortcut` makes of the input") if shortcut else ("Residual", "the input")
    )
    given = [
        "self",
        "layers: OrderedDict[str, nn.Module]",
        *(["shortcut: nn.Module"] if shortcut else []),
        *(["drop_path: float = 0.0"] if drop_path else []),
        *(["after: nn.Module | None = None"] if after else []),
    ]
    last = [*(["shortcut"] if shortcut else []), *(["after"] if after else [])]
    total = f"{'shortcut(x)' if shortcut else 'x'} + result"
    result = ["return x + super().forward(x)"]
    if last:
        result = [f"*layers, {', '.join(last)} = self", "result = x", "for layer in layers:"]
        result += ["    result = layer(result)", f"return after({total})" if after else f"return {total}"]
    return "\n".join(
        [
            f"class {name}(nn.Sequential):",
            f'    """Adds {what} to the result of the layers{"; `after` takes the sum" if after else ""}."""',
            "",
            *_signature(given),
            "        super().__init__(layers)",
            *(
                ["        if drop_path:", "            self.drop_path = DropPath(drop_path)"]
                if drop_path
                else []
            ),
            *(["        self.shortcut = shortcut"] if shortcut else []),
            *(["        self.after = nn.Identity() if after is None else after"] if after else []),
            "",
            "    def forward(self, x: Tensor) -> Tensor:",
            f'        """(n, c, h, w) -> the {"shape that both results have" if shortcut else "same shape"}."""',
            *(f"        {line}" for line in result),
        ]
    )


def _signature(given: list[str]) -> list[str]:
    """The head of `__init__` as ruff breaks it: on one line, its parameters on one, or one on each."""
    inside = ", ".join(given)
    if len(one := f"    def __init__({inside}) -> None:") <= WIDTH:
        return [one]
    broken = [f"        {inside}"]
    if len(broken[0]) > WIDTH:
        broken = [f"        {parameter}," for parameter in given]
    return ["    def __init__(", *broken, "    ) -> None:"]


LOAD_FUNCTIONS = '''\
def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name: a header in JSON, then plain numbers; nothing in it can run.

    Raises:
        ValueError: the file is not whole, or holds types that the network has not.
    """
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if not 8 < start <= len(data):
        raise ValueError(f"{path} is not a whole safetensors file")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} has type {entry['dtype']}, expected one of {', '.join(DTYPES)}")
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        first, last = entry["data_offsets"]
        count = math.prod(shape)
        if not 0 <= first <= last <= len(data) - start or last - first != count * dtype.itemsize:
            raise ValueError(f"{path}: {name} lies outside the file, or has another size than its shape")
        tensors[name] = torch.frombuffer(data, dtype=dtype, count=count, offset=start + first).reshape(shape)
    return tensors


def load(path: str | Path = WEIGHTS) -> nn.Module:
    """The network in evaluation mode with the weights of a safetensors file, whose names and shapes have to fit."""
    model = network()
    model.load_state_dict(read_safetensors(path))
    return model.eval()
'''
