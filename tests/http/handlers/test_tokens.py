"""Texts to tokens and back through the whole server, against the tokenizers package itself."""

from typing import Any

import pytest
import tokenizers

from bessemer.http.hub import BUILT_IN
from tests.http.running import Server

TEXT = "Hé 👍<|im_end|>\n"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def oracle() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(BUILT_IN / "tokenizer.json"))


def ask(server: Server, path: str, **body: Any) -> Any:
    status, answer, _ = server.ask("POST", path, {"model": "bessemer-guide"} | body)
    assert status == 200, answer
    return answer


def test_as_llama_cpp_has_it(server: Server, oracle: tokenizers.Tokenizer) -> None:
    plain = oracle.encode(TEXT, add_special_tokens=False).ids
    assert ask(server, "/tokenize", content=TEXT) == {"tokens": plain}
    whole = oracle.encode(TEXT).ids
    assert ask(server, "/v1/tokenize", content=TEXT, add_special=True) == {"tokens": whole}
    as_text = ask(server, "/tokenize", content=TEXT, parse_special=False)["tokens"]
    assert len(as_text) > len(plain)
    pieces = ask(server, "/tokenize", content=TEXT, with_pieces=True)["tokens"]
    assert [each["id"] for each in pieces] == plain
    raw = [p.encode() if isinstance(p := each["piece"], str) else bytes(p) for each in pieces]
    assert b"".join(raw).decode() == TEXT
    back = ask(server, "/detokenize", tokens=plain)
    assert back == {"content": TEXT, "prompt": TEXT}  # vLLM reads the other name
    assert ask(server, "/detokenize", tokens=[])["content"] == ""
    assert ask(server, "/tokenize", content="") == {"tokens": []}


def test_as_vllm_has_it(server: Server, oracle: tokenizers.Tokenizer) -> None:
    whole = oracle.encode(TEXT)
    answer = ask(server, "/tokenize", prompt=TEXT, return_token_strs=True)
    assert answer["tokens"] == whole.ids and answer["count"] == len(whole.ids)
    assert answer["token_strs"] == whole.tokens and answer["max_model_len"] > 1000
    bare = ask(server, "/tokenize", prompt=TEXT, add_special_tokens=False)
    assert bare["tokens"] == oracle.encode(TEXT, add_special_tokens=False).ids
    assert "token_strs" not in bare
    chat = ask(server, "/tokenize", messages=HI)
    usage = ask(server, "/v1/chat/completions", messages=HI, max_tokens=1)["usage"]
    assert chat["count"] == len(chat["tokens"]) == usage["prompt_tokens"]


def test_the_text_of_a_conversation(server: Server, oracle: tokenizers.Tokenizer) -> None:
    prompt = ask(server, "/apply-template", messages=HI)["prompt"]
    tokens = ask(server, "/tokenize", messages=HI)["tokens"]
    assert oracle.encode(prompt, add_special_tokens=False).ids == tokens and "Hi" in prompt
    forged = ask(server, "/apply-template", messages=[{"role": "user", "content": TEXT}])["prompt"]
    assert TEXT.strip() in forged  # without what guards it


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": 3}, "content"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/apply-template", {"content": "x"}, "messages"),
        ("/tokenize", {"model": "absent", "content": "x"}, "model"),
    ],
)
def test_what_is_wrong_is_named(server: Server, path: str, body: Any, field: str) -> None:
    status, answer, _ = server.ask("POST", path, body)
    assert status in (400, 404) and answer["error"]["param"].startswith(field)
