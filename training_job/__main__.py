"""`python -m training_job [train]`: the container's entry point; SageMaker appends the word train.

Exit 0 means that the bundle is complete, or that the job was told to stop and saved its state; anything else leaves
output/failure. TensorFlow is loaded once hyperparameters and folders are known to be good.
"""

from __future__ import annotations

import os
import sys
import traceback

from cxr.hyperparameters import read_hyperparameters
from training_job.console import say
from training_job.container import Container, explain
from training_job.stop import Stop, Stopped


def main(arguments: list[str]) -> int:
    """Run one job; the exit code."""
    if arguments not in ([], ["train"]):
        print(f"unknown arguments {arguments}; usage: python -m training_job [train]", file=sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    container, stop = Container.here(), Stop().install()
    try:
        container.forget_failure()
        settings = read_hyperparameters(container.hyperparameters())
        say("hyperparameters: " + " ".join(f"{name}={value}" for name, value in settings.as_dict().items()))
        container.probe()
        from training_job.context import Context
        from training_job.job import run

        run(Context(container, settings, stop))
    except Stopped:
        say(f"stopped; the last whole epoch, if one was reached, is in {container.checkpoints}")
        return 0
    except Exception as error:
        traceback.print_exc()
        say(explain(error))
        container.fail(explain(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
