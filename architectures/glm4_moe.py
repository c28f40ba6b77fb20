"""GLM 4.5 and 4.6: DeepSeek V3's experts, rotary positions in half of each head."""

from .config import ModelConfig
from .deepseek_v2 import mixed
from .deepseek_v3 import corrected, further
from .fields import Fields
from .read import attention, decoder, rms


def configure(fields: Fields) -> ModelConfig:
    norm = "head" if fields.flag("use_qk_norm", False) else None
    mixer = attention(fields, bias=fields.flag("attention_bias", False), qk_norm=norm, share=0.5)
    experts = corrected(fields, counts=128, chosens=8, widths=1408)
    blocks = mixed(fields, mixer, experts, first=1)
    return decoder(fields, blocks, rms(fields, 1e-5), unused=further(fields))
