"""Command lines as people write them into llama-swap's files."""

import pytest

from bessemer.http.importers.command_text import Command, model_of

SERVED: list[tuple[str, str, tuple[str, ...]]] = [
    ("llama-server --port 9 -m /m/a.gguf -ngl 99 -c 4096", "/m/a.gguf", ("-ngl", "-c")),
    ("# of the best\n/opt/b1/llama-server-ec9\n  --model 'a b.gguf'\n# -m c\n", "a b.gguf", ()),
    ('"/Applications/X y/llama-server" -m "/m/a.gguf" --jinja', "/m/a.gguf", ()),
    ("llama-server \\\n -hf org/R-GGUF:Q8_0 \\\n --temp -1", "org/R-GGUF:Q8_0", ("--temp",)),
    ("llama-server -hf org/R-GGUF", "org/R-GGUF:Q4_K_M", ()),
    ("llama-server --model=a.gguf --ctx-size=5", "a.gguf", ("--ctx-size",)),
    ("python -m mlx_lm.server --model org/m --port 1", "org/m", ()),
    ("mlx_vlm.server --model org/m", "org/m", ()),
    ("vllm serve org/m --max-model-len 9", "org/m", ("--max-model-len",)),
    ("docker run --name x --init --rm -p 1:8080 -v /mnt/m:/models:ro "
     "ghcr.io/ggml-org/llama.cpp:server -m /models/a.gguf", "/mnt/m/a.gguf", ()),
    ("docker run -m 8g vllm/vllm-openai:latest --model org/m", "org/m", ()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "others"), SERVED, ids=[each[0] for each in SERVED])
def test_a_model_is_found_and_what_else_is_said(
    text: str, path: str, others: tuple[str, ...]
) -> None:
    assert model_of(text) == Command(path, None, None, others)


def test_a_template_and_a_parser_are_found() -> None:
    found = model_of(
        "vllm serve m --tool-call-parser hermes --chat-template-file=t.jinja --api-key=k"
    )
    assert found == Command("m", "t.jinja", "hermes", ("--api-key",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whisper-server -m /m/whisper.bin",
        "/home/me/llama.cpp/build/bin/sd-server --model x",
        "llama-server --port 9",
        "llama-server -m 'a.gguf",
        "bash -lc 'exec ./llama-server -m a.gguf'",
        "docker run ghcr.io/ggml-org/llama.cpp:server -m /models/a.gguf",
    ],
)
def test_other_programs_and_models_elsewhere_are_none(text: str) -> None:
    assert model_of(text) is None
