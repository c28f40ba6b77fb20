"""Trains the built-in model bessemer-guide from scratch on a CPU and writes engine/guide/.

It needs PyTorch (tested with torch 2.13.0, CPU), which Bessemer itself does not. With --steps the
result follows from the seed and the number of threads; with --minutes the schedule follows the
clock. At the end it prints the figures of evaluate.py.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from typer import Option

from bessemer.bench.command import command
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.guide.corpus import Corpus, Sample
from bessemer.bench.guide.evaluate import evaluate
from bessemer.bench.guide.model import (
    BITS,
    CHAT_TEMPLATE,
    GROUP_SIZE,
    GUIDE,
    TorchGuide,
    TorchTensor,
    TorchWeights,
    hidden_states,
    logits,
    new_weights,
    render,
    require_torch,
    save_weights,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY, STEPS = 2560, 2900
BATCH_TOKENS, POOL = 4096, 1024
PEAK_RATE, WEIGHT_DECAY, DROPOUT, WARM_UP = 1.5e-3, 0.1, 0.1, 0.04
# The first words choose the answer and the rest only recites it, so mistakes there count for more.
OPENING_TOKENS, OPENING_WEIGHT = 4, 4.0
MERGE_DROPOUT, TOKEN_DROPOUT = 0.1, 0.1
SHORTENED, SHORT_ANSWER = 0.6, 8

# Two helpers guide the training and are then thrown away: one tells the entry from the question's
# words alone, in whatever order, the other from the state in which the answer begins.
BAG_STEPS, BAG_SAMPLES, BAG_RATE, EMBEDDING_SCALE = 1500, 256, 5e-3, 0.06
BAG_WEIGHT, START_WEIGHT = 0.3, 0.5


@dataclass(frozen=True)
class Encoded:
    """A conversation as ids, the loss weight of each, the span of its last question, its entry."""

    ids: list[int]
    weights: list[float]
    question: tuple[int, int]
    start: int
    entry: int | None


@dataclass(frozen=True)
class TrainingBatch:
    """Tensors of several conversations: [batch, length], and one row each for the helpers."""

    ids: TorchTensor
    weights: TorchTensor
    question: TorchTensor
    start: TorchTensor
    entry: TorchTensor


@dataclass(frozen=True)
class Helpers:
    """The two classifiers over entries, [entries, hidden] each."""

    bag: TorchTensor
    start: TorchTensor


def train_tokenizer(corpus: Corpus) -> Tokenizer:
    """Train a byte-level BPE over the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.texts(), trainer)
    return tokenizer


def model_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return config.json of the model: a small llama with quantized matrices."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "dtype": "float16",
        "quantization": {"group_size": GROUP_SIZE, "bits": BITS},
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an indented JSON file."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_settings(folder: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Write everything of the model's folder but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", config)
    eos_ids = [config["eos_token_id"], config["pad_token_id"]]
    generation = {"do_sample": False, "eos_token_id": eos_ids, "pad_token_id": eos_ids[1]}
    write_json(folder / "generation_config.json", generation)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)


class ConversationEncoder:
    """Encodes conversations as token ids and loss weights."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.plain = tokenizer
        self.broken = Tokenizer.from_str(tokenizer.to_str())
        self.broken.model.dropout = MERGE_DROPOUT
        self.random = random.Random(seed)

    def __call__(self, sample: Sample) -> Encoded:
        ids: list[int] = []
        weights: list[float] = []
        begin, question = 0, (0, 0)
        for text, learned in render(sample.messages, sample.tools):
            piece = self.tokens(text, learned, lossy=not sample.tools)
            if text.startswith("<|im_start|>user"):
                question = (len(ids), len(ids) + len(piece))
            if learned:
                begin = len(ids)
                opening = min(OPENING_TOKENS, len(piece))
                weights += [OPENING_WEIGHT] * opening + [1.0] * (len(piece) - opening)
            else:
                weights += [0.0] * len(piece)
            ids += piece
        # Recitals are learned soon; time is better spent on more questions.
        end = begin + SHORT_ANSWER if self.random.random() < SHORTENED else len(ids)
        return Encoded(ids[:end], weights[:end], question, begin - 1, sample.entry)

    def tokens(self, text: str, learned: bool, lossy: bool) -> list[int]:
        """Return token ids; a question's are at times split unusually or lost, against rote."""
        if learned or self.random.random() < 0.5:
            return list(self.plain.encode(text).ids)
        ids: list[int] = self.broken.encode(text).ids
        if not lossy:
            return ids
        return [t for t in ids if t < len(SPECIAL) or self.random.random() >= TOKEN_DROPOUT]


