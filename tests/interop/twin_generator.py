"""A program of requests made by chance from a seed, with a model of what there is, so that most of them mean something.

Definitions, records, rules, filters and sorts are good ones and bad ones. Records have ids that are given, so that
lists can be sorted by them. Not here: filters (`twin_filters`), requests made by hand (`twin_list`).
"""

from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote

from twin_filters import Filters
from twin_requests import COLLECTIONS, Ask, delete, get, patch, post, records
from twin_requests import field as definition

PASSWORD = "a password"
NAMES = (
    "title",
    "n",
    "flag",
    "mail",
    "link",
    "day",
    "kind",
    "kinds",
    "one",
    "many",
    "doc",
    "place",
    "page",
    "note",
    "extra",
)
WORDS = ("", "a", "abc", "A b", "x%y", "it's", "é", "10", "-1.5", "null", "true", "2026-01-02", "aaa bbb ccc")
MOMENTS = ("", "2026-01-02 03:04:05.678Z", "2026-01-02", "2025-12-31T23:59:59+01:00", "nothing", "2030-06-07 08:09:10Z")
NUMBERS = (0, 1, -1, 2.5, 100, 1e3, -0.25, 12345678901, "7", "x", None, True)
DOCUMENTS = (None, True, 0, 5, "text", "", "5", [], [1, "a"], {}, {"a": 1, "b": {"c": [1, 2]}}, {"a": "x"}, '{"a":2}')
POINTS = ({"lon": 0, "lat": 0}, {"lon": 12.5, "lat": 50}, {"lon": -180, "lat": 90}, {"lon": 181, "lat": 0}, None, "x")
CHOICES = ("a", "b", "c", "true")


@dataclass
class Made:
    """A collection as it is believed to be."""

    name: str
    type: str
    fields: list
    ids: list = field(default_factory=list)
    rules: dict = field(default_factory=dict)
    indexed: str = ""

    @property
    def id(self):
        return f"{self.name}_id"


