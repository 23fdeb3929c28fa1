"""What other packages bring: `plugins`."""

from dataclasses import asdict

import typer

from mnas.cli.common import Debug, Json, app, print_result


@app.command()
def plugins(as_json: Json = False, debug: Debug = False) -> None:
    """Lists what installed packages plug in, by kind, and what of it fails to load."""
    from mnas.registry import GROUPS, installed_plugins
    from mnas.summary import table

    found = installed_plugins()
    groups = ", ".join(GROUPS.values())
    text = f"no installed package has an entry point in {groups}; docs/plugins.md says how to write one."
    if found:
        rows = [[p.name, p.kind, p.target, p.package, "ok" if p.error is None else "ERROR"] for p in found]
        errors = [f"{plugin.name}: {plugin.error}" for plugin in found if plugin.error is not None]
        text = "\n".join([table(["plug-in", "kind", "factory", "package", ""], rows), *errors])
    print_result({"plugins": [asdict(plugin) for plugin in found]}, text, as_json)
    if any(plugin.error is not None for plugin in found):
        raise typer.Exit(1)
