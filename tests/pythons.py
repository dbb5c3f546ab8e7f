"""Build the wheel and run the fast tests under every Python 3.10 to 3.13 that starts: `make test-pythons`.

Each interpreter gets a virtual environment of its own under build/; PIP_ARGS is passed to every pip install.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def interpreters() -> dict[str, str]:
    """Version -> path of the first interpreter of that version that starts and says so."""
    found = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))]
        for candidate in filter(None, candidates):
            try:
                answer = subprocess.run(
                    [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, timeout=20
                )
            except OSError:
                continue
            if answer.returncode == 0 and answer.stdout.strip() == version:
                found[version] = candidate
                break
    return found


def main() -> int:
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    work = ROOT / "build" / "pythons"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(work), str(ROOT)], check=True)
    (wheel,) = work.glob("neuro_snn-*.whl")
    failed = []
    for version, python in interpreters().items():
        print(f"== Python {version}: {python}", flush=True)
        env = work / version
        subprocess.run([python, "-m", "venv", str(env)], check=True)
        install = [str(env / "bin/python"), "-m", "pip", "install", "--quiet", *extra, "-c", str(ROOT / "constraints.txt")]
        ok = subprocess.run([*install, f"{wheel}[test]"]).returncode == 0
        shared = [f"--numprocesses={min(8, os.cpu_count() or 1)}", "--dist=worksteal"]
        ok = ok and subprocess.run([str(env / "bin/pytest"), "-q", *shared, "-m", "not slow", str(ROOT / "tests")], cwd=ROOT).returncode == 0
        if not ok:
            failed.append(version)
    print("passed under:", ", ".join(v for v in interpreters() if v not in failed) or "none", "| failed under:", ", ".join(failed) or "none")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
