"""Scripted models behind the whole server: thoughts, channels, stop strings, a first space."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.text.tiny_tokenizers import id_of, make_tokenizer, sentencepiece
from tests.http.running import Server, serving
from tests.http.scripted_checkpoint import write
from tests.translate.scripted import Scripted

HI = [{"role": "user", "content": "Hi"}]
TURNS = "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
HARMONY = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"]
CHANNELS = (
    "<|channel|>analysis<|message|>The user greets: Hi.<|end|><|start|>assistant"
    "<|channel|>final<|message|>Hello. Hi!<|return|>"
)
MISTRAL = "[THINK]A Hi greets.[/THINK]Hello. Hi<|x|>!</s>"
STORY = ["\u2581Hel", "lo", "\u2581H", "el", "<|end|>"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("scripted")
    harmony = Scripted(TURNS, CHANNELS, HARMONY)
    mistral = Scripted("", MISTRAL, ["[THINK]", "[/THINK]", "<|x|>", "</s>"])
    spaces = sentencepiece()
    story = [id_of(make_tokenizer(spaces), name) for name in STORY]
    models = {
        "harmony": write(
            folder / "h", harmony.tokenizer.encoding, harmony.script(1000), TURNS, "<|return|>"
        ),
        "mistral": write(
            folder / "m", mistral.tokenizer.encoding, mistral.script(1000), "Hi: ", "</s>"
        ),
        "story": write(folder / "s", spaces, story, "{{ messages[-1].content }}", "<|end|>"),
    }
    arguments = [part for name, path in models.items() for part in ("--model", f"{name}={path}")]
    with serving(*arguments, "--threads", "1") as running:
        yield running


def chat(server: Server, model: str, **fields: Any) -> tuple[str, str, str]:
    """Return reasoning, content and finish reason, which a stream and a whole answer share."""
    body = {"model": model, "messages": HI, "temperature": 0, "max_tokens": 50, **fields}
    choice = server.ask("POST", "/v1/chat/completions", body)[1]["choices"][0]
    message = choice["message"]
    whole = message.get("reasoning_content", ""), message["content"], choice["finish_reason"]
    deltas = [
        choice
        for _, data in server.stream("/v1/chat/completions", body)
        if data != "[DONE]"
        for choice in data["choices"]
    ]
    streamed = (
        "".join(d["delta"].get("reasoning_content") or "" for d in deltas),
        "".join(d["delta"].get("content") or "" for d in deltas),
        deltas[-1]["finish_reason"],
    )
    assert whole == streamed
    return whole


def messages(server: Server, model: str, **fields: Any) -> tuple[str, str, str, str | None]:
    """Return thinking, text, stop reason and stop sequence, of a stream and a whole answer."""
    body = {"model": model, "messages": HI, "max_tokens": 50, "temperature": 0, **fields}
    reply = server.ask("POST", "/v1/messages", body)[1]
    blocks = reply["content"]
    whole = (
        "".join(b.get("thinking", "") for b in blocks),
        "".join(b.get("text", "") for b in blocks),
        reply["stop_reason"],
        reply["stop_sequence"],
    )
    events = [data for _, data in server.stream("/v1/messages", body)]
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    ending = next(e["delta"] for e in events if e["type"] == "message_delta")
    assert whole == (
        "".join(d.get("thinking", "") for d in deltas),
        "".join(d.get("text", "") for d in deltas),
        ending["stop_reason"],
        ending["stop_sequence"],
    )
    return whole


def test_channels(server: Server) -> None:
    thought = "The user greets: Hi."
    assert chat(server, "harmony") == (thought, "Hello. Hi!", "stop")
    assert messages(server, "harmony") == (thought, "Hello. Hi!", "end_turn", None)
    assert chat(server, "harmony", stop=["Hi"]) == (thought, "Hello. ", "stop")
    stopped = messages(server, "harmony", stop_sequences=["nope", "Hi"])
    assert stopped == (thought, "Hello. ", "stop_sequence", "Hi")
    stopped = messages(server, "harmony", stop_sequences=["<|return|>"])
    assert stopped == (thought, "Hello. Hi!", "stop_sequence", "<|return|>")


def test_thoughts_between_special_tokens(server: Server) -> None:
    assert chat(server, "mistral") == ("A Hi greets.", "Hello. Hi!", "stop")
    assert messages(server, "mistral") == ("A Hi greets.", "Hello. Hi!", "end_turn", None)
    assert chat(server, "mistral", stop="Hi") == ("A Hi greets.", "Hello. ", "stop")
    stopped = messages(server, "mistral", stop_sequences=["<|x|>"])
    assert stopped == ("A Hi greets.", "Hello. Hi", "stop_sequence", "<|x|>")
    assert chat(server, "mistral", stop=["Hi!"]) == ("A Hi greets.", "Hello. ", "stop")


def test_a_form_holds_behind_the_thought(server: Server) -> None:
    either = chat(server, "mistral", guided_choice=["Hello. Hi", "Bye"])
    assert either == ("A Hi greets.", "Hello. Hi", "stop")
    assert chat(server, "mistral", guided_choice=["Bye"]) == ("A Hi greets.", "Bye", "stop")
    schema = {"format": {"type": "json_schema", "schema": {"enum": [True]}}}
    thinking, text, reason, _ = messages(server, "mistral", output_config=schema)
    assert (thinking, text, reason) == ("A Hi greets.", "true", "end_turn")
    other = chat(server, "mistral", guided_regex="x{3}", stop=["xx"])
    assert other == ("A Hi greets.", "", "stop"), "a stop string counts as ever"


def test_reasoning_is_counted(server: Server) -> None:
    body = {"model": "mistral", "messages": HI, "temperature": 0}
    usage = server.ask("POST", "/v1/chat/completions", body)[1]["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3  # with both marks
    body = {"model": "harmony", "messages": HI, "temperature": 0}
    usage = server.ask("POST", "/v1/chat/completions", body)[1]["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3  # <|message|> and <|end|>


def complete(server: Server, prompt: Any, **fields: Any) -> Any:
    """Return the first choice, whose text and offsets a stream shares."""
    body = {"model": "story", "prompt": prompt, "temperature": 0, "max_tokens": 9, **fields}
    choice = server.ask("POST", "/v1/completions", body)[1]["choices"][0]
    chunks = [d["choices"] for _, d in server.stream("/v1/completions", body) if d != "[DONE]"]
    streamed = [c for choices in chunks for c in choices if c["index"] == 0]
    assert "".join(c["text"] for c in streamed) == choice["text"]
    if choice["logprobs"]:
        offsets = [at for c in streamed if c["logprobs"] for at in c["logprobs"]["text_offset"]]
        assert offsets == choice["logprobs"]["text_offset"]
    return choice


def test_a_completion_keeps_its_first_space(server: Server) -> None:
    said = " Hello Hel"
    ids = sentencepiece().encode("an").ids
    for prompt in ("an", ids, [ids, ids], ["an", "na"]):
        assert complete(server, prompt)["text"] == said
        assert complete(server, prompt, echo=True)["text"] == f"an{said}"
        assert complete(server, prompt, stop=" Hello")["text"] == ""
        assert complete(server, prompt, stop="lo H")["text"] == " Hel"
        for echo in (False, True):
            choice = complete(server, prompt, logprobs=0, echo=echo)
            offsets, whole = choice["logprobs"]["text_offset"], f"an{said}"
            shown = [whole[a:b] for a, b in zip(offsets, [*offsets[1:], len(whole)], strict=True)]
            assert shown == (["", "a", "n"] if echo else []) + [" Hel", "lo", " H", "el"]
            assert choice["logprobs"]["tokens"][-4:] == [" Hel", "lo", " H", "el"]


def test_a_chat_that_goes_on_keeps_it_and_another_does_not(server: Server) -> None:
    final = [*HI, {"role": "assistant", "content": "an"}]
    said = "Hello Hel"
    assert chat(server, "story")[1] == said
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    assert chat(server, "story", messages=final, **go_on)[1] == f" {said}"
    assert chat(server, "story", messages=final, stop=[" Hello"], **go_on)[1] == ""
    assert chat(server, "story", stop=[" Hello"])[1] == said
