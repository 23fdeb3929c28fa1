"""Pieces of Python that a written source is put together from; each only where the network needs it."""

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

_RESIDUAL = '''\
class Residual(nn.Sequential):
    """Adds the input to the result of the layers."""

{init}

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        return x + super().forward(x)
'''

_SHORTCUT_RESIDUAL = '''\
class ShortcutResidual(nn.Sequential):
    """Adds what `shortcut` makes of the input to the result of the layers."""

{init}
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the shape that both results have."""
        *layers, shortcut = self
        result = x
        for layer in layers:
            result = layer(result)
        return shortcut(x) + result
'''
_GATE = '''\
class Gate(nn.Sequential):
    """Multiplies the input by the result of the layers, one factor for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        return x * super().forward(x)
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

# How residual classes begin: with drop path, and without.
_INIT = {
    ("Residual", False): """\
    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)""",
    ("Residual", True): """\
    def __init__(self, layers: OrderedDict[str, nn.Module], drop_path: float = 0.0) -> None:
        super().__init__(layers)
        if drop_path:
            self.drop_path = DropPath(drop_path)""",
    ("ShortcutResidual", False): """\
    def __init__(self, layers: OrderedDict[str, nn.Module], shortcut: nn.Module) -> None:
        super().__init__(layers)""",
    ("ShortcutResidual", True): """\
    def __init__(
        self, layers: OrderedDict[str, nn.Module], shortcut: nn.Module, drop_path: float = 0.0
    ) -> None:
        super().__init__(layers)
        if drop_path:
            self.drop_path = DropPath(drop_path)""",
}
_CLASSES = {
    "DropPath": _DROP_PATH,
    "Residual": _RESIDUAL,
    "ShortcutResidual": _SHORTCUT_RESIDUAL,
    "Gate": _GATE,
    "FirstChannels": _FIRST_CHANNELS,
}


def classes(called: set[str], *, drop_path: bool) -> list[str]:
    """The classes among the names that are called, with drop path before the skips or without."""
    names = called | ({"DropPath"} if drop_path else set())
    return [
        text.replace("{init}", _INIT.get((name, drop_path), ""))
        for name, text in _CLASSES.items()
        if name in names
    ]


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