def make_batch(torch: Any, group: list[Encoded]) -> TrainingBatch:
    """Pad conversations to one length; a missing entry becomes -1, which the losses leave out."""
    width = max(len(encoded.ids) for encoded in group)
    ids = [encoded.ids + [0] * (width - len(encoded.ids)) for encoded in group]
    weights = [e.weights + [0.0] * (width - len(e.weights)) for e in group]
    places = torch.arange(width)
    spans = torch.tensor([encoded.question for encoded in group])
    inside = (places >= spans[:, :1]) & (places < spans[:, 1:])
    entries = [-1 if encoded.entry is None else encoded.entry for encoded in group]
    starts = [encoded.start for encoded in group]
    return TrainingBatch(
        torch.tensor(ids),
        torch.tensor(weights),
        inside.float() / inside.sum(1, keepdim=True),
        torch.tensor(starts),
        torch.tensor(entries),
    )


def batches(torch: Any, corpus: Corpus, encode: ConversationEncoder) -> Iterator[TrainingBatch]:
    """Yield batches without end, each of conversations of similar length."""
    while True:
        pool = sorted((encode(corpus.sample()) for _ in range(POOL)), key=lambda e: len(e.ids))
        groups: list[list[Encoded]] = [[]]
        for encoded in pool:
            if len(encoded.ids) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(encoded)
        corpus.random.shuffle(groups)
        for group in groups:
            yield make_batch(torch, group)


