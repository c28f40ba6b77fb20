"""The choice of a model too small to answer: after which description a request is likeliest.

A noisy channel's classes: log P(request | description), over the request's tokens alone. Of the
forms that were tried on SmolLM2-135M, with priors and without, this one chose best.
"""

from collections.abc import Sequence
from contextlib import aclosing

from ...translate.chat import Completion, Failure, GenerationOptions, PromptLogprobs
from ...translate.tokens import Tokenize
from .auto_reader import Reader, shortened
from .schema import RouteTable

SCORED = GenerationOptions(max_tokens=0, prompt_logprobs=0)
# Tokens of a request that are read after each description, and after all of them together.
LEAST, MOST, TOGETHER = 16, 64, 384
LONG_WORDS = 16  # characters of a token, more than which hardly any has


async def likeliest(
    reader: Reader, routes: Sequence[RouteTable], text: str, caller: str
) -> tuple[str, str]:
    """Return a route's name, and what speaks for it. Raises Refusal."""
    most = min(MOST, max(LEAST, TOGETHER // len(routes)))
    words = ends(await _tokens(reader, f" {shortened(text, LONG_WORDS * most)}"), most)
    openings = [await _tokens(reader, opening(route), first=True) for route in routes]
    prompts = tuple((*each, *words) for each in openings)
    scores = await _scores(reader, Completion("", prompts, SCORED, client=caller), len(words))
    by_name = {route.name or "": score for route, score in zip(routes, scores, strict=True)}
    order = sorted(by_name, key=by_name.__getitem__, reverse=True)
    shown = ", ".join(f"{name} {by_name[name]:.1f}" for name in order)
    return order[0], f"log likelihoods: {shown}"


def opening(route: RouteTable) -> str:
    """Return what a request is read after."""
    name = (route.name or "").replace("-", " ").replace("_", " ")
    about = (route.description or "").strip().rstrip(".")
    return f"Here is a question about {name}. {about}.\n\nQuestion:"


def ends(tokens: Sequence[int], most: int) -> Sequence[int]:
    """Return the beginning and the end of what is too long: either has what is asked."""
    if len(tokens) <= most:
        return tokens
    half = most // 2
    return (*tokens[: most - half], *tokens[-half:])


async def _tokens(reader: Reader, text: str, first: bool = False) -> Sequence[int]:
    about = Tokenize("", text, add_special=first, parse_special=False)
    return (await reader.tokenize(about)).ids


async def _scores(reader: Reader, completion: Completion, last: int) -> list[float]:
    """Return the log probability of the `last` tokens of each prompt."""
    scores: list[list[float]] = [[] for _ in completion.prompts]
    async with aclosing(reader.events(completion)) as events:
        async for event in events:
            if isinstance(event, Failure):
                raise event.refusal
            if isinstance(event, PromptLogprobs):
                scores[event.choice] += (each[0].logprob for each in event.tokens if each)
    return [sum(each[-last:]) for each in scores]
