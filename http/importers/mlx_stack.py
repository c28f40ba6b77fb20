"""mlx-stack's config.yaml, and the stack file that says which model each tier has."""

from typing import Any

from .draft import DONE, Draft, Key, Rules, To
from .tool_parsers import tool_parser

OPENROUTER = "https://openrouter.ai/api/v1"
KEY = "env:OPENROUTER_API_KEY"
PREMIUM = "premium"  # the tier behind all others, of the models that mlx-stack gives it
NEEDED = ("name", "model", "source")
CLOUD = ("openai/gpt-4o", "anthropic/claude-sonnet-4-20250514")
CHOSEN = "models are named here, and chosen by nobody"
ALWAYS = "it is always so here"
ORIGIN = "it tells where the stack came from"


def _openrouter(draft: Draft, at: Key, key: Any) -> None:
    """Carry over a key of OpenRouter's, and the tier that mlx-stack makes with one."""
    if not str(key).strip():
        draft.left[at] = "is empty"
        return
    _provider(draft, key, at)
    draft.put(("tiers", PREMIUM, "targets"), [f"openrouter/{each}" for each in CLOUD], at)


def _provider(draft: Draft, key: Any, at: Key) -> None:
    draft.put(("providers", "openrouter", "url"), OPENROUTER, at)
    draft.put(("providers", "openrouter", "api_key"), key, at)


SETTINGS: Rules = {
    "openrouter-key": _openrouter,
    "litellm-port": To("server.port"),
    "default-quant": "a model's bits are those of its checkpoint",
    "memory-budget-pct": CHOSEN,
    "model-dir": "models are named by their directories or Hub ids here",
    "auto-health-check": "the server itself says when its models are ready",
    "log-max-size-mb": "logs go to standard error here",
    "log-max-files": "logs go to standard error here",
}

TIER: Rules = {
    "name": DONE,
    "model": DONE,
    "source": DONE,
    "quant": "a model's bits are those of its checkpoint",
    "port": "all models have the server's own port",
    "vllm_flags.tool_call_parser": To("tool_parser", tool_parser),
    "vllm_flags.continuous_batching": ALWAYS,
    "vllm_flags.use_paged_cache": ALWAYS,
    "vllm_flags.enable_auto_tool_choice": ALWAYS,
    "vllm_flags.reasoning_parser": "thoughts are found by the chat template's marks here",
}

STACK: Rules = {
    "tiers[]": DONE,
    "schema_version": ORIGIN,
    "name": ORIGIN,
    "hardware_profile": ORIGIN,
    "intent": ORIGIN,
    "created": ORIGIN,
    "cloud_fallback.provider": DONE,
    "cloud_fallback.models": DONE,
}


def carry_settings(draft: Draft, document: dict[str, Any]) -> None:
    draft.carry(document, SETTINGS)


def carry_stack(draft: Draft, document: dict[str, Any]) -> None:
    """Carry over tiers: behind each stand those after it, and the cloud behind the last."""
    models: dict[int, str] = {}
    tiers = document["tiers"] if isinstance(document.get("tiers"), list) else []
    for i, tier in enumerate(tiers):
        at = ("tiers", i)
        if not isinstance(tier, dict) or not all(tier.get(key) for key in NEEDED):
            draft.left[at] = f"lacks one of {', '.join(NEEDED)}"
            continue
        name = f"{tier['model']}-{tier['quant']}" if "quant" in tier else str(tier["model"])
        models[i], into = draft.model(tier["source"], name, (*at, "source"))
        draft.carry(tier, TIER, at, into)
    cloud = _cloud(draft, document.get("cloud_fallback"))
    for i in models:
        behind = [model for number, model in models.items() if number >= i]
        key = ("tiers", draft.name("tiers", str(tiers[i]["name"])), "targets")
        draft.put(key, [*dict.fromkeys((*behind, *cloud))], ("tiers", i, "name"))
    draft.carry(document, STACK)


def _cloud(draft: Draft, fallback: Any) -> list[str]:
    """Carry over what stands behind all tiers; return its targets."""
    if not isinstance(fallback, dict) or fallback.get("provider") != "openrouter":
        if isinstance(fallback, dict) and fallback:
            why = "no address is known of such a provider"
            draft.left |= {("cloud_fallback", key): why for key in ("provider", "models")}
        return []
    models = fallback.get("models")
    names = map(str, models) if isinstance(models, list) else CLOUD
    targets = [f"openrouter/{name}" for name in names]
    _provider(draft, KEY, ("cloud_fallback", "provider"))
    draft.put(("tiers", PREMIUM, "targets"), targets, ("cloud_fallback", "models"))
    return targets
