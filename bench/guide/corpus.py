"""The text that the built-in model learns: bench/guide/*.toml, expanded into many wordings."""

import hashlib
import json
import random
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NOT_ENTRIES = {"tools", "free", "blind", "wordings"}
HELD_OUT_PERCENT = 4


def read(name: str) -> dict[str, Any]:
    """Parse one file of the corpus."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Wordings:
    """The variations of questions, from wordings.toml."""

    frames: dict[str, list[str]]
    openings: list[list[str]]
    synonyms: list[list[str]]
    prefixes: list[str]
    suffixes: list[str]
    function_words: list[str]
    system_prompts: list[str]


WORDINGS = Wordings(**read("wordings"))
NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wqwrtyuuioqasdfghjkasxcvbn", strict=True))


@dataclass(frozen=True)
class GuideEntry:
    """One answer and every wording of its question; `framed` is by the name of its frame."""

    name: str
    answer: str
    questions: tuple[str, ...]
    words: tuple[str, ...]
    framed: tuple[tuple[str, str], ...]


@dataclass
class Sample:
    """A conversation in chat-message form; the assistant's messages are what is learned."""

    messages: list[dict[str, str]]
    # The place of the last turn's entry in the list of entries; tool calls belong to none.
    entry: int | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)


def entries() -> list[GuideEntry]:
    """Return all entries in a fixed order, with names unique over the files."""
    known: dict[str, GuideEntry] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        if path.stem in NOT_ENTRIES:
            continue
        for name, raw in read(path.stem).items():
            if name in known:
                raise ValueError(f"{path.name}: the entry {name} exists already")
            known[name] = _entry(name, raw)
    return list(known.values())


def _entry(name: str, raw: dict[str, Any]) -> GuideEntry:
    framed = tuple(
        (f"{kind}:{frame}", frame.format(phrase))
        for kind, frames in WORDINGS.frames.items()
        for phrase in raw.get(kind, ())
        for frame in frames
    )
    return GuideEntry(name, raw["answer"], tuple(raw["ask"]), tuple(raw.get("words", ())), framed)


def free_questions() -> list[tuple[str, str]]:
    """Return the free paraphrases: (question, name of the entry that answers it)."""
    return [(question, name) for question, name in read("free")["questions"]]


def blind_questions(all_entries: list[GuideEntry]) -> list[tuple[str, str]]:
    """Return questions of somebody who saw only the answers, less what training holds too."""
    trained = {normal(text) for entry in all_entries for text in entry.questions}
    trained |= {normal(text) for entry in all_entries for _, text in entry.framed}
    pairs: list[list[str]] = read("blind")["questions"]
    return [(question, name) for question, name in pairs if normal(question) not in trained]


def normal(text: str) -> str:
    """Return the text without case, punctuation and repeated spaces, to compare wordings."""
    return " ".join(re.sub(r"[^\w/ ]", " ", text.lower()).split())


