"""What every page of ours is made with: a template of the package, plotly.js inside, nothing loaded from anywhere."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from mnas.report.figure import Figure


def template(package: str, name: str) -> Template:
    """A template file of a package; what it is given is escaped, what it lacks is an error."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(own(package, name))


def own(package: str, name: str) -> str:
    """The text of a file of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """plotly.js, safe between script tags."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def policy(*scripts: str) -> str:
    """A content security policy: the given scripts run and no other; nothing is loaded from anywhere."""
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        f"base-uri 'none'; form-action 'none'"
    )


def figure_json(figure: Figure) -> Markup:
    """JSON that no script tag and no comment can be closed or opened by."""
    text = json.dumps(figure, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  escaped above
