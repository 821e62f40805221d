"""The generator's program, wider: fields of files with uploads, views over what there is, imports of definitions.

Not here: everything else that is made by chance (`twin_generator`).
"""

from dataclasses import replace
from urllib.parse import quote

from twin_generator import Generator, Made
from twin_more import MULTIPART, PICTURE, form
from twin_requests import COLLECTIONS, Ask, delete, get, patch, post, records
from twin_requests import field as definition

FILE_NAMES = ("doc.txt", "A b!.TXT", "picture.png", "one.two.tar.gz", "ünï.txt", "x", ".hidden", "pic ture.PNG")
CONTENTS = (b"plain\n", b"", b"x" * 200, PICTURE, b"\x00\x01\x02", b"<html></html>", b'{"a":1}')
AGGREGATES = ("count(*)", "max(t.id)", "sum(length(t.id))", "avg(length(t.id))", "min(t.created)", "total(1)")
EXPRESSIONS = ("(1 + 2)", "'text'", "cast(t.id as text)", "cast(length(t.id) as int)", "cast(1 as bool)", "null", "1.5")
EXPRESSIONS += ("cast(length(t.id) as real)", "json_array(1, 2)", "(t.id || 'x')", "cast(1 as numeric)", "t.created")
BAD_VIEWS = (
    "SELECT 1",
    "SELECT id FROM nothing",
    "SELECT id, id FROM users",
    "SELECT id, nothing FROM users",
    "DELETE FROM users",
    "SELECT *",
    "SELECT id FROM users; SELECT id FROM users",
    "select count(*) as id, created from users",
    "WITH x AS (SELECT id FROM users) SELECT id FROM x",
    "SELECT (id) FROM users",
    "SELECT id, email, FROM users",
)


