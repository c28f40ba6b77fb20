"""Writes golden/route.npz with the choices of transformers' own routers (transformers 5.23)."""

# pyright: reportMissingImports=false

from pathlib import Path

import numpy as np
import torch
from transformers import DeepseekV3Config, GptOssConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
from transformers.models.phimoe.modeling_phimoe import sparsemixer

TOKENS, HIDDEN, EXPERTS = 40, 24, 16


def normal(state: np.random.RandomState, *shape: int) -> torch.Tensor:
    return torch.tensor(state.standard_normal(shape).astype(np.float32))


def deepseek(state: np.random.RandomState) -> dict[str, torch.Tensor]:
    """Corrections are so low that what is masked by 0 would be better than what is kept."""
    config = DeepseekV3Config(
        hidden_size=HIDDEN,
        n_routed_experts=EXPERTS,
        num_experts_per_tok=4,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
    )
    router = DeepseekV3TopkRouter(config)
    x, router.weight.data = normal(state, TOKENS, HIDDEN), normal(state, EXPERTS, HIDDEN)
    router.e_score_correction_bias.copy_(normal(state, EXPERTS) * 0.5 - 4)
    _, weights, indices = router(x)
    return {
        "deepseek_x": x,
        "deepseek_weight": router.weight,
        "deepseek_correction": router.e_score_correction_bias,
        "deepseek_indices": indices,
        "deepseek_weights": weights,
    }


def gpt_oss(state: np.random.RandomState) -> dict[str, torch.Tensor]:
    config = GptOssConfig(hidden_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=4)
    router = GptOssTopKRouter(config)
    router.weight.data, router.bias.data = normal(state, EXPERTS, HIDDEN), normal(state, EXPERTS)
    x = normal(state, TOKENS, HIDDEN)
    _, weights, indices = router(x)
    return {
        "gpt_x": x,
        "gpt_weight": router.weight,
        "gpt_bias": router.bias,
        "gpt_indices": indices,
        "gpt_weights": weights,
    }


def phi(state: np.random.RandomState) -> dict[str, torch.Tensor]:
    """Logits so close that several are left to share; of the last rows all are below 0."""
    logits = normal(state, TOKENS, EXPERTS) * 0.05 + 3
    logits[10:20] = normal(state, 10, EXPERTS)
    logits[20:] = -logits[:20]
    weights, indices = sparsemixer(logits, jitter_eps=0.01, training=False)
    return {"phi_logits": logits, "phi_indices": indices, "phi_weights": weights}


def main() -> None:
    state = np.random.RandomState(6)
    with torch.no_grad():
        arrays = deepseek(state) | gpt_oss(state) | phi(state)
    np.savez_compressed(
        Path(__file__).parent / "golden" / "route.npz",
        **{name: array.detach().numpy() for name, array in arrays.items()},
    )


if __name__ == "__main__":
    main()
