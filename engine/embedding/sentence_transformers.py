"""The files of sentence-transformers beside a model, which say how vectors are made with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ...architectures.encoder_families import CLASSIFIES, FAMILIES
from ..checkpoint.json_files import is_gguf, read_object
from ..checkpoint.weight_files import CheckpointError

# The names of its Transformer module's settings, in the order in which it looks for them.
TRANSFORMERS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
MODULES, OPTIONS = "modules.json", "config_sentence_transformers.json"
CONFIG = "config.json"
Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
# The flags of earlier versions, in the order in which their results follow one another.
FLAGS: tuple[tuple[str, Mode], ...] = (
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
)
Purpose = Literal["embed", "rerank", "generate"]
Size = Annotated[int, msgspec.Meta(ge=1)]
Token = Annotated[int, msgspec.Meta(ge=0)]
LOGIT_SCORE = "LogitScore"  # the module that makes a reranker of a decoder


class DescriptionError(ValueError):
    """A file that describes a model is damaged, or asks for what is not built; names the file."""


class Modality(msgspec.Struct, frozen=True):
    format: Literal["auto", "flat", "structured"] = "auto"  # of a message's content


class TransformerFile(msgspec.Struct, frozen=True):
    max_seq_length: Size | None = None
    do_lower_case: bool = False
    modality_config: dict[str, Modality] = {}

    @property
    def message(self) -> Modality | None:
        """The way to put texts into the model's chat template; None: they are taken as they are."""
        return self.modality_config.get("message")


class ModelOptions(msgspec.Struct, frozen=True):
    """The options of a whole model, in config_sentence_transformers.json."""

    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None
    activation_fn: str | None = None  # of a reranker's scores


class PoolingFile(msgspec.Struct, frozen=True):
    pooling_mode: Mode | list[Mode] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes, whose results follow one another in the vector."""
        if isinstance(self.pooling_mode, str):
            return (self.pooling_mode,)
        flags = msgspec.structs.asdict(self)
        modes = self.pooling_mode or [mode for flag, mode in FLAGS if flags[flag]]
        return tuple(modes) or ("mean",)


class DenseFile(msgspec.Struct, frozen=True):
    in_features: Size
    out_features: Size
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: Literal["sentence_embedding"] = "sentence_embedding"
    module_output_name: Literal["sentence_embedding"] | None = None
    use_residual: Literal[False] = False


class LogitFile(msgspec.Struct, frozen=True):
    """The tokens of a score: the logit of one as the next, less that of another if any."""

    true_token_id: Token
    false_token_id: Token | None = None
    module_input_name: Literal["causal_logits"] = "causal_logits"


class Module(msgspec.Struct, frozen=True):
    """A line of modules.json."""

    path: str
    type: str

    @property
    def kind(self) -> str:
        """The class's name, wherever that version kept it."""
        return self.type.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Modules:
    """The model proper's directory, and the modules after it, in order, with their directories.

    `listed`: there is a modules.json.
    """

    backbone: Path
    after: tuple[tuple[str, Path], ...]
    listed: bool = True


File = TypeVar("File", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Description:
    """A model's directory, as far as it was read to know what the model is for.

    `config` holds the config.json of the model proper, None if there is no such file.
    """

    directory: Path
    modules: Modules
    config: dict[str, Any] | None

    @property
    def purpose(self) -> Purpose:
        """The model's purpose; a decoder embeds if sentence-transformers' files are with it."""
        config, modules = self.config or {}, self.modules
        kind = config.get("model_type")
        if classifies(config) or any(module == LOGIT_SCORE for module, _ in modules.after):
            return "rerank"
        encodes = isinstance(kind, str) and kind in FAMILIES
        return "embed" if encodes or modules.listed else "generate"

    def module(self, path: Path, kind: type[File]) -> File | None:
        """Read the config.json of a module; one beside the model has the model's."""
        if path == self.modules.backbone and self.config is not None:
            return convert(path / CONFIG, self.config, kind)
        return read(path / CONFIG, kind)


def read_modules(directory: Path) -> Modules:
    """Read modules.json; without it there are the model and the mean of its tokens."""
    if is_gguf(directory):
        return _gguf_modules(directory)
    path = directory / MODULES
    if not path.is_file():
        return Modules(directory, (("Pooling", directory),), listed=False)
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[Module])
    except (msgspec.DecodeError, OSError) as error:
        raise DescriptionError(f"{path} makes no sense ({error})") from None
    if not modules or modules[0].kind != "Transformer":
        raise DescriptionError(f"{path} does not begin with a Transformer")
    if any(not (directory / m.path).resolve().is_relative_to(directory.resolve()) for m in modules):
        raise DescriptionError(f"{path} names a folder outside of its own")
    after = tuple((module.kind, directory / module.path) for module in modules[1:])
    return Modules(directory / modules[0].path, after)


def _gguf_modules(path: Path) -> Modules:
    """Return the modules of a GGUF file, whose vectors are made as long as 1."""
    from ..gguf.files import gguf_pooling  # here, for few models are one

    try:
        pooling = gguf_pooling(path)
    except CheckpointError as error:
        raise DescriptionError(str(error)) from None
    return Modules(path, (("Pooling", path), ("Normalize", path)), listed=pooling is not None)


def read_transformer_file(backbone: Path) -> TransformerFile:
    files = (read(backbone / name, TransformerFile) for name in TRANSFORMERS)
    return next((file for file in files if file is not None), TransformerFile())


def read_options(directory: Path) -> ModelOptions:
    return read(directory / OPTIONS, ModelOptions) or ModelOptions()


def read(path: Path, kind: type[File]) -> File | None:
    """Read a file; None if there is no such file."""
    raw = read_object(path, DescriptionError)
    return None if raw is None else convert(path, raw, kind)


def convert(path: Path, raw: Mapping[str, Any], kind: type[File]) -> File:
    """Convert what was read of the file `path`; raises DescriptionError."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise DescriptionError(f"{path} makes no sense ({error})") from None


def describe(directory: Path) -> Description:
    modules = read_modules(directory)
    config = read_object(modules.backbone / CONFIG, DescriptionError)
    return Description(directory, modules, config)


def classifies(config: Mapping[str, Any]) -> bool:
    """Return whether a model's config.json says that it has a classifier."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(CLASSIFIES) for name in names)
