"""The others that we are compared with: where they are, how they are installed, how one is run. Each is optional."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "peers"
ROOT = Path(__file__).parent.parent
CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
HOME = Path(os.environ.get("IMAGE_PROCESSOR_CACHE") or CACHES / "image-processor") / "bench"


@dataclass(frozen=True)
class Peer:
    """`command`: what PICTURE RESULT COUNT STEPS are appended to; most know the default steps alone. `reads`: the suffixes it
    knows."""

    name: str
    command: list[str]
    install: Callable[[], None]
    environment: dict[str, str]
    reads: tuple[str, ...] = (".jpg", ".png", ".webp")

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.command[0]) is not None and (HOME / self.name / "installed").exists()


def _run(*command: str | Path, folder: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=folder)


def _environment_with(name: str, *packages: str) -> Callable[[], None]:
    def install() -> None:
        _run(sys.executable, "-m", "venv", HOME / name / "venv")
        _run(HOME / name / "venv/bin/pip", "install", "--quiet", *packages)

    return install


def _install_sharp() -> None:
    _run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", HOME / "sharp", "sharp@0.34")


def _install_go() -> None:
    source = HOME / "go-imaging" / "source"
    shutil.copytree(HERE / "go", source, dirs_exist_ok=True)
    _run("go", "mod", "tidy", folder=source)
    _run("go", "build", "-o", HOME / "go-imaging" / "peer", ".", folder=source)


def _install_floor() -> None:
    _run("cc", "-O2", HERE / "floor.c", "-o", HOME / "floor" / "peer", "-ljpeg")


def _nothing() -> None:
    pass


def _python(name: str) -> str:
    return str(HOME / name / "venv/bin/python")


# As the worker starts its children.
OURS = Peer("ours", [sys.executable, str(HERE / "ours.py")], _nothing, {"PYTHONPATH": str(ROOT)})
PEERS = [
    Peer("pillow", [_python("pillow"), str(HERE / "pillow_plain.py")], _environment_with("pillow", "pillow"), {}),
    Peer("libvips", [_python("libvips"), str(HERE / "vips.py")], _environment_with("libvips", "pyvips[binary]"), {}),
    Peer("opencv", [_python("opencv"), str(HERE / "opencv.py")], _environment_with("opencv", "opencv-python-headless"), {}),
    Peer("sharp", ["node", str(HERE / "sharp.mjs")], _install_sharp, {"SHARP_HOME": str(HOME / "sharp")}),
    Peer("go-imaging", [str(HOME / "go-imaging" / "peer")], _install_go, {}),
    Peer("floor", [str(HOME / "floor" / "peer")], _install_floor, {}, (".jpg",)),
]
REFERENCE = Peer(
    "reference", [_python("reference"), str(HERE / "reference.py")], _environment_with("reference", "numpy", "pillow"), {}
)
PLOT = Peer("plot", [_python("plot"), str(HERE / "plot.py")], _environment_with("plot", "matplotlib"), {})
# A whole system, which bench/systems.py runs.
CELERY = Peer(
    "celery",
    [_python("celery")],
    _environment_with("celery", "celery[redis]", "fastapi", "uvicorn[standard]", "python-multipart", "minio", "pillow"),
    {},
)


def install(peer: Peer) -> str | None:
    """→ why it could not be installed."""
    (HOME / peer.name).mkdir(parents=True, exist_ok=True)
    try:
        peer.install()
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    (HOME / peer.name / "installed").touch()
    return None


def run(peer: Peer, *arguments: str | Path | int) -> str:
    """→ its standard output."""
    ended = subprocess.run(
        [*peer.command, *map(str, arguments)], env=os.environ | peer.environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{peer.name} failed on {arguments[0]}:\n{ended.stderr[-2000:]}")
    return ended.stdout
