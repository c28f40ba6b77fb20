"""The upstreams, by the formats that settings name."""

from collections.abc import Mapping

from .anthropic import UPSTREAM as ANTHROPIC
from .ollama import UPSTREAM as OLLAMA
from .openai_chat import UPSTREAM as OPENAI_CHAT
from .responses import UPSTREAM as RESPONSES
from .upstream import Format, Upstream

UPSTREAMS: Mapping[Format, Upstream] = {
    each.format: each for each in (OPENAI_CHAT, RESPONSES, ANTHROPIC, OLLAMA)
}
