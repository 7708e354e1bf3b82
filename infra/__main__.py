"""`python -m infra`: deploy, operate and remove the pipeline. Every setting is checked before the first call to AWS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from cxr.pointer import Pointer
from infra import config as settings
from infra import dataset, destroy, erase, image_script, images, operate, plan, stacks
from infra.config import Config
from infra.errors import Fault, remedy
from infra.session import client, endpoint, is_local, open_session
from infra.settings import airflow_settings
from infra.terminal import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (0 done, 1 failed with a message, 2 wrong usage)."""
    options = _parser().parse_args(arguments)
    try:
        config = settings.load(
            options.config,
            project=options.project,
            region=options.region,
            profile=options.profile,
            endpoint_url=options.endpoint_url,
        )
        options.run(config, options)
    except Fault as fault:
        say(f"{options.command}: {fault}", sys.stderr)
        return 1
    except (ConnectionError, HTTPClientError) as error:
        where = endpoint(config) or "AWS"
        check = "start it with `python -m local_aws up`" if is_local(config) else "check the network and the region"
        say(f"{options.command}: {where} does not answer: {error}; {check}", sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        where = endpoint(config) or "AWS"
        say(f"{options.command}: {where} answers: {error}. {remedy(error)}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        say(f"{options.command}: interrupted; the command can be run again", sys.stderr)
        return 130
    return 0


def _plan(config: Config, options: argparse.Namespace) -> None:
    say(plan.text(config))


def _config(config: Config, options: argparse.Namespace) -> None:
    if options.output is None:
        say(settings.as_toml(config), end="")
    else:
        settings.write(config, options.output)
        say(f"{options.output} holds every setting with its default and bounds; keep what you change")


def _deploy(config: Config, options: argparse.Namespace) -> None:
    session = open_session(config)
    stacks.check_concurrency(session, config)
    outputs = stacks.deploy_base(session, config) if options.base else stacks.deploy(session, config)
    for name, value in sorted(outputs.items()):
        say(f"  {name:28} {value}")
    if deaf := operate.why_nobody_hears(operate.subscribers(session, config, outputs["AlarmTopicArn"])):
        say(f"WARNING: {deaf}", sys.stderr)


def _images(config: Config, options: argparse.Namespace) -> None:
    if options.dry_run:
        say(image_script.text(config, refresh=options.refresh))
        return
    docker = images.Docker()
    session = open_session(config)
    # An unknown region is refused before the first call.
    bases = images.Bases(images.bases(session.region_name), refresh=options.refresh)
    base = stacks.base_outputs(session, config)
    repositories = {image.kind: base[f"{image.kind}RepositoryUri"] for image in images.IMAGES}
    pushed = images.build_and_push(session, config, repositories, bases, docker)
    for kind, uri in pushed.items():
        say(f"{kind.lower():10} {uri}")
    say(f"The base images' digests are recorded in {images.LOCK}. Next: python -m infra deploy")


def _settings(config: Config, options: argparse.Namespace) -> None:
    say(json.dumps(airflow_settings(stacks.outputs(open_session(config), config)), indent=2))


def _upload_dataset(config: Config, options: argparse.Namespace) -> None:
    prefix = dataset.prefix(options.name)
    with dataset.open_dataset(options.source) as found:
        chosen = found if options.limit is None else found.limited(options.limit)
        session = open_session(config)
        bucket = options.bucket or stacks.base_outputs(session, config)["DatasetsBucket"]
        target = dataset.Target(client(session, config, "s3"), bucket, options.name, options.replace)
        counts = dataset.upload(chosen, target, _progress("films"))
    say(
        f"s3://{bucket}/{prefix}: "
        + ", ".join(
            f"{split} {labels['NORMAL']} normal and {labels['PNEUMONIA']} pneumonia" for split, labels in counts.items()
        )
    )
    if found.ignored:
        say(f"left out: {found.ignored} films of val/ (held-out films are cut from train/, by patient)")


def _promote(config: Config, options: argparse.Namespace) -> None:
    operate.check_package(options.package)
    session = open_session(config)
    moved = operate.promote(session, config, stacks.base_outputs(session, config), options.package, options.reason)
    _say_moved(moved)


def _rollback(config: Config, options: argparse.Namespace) -> None:
    session = open_session(config)
    _say_moved(operate.roll_back(session, config, stacks.base_outputs(session, config), options.reason))


def _say_moved(moved: Pointer) -> None:
    say(
        f"Version {moved.current.version} answers as serial {moved.current.serial}"
        + (f"; before it version {moved.previous.version}" if moved.previous else "")
        + ". Running functions follow within 60 seconds"
    )


def _status(config: Config, options: argparse.Namespace) -> None:
    report = operate.status(open_session(config), config)
    say(operate.as_json(report) if options.json else operate.as_text(report))


def _redrive(config: Config, options: argparse.Namespace) -> None:
    session = open_session(config)
    moved = operate.redrive(session, config, stacks.base_outputs(session, config), options.queue, _progress("messages"))
    say(f"{moved} dead letters are back in the {options.queue} queue" if moved else "There is no dead letter")


def _erase_patient(config: Config, options: argparse.Namespace) -> None:
    keys = erase.read_keys(options.keys_from)
    session = open_session(config)
    outputs = stacks.base_outputs(session, config)
    if not options.dry_run:
        what = f"This erases the films of {len(keys)} uploads for ever from every bucket of project {config.project}"
        _confirm(what, config.project, options.yes)
    s3, sqs = (client(session, config, service) for service in ("s3", "sqs"))
    erase.Eraser(s3, sqs, outputs, say).erase(keys, options.dry_run)


def _destroy(config: Config, options: argparse.Namespace) -> None:
    session = open_session(config)
    account = client(session, config, "sts").get_caller_identity()["Account"]
    where = f"project {config.project} in account {account}, {session.region_name}"
    if options.delete_data:
        _confirm(f"This deletes ALL films, results, models and data sets of {where}", config.project, options.yes)
        destroy.everything(session, config)
    else:
        _confirm(f"This stops classification in {where}; all data and the base stack stay", config.project, options.yes)
        destroy.service(session, config)


def _confirm(what: str, word: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Fault(f"{what}. Nobody can be asked here; pass --yes if that is meant")
    if input(f"{what}. Type {word} to go on: ").strip() != word:
        raise Fault("Nothing was deleted")


def _progress(what: str) -> Callable[[int, int], None]:
    """A line on stderr that counts on a terminal, and one for every tenth elsewhere."""
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if terminal:
            print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or done % max(1, total // 10) == 0:
            say(f"{done}/{total} {what}", sys.stderr)

    return show


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings (default: infra.toml, if there is one)")
    common.add_argument("--project", help="prefix of every name")
    common.add_argument("--region", help="AWS region")
    common.add_argument("--profile", help="profile of ~/.aws/config")
    common.add_argument("--endpoint-url", metavar="URL", help="another endpoint, such as the local AWS")
    parser = argparse.ArgumentParser(prog="python -m infra", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Config, argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=text, description=text)
        added.set_defaults(run=run)
        return added

    written = command("config", _config, "print all settings as a commented infra.toml")
    written.add_argument("--output", type=Path, metavar="FILE", help="write them to a new file; never overwrites one")
    command("plan", _plan, "say what would be created; makes no call")
    deploy = command("deploy", _deploy, "create or update both stacks")
    deploy.add_argument("--base", action="store_true", help="the base stack only (before the first image exists)")
    command("settings", _settings, "print the Airflow Variable `cxr`")
    upload = command("upload-dataset", _upload_dataset, "put a data set into S3 in Kaggle's layout")
    upload.add_argument("source", help="folder or zip file that holds train/ and test/, or `kaggle`")
    upload.add_argument("--name", default="chest_xray", help="goes to datasets/<name>/ (default: chest_xray)")
    upload.add_argument("--limit", type=int, metavar="N", help="at most N train films and N/4 test films, stratified")
    upload.add_argument("--bucket", help="another bucket than the stack's")
    upload.add_argument("--replace", action="store_true", help="remove other films below the name first")
    build = command("images", _images, "build and push both containers (needs Docker)")
    build.add_argument("--dry-run", action="store_true", help="print a shell script that does it; makes no call")
    build.add_argument(
        "--refresh", action="store_true", help=f"resolve the base images anew instead of using {images.LOCK.name}"
    )
    promote = command("promote", _promote, "make an approved model package the one that answers")
    promote.add_argument("package", help="version of the model package, such as 7, or its ARN")
    promote.add_argument("--reason", required=True, help="kept in the pointer's history")
    rollback = command("rollback", _rollback, "make the model that answered before answer again")
    rollback.add_argument("--reason", required=True, help="kept in the pointer's history")
    state = command("status", _status, "what stands, what answers, what waits, what is alarmed")
    state.add_argument("--json", action="store_true", help="for programs")
    redrive = command("redrive", _redrive, "send dead letters back to their queue")
    redrive.add_argument("queue", choices=operate.QUEUES)
    erasure = command("erase-patient", _erase_patient, "erase all films of a patient from everywhere, and prove it")
    erasure.add_argument("--keys-from", type=Path, required=True, metavar="FILE", help="upload keys, one a line")
    erasure.add_argument("--dry-run", action="store_true", help="say what would be erased; deletes nothing")
    erasure.add_argument("--yes", action="store_true", help="do not ask")
    removal = command("destroy", _destroy, "delete the service stack; asks first, keeps all data")
    removal.add_argument("--delete-data", action="store_true", help="delete the base stack and all data, too")
    removal.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    sys.exit(main())
