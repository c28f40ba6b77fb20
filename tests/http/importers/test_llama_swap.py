"""llama-swap's config.yaml, with every key of its schema."""

from pathlib import Path

import pytest

from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.routing import Router, Target

from .importing import imported

WHOLE = """\
healthCheckTimeout: 90
logLevel: warn
logTimeFormat: rfc3339
logToStdout: proxy
metricsMaxInMemory: 500
captureBuffer: 5
store: {path: /tmp/a.sqlite}
ui: {activity: {session_id: [X-Session-ID]}}
performance: {disabled: true}
startPort: 9000
sendLoadingState: true
includeAliasesInList: true
globalTTL: 0
unloadTimeout: 10
macros:
  server: /opt/llama-server --port ${PORT}
  context: 4096
  with-context: ${server} --ctx-size ${context}
  folder: ${env.MODELS_HERE}/gguf
apiKeys: [sk-first, "${env.CLIENT_KEY}", sk-third]
upstream: {ignorePaths: ['x']}
profiles: {coding: {pins: {a: b}}}
selectors:
  coder:
    strategy: warm
    targets: [qwen, "org/big", missing]
    name: Coder
    unlisted: true
  pinned: {strategy: pin, targets: [small, qwen]}
  "spread/out": {strategy: spillover, targets: [qwen, peer/model_a], settings: {spillover: 4}}
models:
  qwen:
    macros: {context: 16384}
    cmd: |
      # the best
      ${with-context} --model ${folder}/qwen.gguf
    name: Qwen
    description: It codes.
    env: [CUDA_VISIBLE_DEVICES=0]
    proxy: http://127.0.0.1:${PORT}
    checkEndpoint: /health
    ttl: 60
    unloadTimeout: 5
    useModelName: other
    compat: {ignoreWebsockets: true}
    filters:
      stripParams: temperature
      setParams: {top_p: 0.9}
      setParamsByID:
        ${MODEL_ID}: {reasoning_effort: medium}
        ${MODEL_ID}:high: {reasoning_effort: high}
    aliases: [gpt-4o-mini, "org/alias"]
    metadata: {port: "${PORT}"}
    concurrencyLimit: 4
    sendLoadingState: false
    timeouts: {connect: 30}
    capabilities: {in: [text]}
  "org/big":
    cmd: vllm serve org/big-model --tool-call-parser llama3_json --max-model-len 9
    cmdStop: kill ${PID}
  small: {cmd: "llama-server -m ${folder}/qwen.gguf", unlisted: true}
  elsewhere:
    cmd: run-it --port 9999
    proxy: http://127.0.0.1:9999
    useModelName: org/served
    aliases: [else]
    concurrencyLimit: 3
    timeouts: {connect: 5, responseHeader: 0, keepalive: 1, tlsHandshake: 1, idleConn: 1,
      expectContinue: 1}
  unknown: {cmd: "run-it --port ${PORT}", ttl: 5}
  undefined: {cmd: "llama-server -m ${nothing}/a.gguf"}
groups: {g: {swap: true, members: [qwen]}}
matrix: {sets: {a: b}}
routing: {router: {use: group}, scheduler: {use: fifo}}
hooks: {on_startup: {preload: [qwen]}}
peers:
  peer: {proxy: "http://192.168.1.23", models: [model_a]}
  tail: {proxy: "tailcat://token", tailcatKey: /k, models: [model_b]}
  openrouter:
    proxy: https://openrouter.ai/api
    apiKey: ${env.OPENROUTER_API_KEY}
    models: [z-ai/glm-4.7]
    timeouts: {connect: 30, responseHeader: 60, keepalive: 30}
    filters: {setParams: {provider: {zdr: true}}}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_HERE", "/m")
    monkeypatch.setenv("CLIENT_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-of-the-environment")


def test_every_key_is_carried_over_or_named(tmp_path: Path) -> None:
    tables, left, config = imported(tmp_path, "config.yaml", WHOLE)
    assert tables == {
        "server": {"log_level": "warning", "api_key": ["sk-first", "sk-third"]},
        "models": [
            {"path": "/m/gguf/qwen.gguf", "name": "qwen"},
            {"path": "org/big-model", "name": "org-big", "tool_parser": "llama"},
        ],
        "providers": {
            "elsewhere": {"models": ["org/served"], "url": "http://127.0.0.1:9999",
                          "max_concurrency": 3, "connect_timeout": 5},
            "peer": {"url": "http://192.168.1.23", "models": ["model_a"]},
            "openrouter": {"url": "https://openrouter.ai/api",
                           "api_key": "env:OPENROUTER_API_KEY", "models": ["z-ai/glm-4.7"],
                           "connect_timeout": 30, "first_byte_timeout": 60},
        },
        "aliases": {
            "gpt-4o-mini": "qwen", "org/alias": "qwen", "qwen:high": "qwen", "org/big": "org-big",
            "small": "qwen", "elsewhere": "elsewhere/org/served", "else": "elsewhere/org/served",
            "spread/out": "spread-out",
        },
        "tiers": {
            "coder": {"targets": ["qwen", "org-big"]},
            "pinned": {"targets": ["qwen"]},
            "spread-out": {"targets": ["qwen", "peer/model_a"], "choice": "least_busy"},
        },
    }  # fmt: skip
    assert config.models == ("qwen=/m/gguf/qwen.gguf", "org-big=org/big-model")
    assert set(left) == {
        *("healthCheckTimeout", "logTimeFormat", "logToStdout", "metricsMaxInMemory", "store"),
        *("captureBuffer", "ui", "performance", "startPort", "sendLoadingState", "globalTTL"),
        *("includeAliasesInList", "unloadTimeout", "apiKeys[1]", "upstream", "profiles"),
        *("selectors.coder.name", "selectors.coder.unlisted", "selectors.coder.targets[2]"),
        'selectors."spread/out".settings',
        *(f"models.qwen.{key}" for key in (
            "cmd", "name", "description", "env", "proxy", "checkEndpoint", "ttl", "unloadTimeout",
            "useModelName", "compat", "filters.stripParams", "filters.setParams",
            "filters.setParamsByID.qwen", 'filters.setParamsByID."qwen:high"', "metadata",
            "concurrencyLimit", "sendLoadingState", "timeouts", "capabilities")),
        *('models."org/big".cmd', 'models."org/big".cmdStop', "models.small.unlisted"),
        *(f"models.elsewhere.{key}" for key in (
            "cmd", "timeouts.responseHeader", "timeouts.keepalive", "timeouts.tlsHandshake",
            "timeouts.idleConn", "timeouts.expectContinue")),
        *("models.unknown.cmd", "models.unknown.ttl", "models.undefined.cmd"),
        *("groups", "matrix", "routing.router", "routing.scheduler", "hooks"),
        *("peers.tail.proxy", "peers.tail.models", "peers.tail.tailcatKey"),
        *("peers.openrouter.timeouts.keepalive", "peers.openrouter.filters"),
    }  # fmt: skip


def test_reasons_say_what_is_lost_and_no_secret(tmp_path: Path) -> None:
    _, left, _ = imported(tmp_path, "config.yaml", WHOLE)
    assert left["models.qwen.cmd"] == "says more than the model: --ctx-size"
    assert left["apiKeys[1]"].startswith("is CLIENT_KEY of the environment")
    assert left["models.undefined.cmd"] == "has ${nothing} in it, which nothing defines"
    assert left["peers.tail.proxy"] == "must begin with http:// or https://"
    assert left["models.elsewhere.timeouts.responseHeader"].startswith("is no limit")
    assert not any(word in str(left) for word in ("sk-", "of-the-environment"))


def test_names_lead_where_they_led(tmp_path: Path) -> None:
    imported(tmp_path, "config.yaml", WHOLE)
    tables = read(tmp_path / "result.toml", {}).tables
    listed = {name: each.models or () for name, each in tables.providers.items()}
    router = Router(tables, [str(model.name) for model in tables.models], listed)
    for name, *targets in (
        ("qwen", Target(None, "qwen")),
        ("qwen:high", Target(None, "qwen")),
        ("small", Target(None, "qwen")),
        ("org/big", Target(None, "org-big")),
        ("elsewhere", Target("elsewhere", "org/served")),
        ("model_a", Target("peer", "model_a")),
        ("openrouter/z-ai/glm-4.7", Target("openrouter", "z-ai/glm-4.7")),
        ("spread/out", Target(None, "qwen"), Target("peer", "model_a")),
    ):
        assert router.decide(name).targets == tuple(targets), name


def test_a_name_is_no_other_model_s(tmp_path: Path) -> None:
    """Whoever asks for a-b gets what was called so, wherever it stands in the file."""
    models = 'models: {"a/b": {cmd: vllm serve p}, a-b: {cmd: vllm serve q}}\n'
    selectors = 'selectors: {"s t": {targets: [a/b]}, s-t: {targets: [a-b]}}\n'
    tables, _, _ = imported(tmp_path, "config.yaml", selectors + models)
    assert {each["name"]: each["path"] for each in tables["models"]} == {"a-b-2": "p", "a-b": "q"}
    assert tables["aliases"] == {"a/b": "a-b-2", "s t": "s-t-2"}
    assert tables["tiers"] == {"s-t-2": {"targets": ["a-b-2"]}, "s-t": {"targets": ["a-b"]}}


def test_macros_that_hold_themselves_end(tmp_path: Path) -> None:
    many = "${a}" * 2000
    text = f'macros: {{a: "{many}"}}\nmodels: {{m: {{cmd: "llama-server -m ${{a}}"}}}}\n'
    tables, left, _ = imported(tmp_path, "config.yaml", text)
    assert tables == {} and list(left) == ["models.m.cmd"]


def test_keys_of_another_kind_are_named(tmp_path: Path) -> None:
    text = "startPort: 1\nmacros: 5\napiKeys: {a: b}\n"
    text += "models: {ok: {cmd: vllm serve q}, a: b, c: {cmd: [x], aliases: d}}\n"
    text += "peers: {p: 5}\nselectors: {s: x, t: {targets: y}, u: {targets: [ok], strategy: odd}}\n"
    tables, left, _ = imported(tmp_path, "config.yaml", text)
    assert tables == {"models": [{"path": "q", "name": "ok"}], "tiers": {"u": {"targets": ["ok"]}}}
    assert set(left) == {
        *("startPort", "models.a", "models.c.cmd", "models.c.aliases", "apiKeys", "peers.p"),
        *("selectors.s", "selectors.t", "selectors.u.strategy", "macros"),
    }
