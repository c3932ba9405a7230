"""What this tree promises against what a release promised."""

import json

import typer

from cli.release.compare import compare_apis, compare_events, compare_surfaces
from cli.release.documents import asyncapi, openapi
from cli.release.releases import Release, accepted, is_accepted, latest, releases
from cli.release.surface import surface


def surface_differences(release: Release) -> list[str]:
    """Of the saga: what orders in flight and the services rely on."""
    return compare_surfaces(release.document("surface"), surface().document())


def event_differences(release: Release) -> list[str]:
    """What consumers rely on."""
    return compare_events(release.document("asyncapi"), asyncapi())


def api_differences(release: Release) -> list[str]:
    """What clients rely on."""
    return compare_apis(release.document("openapi"), openapi())


def all_differences(release: Release) -> list[str]:
    """Of all three."""
    return [*surface_differences(release), *event_differences(release), *api_differences(release)]


def show_differences(version: str | None, *, as_json: bool) -> int:
    """Print what this tree does not keep of a release's promises; the exit code is 1, if that is anything nobody accepted."""
    kept = {release.version: release for release in releases()}
    release = kept.get(version) if version else latest()
    if release is None:
        typer.echo(f"{version} is not recorded. There are: {', '.join(kept) or 'none yet'}.", err=True)
        return 2
    reasons, found = accepted(), all_differences(release)
    broken = [difference for difference in found if not is_accepted(difference, reasons)]
    if as_json:
        typer.echo(json.dumps({"release": release.version, "broken": broken, "accepted": sorted({*found} - {*broken})}, indent=2))
        return 1 if broken else 0
    for difference in found:
        typer.echo(difference if difference in broken else f"accepted: {difference}")
    typer.echo(f"Of release {release.version}, {len(broken)} would break and {len(found) - len(broken)} are accepted.")
    return 1 if broken else 0
