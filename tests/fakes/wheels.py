"""Wheels made on the spot: a module, and a program that calls its ``main``."""

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, program: str, module: str) -> Path:
    """Write the wheel ``name``-``version`` into ``folder``, which is made; ``module`` is its one module's text.

    Returns where it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = name.replace("-", "_")
    about = f"{own}-{version}.dist-info"
    files = {
        f"{own}.py": module,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{program} = {own}:main\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
    made = folder / f"{own}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as wheel:
        for file, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(file, text)
    return made
