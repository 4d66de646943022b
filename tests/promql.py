"""What a query in PromQL speaks of: which metrics, by which labels. No parser: it tells names from names, and judges no query;
promtool does."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Strings first, since they may hold anything; then what a number or a duration begins with, so that `5m` is no name.
_TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*|[0-9][0-9A-Za-z.]*|[A-Za-z_:][\w:]*|[=!]~|[=!<>]=|\S""")
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"}


@dataclass(frozen=True)
class Matcher:
    label: str
    operator: str
    value: str

    def matches(self, value: str) -> bool:
        """As Prometheus does it: an absent label is an empty one, and a pattern is for the whole value."""
        found = bool(re.fullmatch(self.value, value)) if self.operator.endswith("~") else value == self.value
        return found != self.operator.startswith("!")


@dataclass(frozen=True)
class Selector:
    metric: str
    matchers: tuple[Matcher, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        return all(matcher.matches(labels.get(matcher.label, "")) for matcher in self.matchers)


@dataclass
class Query:
    """`groupings`: the labels by which something is added up or put together."""

    selectors: list[Selector] = field(default_factory=list)
    groupings: set[str] = field(default_factory=set)


def read_query(text: str) -> Query:
    """Raises ValueError where a bracket is not closed, or a selector has no name."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith("#")]
    query, place = Query(), 0
    while place < len(tokens):
        token, following = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
        place += 1
        if token == "[":
            place = tokens.index("]", place) + 1
        elif token == "{":
            raise ValueError(f"a selector without a name, in {text}")
        elif not _NAME.fullmatch(token) or token.lower() in _WORDS:
            continue
        elif token.lower() in _GROUPINGS:
            if following == "(":
                end = tokens.index(")", place)
                query.groupings |= {name for name in tokens[place + 1 : end] if name != ","}
                place = end + 1
        elif following == "{":
            end = tokens.index("}", place)
            query.selectors.append(Selector(token, tuple(_matchers(tokens[place + 1 : end]))))
            place = end + 1
        elif following != "(" and following.lower() not in {"by", "without"}:
            query.selectors.append(Selector(token))
    return query


def _matchers(tokens: list[str]) -> Iterator[Matcher]:
    while tokens:
        label, operator, value, *tokens = tokens
        yield Matcher(label, operator, re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] != "`" else value[1:-1])
        tokens = tokens[1:]
