// Records: making, reading, changing, deleting; ids, modifiers, uniqueness, what goes along when one is deleted.
import { assert, check, group, has, MOMENT, pick, RECORD_ID, same } from "./kit.mjs";

group("records", async ({ admin, client, named, refused }) => {
  const open = { listRule: "", viewRule: "", createRule: "", updateRule: "", deleteRule: "" };
  const tags = await admin.collections.create({
    name: named("tags"),
    ...open,
    fields: [{ name: "name", type: "text" }],
  });
  const posts = await admin.collections.create({
    name: named("posts"),
    ...open,
    fields: [
      { name: "title", type: "text" },
      { name: "slug", type: "text", autogeneratePattern: "[a-z]{8}" },
      { name: "n", type: "number" },
      { name: "secret", type: "text", hidden: true },
      { name: "kinds", type: "select", values: ["a", "b", "c", "d"], maxSelect: 4 },
      { name: "tag", type: "relation", collectionId: tags.id },
      { name: "tags", type: "relation", collectionId: tags.id, maxSelect: 9 },
      { name: "data", type: "json" },
      { name: "created", type: "autodate", onCreate: true },
      { name: "updated", type: "autodate", onCreate: true, onUpdate: true },
    ],
    indexes: [`CREATE UNIQUE INDEX idx_${named("slug")} ON ${named("posts")} (slug)`],
  });
  const made = [];
  for (const name of ["one", "two", "three"]) {
    made.push((await admin.collection(tags.name).create({ name })).id);
  }
  const guest = client();
  return {
    admin,
    posts: guest.collection(posts.name),
    all: admin.collection(posts.name),
    tags: made,
    named,
    refused,
    posts_id: posts.id,
  };
});

check("create gives the record", async ({ posts, posts_id }) => {
  const found = await posts.create({ title: "first" });
  const keys = [
    "collectionId",
    "collectionName",
    "created",
    "data",
    "id",
    "kinds",
    "n",
    "slug",
    "tag",
    "tags",
    "title",
    "updated",
  ];
  same(Object.keys(found), keys);
  assert.match(found.id, RECORD_ID);
  assert.match(found.created, MOMENT);
  assert.match(found.slug, /^[a-z]{8}$/);
  const { collectionId, collectionName, title, n, kinds, tag, tags, data } = found;
  same([collectionId, title, n, kinds, tag, tags, data], [posts_id, "first", 0, [], "", [], null]);
  same([collectionName, found.updated], [posts.collectionIdOrName, found.created]);
});

check("create without a body", async ({ posts }) => {
  has(await posts.create(), { title: "", n: 0 });
});

check("create by the id of the collection", async ({ admin, posts, posts_id }) => {
  has(await admin.collection(posts_id).create({ title: "by id" }), { collectionName: posts.collectionIdOrName });
});

check("what was created is read at once", async ({ posts }) => {
  for (let number = 0; number < 20; number += 1) {
    const made = await posts.create({ title: `read at once ${number}` });
    same(await posts.getOne(made.id), made);
    same((await posts.getFirstListItem(`title = "read at once ${number}"`)).id, made.id);
    const changed = await posts.update(made.id, { n: number });
    same(await posts.getOne(made.id), changed);
  }
});

check("keys that are no fields are ignored", async ({ posts }) => {
  const found = await posts.create({ title: "a", other: 1, collectionName: "x", expand: { tag: 1 } });
  same([found.other, found.expand, found.collectionName], [undefined, undefined, posts.collectionIdOrName]);
});

check("hidden fields are for superusers", async ({ posts, all }) => {
  const { id } = await posts.create({ title: "a", secret: "set by a guest" });
  same([(await all.getOne(id)).secret, (await posts.getOne(id)).secret], ["", undefined]);
  has(await all.update(id, { secret: "set" }), { secret: "set" });
  await posts.update(id, { secret: "" });
  same((await all.getOne(id)).secret, "set");
});

check("an id of one's own", async ({ posts, refused }) => {
  const id = Math.random().toString(36).slice(2).padEnd(15, "0").slice(0, 15);
  same((await posts.create({ id })).id, id);
  await refused(() => posts.create({ id }), 400, { id: "not_unique" });
});

check("ids that cannot be", async ({ posts, refused }) => {
  await refused(() => posts.create({ id: "short" }), 400, { id: "min_text_constraint" });
  await refused(() => posts.create({ id: "0123456789abcdef" }), 400, { id: "max_text_constraint" });
  await refused(() => posts.create({ id: "ABCDEFGHIJKLMNO" }), 400, { id: "invalid_format" });
});

check("an id stays", async ({ posts, refused }) => {
  const { id } = await posts.create({});
  await refused(() => posts.update(id, { id: "abcdefghijklmno" }), 400, { id: "pk_change" });
  same((await posts.update(id, { id })).id, id);
});

