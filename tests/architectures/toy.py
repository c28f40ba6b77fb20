"""A family as one module: Llama's mathematics under other names, half of its layers joint."""

from bessemer.architectures.config import ModelConfig
from bessemer.architectures.fields import Fields
from bessemer.architectures.read import alike, attention, decoder, mlp, rms
from bessemer.architectures.storage import MlxLm

RENAMES = ((r"^transformer\.", "model."), (r"\.mlp\.in_proj\.", ".mlp.gate_up_proj."))
MLX_LM = MlxLm(
    "llama",
    rules=((r"(.+\.mlp)\.gate_up_proj\.weight", "gate_up"),),
    dense="lm_head",
    small=r".+\.o_proj",
)


def configure(fields: Fields) -> ModelConfig:
    blocks = alike(fields, attention(fields), mlp(fields))
    return decoder(fields, blocks, rms(fields), renames=RENAMES, mlx_lm=MLX_LM)
