"""GET /props, /slots and /v1/status: what is loaded, running and cached, as peers' clients ask."""

import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ...engine.request import GenerationDefaults, Refusal, Sampling
from ...translate.operation import Operation
from ..activity import Running
from ..backends import Backend, Backends, Status
from ..message import HttpRequest, Response

GIB = 2**30
PROPS = Operation(summary="Tell of a model, as llama.cpp's server does", response=dict[str, Any])
SLOTS = Operation(
    summary="Tell of the sequences that run, as llama.cpp's server does",
    response=list[dict[str, Any]],
)
STATUS = Operation(summary="Tell what runs and waits, as vllm-mlx does", response=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ShowProps:
    """GET /props, of one model (`?model=`) or the first, as llama.cpp's server tells them."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        model = _asked(self.backends, request)
        status, traits = model.status(), model.traits
        defaults = status.defaults or GenerationDefaults()
        props: dict[str, Any] = {
            "default_generation_settings": {
                "params": {"seed": -1, **_sampling(defaults.sampling), **_limit(-1)},
                "n_ctx": status.context or 0,
            },
            "total_slots": status.slots,
            "model_alias": model.name,
            "model_path": model.about.file if model.about else model.name,
            "model_ftype": model.about.quantization if model.about else "",
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": False,
            "chat_template": traits.template,
            "chat_template_caps": {"supports_tools": "tools" in traits.capabilities},
            "bos_token": traits.bos,
            "eos_token": traits.eos,
            "build_info": f"bessemer {version('bessemer')}",
            "is_sleeping": False,
        }
        return Response(200, msgspec.json.encode(props))


@dataclass(frozen=True, slots=True)
class ListSlots:
    """GET /slots: the sequences that run, and the room that there is for more."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        model = _asked(self.backends, request)
        status = model.status()
        running = [each for each in model.activity.running() if each.running][: status.slots]
        idle = status.slots - len(running)
        if not idle and "fail_on_no_slot" in parse_qs(request.query):
            raise Refusal(503, "overloaded", "No slot is idle.", retry_after=1)
        busy = [_busy(each) for each in running]
        rest: list[dict[str, Any]] = [{"is_processing": False} for _ in range(idle)]
        head = {"n_ctx": status.context or 0, "speculative": False}
        slots = [{"id": at, **head, **slot} for at, slot in enumerate([*busy, *rest])]
        return Response(200, msgspec.json.encode(slots))


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """GET /v1/status, as vllm-mlx tells it, and the state of all models."""

    backends: Backends
    since: float = field(default_factory=time.monotonic)

    async def __call__(self, request: HttpRequest) -> Response:
        model = _asked(self.backends, request)
        status, activity = model.status(), model.activity
        running = activity.running()
        counts = sum(each.running for each in running)
        body = {
            "status": "running" if status.ready else "not_loaded",
            "model": model.name,
            "uptime_s": round(time.monotonic() - self.since, 1),
            "num_running": counts,
            "num_waiting": len(running) - counts,
            "total_requests_processed": activity.requests,
            "total_prompt_tokens": activity.prompt_tokens,
            "total_completion_tokens": activity.completion_tokens,
            "memory": _memory(status),
            "cache": _cache(status),
            "requests": [*map(_request, running)],
            "models": {name: each.status().state for name, each in self.backends.models.items()},
        }
        return Response(200, msgspec.json.encode(body))


def _asked(backends: Backends, request: HttpRequest) -> Backend:
    """Return the model that a query names, or the first."""
    (name,) = parse_qs(request.query).get("model", [""])[:1]
    return backends.find(name)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }


def _limit(tokens: int) -> dict[str, int]:
    return {"max_tokens": tokens, "n_predict": tokens}


def _busy(each: Running) -> dict[str, Any]:
    """Return a slot that has a request: its numbers, and nothing of its text."""
    request = each.request
    left = request.max_tokens - each.completion
    decoded = {"has_next_token": left > 0, "n_remain": left, "n_decoded": each.completion}
    return {
        "is_processing": True,
        "id_task": request.id,
        "n_prompt_tokens": len(request.tokens),
        "n_prompt_tokens_cache": each.cached,
        "params": {**_sampling(request.sampling), **_limit(request.max_tokens)},
        "next_token": [decoded],
    }


def _request(each: Running) -> dict[str, Any]:
    request, written = each.request, each.completion
    phase = ("generation" if written else "prefill") if each.running else "queued"
    since = each.seconds - each.first if each.first is not None else 0
    return {
        "request_id": str(request.id),
        "status": "running" if each.running else "waiting",
        "phase": phase,
        "elapsed_s": round(each.seconds, 2),
        "prompt_tokens": len(request.tokens),
        "completion_tokens": written,
        "max_tokens": request.max_tokens,
        "progress": round(written / request.max_tokens, 3) if request.max_tokens else 0.0,
        "tokens_per_second": round(written / since, 1) if since > 0 else None,
        "ttft_s": None if each.first is None else round(each.first, 3),
        "cached_tokens": each.cached,
    }


def _memory(status: Status) -> dict[str, float]:
    """Return the memory that is a model's, in GiB."""
    plan = status.plan
    parts = {} if plan is None else {"weights": plan.weights, "kv_pool": plan.pool}
    return {f"{name}_gb": round(size / GIB, 3) for name, size in parts.items()}


def _cache(status: Status) -> dict[str, int] | None:
    """Return the pages of the KV cache; those that are not in use may hold earlier prompts."""
    report = status.report
    if report is None:
        return None
    names = ("pages", "pages_in_use", "states", "states_in_use", "preemptions")
    return {name: getattr(report, name) for name in names}