check("dates of the server are not set by clients", async ({ posts }) => {
  const { id, created } = await posts.create({ created: "2001-01-01 00:00:00.000Z" });
  assert.ok(created > "2020");
  const found = await posts.update(id, { title: "later", created: "2001-01-01 00:00:00.000Z" });
  same(found.created, created);
  assert.ok(found.updated >= created);
});

check("one that is not there", async ({ posts, refused }) => {
  await refused(() => posts.getOne("0123456789abcde"), 404);
  await refused(() => posts.update("0123456789abcde", {}), 404);
  await refused(() => posts.delete("0123456789abcde"), 404);
  await refused(() => posts.getOne("with/slash and space"), 404);
});

check("no id, which the client itself refuses", async ({ posts }, { ClientResponseError }) => {
  await assert.rejects(
    () => posts.getOne(""),
    (error) => error instanceof ClientResponseError && error.status === 404,
  );
});

check("a collection that is not there", async ({ admin, refused }) => {
  const nothing = admin.collection("not_there");
  for (const call of [
    () => nothing.getList(),
    () => nothing.getOne("x"),
    () => nothing.create({}),
    () => nothing.update("x", {}),
    () => nothing.delete("x"),
  ]) {
    await refused(call, 404);
  }
});

check("update changes what is named", async ({ posts }) => {
  const made = await posts.create({ title: "before", n: 7, kinds: ["b"], data: { a: 1 } });
  const found = await posts.update(made.id, { title: "after" });
  same({ ...found, updated: "" }, { ...made, title: "after", updated: "" });
  same(await posts.getOne(made.id), found);
});

check("update with nothing", async ({ posts }) => {
  const made = await posts.create({ title: "same" });
  same((await posts.update(made.id, {})).title, "same");
});

check("values are cleared", async ({ posts, tags }) => {
  const { id } = await posts.create({ title: "a", n: 1, kinds: ["a"], tag: tags[0], tags, data: 5 });
  has(await posts.update(id, { title: "", n: null, kinds: [], tag: "", tags: null, data: null }), {
    title: "",
    n: 0,
    kinds: [],
    tag: "",
    tags: [],
    data: null,
  });
});

check("numbers with + and -", async ({ posts }) => {
  const { id } = await posts.create({ n: 5 });
  same((await posts.update(id, { "n+": 3 })).n, 8);
  same((await posts.update(id, { "n-": 10 })).n, -2);
  same((await posts.update(id, { "n+": 0.5 })).n, -1.5);
  same((await posts.getOne(id)).n, -1.5);
  same((await posts.create({ "n+": 4 })).n, 4);
});

check("many at once with + lose none", async ({ posts }) => {
  const { id } = await posts.create({ n: 0 });
  await Promise.all(Array.from({ length: 40 }, (_, step) => posts.update(id, { [step % 4 ? "n+" : "n-"]: 1 })));
  same((await posts.getOne(id)).n, 20);
});

check("choices with + and -", async ({ posts }) => {
  const { id } = await posts.create({ kinds: ["b"] });
  same((await posts.update(id, { "kinds+": "c" })).kinds, ["b", "c"]);
  same((await posts.update(id, { "+kinds": ["a", "c"] })).kinds, ["a", "c", "b"]);
  same((await posts.update(id, { "kinds-": ["c", "d"] })).kinds, ["a", "b"]);
  same((await posts.update(id, { "kinds+": ["b", "d"] })).kinds, ["a", "b", "d"]);
});

check("relations with + and -", async ({ posts, tags }) => {
  const [one, two, three] = tags;
  const { id } = await posts.create({ tags: [one] });
  same((await posts.update(id, { "tags+": [two, one] })).tags, [one, two]);
  same((await posts.update(id, { "+tags": three })).tags, [three, one, two]);
  same((await posts.update(id, { "tags-": one })).tags, [three, two]);
  same((await posts.update(id, { "tag+": two })).tag, two);
  same((await posts.update(id, { "tag-": two })).tag, "");
});

check("many at once with + on a list lose none", async ({ posts }) => {
  const { id } = await posts.create({});
  await Promise.all(["a", "b", "c", "d"].map((kind) => posts.update(id, { "kinds+": kind })));
  same((await posts.getOne(id)).kinds.sort(), ["a", "b", "c", "d"]);
});

check("text that is made up anew", async ({ posts }) => {
  const made = await posts.create({ "slug:autogenerate": "prefix-" });
  assert.match(made.slug, /^prefix-[a-z]{8}$/);
  assert.match((await posts.update(made.id, { "slug:autogenerate": "" })).slug, /^[a-z]{8}$/);
});

