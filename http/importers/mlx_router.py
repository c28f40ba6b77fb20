"""mlx-router's config.json; most of it is about memory, which is planned here from the weights."""

from typing import Any

from .draft import Draft, Key, Rules, To

MEMORY = "memory is planned from the weights here; see --kv-cache"
SAMPLING = "a request says it, or else the checkpoint's generation_config.json"
FOUND = "it is found in the checkpoint"
WARM = "models are loaded, and tried, at the start"


def _model(draft: Draft, at: Key, settings: Any) -> None:
    draft.model(at[-1], None, at)
    if settings:
        draft.carry(settings, MODEL, at)


def _first(draft: Draft, at: Key, model: Any) -> None:
    draft.model(model, None, at)


def _log_level(_: Draft, debug: Any) -> Any:
    return {True: "debug", False: "info"}[debug] if isinstance(debug, bool) else debug


MODEL: Rules = {
    "max_tokens": "there is one --max-tokens for all models; a request says its own",
    "temp": SAMPLING,
    "top_p": SAMPLING,
    "top_k": SAMPLING,
    "min_p": SAMPLING,
    "chat_template": "the checkpoint's own chat template is used here",
    "reasoning_response": "a request says whether it wants thoughts",
    "required_memory_gb": MEMORY,
    "supports_tools": FOUND,
    "supports_vision": FOUND,
    "memory_pressure_max_tokens": MEMORY,
}

RULES: Rules = {
    "defaults.max_tokens": To("server.max_tokens"),
    "defaults.timeout": To("server.timeout"),
    "defaults.streaming_format": To("server.stream_format"),
    "defaults.stream_chunk_size": To("server.stream_chunk_size"),
    "defaults.stream": "a request says whether it streams",
    "defaults.model": _first,
    "defaults.model_directory": "each model is named here, by its directory or its Hub id",
    "defaults.cache_size": "all models are loaded at once here",
    "defaults.memory_threshold_gb": MEMORY,
    "defaults.safety_margin": MEMORY,
    "defaults.swap_critical_percent": MEMORY,
    "defaults.swap_high_percent": MEMORY,
    "defaults.warmup_tokens": WARM,
    "defaults.enable_function_calling": "tools are there for who sends them",
    "server.ip": To("server.host"),
    "server.port": To("server.port"),
    "server.debug": To("server.log_level", _log_level),
    "models.*": _model,
}


def carry(draft: Draft, document: dict[str, Any]) -> None:
    """Carry over a file: first the model that it loads first, which answers who names none."""
    draft.carry({"defaults": document.get("defaults"), **document}, RULES)
