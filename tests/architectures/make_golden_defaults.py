"""Writes transformers_defaults.json, run by hand with transformers 5.24 (Apache 2.0).

It holds what transformers' config classes say by themselves of every family that they know; all
that every class has is left out, and so are vision and sound.
"""

# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bessemer.architectures.registry import supported

SENSES = ("vision_config", "audio_config")


def defaults(model_type: str) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    shared = json.loads(PreTrainedConfig().to_json_string(use_diff=False))
    own = json.loads(CONFIG_MAPPING[model_type]().to_json_string(use_diff=False))
    left_out = {*shared, *SENSES} - {"model_type"}
    return {name: value for name, value in own.items() if name not in left_out}


def main() -> None:
    from transformers import CONFIG_MAPPING

    file = Path(__file__).parent / "transformers_defaults.json"
    known = (name for name in supported() if name in CONFIG_MAPPING)
    lines = (f" {json.dumps(name)}: {json.dumps(defaults(name))}" for name in known)
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
