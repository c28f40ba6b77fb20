"""JSON files of a checkpoint directory, read with errors that name them."""

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, error: type[ValueError]) -> dict[str, Any] | None:
    """Read the JSON object in a file, None if there is no such file; raises `error` for a flaw.

    Python's own parser takes the NaN and Infinity that some config.json hold.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as flaw:
        raise error(f"{path} cannot be read ({flaw}); fetch it again") from None
    if not isinstance(value, dict):
        raise error(f"{path} does not hold a JSON object; fetch it again")
    return value
