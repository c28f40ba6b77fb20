"""The files that sentence-transformers keeps beside a model, which say how vectors come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ...architectures.encoder_config import CLASSIFIES, FAMILIES
from ..checkpoint.json_files import read_object

# What it has called its settings of a model, in the order in which it looks for them.
SETTINGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
MODULES, ABOUT = "modules.json", "config_sentence_transformers.json"
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


class SentenceError(ValueError):
    """A file of sentence-transformers is damaged, or asks for what is not built; names the file."""


class Modality(msgspec.Struct, frozen=True):
    format: Literal["auto", "flat", "structured"] = "auto"  # of a message's content


class Settings(msgspec.Struct, frozen=True):
    max_seq_length: Size | None = None
    do_lower_case: bool = False
    modality_config: dict[str, Modality] = {}

    @property
    def message(self) -> Modality | None:
        """How texts are put into the model's chat template; None: they are taken as they are."""
        return self.modality_config.get("message")


class About(msgspec.Struct, frozen=True):
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
        """Whose results follow one another in the vector."""
        if isinstance(self.pooling_mode, str):
            return (self.pooling_mode,)
        flags = msgspec.structs.asdict(self)
        found = self.pooling_mode or [mode for flag, mode in FLAGS if flags[flag]]
        return tuple(found) or ("mean",)


class DenseFile(msgspec.Struct, frozen=True):
    in_features: Size
    out_features: Size
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: Literal["sentence_embedding"] = "sentence_embedding"
    module_output_name: Literal["sentence_embedding"] | None = None
    use_residual: Literal[False] = False


class LogitFile(msgspec.Struct, frozen=True):
    """A score is the logit of one token as the next, less that of another if there is one."""

    true_token_id: Token
    false_token_id: Token | None = None
    module_input_name: Literal["causal_logits"] = "causal_logits"


class Module(msgspec.Struct, frozen=True):
    """A line of modules.json."""

    path: str
    type: str

    @property
    def kind(self) -> str:
        """The class, wherever that version kept it."""
        return self.type.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class Modules:
    """The directory of the model proper, and what follows it, in order, with its directory.

    `listed`: there is a modules.json.
    """

    backbone: Path
    after: tuple[tuple[str, Path], ...]
    listed: bool = True


Read = TypeVar("Read", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Description:
    """What was read of a model's directory to know what it is for.

    `config` is what the config.json of the model proper holds, None if there is no such file.
    """

    directory: Path
    modules: Modules
    config: dict[str, Any] | None

    @property
    def purpose(self) -> Purpose:
        """A decoder embeds if sentence-transformers' files are with it."""
        config, modules = self.config or {}, self.modules
        kind = config.get("model_type")
        if classifies(config) or any(module == LOGIT_SCORE for module, _ in modules.after):
            return "rerank"
        encodes = isinstance(kind, str) and kind in FAMILIES
        return "embed" if encodes or modules.listed else "generate"

    def module(self, path: Path, kind: type[Read]) -> Read | None:
        """The config.json of a module; one beside the model has the model's."""
        if path == self.modules.backbone and self.config is not None:
            return convert(path / CONFIG, self.config, kind)
        return read(path / CONFIG, kind)


def read_modules(directory: Path) -> Modules:
    """Without a modules.json it is the model and the mean of its tokens."""
    path = directory / MODULES
    if not path.is_file():
        return Modules(directory, (("Pooling", directory),), listed=False)
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[Module])
    except (msgspec.DecodeError, OSError) as error:
        raise SentenceError(f"{path} makes no sense ({error})") from None
    if not modules or modules[0].kind != "Transformer":
        raise SentenceError(f"{path} does not begin with a Transformer")
    if any(not (directory / m.path).resolve().is_relative_to(directory.resolve()) for m in modules):
        raise SentenceError(f"{path} names a folder outside of its own")
    after = tuple((module.kind, directory / module.path) for module in modules[1:])
    return Modules(directory / modules[0].path, after)


def read_settings(backbone: Path) -> Settings:
    found = (read(backbone / name, Settings) for name in SETTINGS)
    return next((settings for settings in found if settings is not None), Settings())


def read_about(directory: Path) -> About:
    return read(directory / ABOUT, About) or About()


def read(path: Path, kind: type[Read]) -> Read | None:
    """None if there is no such file."""
    raw = read_object(path, SentenceError)
    return None if raw is None else convert(path, raw, kind)


def convert(path: Path, raw: Mapping[str, Any], kind: type[Read]) -> Read:
    """What was read of the file `path`."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise SentenceError(f"{path} makes no sense ({error})") from None


def describe(directory: Path) -> Description:
    modules = read_modules(directory)
    config = read_object(modules.backbone / CONFIG, SentenceError)
    return Description(directory, modules, config)


def classifies(config: Mapping[str, Any]) -> bool:
    """Whether a model's config.json says that it has a classifier."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(CLASSIFIES) for name in names)
