"""Airflow's own UI on a local AWS, one command: `python -m local_aws airflow`.

The DAGs are the deployed ones, unchanged; what differs from production (no GPU, few films) is set as visible defaults
of the form. Everything started here ends with this process; state is kept in .airflow/.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.session import open_session
from infra.settings import airflow_settings
from infra.stacks import deploy
from local_aws.airflow import state
from local_aws.airflow.api import Api
from local_aws.airflow.components import NotReady, components
from local_aws.airflow.home import migrate, ui_environment
from local_aws.airflow.monitor import DATASET, Monitor
from local_aws.deployment import local_config
from local_aws.server import HOST, ROOT, LocalAWS, PortTaken
from local_aws.synthetic import write_dataset
from local_aws.terminal import Terminal

HOME = ROOT / ".airflow"
FILMS = 1200
SIZE = (256, 205)  # of a drawn film, in pixels
LOOK_SECONDS = 3.0


def must_be_free(port: int) -> None:
    """Raise PortTaken where something listens on ``port`` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise PortTaken(f"port {port} on {HOST} is taken; stop what listens there, or pass PORT=8090") from None


def load_films(aws: LocalAWS, settings: Mapping[str, str], films: int) -> None:
    """Put a synthetic dataset into the datasets bucket, a fifth of it test films."""
    objects = aws.objects()
    with tempfile.TemporaryDirectory() as scratch:
        write_dataset(Path(scratch), train=films - films // 5, test=films // 5, size=SIZE)
        for path in sorted(Path(scratch).rglob("*.jpeg")):
            key = DATASET + path.relative_to(scratch).as_posix()
            objects.write(settings["datasets_bucket"], key, path.read_bytes())


def serve(port: int, home: Path, films: int, terminal: Terminal) -> None:
    """Run everything until interrupted. Raises PortTaken, NotReady, or what the deployment raised."""
    must_be_free(port)
    with LocalAWS(log_dir=home / "logs" / "aws") as aws:
        terminal.say(f"local AWS at {aws.endpoint}: deploying the stacks of infra/")
        config = local_config(aws.endpoint)
        settings = airflow_settings(deploy(open_session(config), config, say=lambda *_: None))
        if state.restore(aws, settings, home / "aws"):
            terminal.say(f"state of the last time restored from {home / 'aws'}")
        else:
            terminal.say(f"drawing {films} synthetic films")
            load_films(aws, settings, films)
        environment = ui_environment(home, aws.environment, settings, port)
        terminal.say(f"starting Airflow (state and logs in {home})")
        migrate(environment)
        api = Api(port)
        with components(environment, api, home / "logs" / "components") as airflow:
            terminal.say(f"Airflow is at {api.base} (no login); Ctrl-C stops everything", "bold green")
            exports = " ".join(f"{name}={value}" for name, value in aws.environment.items())
            terminal.say(f"for the aws command: {exports}")
            monitor = Monitor(aws, settings, api, terminal, home)
            try:
                if not monitor.serving:
                    terminal.say("no model serves yet: `retrain` trains the first one (a few minutes)")
                    airflow.wait(monitor.train_first)
                while True:
                    airflow.check()
                    monitor.look()
                    time.sleep(LOOK_SECONDS)
            finally:
                state.save(aws, settings, home / "aws")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_aws airflow", description="Airflow's UI on a local AWS.")
    parser.add_argument("--port", type=int, default=8080, help="port of the UI on 127.0.0.1 (default 8080)")
    parser.add_argument("--home", type=Path, default=HOME, help="where state and logs are kept (default .airflow)")
    parser.add_argument("--films", type=int, default=FILMS, help=f"synthetic films to draw (default {FILMS})")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; 1 where it cannot start."""
    arguments, terminal = parse(argv), Terminal()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        serve(arguments.port, arguments.home.resolve(), arguments.films, terminal)
    except KeyboardInterrupt:
        terminal.say("\nstopped; nothing is left running")
    except (PortTaken, NotReady, RuntimeError) as error:
        terminal.say(error, "bold red")
        return 1
    return 0
