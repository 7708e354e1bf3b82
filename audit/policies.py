"""The policies of the base stack as IAM would get them, one JSON file each, for parliament: policies.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from infra.config import Config
from infra.plan import rendered
from infra.template import Place


def main(folder: Path) -> None:
    """Writes the rendered policies of all roles with the default configuration."""
    place = Place(account="123456789012", region="eu-central-1")
    base, _ = rendered(Config(region=place.region), place)
    folder.mkdir(parents=True, exist_ok=True)
    for name, resource in base.resources.items():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                text = json.dumps(policy["PolicyDocument"], indent=1).replace("<", "").replace(">", "")
                (folder / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