check("values that must be unique", async ({ posts, refused }) => {
  await posts.create({ slug: "taken" });
  await refused(() => posts.create({ slug: "taken" }), 400, { slug: "not_unique" });
  const { id } = await posts.create({});
  await refused(() => posts.update(id, { slug: "taken" }), 400, { slug: "not_unique" });
});

check("a form instead of JSON", async ({ posts, tags }) => {
  const form = new FormData();
  for (const [name, value] of [
    ["title", "from a form"],
    ["n", "1.5"],
    ["kinds", "a"],
    ["kinds", "c"],
    ["tag", tags[0]],
  ]) {
    form.append(name, value);
  }
  form.append("@jsonPayload", JSON.stringify({ data: { a: [1, "2"] } }));
  const expected = { title: "from a form", n: 1.5, kinds: ["a", "c"], tag: tags[0], data: { a: [1, "2"] } };
  has(await posts.create(form), expected);
});

check("a form that updates", async ({ posts }) => {
  const { id } = await posts.create({ n: 1, kinds: ["a"] });
  const form = new FormData();
  form.append("n+", "2");
  form.append("kinds+", "b");
  has(await posts.update(id, form), { n: 3, kinds: ["a", "b"] });
});

check("an urlencoded form", async ({ posts }) => {
  const body = new URLSearchParams({ title: "urlencoded", n: "12" }).toString();
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  has(await posts.create(undefined, { body, headers }), { title: "urlencoded", n: 12 });
});

check("expand and fields of what was written", async ({ posts, tags }) => {
  const query = { expand: "tag", fields: "title,expand.tag.name" };
  const expected = { expand: { tag: { name: "one" } }, title: "a" };
  same(await posts.create({ title: "a", tag: tags[0] }, query), expected);
  const { id } = await posts.create({ tag: tags[0] });
  same(await posts.update(id, { title: "a" }, query), expected);
});

check("delete", async ({ posts, refused }) => {
  const { id } = await posts.create({});
  same(await posts.delete(id), true);
  await refused(() => posts.getOne(id), 404);
  await refused(() => posts.delete(id), 404);
});

check("deleting what others refer to takes the reference out", async ({ admin, posts, named }) => {
  const tags = admin.collection(named("tags"));
  const [gone, left] = [(await tags.create({})).id, (await tags.create({})).id];
  const { id } = await posts.create({ tag: gone, tags: [left, gone] });
  await tags.delete(gone);
  has(await posts.getOne(id), { tag: "", tags: [left] });
});

check("deleting what is required is refused", async ({ admin, named, refused }) => {
  const tags = admin.collection(named("tags"));
  const field = { name: "tag", type: "relation", collectionId: (await admin.collections.getOne(named("tags"))).id };
  const { name } = await admin.collections.create({ name: named("needing"), fields: [{ ...field, required: true }] });
  const { id } = await tags.create({});
  const needing = await admin.collection(name).create({ tag: id });
  await refused(() => tags.delete(id), 400);
  same((await admin.collection(name).getOne(needing.id)).tag, id);
  same((await tags.getOne(id)).id, id);
});

check("deleting takes others along", async ({ admin, named }) => {
  const tags = admin.collection(named("tags"));
  const tagged = (await admin.collections.getOne(named("tags"))).id;
  const relation = (collectionId, maxSelect) => ({
    name: "up",
    type: "relation",
    collectionId,
    maxSelect,
    cascadeDelete: true,
  });
  const below = await admin.collections.create({ name: named("below"), fields: [relation(tagged, 1)] });
  const lowest = await admin.collections.create({ name: named("lowest"), fields: [relation(below.id, 5)] });
  const { id } = await tags.create({});
  const [one, other] = [
    (await admin.collection(below.id).create({ up: id })).id,
    (await admin.collection(below.id).create({})).id,
  ];
  await admin.collection(lowest.id).create({ up: [one] });
  const left = await admin.collection(lowest.id).create({ up: [one, other] });
  await tags.delete(id);
  same(pick(await admin.collection(below.id).getFullList(), "id"), [other]);
  const found = await admin.collection(lowest.id).getFullList();
  same([pick(found, "id"), found[0].up], [[left.id], [other]]);
});

check("deleting what refers to itself", async ({ admin, named }) => {
  const tree = await admin.collections.create({ name: named("tree") });
  const parent = { name: "parent", type: "relation", collectionId: tree.id, cascadeDelete: true };
  await admin.collections.update(tree.id, { fields: [...tree.fields, parent] });
  const records = admin.collection(tree.id);
  const root = await records.create({});
  const leaf = await records.create({ parent: (await records.create({ parent: root.id })).id });
  await records.update(root.id, { parent: leaf.id });
  await records.delete(root.id);
  same(await records.getFullList(), []);
});