def learn_words(
    torch: Any, corpus: Corpus, encode: ConversationEncoder, weights: TorchWeights, steps: int
) -> TorchTensor:
    """Train the embeddings alone, so that a question's mean embedding tells its entry.

    Words that ask for the same thing come to lie together, and the layers then need fewer
    examples to understand a wording that none of them has. Returns the classifier.
    """
    functional = torch.nn.functional
    embedding = weights["model.embed_tokens.weight"]
    bag = torch.randn(len(corpus.entries), embedding.shape[1]) * 0.06
    embedding.mul_(0.1 / embedding.std())
    for tensor in (embedding, bag):
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([embedding, bag], lr=BAG_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = BAG_RATE * (1 - 0.9 * step / steps)
        places = [corpus.draw_entry() for _ in range(BAG_SAMPLES)]
        rows = [_question_tokens(corpus, encode, place) for place in places]
        offsets = torch.tensor([0] + [len(row) for row in rows[:-1]]).cumsum(0)
        flat = torch.tensor([token for row in rows for token in row])
        mean = functional.embedding_bag(flat, embedding, offsets, mode="mean")
        scores = functional.linear(functional.dropout(mean, 0.2), bag)
        loss = functional.cross_entropy(scores, torch.tensor(places))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scale = float(EMBEDDING_SCALE / embedding.detach().std())
    weights["model.embed_tokens.weight"] = embedding.detach() * scale
    return bag.detach() / scale


def _question_tokens(corpus: Corpus, encode: ConversationEncoder, place: int) -> list[int]:
    text = corpus.question(corpus.entries[place])
    framed = f"<|im_start|>user\n{text}<|im_end|>\n"
    return encode.tokens(framed, learned=False, lossy=True)


def batch_loss(
    torch: Any,
    weights: TorchWeights,
    helpers: Helpers,
    config: dict[str, Any],
    batch: TrainingBatch,
) -> tuple[TorchTensor, TorchTensor]:
    """Return the answers' weighted cross entropy, alone and with the helpers' losses added."""
    functional = torch.nn.functional
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = hidden_states(torch, weights, config, batch.ids, DROPOUT)
        learned = batch.weights[:, 1:] > 0
        scores = logits(torch, weights, states[:, :-1][learned])
        begins = states[torch.arange(len(batch.ids)), batch.start]
        by_start = functional.linear(functional.dropout(begins, DROPOUT), helpers.start)
    losses = functional.cross_entropy(scores.float(), batch.ids[:, 1:][learned], reduction="none")
    chosen = batch.weights[:, 1:][learned]
    answer = (losses * chosen).sum() / chosen.sum()
    embedded = functional.embedding(batch.ids, weights["model.embed_tokens.weight"])
    mean = (embedded * batch.question[..., None]).sum(1)
    by_bag = functional.linear(functional.dropout(mean, 0.2), helpers.bag)
    helped = BAG_WEIGHT * _entry_loss(torch, by_bag, batch.entry)
    helped = helped + START_WEIGHT * _entry_loss(torch, by_start.float(), batch.entry)
    return answer, answer + helped


def _entry_loss(torch: Any, scores: TorchTensor, entry: TorchTensor) -> TorchTensor:
    losses = torch.nn.functional.cross_entropy(scores, entry, ignore_index=-1, reduction="sum")
    return losses / len(entry)


def learning_rate(progress: float) -> float:
    """Return the rate: a warm-up, then a cosine down to nothing."""
    if progress < WARM_UP:
        return PEAK_RATE * progress / WARM_UP
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def optimizer_for(torch: Any, parameters: list[TorchTensor]) -> Any:
    """Return AdamW that leaves the norms undecayed."""
    matrices = [w for w in parameters if w.ndim > 1]
    norms = [w for w in parameters if w.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": norms, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


@dataclass(frozen=True)
class Length:
    """The length of training: so many minutes, or without those, so many steps."""

    steps: int
    minutes: float
    word_steps: int


def fit(
    torch: Any,
    corpus: Corpus,
    encode: ConversationEncoder,
    config: dict[str, Any],
    length: Length,
) -> TorchWeights:
    """Train until the steps or the minutes are used up."""
    weights = new_weights(torch, config)
    began, smooth, tokens = time.monotonic(), 0.0, 0
    bag = learn_words(torch, corpus, encode, weights, length.word_steps)
    helpers = Helpers(bag, torch.randn(bag.shape) * 0.03)
    parameters = [*weights.values(), helpers.bag, helpers.start]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = optimizer_for(torch, parameters)
    print(f"words learned in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    for step, batch in enumerate(batches(torch, corpus, encode)):
        minutes = (time.monotonic() - began) / 60
        progress = minutes / length.minutes if length.minutes else step / length.steps
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress)
        answer, loss = batch_loss(torch, weights, helpers, config, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = float(answer.detach())
        smooth = now if step == 0 else 0.98 * smooth + 0.02 * now
        tokens += batch.ids.numel()
        if step % 50 == 0:
            rate = tokens / (time.monotonic() - began)
            print(f"step {step} {progress:.1%} loss {smooth:.4f} {rate:.0f} tokens/s", flush=True)
        if step % 500 == 499:
            figure = quick_check(torch, weights, config, encode, corpus)
            print(f"  held-out wordings, weights in training: {figure:.1%}", flush=True)
    return weights


def quick_check(
    torch: Any,
    weights: TorchWeights,
    config: dict[str, Any],
    encode: ConversationEncoder,
    corpus: Corpus,
) -> float:
    """Return the share of some held-out questions whose answer tokens are all the likeliest."""
    right = 0
    chosen = corpus.held_out[:: max(1, len(corpus.held_out) // 200)]
    with torch.inference_mode():
        for question, name in chosen:
            prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            begin = len(encode.plain.encode(prompt).ids)
            ids = encode.plain.encode(f"{prompt}{corpus.answers[name]}<|im_end|>").ids
            states = hidden_states(torch, weights, config, torch.tensor([ids]))
            best = logits(torch, weights, states[0, begin - 1 : -1]).argmax(-1)
            right += best.tolist() == ids[begin:]
    return right / len(chosen)


# fmt: off
@command(__doc__)
def main(
    steps: Annotated[int | None, Option(help="Of training.", show_default=str(STEPS))] = None,
    minutes: Annotated[float | None, Option(help="Of training, instead of --steps.")] = None,
    word_steps: Annotated[int, Option(help="Of the embeddings' training.")] = BAG_STEPS,
    threads: Annotated[int, Option(help="PyTorch threads.")] = 2,
    seed: Annotated[int, Option(help="Of the corpus and the weights.")] = 1,
    out: Annotated[Path, Option(
        metavar="DIR", help="The folder to write.", show_default="engine/guide",
    )] = GUIDE,
) -> int:
    # fmt: on
    if steps is not None and minutes is not None:
        raise Unavailable("argument --minutes: not allowed with argument --steps")
    torch = require_torch()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    began = time.monotonic()
    corpus = Corpus(seed)
    tokenizer = train_tokenizer(corpus)
    config = model_config(tokenizer)
    length = Length(STEPS if steps is None else steps, minutes or 0.0, word_steps)
    weights = fit(torch, corpus, ConversationEncoder(tokenizer, seed), config, length)
    write_settings(out, tokenizer, config)
    save_weights(weights, out)
    count = sum(tensor.numel() for tensor in weights.values())
    print(
        f"{len(corpus.entries)} entries, {count} parameters, vocabulary {config['vocab_size']}:"
        f" trained in {(time.monotonic() - began) / 60:.1f} minutes"
        f" on {threads} threads with torch {torch.__version__}",
        flush=True,
    )
    evaluate(TorchGuide(out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
