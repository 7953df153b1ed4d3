"""Build the images, or run a command where the component tests live.

    python images/build.py engine|operator [--archive FILE] [--builder buildah|docker]
    python images/build.py component-rootfs
    python images/build.py run-component [--disk FOLDER] -- pytest tests/component

The first prints the image's reference, a name that changes with whatever goes into it; an
unchanged input is never built again. With --archive the image is also written to a file that
``ctr images import`` and ``docker load`` read. Results go to standard output, progress to standard
error. Needs root, mmdebstrap and buildah; with --builder docker, Docker alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from imagekit import base, buildah, component
from imagekit.cache import BuildError, cache_dir, say
from imagekit.process import run
from imagekit.recipes import RECIPES, Recipe


def build_with_buildah(recipe: Recipe) -> str:
    """Make the image in our own store, unless it is there."""
    reference, inputs = recipe.reference, recipe.inputs
    if buildah.has_image(reference, inputs):  # found without waiting for another build to end
        return reference
    with buildah.our_store():
        if buildah.has_image(reference, inputs):
            return reference
        begun = time.monotonic()
        base.ensure()
        say(f"{reference} …")
        with tempfile.TemporaryDirectory(dir=cache_dir("images")) as context:
            recipe.lay_out(Path(context))
            buildah.build(Path(context), reference, inputs)
        say(f"{reference}: {time.monotonic() - begun:.0f} s")
    return reference


def build_with_docker(recipe: Recipe) -> str:
    """Make the image in Docker's store, on Docker's debian:trixie-slim."""
    with tempfile.TemporaryDirectory() as context:
        recipe.lay_out(Path(context))
        run(["docker", "build", "--tag", recipe.reference, context])
    return recipe.reference


def write_archive(reference: str, archive: Path, builder: str) -> None:
    """Write the image to ``archive``; a name beside it tells which image it holds."""
    holds = archive.with_name(archive.name + ".reference")
    if archive.exists() and holds.exists() and holds.read_text() == reference:
        return
    say(f"{archive} …")
    holds.unlink(missing_ok=True)
    if builder == "docker":
        run(["docker", "save", "--output", archive, reference])
    else:
        with buildah.our_store():
            buildah.write_archive(reference, archive)
    holds.write_text(reference)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, as the module's docstring shows it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in RECIPES:
        image = commands.add_parser(name, help=f"build the {name} image, print its reference")
        image.add_argument("--archive", type=Path, help="also write it to this file")
        image.add_argument("--builder", choices=("buildah", "docker"), default="buildah")
    commands.add_parser("component-rootfs", help="make the file system for component tests")
    inside = commands.add_parser("run-component", help="run a command in that file system")
    inside.add_argument("--disk", type=Path, help="a folder of a real disk it may write into")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Do what the command line asks; a failure is one message, not a traceback."""
    options = parse(arguments)
    try:
        if options.command == "component-rootfs":
            print(component.ensure_root())
        elif options.command == "run-component":
            words = [word for word in options.words if word != "--"]
            return component.run_inside(words, options.disk)
        else:
            recipe = RECIPES[options.command]()
            with_builder = build_with_docker if options.builder == "docker" else build_with_buildah
            reference = with_builder(recipe)
            if options.archive:
                write_archive(reference, options.archive, options.builder)
            print(reference)
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
