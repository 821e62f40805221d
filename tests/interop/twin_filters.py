"""Filters, rules, sorts and expand parameters made by chance for what a generator's collections have."""

OPERATORS = ("=", "=", "!=", ">", ">=", "<", "<=", "~", "!~")
LITERALS = ("''", "'a'", "'abc'", "'%b%'", "'it\\'s'", "0", "1", "-1.5", "100", "true", "false", "null", "'true'")
MACROS = ("@now", "@todayStart", "@yearEnd", "@year", "@weekday", "@yesterday")
BROKEN = (
    "title =",
    "(id = 1",
    "id = 'x",
    "id == 1",
    "nothing = 1",
    "id ?? 1",
    "&&",
    "id = 1 &&",
    "@nothing.x = 1",
    "id",
)
PATH_MAX = 3
UNEVEN = ("password", "autodate")
"""Types whose values are not the same on both sides."""


class Filters:
    """Makes them from the collections of a generator, which change meanwhile."""

    def __init__(self, random, collections):
        self._random = random
        self._collections = collections
        self._is_client = False

    def rule(self, made, is_create=False):
        """Make a rule, which is nearly always well-formed; for new records one without comparisons of values."""
        self._is_client = False
        own = [
            "@request.auth.id != ''",
            "@request.auth.id = id",
            "@request.auth.verified = true",
            "@request.query.x:isset = false",
            "@request.body.title:isset = false || id != ''",
            "@request.method != 'DELETE'",
            "@request.context = 'default'",
        ]
        if is_create:
            return f"{self._random.choice(own)} {self._join()} {self._random.choice(own)}"
        first = self._random.choice([*own, self._comparison(made, True)])
        return first if self._random.random() < 0.6 else f"{first} {self._join()} {self._comparison(made, True)}"

    def filter(self, made, is_trusted):
        """Make a filter, sometimes a broken one.

        A client's goes only through what it may list, and asks for no addresses: there Pando tells less.
        """
        self._is_client = not is_trusted
        if self._random.random() < 0.05:
            return self._random.choice(BROKEN)
        return self._group(made, is_trusted, 0)

    def sort(self, made, is_trusted):
        """Make a sort that leaves nothing open."""
        self._is_client = not is_trusted
        found = []
        for _ in range(self._random.randint(0, 2)):
            path = self._path(made, 1) if self._random.random() < 0.95 else "nothing"
            path = path.removesuffix(":each")  # which of several it is then is left open
            found.append(self._random.choice(["", "-", "+"]) + path)
        return ",".join([*found, self._random.choice(["id", "-id"])])

    def expand(self, made):
        """Make an `expand` parameter."""
        self._is_client = False
        paths = [self._relations(made) for _ in range(self._random.randint(1, 2))]
        return "expand=" + ",".join(path for path in paths if path)

    def _relations(self, made):
        found = []
        for _ in range(self._random.randint(1, PATH_MAX)):
            steps = [*self._forward(made), *self._back(made)]
            if not steps:
                break
            name, made = self._random.choice(steps)
            found.append(name)
        return ".".join(found) if self._random.random() < 0.95 else "nothing"

    def _forward(self, made):
        by_id = {each.id: each for each in self._collections.values()}
        relations = [each for each in made.fields if each["type"] == "relation"]
        found = [(each["name"], by_id[each["collectionId"]]) for each in relations if each["collectionId"] in by_id]
        return [(name, target) for name, target in found if self._may_ask(target)]

    def _back(self, made):
        return [
            (f"{other.name}_via_{each['name']}", other)
            for other in self._collections.values()
            for each in other.fields
            if each["type"] == "relation" and each["collectionId"] == made.id and self._may_ask(other)
        ]

    def _may_ask(self, made):
        return not self._is_client or made.rules.get("listRule") == ""

    def _group(self, made, is_trusted, depth):
        parts = []
        for _ in range(self._random.randint(1, 3)):
            is_nested = depth < 2 and self._random.random() < 0.2
            each = f"({self._group(made, is_trusted, depth + 1)})" if is_nested else self._comparison(made, is_trusted)
            parts += [each, self._join()]
        return " ".join(parts[:-1])

    def _join(self):
        return self._random.choice(["&&", "||"])

    def _comparison(self, made, is_trusted):
        any_ = "?" if self._random.random() < 0.3 else ""
        left, operator, right = self._operand(made, is_trusted), self._random.choice(OPERATORS), self._right(made)
        if operator == "!=" and right in ("true", "false"):
            operator = "="  # SQLite asks for truth then, also of what is absent
        return f"{left} {any_}{operator} {right}"

    def _right(self, made):
        if self._random.random() < 0.75:
            return self._random.choice(MACROS) if self._random.random() < 0.1 else self._random.choice(LITERALS)
        return self._path(made, self._random.randint(1, PATH_MAX))

    def _operand(self, made, is_trusted):
        chance = self._random.random()
        others = [each for each in self._collections.values() if self._may_ask(each)]
        if chance < 0.05 and others:
            other = self._random.choice(others)
            alias = self._random.choice(["", ":x"])
            return f"@collection.{other.name}{alias}.{self._path(other, 1)}"
        if chance < 0.1 and is_trusted:
            return self._random.choice(["@request.method", "@request.auth.collectionName", "@request.query.filter"])
        if chance < 0.13:
            return f"geoDistance(1, 2, {self._random.choice(['3', 'place.lon'])}, 4)"
        if chance < 0.16:
            return "strftime('%Y', created)"
        return self._path(made, self._random.randint(1, PATH_MAX))

    def _path(self, made, length):
        """Make a path of at most so many names; the last is a field, sometimes with a modifier."""
        found = []
        for _ in range(length - 1):
            steps = [*self._forward(made), *self._back(made)]
            if not steps or self._random.random() < 0.5:
                break
            name, made = self._random.choice(steps)
            found.append(name)
        plain = [each for each in made.fields if each["type"] not in UNEVEN and _is_even(each)]
        each = self._random.choice([*plain, {"name": "id", "type": "text"}])
        return ".".join([*found, each["name"] + self._ending(each)])

    def _ending(self, each):
        chance = self._random.random()
        if each["type"] == "file":
            return ":length"
        if each["type"] == "json":
            return self._random.choice(["", ".a", ".b.c", ".0"])
        if each["type"] == "geoPoint":
            return self._random.choice(["", ".lon", ".lat"])
        if each["type"] in ("select", "relation") and each.get("maxSelect", 1) > 1 and chance < 0.3:
            return self._random.choice([":length", ":each"])
        return ":lower" if each["type"] in ("text", "email", "editor") and chance < 0.1 else ""


def _is_even(each):
    """Names of files are partly made up: only how many there are is the same on both sides."""
    return each["type"] != "file" or each.get("maxSelect", 1) > 1
