"""The table of routes: (method, path) to a handler and the way in which it speaks of errors."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from ..engine.request import Refusal
from ..translate.errors import anthropic_error, ollama_error, openai_error
from ..translate.operation import Operation
from .message import HttpRequest, Reply, Response

Handler = Callable[[HttpRequest], Awaitable[Reply]]
EncodeError = Callable[[Refusal, str | None], bytes]

VERSION = "/v1"  # may be left out, or be there twice: base URLs are given with and without it
OLLAMA = "/api/"  # what all of its paths begin with
ID = "{id}"  # in a path: all that stands there, slashes included


@dataclass(frozen=True, slots=True)
class Route:
    """A path's handler; a `public` one asks for no key and counts against no limit.

    One without an `operation` is not described.
    """

    handler: Handler
    encode_error: EncodeError = openai_error
    public: bool = False
    operation: Operation | None = None


async def root(_: HttpRequest) -> Response:
    """Answer clients that look whether anybody is there."""
    return Response(200, b'{"name":"bessemer"}')


class RouteTable:
    """The routes by path, without `/v1` and slashes at either end; HEAD is answered as GET."""

    def __init__(self, routes: Mapping[tuple[str, str], Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {"/": {"GET": Route(root, public=True)}}
        self._around: dict[tuple[str, str], dict[str, Route]] = {}  # what stands around an id
        for (method, path), route in routes.items():
            before, id, after = path.partition(ID)
            if id:
                self._around.setdefault((plain(before), after), {})[method] = route
            else:
                self._exact.setdefault(plain(before), {})[method] = route

    def find(self, request: HttpRequest) -> Route:
        methods = self._methods(request.path)
        if not methods:
            raise self._unknown(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            allowed = ", ".join(self.allowed(request.path))
            raise Refusal(
                405, "method_not_allowed", f"{request.path} takes {allowed}, not {request.method}."
            )
        return methods[method]

    def allowed(self, path: str) -> tuple[str, ...]:
        """Return the methods of a path, for the Allow header."""
        methods = sorted(self._methods(path))
        return (*methods, "HEAD") if "GET" in methods else tuple(methods)

    def encode_error(self, request: HttpRequest) -> EncodeError:
        """Return the endpoint's own encoder; where there is none, one that suits the client."""
        for route in self._methods(request.path).values():
            return route.encode_error
        if plain(request.path).startswith(OLLAMA):
            return ollama_error
        return anthropic_error if request.header(b"anthropic-version") else openai_error

    def _unknown(self, path: str) -> Refusal:
        """Refuse a path; where it ends like an endpoint's, its beginning is a wrong base URL's."""
        ends = [end for end in self._exact if end != "/" and path.rstrip("/").endswith(end)]
        longest = max(ends, key=len, default="")
        message = f"There is no {path} here."
        if longest:
            message += (
                f" The client's base URL seems to be wrong: it should end after the port or in "
                f"{VERSION}, so that this is {VERSION}{longest}."
            )
        return Refusal(404, "not_found", message)

    def _methods(self, path: str) -> Mapping[str, Route]:
        path = plain(path)
        if path in self._exact:
            return self._exact[path]
        found = (each for each in self._around if _stands_between(path, *each))
        longest = max(found, key=lambda each: len("".join(each)), default=("", ""))
        return self._around.get(longest, {})


def _stands_between(path: str, before: str, after: str) -> bool:
    """Return whether a path has an id between these two."""
    before += "/"
    long = len(path) > len(before) + len(after)
    return long and path.startswith(before) and path.endswith(after)


def plain(path: str) -> str:
    """Return one spelling for all that mean the same path."""
    path = "/" + path.strip("/")
    while path == VERSION or path.startswith(VERSION + "/"):
        path = "/" + path.removeprefix(VERSION).strip("/")
    return path


def rest(request: HttpRequest, prefix: str, suffix: str = "") -> str:
    """Return what stands for {id} in a path between `prefix` and `suffix`, percent-decoded."""
    path = plain(request.path).removeprefix(plain(prefix))
    return unquote(path.removesuffix(suffix).strip("/"))