def _is_held_out(entry: GuideEntry, frame: str) -> bool:
    digest = hashlib.sha256(f"{entry.name}|{frame}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def held_out(all_entries: list[GuideEntry]) -> list[tuple[str, str]]:
    """Return questions that training never sees: all phrases of some (entry, frame) pairs."""
    seen = {normal(text) for entry in all_entries for text in entry.questions + entry.words}
    chosen: dict[str, tuple[str, str]] = {}
    for entry in all_entries:
        for frame, text in entry.framed:
            if _is_held_out(entry, frame) and normal(text) not in seen:
                chosen.setdefault(normal(text), (text, entry.name))
    return list(chosen.values())


class Corpus:
    """Draws training conversations; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.entries = entries()
        self.held_out = held_out(self.entries)
        self.forbidden = {normal(q) for q, _ in self.held_out + free_questions()}
        self.answers = {entry.name: entry.answer for entry in self.entries}
        self.unknown = next(entry for entry in self.entries if entry.name == "unknown")
        self.tools = read("tools")["tool"]
        self.framed = {
            entry.name: [text for _, text in entry.framed if normal(text) not in self.forbidden]
            for entry in self.entries
        }

    def texts(self) -> list[str]:
        """Return every plain text once, for the tokenizer's training."""
        lines = WORDINGS.system_prompts + WORDINGS.prefixes + WORDINGS.suffixes
        lines += [text for group in WORDINGS.openings + WORDINGS.synonyms for text in group]
        for entry in self.entries:
            lines += [entry.answer] * 6 + list(entry.questions) * 3 + list(entry.words)
            lines += self.framed[entry.name][::7]
        for _ in range(400):
            lines += [message["content"] for message in self._tool_sample().messages]
        lines += [json.dumps(_tool_schema(tool)) for tool in self.tools] * 40
        return lines + [text.capitalize() for text in lines]

    def sample(self) -> Sample:
        """Draw a conversation: at times with a system prompt, earlier turns or tools."""
        chance = self.random.random()
        if chance < 0.03:
            return self._tool_sample()
        if chance < 0.035:
            return Sample(*self._turns(), self._some_tools())
        sample = Sample(*self._turns())
        if self.random.random() < 0.3:
            system = self.random.choice(WORDINGS.system_prompts)
            sample.messages.insert(0, {"role": "system", "content": system})
        return sample

    def _turns(self) -> tuple[list[dict[str, str]], int]:
        count = self.random.choices((1, 2, 3), (85, 12, 3))[0]
        turns: list[dict[str, str]] = []
        place = 0
        for _ in range(count):
            place = self.draw_entry()
            entry = self.entries[place]
            turns.append({"role": "user", "content": self.question(entry)})
            turns.append({"role": "assistant", "content": entry.answer})
        return turns, place

    def draw_entry(self) -> int:
        """Draw the place of an entry; the unknown, with the most wordings, comes more often."""
        if self.random.random() < 0.05:
            return self.entries.index(self.unknown)
        return self.random.randrange(len(self.entries))

    def question(self, entry: GuideEntry) -> str:
        """Draw a varied wording of the entry's question, never one that is held out."""
        while True:
            text = vary(self.random, self._plain(entry))
            if text.strip() and normal(text) not in self.forbidden:
                return text

    def _plain(self, entry: GuideEntry) -> str:
        chance = self.random.random()
        framed = self.framed[entry.name]
        if entry.words and chance < 0.10:
            return self.random.choice(entry.words)
        if framed and chance < 0.45:
            return self.random.choice(framed)
        return self.random.choice(entry.questions)

    def _some_tools(self) -> list[dict[str, Any]]:
        chosen = self.random.sample(self.tools, self.random.randint(1, len(self.tools)))
        return [_tool_schema(tool) for tool in chosen]

    def _tool_sample(self) -> Sample:
        """Draw a question that needs a tool, the call, at times its result and the answer."""
        tools = self.random.sample(self.tools, self.random.randint(1, len(self.tools)))
        tool = self.random.choice(tools)
        value = self.random.choice(tool["values"])
        question = self.random.choice(tool["ask"]).format(value=value)
        call = json.dumps({"name": tool["name"], "arguments": {tool["argument"]: value}})
        messages = [
            {"role": "user", "content": _finish(self.random, question)},
            {"role": "assistant", "content": f"<tool_call>\n{call}\n</tool_call>"},
        ]
        if self.random.random() < 0.4:
            result = self.random.choice(tool["results"])
            messages.append({"role": "tool", "content": result})
            answer = tool["result"].format(result=result)
            messages.append({"role": "assistant", "content": answer})
        return Sample(messages, tools=[_tool_schema(each) for each in tools])


def _tool_schema(tool: dict[str, Any]) -> dict[str, Any]:
    properties = {tool["argument"]: {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": [tool["argument"]]}
    function = {"name": tool["name"], "description": tool["description"], "parameters": parameters}
    return {"type": "function", "function": function}


def vary(rng: random.Random, text: str) -> str:
    """Return the question as another person might type it."""
    if rng.random() < 0.45:
        text = _other_opening(rng, text)
    if rng.random() < 0.45:
        text = _synonyms(rng, text)
    if rng.random() < 0.30:
        text = _drop_words(rng, text, 0.40, only_function_words=True)
    if rng.random() < 0.30:
        text = _drop_words(rng, text, 0.20, only_function_words=False)
    if rng.random() < 0.25:
        # What is asked must show in the words whatever their order.
        text = _shuffle_words(rng, text)
    if rng.random() < 0.12:
        text = rng.choice(WORDINGS.prefixes) + text
    if rng.random() < 0.10:
        text += rng.choice(WORDINGS.suffixes)
    if rng.random() < 0.10:
        text = _typo(rng, text)
    return _finish(rng, text)


def _other_opening(rng: random.Random, text: str) -> str:
    lower = text.lower()
    fitting = [
        (opening, group)
        for group in WORDINGS.openings
        for opening in group
        if lower.startswith(opening)
    ]
    if not fitting:
        return text
    opening, group = rng.choice(fitting)
    return rng.choice(group) + text[len(opening) :]


def _synonyms(rng: random.Random, text: str) -> str:
    for group in WORDINGS.synonyms:
        word = next((w for w in group if re.search(rf"(?<![\w/.-]){w}(?![\w/.-])", text)), None)
        if word and rng.random() < 0.4:
            text = re.sub(rf"(?<![\w/.-]){word}(?![\w/.-])", rng.choice(group), text, count=1)
    return text


def _drop_words(rng: random.Random, text: str, rate: float, *, only_function_words: bool) -> str:
    words = [
        word
        for word in text.split(" ")
        if (only_function_words and word.lower() not in WORDINGS.function_words)
        or rng.random() >= rate
    ]
    return " ".join(words) if words else text


def _shuffle_words(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    rng.shuffle(words)
    return " ".join(words)


def _typo(rng: random.Random, text: str) -> str:
    places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    dropped = text[:at] + text[at + 1 :]
    doubled = text[:at] + text[at] + text[at:]
    missed = text[:at] + NEIGHBOURS.get(text[at], "e") + text[at + 1 :]
    return rng.choice((swapped, dropped, doubled, missed))


def _finish(rng: random.Random, text: str) -> str:
    """Vary case and final punctuation."""
    chance = rng.random()
    if chance < 0.50:
        text = text[:1].upper() + text[1:]
    elif chance < 0.60:
        text = text.lower()
    elif chance < 0.62:
        text = text.upper()
    elif chance < 0.65:
        text = text.title()
    if rng.random() < 0.06:
        text = text.replace("'", "")
    return text + rng.choices(("", "?", ".", "!", "??", " ?"), (42, 45, 8, 3, 1, 1))[0]
