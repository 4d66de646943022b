"""Names are told from names in queries as Prometheus reads them."""

import pytest

from tests.promql import Matcher, Query, Selector, read_query


@pytest.mark.parametrize(
    ("text", "selectors", "groupings"),
    [
        ("up", [Selector("up")], set()),
        ("sum(rate(a_total[5m])) by (route)", [Selector("a_total")], {"route"}),
        ("sum by (le, job) (b)", [Selector("b")], {"le", "job"}),
        ("max(a) > 1 and on (job) b", [Selector("a"), Selector("b")], {"job"}),
        ("a / ignoring (x) group_left b", [Selector("a"), Selector("b")], {"x"}),
        ("a * on (x) group_left (y) b", [Selector("a"), Selector("b")], {"x", "y"}),
        ("a and on () b", [Selector("a"), Selector("b")], set()),
        ("(max(a) > bool 3600) or vector(0)", [Selector("a")], set()),
        ("a offset 5m", [Selector("a")], set()),
        ("a[5m:1m] unless b == 1e3", [Selector("a"), Selector("b")], set()),
        ("slo:burn:1h > 14.4", [Selector("slo:burn:1h")], set()),
        ("time() - a", [Selector("a")], set()),
        ("a # and b\n+ c", [Selector("a"), Selector("c")], set()),
        ("sum(rate(a[$__rate_interval]))", [Selector("a")], set()),
        ('label_replace(a, "b", "$1", "c", "by (d)")', [Selector("a")], set()),
        ('a{b="c"}', [Selector("a", (Matcher("b", "=", "c"),))], set()),
        ("a{b!='c'}[5m]", [Selector("a", (Matcher("b", "!=", "c"),))], set()),
        (
            'a{b=~"(c|d).*", e!~"f{2}",}',
            [Selector("a", (Matcher("b", "=~", "(c|d).*"), Matcher("e", "!~", "f{2}")))],
            set(),
        ),
        ('a{b="} by (c) \\"d\\""}', [Selector("a", (Matcher("b", "=", '} by (c) "d"'),))], set()),
        ('a{b=~"c\\\\.d"}', [Selector("a", (Matcher("b", "=~", r"c\.d"),))], set()),
    ],
)
def test_what_a_query_speaks_of(text: str, selectors: list[Selector], groupings: set[str]) -> None:
    assert read_query(text) == Query(selectors, groupings)


@pytest.mark.parametrize("text", ["a{b='c'", "a[5m", "sum by (a", '{b="c"}'])
def test_what_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not in list|without a name"):
        read_query(text)


@pytest.mark.parametrize(
    ("matcher", "matched"),
    [
        (Matcher("a", "=", "x"), {"x"}),
        (Matcher("a", "!=", "x"), {"", "xy"}),
        (Matcher("a", "=~", "x|"), {"", "x"}),
        (Matcher("a", "=~", "x.*"), {"x", "xy"}),
        (Matcher("a", "!~", "x"), {"", "xy"}),
    ],
)
def test_which_values_match(matcher: Matcher, matched: set[str]) -> None:
    assert {value for value in ("", "x", "xy") if Selector("m", (matcher,)).matches({"a": value} if value else {})} == matched
