"""The console command `bandit-simulator`. Every command of it needs the libraries of the extra `simulator`."""

from importlib.util import find_spec

from bandit.telling import run, tell

PROGRAM = "bandit-simulator"
NEEDED = "jinja2", "matplotlib", "plotext", "pyarrow", "rich", "scipy", "sklearn", "threadpoolctl"


def main() -> None:
    """The console command."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        tell(PROGRAM, f"without {', '.join(lacking)} it cannot run: pip install 'bandit-server[simulator]'")
        raise SystemExit(1)
    from simulator.cli.app import app

    run(app, PROGRAM)


if __name__ == "__main__":
    main()