class WideGenerator(Generator):
    """Gives requests without end."""

    def _step(self):
        chance = self.random.random()
        if len(self.collections) > 2 and chance < 0.25:
            makers = [self._upload, self._upload, self._upload_again, self._upload_again, self._fetch, self._drop_files]
            makers += [self._make_view, self._list_view, self._list_view, self._bad_view, self._import]
            return self.random.choice(makers)()
        return super()._step()

    # -- files --------------------------------------------------------------------------------------------------------

    def _fields(self, kind):
        found = super()._fields(kind)
        if self._chance(0.6):
            found.append(self._file_field("file"))
        if self._chance(0.4):
            found.append(self._file_field("files", maxSelect=self.random.choice([2, 3])))
        return found

    def _file_field(self, name, **more):
        options = self.random.choice([{}, {}, {"maxSize": 100}, {"mimeTypes": ["text/plain", "image/png"]}])
        if self._chance(0.2):
            more["protected"] = True
        return definition(name, "file", id=self._fresh("file_f"), **options, **more)

    def value(self, each):
        if each["type"] == "file":
            return self.random.choice(["", "", [], "nothing.txt", None])
        return super().value(each)

    def _with_files(self):
        found = [each for each in self.collections.values() if any(f["type"] == "file" for f in each.fields)]
        return self.random.choice(found) if found else None

    def _parts(self, made, *, signs=("",)):
        """Make parts of a form: files for fields of files, texts for a few others."""
        for each in made.fields:
            if each["type"] == "file":
                for _ in range(self.random.randint(0, min(3, each.get("maxSelect", 1) + 1))):
                    name = each["name"] + self.random.choice(signs if each.get("maxSelect", 1) > 1 else ("",))
                    yield (name, self.random.choice(FILE_NAMES), self.random.choice(CONTENTS))
            elif each["type"] in ("text", "number", "bool", "select", "date", "json") and self._chance(0.3):
                yield (
                    each["name"],
                    self.random.choice(["", "1", "a", "true", "[1]", '"x"', "2026-01-02", "x y", "-2.5"]),
                )

    def _upload(self):
        made = self._with_files()
        if made is None or made.type != "base":
            return
        id = f"{made.name}x{self._fresh('')}".rjust(15, "0")[-15:]
        body = form(("id", id), *self._parts(made))
        made.ids.append(id)
        yield self._sent("POST", records(made.name), body, id)
        yield get(records(made.name, id))

    def _upload_again(self):
        made = self._with_files()
        if made is not None and made.ids:
            id = self._id(made)
            body = form(*self._parts(made, signs=("", "+", "+", "-")))
            yield self._sent("PATCH", records(made.name, id), body, id)
            yield get(records(made.name, id))

    def _sent(self, method, path, body, id):
        return Ask(method=method, path=path, body=body, headers=MULTIPART, by=self._who(), step=f"of_{id}")

    def _fetch(self):
        made = self._with_files()
        if made is None or not made.ids:
            return
        id = self._id(made)
        who = self._who()
        for name in ("file", "files.0"):
            query = self.random.choice(["", "", "?download=1", "?token=nothing"])
            headers = self.random.choice([{}, {}, {"Range": "bytes=0-1"}, {"Range": "bytes=900-"}])
            path = f"/api/files/{made.name}/{id}/{{of_{id}:{name}}}{query}"
            yield Ask(method=self.random.choice(["GET", "HEAD"]), path=path, by=who, headers=dict(headers))

    def _drop_files(self):
        made = self._with_files()
        if made is None or not made.ids:
            return
        id = self._id(made)
        changes = [{"files-": f"{{of_{id}:files.0}}"}, {"file": ""}, {"file": None}, {"files": []}, {"files-": ["x"]}]
        changes += [{"files": [f"{{of_{id}:files.1}}"]}, {"files+": f"{{of_{id}:files.0}}"}]
        yield patch(records(made.name, id), self.random.choice(changes), by=self._who())
        yield get(records(made.name, id))

    # -- views --------------------------------------------------------------------------------------------------------

    def _make_view(self):
        if sum(each.type == "view" for each in self.collections.values()) > 4:
            made = self._one(("view",))
            yield delete(f"{COLLECTIONS}/{made.name}")
            del self.collections[made.name]
        source = self._one()
        name = self._fresh("v")
        columns, fields = self._columns(source)
        made = Made(name, "view", fields, source.ids)
        made.rules = {"listRule": self.random.choice(["", "", None, "@request.auth.id != ''"])}
        query = f"SELECT {', '.join(columns)} FROM {source.name} t"
        query += self.random.choice(["", "", " WHERE t.id != 'x'", f" LEFT JOIN {source.name} o ON o.id = t.id"])
        if any("(*)" in each or each.startswith(("max", "sum", "avg", "min", "total")) for each in columns):
            query += " GROUP BY t.id"
        source.indexed += query  # a field that a view names keeps its name, see `twin_more`
        body = {"name": name, "id": made.id, "type": "view", "viewQuery": query, "viewRule": "", **made.rules}
        self.collections[name] = made
        yield post(COLLECTIONS, body)
        yield get(f"{COLLECTIONS}/{name}")
        yield get(records(name, query="sort=id"))
        yield post(f"{COLLECTIONS}/meta/dry-run-view", {"query": query})

    def _columns(self, source):
        columns, fields = ["t.id"], []
        for each in source.fields:
            if each["type"] in ("password", "file", "autodate") or not self._chance(0.5):
                continue
            if self._chance(0.3):
                alias = self._fresh("as")
                columns.append(f"t.{each['name']} AS {alias}")
                fields.append({**each, "name": alias})
            else:
                columns.append(f"t.{each['name']}")
                fields.append(each)
        for choices in (AGGREGATES, EXPRESSIONS):
            if self._chance(0.4):
                columns.append(f"{self.random.choice(choices)} {self._fresh('as')}")
        return columns, fields

    def _list_view(self):
        made = self._one(("view",))
        if made is not None:
            by = self._who()
            filter_ = self._filters.filter(made, by == "root") if self._chance(0.7) else ""
            sort = self._filters.sort(made, by == "root")
            expand = self._filters.expand(made) if self._chance(0.3) else ""
            yield get(records(made.name, query=f"sort={quote(sort)}&filter={quote(filter_)}&{expand}"), by=by)
            yield get(records(made.name, self._id(made) if made.ids else "x"), by=by)
            if self._chance(0.2):
                yield post(records(made.name), {"id": "x"}, by=by)
                yield delete(records(made.name, "x"), by=by)

    def _bad_view(self):
        query = self.random.choice(BAD_VIEWS)
        yield post(COLLECTIONS, {"name": self._fresh("badview"), "type": "view", "viewQuery": query})
        yield post(f"{COLLECTIONS}/meta/dry-run-view", {"query": query}, by=self._who())

    # -- imports ------------------------------------------------------------------------------------------------------

    def _import(self):
        """Send definitions of what there is with a change, and something new; seldom something that is wrong."""
        made = self._one(("base",))
        if made is None:
            return
        wanted = [{"name": made.name, "id": made.id, "type": "base", "fields": [dict(each) for each in made.fields]}]
        change = self.random.choice(["same", "same", "add", "new", "twice", "wrong", "rules"])
        grown = made
        if change == "add" and not any(each["name"] == "imported" for each in made.fields):
            more = definition("imported", "text", id=self._fresh("text_f"))
            wanted[0]["fields"].append(more)
            grown = replace(made, fields=[*made.fields, more])
        elif change == "new":
            new = Made(self._fresh("c"), "base", self._fields("base"))
            wanted.append({"name": new.name, "id": new.id, "fields": new.fields, **self._rules(new)})
            self.collections[new.name] = new
        elif change == "twice":
            wanted.append(dict(wanted[0]))
        elif change == "wrong":
            spoilers = [each for each in self._spoilers() if "indexes" not in each]  # PocketBase keeps these half
            wanted.append({"name": self._fresh("bad"), **self.random.choice(spoilers)})
        elif change == "rules":
            wanted[0] |= self._rules(made)
        self.collections[made.name] = grown
        body = {"collections": wanted, "deleteMissing": False}
        yield Ask(
            method="PUT", path=f"{COLLECTIONS}/import", body=body, by=self._who() if self._chance(0.1) else "root"
        )
        for each in wanted:
            yield get(f"{COLLECTIONS}/{quote(str(each['name']), safe='')}")