class Generator:
    """Gives requests without end."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.collections = {}
        self.people = []
        self.number = 0
        self._waiting = [
            patch("/api/settings", {"batch": {"enabled": True, "maxRequests": 20, "timeout": 60}}),
        ]
        self._filters = Filters(self.random, self.collections)

    def __iter__(self):
        while True:
            while not self._waiting:
                self._waiting = list(self._step())
            yield self._waiting.pop(0)

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _chance(self, part):
        return self.random.random() < part

    def _fresh(self, prefix):
        self.number += 1
        return f"{prefix}{self.number}"

    def _one(self, kinds=("base", "auth")):
        found = [each for each in self.collections.values() if each.type in kinds]
        return self.random.choice(found) if found else None

    def _who(self):
        return self.random.choice(["root", "root", "", *self.people, *self.people])

    def _step(self):
        if len(self.collections) < 2:
            return self._make("auth" if not self.collections else "base")
        steps = [
            (3, lambda: self._make(self.random.choice(["base", "base", "auth"])) if len(self.collections) < 9 else ()),
            (4, self._change),
            (1, self._bad_definition),
            (1, self._remove),
            (30, self._create),
            (15, self._update),
            (4, self._delete),
            (40, self._list),
            (8, self._view),
            (3, self._sign_in),
            (2, self._refresh),
            (4, self._batch),
            (2, self._odd),
            (1, self._show),
        ]
        weights, makers = zip(*steps, strict=True)
        return self.random.choices(makers, weights)[0]()

    # -- definitions --------------------------------------------------------------------------------------------------

    def _make(self, kind):
        name = self._fresh("c")
        made = Made(name, kind, self._fields(kind))
        body = {"name": name, "id": made.id, "type": kind, "fields": made.fields, **self._rules(made)}
        if kind == "base" and self._chance(0.4):
            body["indexes"] = [self._index(made)]
            made.indexed = body["indexes"][0]
        self.collections[name] = made
        yield post(COLLECTIONS, body)
        yield get(f"{COLLECTIONS}/{name}")

    def _fields(self, kind):
        names = self.random.sample(NAMES, self.random.randint(2, 8))
        found = [self._field(name) for name in names]
        found.append(definition("created", "autodate", onCreate=True))
        if self._chance(0.5):
            found.append(definition("updated", "autodate", onCreate=True, onUpdate=True))
        if kind == "auth":
            found.append(definition("password", "password", cost=4, min=8))
        return found

    def _field(self, name):
        kind = self.random.choice(
            [
                *("text", "number", "bool", "email", "url", "date", "json", "geoPoint", "editor"),
                *("select", "select", "relation", "relation", "relation"),
            ]
        )
        found = definition(name, kind, **self._options(kind))
        found["id"] = self._fresh(f"{kind}_f")
        if self._chance(0.1):
            found["required"] = True
        elif self._chance(0.1) and kind != "relation":
            found["hidden"] = True
        return found

    def _options(self, kind):
        pick = self.random.choice
        if kind == "select":
            return {"values": list(CHOICES), "maxSelect": pick([1, 1, 2, 3])}
        if kind == "relation":
            known = [each.id for each in self.collections.values()] or ["_pb_users_auth_"]
            return {"collectionId": pick(known), "maxSelect": pick([1, 1, 2, 5]), "cascadeDelete": self._chance(0.4)}
        return pick(
            {
                "text": [{}, {}, {"min": 1, "max": 5}, {"pattern": "^[a-z ]*$"}],
                "number": [{}, {}, {"min": -1, "max": 10}, {"onlyInt": True}],
                "date": [{}, {"min": "2026-01-01 00:00:00.000Z"}],
                "email": [{}, {"onlyDomains": ["a.example"]}],
                "url": [{}, {"exceptDomains": ["a.example"]}],
                "json": [{}, {"maxSize": 10}],
                "editor": [{}, {"maxSize": 3}],
            }.get(kind, [{}])
        )

    def _rules(self, made):
        found = {}
        for key in ("listRule", "viewRule", "createRule", "updateRule", "deleteRule"):
            rule = self._filters.rule(made, key == "createRule")
            found[key] = self.random.choices([None, "", rule], [1, 6, 4])[0]
        made.rules = found
        return found

    def _index(self, made):
        field = self.random.choice(made.fields)
        each = field["name"]
        # Of a field with several values it would mean little.
        unique = "" if field.get("maxSelect", 1) > 1 else self.random.choice(["", "UNIQUE "])
        condition = f" WHERE {each} != ''" if unique or self._chance(0.2) else ""
        return f"CREATE {unique}INDEX {self._fresh('ix')} ON {made.name} ({each}){condition}"

    def _change(self):
        made = self._one()
        fields = [dict(each) for each in made.fields]
        action = self.random.choice(["add", "drop", "rename", "option", "rules", "rules", "multiple"])
        body = {}
        if action == "rules":
            body = self._rules(made)
        elif action == "add" and len(fields) < 14:
            free = [name for name in NAMES if all(each["name"] != name for each in fields)]
            if free:
                fields.insert(self.random.randint(0, len(fields)), self._field(self.random.choice(free)))
        elif action == "drop" and len(fields) > 3:
            plain = [each for each in fields if each["type"] not in ("autodate", "password")]
            if plain:
                fields.remove(self.random.choice(plain))
        else:
            for each in fields:
                if action == "rename" and each["type"] == "number" and each["name"] not in made.indexed:
                    each["name"] = self._fresh("renamed")
                elif action == "multiple" and each["type"] in ("select", "relation"):
                    each["maxSelect"] = 1 if each.get("maxSelect", 1) > 1 else 3
                elif action == "option" and each["type"] not in ("autodate", "password"):
                    each["presentable"] = self._chance(0.5)
        if not body:
            body = {"fields": fields}
        # Rules and indexes that name fields may forbid it; then the model is wrong, which does no harm.
        yield patch(f"{COLLECTIONS}/{made.name}", body)
        yield get(f"{COLLECTIONS}/{made.name}")
        if "fields" in body:
            gone = {each["name"] for each in made.fields} - {each["name"] for each in fields}
            made.fields = fields
            yield from self._without(gone)

    def _without(self, gone):
        """Give collections other rules if theirs name what is not there any more."""
        for each in self.collections.values():
            text = " ".join(rule or "" for rule in each.rules.values())
            if any(name in text for name in gone):
                yield patch(f"{COLLECTIONS}/{each.name}", self._rules(each))

    def _bad_definition(self):
        body = {"name": self._fresh("bad"), "fields": self._fields("base")}
        spoiler = self.random.choice(self._spoilers())
        body |= spoiler
        yield post(COLLECTIONS, body)
        made = self._one()
        yield patch(f"{COLLECTIONS}/{made.name}", spoiler)

    def _spoilers(self):
        wrong = [
            {"values": [], "type": "select"},
            {"collectionId": "nobody", "type": "relation"},
            {"min": 5, "max": 1, "type": "text"},
            {"pattern": "(", "type": "text"},
            {"type": "nothing"},
            {"type": "number", "min": 2, "max": 1},
            {"type": "autodate"},
            {"type": "password", "min": 100},
            {"type": "json", "maxSize": -1},
            {"type": "text", "name": "has space"},
            {"type": "text", "name": "id"},
        ]
        return [
            *[{"fields": [{"name": "wrong", **each}]} for each in wrong],
            {"name": "has space"},
            {"name": ""},
            {"listRule": "nothing = 1"},
            {"createRule": "@request.body.x ="},
            {"updateRule": "(id = 1"},
            {"indexes": ["nonsense"]},
            {"indexes": ["CREATE INDEX wrong ON x (nothing)"]},
            {"name": 5},
            {"fields": 5},
        ]

    def _remove(self):
        if len(self.collections) < 5:
            return
        made = self._one()
        yield delete(f"{COLLECTIONS}/{made.name}")
        yield get(f"{COLLECTIONS}?filter={quote(f'name={made.name!r}')}&fields=name")
        yield delete(f"{COLLECTIONS}/{made.name}/truncate")
        yield from self._without([made.name])
        made.ids = []

    def _show(self):
        yield get(f"{COLLECTIONS}?sort=name&fields=id,name,type,indexes,fields.name,fields.type")

    # -- records ------------------------------------------------------------------------------------------------------

    def value(self, each):
        """Make a value for a field, seldom a bad one."""
        pick = self.random.choice
        kind = each["type"]
        if kind in ("select", "relation"):
            known = list(CHOICES) if kind == "select" else self._ids(each["collectionId"])
            most = each.get("maxSelect", 1)
            found = self.random.sample(known, min(len(known), self.random.randint(0, most + (self._chance(0.05)))))
            if self._chance(0.03):
                found.append("nobody")
            return found if most > 1 or self._chance(0.1) else "".join(found[:1])
        return pick(
            {
                "text": WORDS,
                "editor": WORDS,
                "number": NUMBERS,
                "bool": (True, False, "true", 0, 1),
                "email": ("", f"{self._fresh('m')}@a.example", "x@b.example", "nothing"),
                "url": ("", "https://a.example/x", "http://b.example", "nothing"),
                "date": MOMENTS,
                "json": DOCUMENTS,
                "geoPoint": POINTS,
                "autodate": MOMENTS,
                "password": (PASSWORD,),
            }[kind]
        )

    def _ids(self, collection_id):
        return next((each.ids for each in self.collections.values() if each.id == collection_id), [])

    def _body(self, made, part):
        found = {each["name"]: self.value(each) for each in made.fields if self._chance(part)}
        found.pop("password", None)
        if self._chance(0.05):
            found["nothing"] = 1
        return found

    def _create(self):
        made = self._one()
        id = f"{made.name}x{self._fresh('')}".rjust(15, "0")[-15:]
        body = self._body(made, 0.8) | {"id": id}
        if made.type == "auth":
            body |= {"email": f"{id}@a.example", "password": PASSWORD, "passwordConfirm": PASSWORD}
            if self._chance(0.5):
                body["emailVisibility"] = True
            if self._chance(0.2):
                body["verified"] = True
        if self._chance(0.02) and made.ids:
            body["id"] = self.random.choice(made.ids)
        by = "root" if self._chance(0.6) else self._who()
        made.ids.append(id)
        yield post(records(made.name, query=self._query()), body, by=by)

    def _query(self):
        made = self._one()
        return self._filters.expand(made) if self._chance(0.2) else ""

    def _update(self):
        made = self._one()
        if made.ids:
            body = self._body(made, 0.3)
            for each in made.fields:
                if self._chance(0.15) and each["type"] in ("number", "select", "relation"):
                    body.pop(each["name"], None)
                    sign = self.random.choice(["{}+", "{}-"] + ([] if each["type"] == "number" else ["+{}"]))
                    body[sign.format(each["name"])] = self.value(each)
            yield patch(records(made.name, self._id(made), self._query()), body, by=self._who())

    def _id(self, made):
        return "nothing" if self._chance(0.05) else self.random.choice(made.ids)

    def _delete(self):
        made = self._one()
        if made.ids:
            id = self._id(made)
            yield delete(records(made.name, id), by=self._who())
            yield get(records(made.name, id))

    def _view(self):
        made = self._one()
        if made.ids:
            yield get(records(made.name, self._id(made), self._filters.expand(made)), by=self._who())

    def _list(self):
        made = self._one()
        by = self._who()
        parts = [f"sort={quote(self._filters.sort(made, by == 'root'))}"]
        if self._chance(0.8):
            parts.append(f"filter={quote(self._filters.filter(made, by == 'root'))}")
        if self._chance(0.3):
            parts.append(self._filters.expand(made))
        if self._chance(0.2):
            parts.append(
                "fields=" + self.random.choice(["id", "*", "id,expand.*", "title:excerpt(3,true),id", "-id", ""])
            )
        if self._chance(0.2):
            parts.append(self.random.choice(["page=2&perPage=2", "perPage=1", "skipTotal=1", "perPage=1000", "page=0"]))
        yield get(records(made.name, query="&".join(each for each in parts if each)), by=by)

    # -- signing in, batches, the rest --------------------------------------------------------------------------------

    def _sign_in(self):
        made = self._one(("auth",))
        if made and made.ids:
            id = self.random.choice(made.ids)
            name = f"by_{id}"
            password = PASSWORD if self._chance(0.9) else "wrong"
            body = {"identity": f"{id}@a.example", "password": password}
            path = f"{COLLECTIONS}/{made.name}/auth-with-password"
            yield post(path, body, by="", step=name)
            if name not in self.people and len(self.people) < 6:
                self.people.append(name)

    def _refresh(self):
        made = self._one(("auth",))
        if made:
            yield post(f"{COLLECTIONS}/{made.name}/auth-refresh", by=self._who())

    def _batch(self):
        wanted = []
        for maker in self.random.choices(
            [self._create, self._update, self._delete], [6, 3, 1], k=self.random.randint(1, 5)
        ):
            for ask in maker():
                if ask.method != "GET":
                    wanted.append({"method": ask.method, "url": ask.path, **({"body": ask.body} if ask.body else {})})
                    break
        if wanted:
            yield post("/api/batch", {"requests": wanted}, by=self._who())
        made = self._one()
        yield get(records(made.name, query="sort=id&perPage=500"))

    def _odd(self):
        made = self._one()
        path = self.random.choice(
            [
                records(made.name),
                records(made.name, "x"),
                f"{COLLECTIONS}/{made.name}",
                f"{COLLECTIONS}/{made.name}/nothing",
                "/api/nothing",
                f"{records(made.name)}/x/y",
            ]
        )
        method = self.random.choice(["GET", "PUT", "POST", "PATCH", "HEAD"])
        body = None if method in ("GET", "HEAD") else self.random.choice(["{bad", "[]", '"x"', "5", "{"])
        yield Ask(method=method, path=path, body=body, by=self._who())
