"""A provider: a server that others run, as settings describe it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...translate.upstream.upstream import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The address of a server and how it is asked; times in seconds.

    A client's own key goes on to it where there is no `api_key` and `strip_auth` is off; with
    `pass_auth`, even where there is one. `models` are the names that it is known to have; None asks
    it for them.
    """

    name: str
    url: str  # its base URL, with /v1 or without
    format: Format = "openai"
    api_key: str | None = field(default=None, repr=False)
    strip_auth: bool = False
    pass_auth: bool = False
    stub_count_tokens: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = 10.0
    first_byte_timeout: float = 300.0
    idle_timeout: float = 300.0  # between two pieces of an answer
    max_concurrency: int = 0  # requests at once; 0: no limit
    models: tuple[str, ...] | None = None
