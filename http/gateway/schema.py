"""The tables of config.toml, each with its keys' types, defaults and descriptions."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ...translate.upstream.upstream import Format

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]*$")]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Tokens = Annotated[int, Meta(ge=1)]
Target = Annotated[
    str,
    Meta(
        min_length=1,
        description="PROVIDER/MODEL, a model of this server's, or a tier.",
    ),
]


class Table(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, omit_defaults=True):
    """A table whose keys are all known: others are mistakes."""


class ModelTable(Table, frozen=True, kw_only=True):
    """A model of this server's own."""

    path: Annotated[str, Meta(min_length=1, description="A directory, GGUF file or Hub id.")]
    name: Annotated[str, Meta(min_length=1, description="What clients call it.")] | None = None
    chat_template: Annotated[str, Meta(description="A Jinja file to use instead.")] | None = None
    tool_parser: Annotated[str, Meta(description="How it writes calls of tools.")] | None = None


class ProviderTable(Table, frozen=True, kw_only=True):
    """A server that others run."""

    url: Annotated[str, Meta(pattern="^https?://[^ ]+$", description="Its base URL.")]
    format: Annotated[Format, Meta(description="The dialect that it is asked in.")] = "openai"
    api_key: (
        Annotated[
            str,
            Meta(
                description="Its key: env:NAME, file:PATH, keychain:NAME on macOS, or the key "
                "itself. Without one the client's own goes on to it."
            ),
        ]
        | None
    ) = None
    strip_auth: Annotated[bool, Meta(description="Let no key of a client's go on.")] = False
    pass_auth: Annotated[
        bool, Meta(description="Let a client's own key go on, even where there is an api_key.")
    ] = False
    stub_count_tokens: Annotated[
        bool, Meta(description="Answer that 0 tokens were counted, without asking.")
    ] = False
    headers: Annotated[dict[str, str], Meta(description="Headers of every request to it.")] = field(
        default_factory=dict
    )
    connect_timeout: Annotated[Seconds, Meta(description="Until it is reached.")] = 10.0
    first_byte_timeout: Annotated[Seconds, Meta(description="Until it begins to answer.")] = 300.0
    idle_timeout: Annotated[Seconds, Meta(description="Between two pieces of an answer.")] = 300.0
    max_concurrency: Annotated[
        int, Meta(ge=0, description="Requests to it at once; 0 is no limit.")
    ] = 0
    models: (
        Annotated[
            list[str],
            Meta(description="The models that it has; it is asked where this is left out."),
        ]
        | None
    ) = None


class AskedTable(Table, frozen=True, kw_only=True):
    """What requests are given that go this way, where they do not say it, or more than they may."""

    max_tokens: Annotated[Tokens, Meta(description="Where a request names no length.")] | None = (
        None
    )
    max_tokens_cap: Annotated[Tokens, Meta(description="The longest answer.")] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    thinking: (
        Annotated[bool, Meta(description="Whether the model thinks, if it can be told.")] | None
    ) = None
    system: Annotated[str, Meta(description="A system message, before the others.")] | None = None


class RouteTable(AskedTable, frozen=True, kw_only=True):
    """Where requests go whose model matches a pattern, or whose text fits a description."""

    pattern: (
        Annotated[str, Meta(description="A regular expression found in the model's name.")] | None
    ) = None
    provider: Annotated[
        str, Meta(min_length=1, description="A provider, or local for this server's models.")
    ]
    model: (
        Annotated[str, Meta(min_length=1, description="The model to ask; else the one named.")]
        | None
    ) = None
    name: Annotated[Name, Meta(description="What the auto-router calls it.")] | None = None
    description: (
        Annotated[str, Meta(min_length=1, description="Which requests it is for.")] | None
    ) = None
    fallbacks: Annotated[
        list[Target], Meta(description="Where requests go, in order, when it does not answer.")
    ] = field(default_factory=list)
    lossy: Annotated[
        bool, Meta(description="Leave out what the provider's dialect cannot say.")
    ] = False


