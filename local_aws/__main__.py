"""`python -m local_aws up | demo | airflow`: the local AWS alone, the whole demonstration, or Airflow on top of it."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_aws.server import LocalAWS

ELSEWHERE = {"demo": "local_aws.demo.command", "airflow": "local_aws.airflow.command"}


def main(argv: list[str] | None = None) -> int:
    """Exit status of the command line `argv` (default: the process's)."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in ELSEWHERE:
        return int(importlib.import_module(ELSEWHERE[arguments[0]]).main(arguments[1:]) or 0)
    options = _parser().parse_args(arguments)
    return up(options.port, options.log_dir, options.deploy)


def up(port: int, log_dir: Path | None, deploy: bool) -> int:
    """Keep a local AWS running until Ctrl-C or SIGTERM."""
    from local_aws.server import LocalAWS, PortTaken

    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        with LocalAWS(port=port, log_dir=log_dir) as aws:
            print(f"local AWS at {aws.endpoint} (logs in {aws.log_dir}); Ctrl-C ends it and forgets everything\n")
            for name, value in aws.environment.items():
                print(f"export {name}={value}")
            if deploy:
                print(_deploy(aws))
            sys.stdout.flush()
            ended.wait()
    except PortTaken as error:
        print(error, file=sys.stderr)
        return 1
    print("\nstopped")
    return 0


def _deploy(aws: LocalAWS) -> str:
    """Deploy the project's own stacks with the demo's settings; their outputs as text, and as Airflow wants them."""
    from infra.session import open_session
    from infra.settings import airflow_settings
    from infra.stacks import deploy
    from local_aws.deployment import local_config

    print()
    config = local_config(aws.endpoint)
    outputs = deploy(open_session(config), config)
    lines = [f"{name} = {value}" for name, value in sorted(outputs.items())]
    return "\n".join([*lines, "", f"export AIRFLOW_VAR_CXR='{json.dumps(airflow_settings(outputs))}'"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="keep the local AWS running and print how to reach it")
    start.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    start.add_argument("--log-dir", type=Path, help="keep the output of functions and training jobs here")
    start.add_argument("--deploy", action="store_true", help="deploy the project's stacks as well")
    for name, what in (("demo", "the whole pipeline on films"), ("airflow", "Airflow's UI on the local AWS")):
        commands.add_parser(name, help=f"{what}; see `python -m local_aws {name} --help`", add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
