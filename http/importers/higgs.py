"""Higgs's config.toml, whose tables are nearly ours."""

from typing import Any

from ..gateway.checks import LOCAL
from .draft import DONE, Draft, Key, Rules, To

COMPRESSED = "that is Higgs's own way of compressing its KV cache; see --kv-bits"
DRAFTED = "nothing is drafted here"
PREFILL = "prompts are read whole here"
SESSIONS = "conversations are cached by their prefixes here, within the KV cache"
METRICS = "no file of metrics is written here"


def _provider(draft: Draft, name: Any) -> Any:
    if not isinstance(name, str):
        return name
    return LOCAL[0] if name == "higgs" else draft.name("providers", name)


def _model(draft: Draft, at: Key, model: Any) -> None:
    """Carry over an entry of [[models]]; one without a path is left for its check to tell."""
    if not isinstance(model, dict):
        draft.left[at] = "is no table"
        return
    name = model.get("name")
    if name is not None and not (isinstance(name, str) and name.strip()):
        draft.left[*at, "name"] = "is no name"
        name = None
    draft.model(model.get("path"), name, (*at, "path"))
    draft.carry(model, MODEL, at)


def _route_name(draft: Draft, name: Any) -> Any:
    return draft.name("routes", name) if isinstance(name, str) else name


MODEL: Rules = {
    "path": DONE,
    "name": DONE,
    "batch": "requests are always batched here",
    "mlx_profile": "there are no profiles here; see --chunk and --max-batch",
    "draft_model": DRAFTED,
    "prefill_drafter": DRAFTED,
    "prefill_compression": PREFILL,
    "prefill_threshold": PREFILL,
    "prefill_keep_ratio": PREFILL,
    "prefill_chunk": PREFILL,
    "prefill_avgpool": PREFILL,
    "prefill_lookahead": PREFILL,
    "prefill_yield_tokens": "prompts are read in steps of --chunk tokens, for all models",
    "kv_cache": COMPRESSED,
    "kv_bits": COMPRESSED,
    "kv_key_bits": COMPRESSED,
    "kv_value_bits": COMPRESSED,
    "kv_norm_correction": COMPRESSED,
    "kv_adaptive_dense_layers": COMPRESSED,
    "kv_seed": COMPRESSED,
    "kv_max_sessions": SESSIONS,
    "kv_max_session_tokens": SESSIONS,
    "kv_retained_idle_secs": SESSIONS,
    "kv_disk_dir": "no KV cache is kept on a disk here",
    "kv_disk_space_mb": "no KV cache is kept on a disk here",
    "mla_latent_cache": "the model's own kind of cache is used here",
}

RULES: Rules = {
    "server.host": To("server.host"),
    "server.port": To("server.port"),
    "server.max_tokens": To("server.max_tokens"),
    "server.api_key": To("server.api_key"),
    "server.rate_limit": To("server.rate_limit"),
    "server.timeout": To("server.timeout"),
    "server.max_body_size": To("server.body_limit"),
    "server.cors_origins": To("server.cors_origin"),
    "local.mlx_profile": "there are no profiles here; see --chunk and --max-batch",
    "local.raise_wired_limit": "MLX's wired limit is left alone here",
    "models[]": _model,
    "provider.*.url": To("providers.*.url"),
    "provider.*.format": To("providers.*.format"),
    "provider.*.api_key": To("providers.*.api_key"),
    "provider.*.strip_auth": To("providers.*.strip_auth"),
    "provider.*.stub_count_tokens": To("providers.*.stub_count_tokens"),
    "routes[].pattern": To("routes[].pattern"),
    "routes[].provider": To("routes[].provider", _provider),
    "routes[].model": To("routes[].model"),
    "routes[].name": To("routes[].name", _route_name),
    "routes[].description": To("routes[].description"),
    "default.provider": To("default.provider", _provider),
    "auto_router.enabled": To("auto_router.enabled"),
    "auto_router.force": To("auto_router.force"),
    "auto_router.model": To("auto_router.model"),
    "auto_router.timeout_ms": To("auto_router.timeout_ms"),
    "retention.enabled": METRICS,
    "retention.minutes": METRICS,
    "logging.metrics.enabled": METRICS,
    "logging.metrics.path": METRICS,
    "logging.metrics.max_size_mb": METRICS,
    "logging.metrics.max_files": METRICS,
    "allow_runtime_model_load": "models are named at the start here",
}


def carry(draft: Draft, document: dict[str, Any]) -> None:
    """Carry over a file; the auto-router's model is one of the server's, listed or not."""
    router, listed = document.get("auto_router"), document.get("models")
    tables = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    draft.claim("models", (each.get("name") for each in tables))
    draft.carry(document, RULES)
    model = router.get("model") if isinstance(router, dict) and router.get("enabled") else None
    known = {str(each.get(key)) for each in tables for key in ("path", "name")}
    if isinstance(model, str) and model not in known:
        draft.model(model, None, ("auto_router", "model"))