class DefaultTable(Table, frozen=True, kw_only=True):
    """Where requests go that nothing else claims."""

    provider: Annotated[str, Meta(min_length=1)] = "local"
    model: Annotated[str, Meta(min_length=1)] | None = None


class TierTable(AskedTable, frozen=True, kw_only=True):
    """Targets under one name; each stands in for those before it."""

    targets: Annotated[list[Target], Meta(min_length=1)]
    choice: Annotated[
        Literal["order", "weighted", "least_busy"],
        Meta(description="Which target is first: in order, by weights, or the least busy."),
    ] = "order"
    weights: (
        Annotated[
            list[Annotated[float, Meta(gt=0)]], Meta(description="Of the targets, in their order.")
        ]
        | None
    ) = None
    first_byte: (
        Annotated[Seconds, Meta(description="Until the next target is asked instead.")] | None
    ) = None
    hedge: (
        Annotated[
            Seconds,
            Meta(description="Until the next target is asked as well; the first answer counts."),
        ]
        | None
    ) = None
    lossy: bool = False


class AutoRouterTable(Table, frozen=True, kw_only=True):
    """What reads a request and chooses a route by the routes' descriptions."""

    enabled: bool = False
    force: Annotated[bool, Meta(description="Choose for all requests, whatever they name.")] = False
    model: Annotated[str, Meta(min_length=1, description="A model of this server's.")] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=60000)] = 2000

    @property
    def on(self) -> bool:
        return self.enabled or self.force


class KeyTable(Table, frozen=True, kw_only=True):
    """A client's key, with what it may ask and how much."""

    key: Annotated[
        str,
        Meta(min_length=1, description="env:NAME, file:PATH, keychain:NAME, or the key itself."),
    ]
    models: (
        Annotated[
            list[str], Meta(description="The names that it may ask; * stands for any characters.")
        ]
        | None
    ) = None
    requests_per_minute: Annotated[int, Meta(ge=0, description="0 is no limit.")] = 0
    tokens_per_minute: Annotated[
        int, Meta(ge=0, description="Of prompts and answers; 0 is no limit.")
    ] = 0
    budget: (
        Annotated[float, Meta(ge=0, description="The most to spend a period, by [prices].")] | None
    ) = None
    period: Annotated[
        Literal["day", "month"], Meta(description="When its budget begins anew, in UTC.")
    ] = "month"


class PriceTable(Table, frozen=True, kw_only=True):
    """What a million tokens of a model cost, in whatever currency budgets are."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    cached_input: Annotated[float, Meta(ge=0, description="Else as input.")] | None = None
    cache_write: Annotated[float, Meta(ge=0, description="Else as input.")] | None = None


class ConfigTables(Table, frozen=True, kw_only=True):
    """A whole config.toml; the keys of [server] and [engine] are the flags of `bessemer serve`."""

    server: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    models: list[ModelTable] = field(default_factory=list)
    providers: dict[Name, ProviderTable] = field(default_factory=dict)
    aliases: dict[str, Target] = field(default_factory=dict)
    routes: list[RouteTable] = field(default_factory=list)
    default: DefaultTable | None = None
    tiers: dict[Name, TierTable] = field(default_factory=dict)
    auto_router: AutoRouterTable = AutoRouterTable()
    keys: dict[Name, KeyTable] = field(default_factory=dict)
    prices: Annotated[
        dict[str, PriceTable],
        Meta(description="By PROVIDER/MODEL, where * stands for any characters."),
    ] = field(default_factory=dict)

    @property
    def leads_elsewhere(self) -> bool:
        """Whether a request may be answered by what its model's name alone does not say."""
        named = self.providers, self.aliases, self.routes, self.tiers, self.keys
        return any(named) or self.default is not None or self.auto_router.on


NO_TABLES = ConfigTables()
NOTHING_ASKED = AskedTable()
