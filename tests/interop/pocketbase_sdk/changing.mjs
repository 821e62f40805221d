// Changing collections: what happens to the records that are there.
import { assert, check, group, has, pick, randomName, same } from "./kit.mjs";

group("changing", async ({ admin, refused, named }) => {
  /** Make a collection of fields with records. */
  async function made(fields, ...records) {
    const collection = await admin.collections.create({ name: named(randomName()), fields });
    for (const record of records) {
      await admin.collection(collection.id).create(record);
    }
    return { collection, ...access(collection.id) };
  }
  const access = (id) => ({
    update: (change) => admin.collections.update(id, change),
    all: async (key) => pick(await admin.collection(id).getFullList({ sort: "@rowid" }), key),
  });
  return { admin, refused, named, made };
});

const text = (name, more = {}) => ({ name, type: "text", ...more });

check("another name", async ({ admin, made, named, refused }) => {
  const { collection, update } = await made([text("title")], { title: "kept" });
  const found = await update({ name: named("renamed") });
  has(found, { id: collection.id, name: named("renamed"), created: collection.created });
  assert.ok(found.updated > collection.updated);
  same((await admin.collection(named("renamed")).getFirstListItem("")).collectionName, named("renamed"));
  await refused(() => admin.collection(collection.name).getList(), 404);
});

check("a field more", async ({ made }) => {
  const { collection, update, all } = await made([text("title")], { title: "a" });
  const found = await update({ fields: [...collection.fields, { name: "n", type: "number" }] });
  same(pick(found.fields, "name"), ["id", "title", "n"]);
  same(await all("n"), [0]);
});

check("a field less", async ({ made, admin }) => {
  const { collection, update } = await made([text("title"), text("other")], { title: "a", other: "b" });
  const found = await update({ fields: collection.fields.filter(({ name }) => name !== "other") });
  same(pick(found.fields, "name"), ["id", "title"]);
  const [record] = await admin.collection(collection.id).getFullList();
  same([record.title, "other" in record], ["a", false]);
});

check("a field with another name keeps its values", async ({ made }) => {
  const { collection, update, all } = await made([text("title")], { title: "kept" });
  const fields = collection.fields.map((each) => (each.name === "title" ? { ...each, name: "heading" } : each));
  await update({ fields });
  same(await all("heading"), ["kept"]);
});

check("two fields that change names", async ({ made }) => {
  const { collection, update, all } = await made([text("a"), text("b")], { a: "1", b: "2" });
  const other = { a: "b", b: "a" };
  await update({ fields: collection.fields.map((each) => ({ ...each, name: other[each.name] ?? each.name })) });
  same([await all("a"), await all("b")], [["2"], ["1"]]);
});

check("fields in another order", async ({ made }) => {
  const { collection, update } = await made([text("a"), text("b")]);
  const [id, a, b] = collection.fields;
  same(pick((await update({ fields: [id, b, a] })).fields, "name"), ["id", "b", "a"]);
});

check("one value becomes several, and back", async ({ made }) => {
  const { collection, update, all } = await made(
    [{ name: "some", type: "select", values: ["a", "b", "c"], maxSelect: 1 }],
    { some: "b" },
    {},
  );
  const change = (maxSelect) =>
    update({ fields: collection.fields.map((each) => (each.name === "some" ? { ...each, maxSelect } : each)) });
  await change(3);
  same(await all("some"), [["b"], []]);
  await change(1);
  same(await all("some"), ["b", ""]);
});

check("options of a field hold from then on", async ({ made, admin, refused }) => {
  const { collection, update } = await made([text("title")], { title: "long enough" });
  await update({ fields: [text("title", { id: collection.fields[1].id, required: true, max: 5 })] });
  const create = (title) => () => admin.collection(collection.id).create({ title });
  await refused(create("too long"), 400, { title: "max_text_constraint" });
  await refused(create(""), 400, { title: "required" });
});

check("a field of the same name keeps its id and values", async ({ made }) => {
  const { collection, update, all } = await made([text("title")], { title: "kept" });
  const found = await update({ fields: [text("title", { max: 100 })] });
  same([found.fields[1].id, await all("title")], [collection.fields[1].id, ["kept"]]);
});

check("a field cannot have another type", async ({ made, refused }) => {
  const { collection, update } = await made([text("title")]);
  const fields = collection.fields.map((each) => (each.name === "title" ? { ...each, type: "number" } : each));
  await refused(() => update({ fields }), 400, { fields: { 1: "field_type_change" } });
});

check("a relation cannot have another target", async ({ made, refused }) => {
  const [one, other] = [await made([]), await made([])];
  const field = { name: "to", type: "relation", collectionId: one.collection.id };
  const { collection, update } = await made([field]);
  const fields = collection.fields.map((each) => ({ ...each, collectionId: other.collection.id }));
  await refused(() => update({ fields }), 400, { fields: { 1: { collectionId: "field_relation_change" } } });
});

check("system fields stay", async ({ admin, named }) => {
  const users = await admin.collections.create({ name: named("staying"), type: "auth" });
  const found = await admin.collections.update(users.id, { fields: [text("more")] });
  same(pick(found.fields, "name").sort(), [
    "email",
    "emailVisibility",
    "id",
    "more",
    "password",
    "tokenKey",
    "verified",
  ]);
});

check("indexes are made, kept and enforced", async ({ made, admin, refused }) => {
  const { collection, update } = await made([text("title"), text("other")], { title: "a" });
  const index = `CREATE UNIQUE INDEX idx_${collection.name} ON anything (title, other)`;
  const found = await update({ indexes: [index] });
  same(found.indexes.length, 1);
  assert.ok(found.indexes[0].includes(`\`${collection.name}\``), found.indexes[0]);
  await refused(() => admin.collection(collection.id).create({ title: "a" }), 400, {
    title: "not_unique",
    other: "not_unique",
  });
  same((await update({ indexes: [] })).indexes, []);
  same((await admin.collection(collection.id).create({ title: "a" })).title, "a");
});

check("an index that the records are against", async ({ made, refused, admin }) => {
  const { collection, update } = await made([text("title")], { title: "same" }, { title: "same" });
  const indexes = [`CREATE UNIQUE INDEX idx_${collection.name} ON ${collection.name} (title)`];
  await refused(() => update({ indexes }), 400, { indexes: { 0: "invalid_index_expression" } });
  same((await admin.collections.getOne(collection.id)).indexes, []);
});

check("indexes follow their collection's name", async ({ made, named }) => {
  const { collection, update } = await made([text("title")]);
  await update({ indexes: [`CREATE INDEX idx_${collection.name} ON ${collection.name} (title)`] });
  const [index] = (await update({ name: named("following") })).indexes;
  assert.ok(index.includes(`\`${named("following")}\``), index);
});

check("rules change one by one", async ({ made }) => {
  const { collection, update } = await made([text("title")]);
  const found = await update({ listRule: "title != ''" });
  has(found, { listRule: "title != ''", viewRule: null, name: collection.name });
  same((await update({ listRule: null })).listRule, null);
});

check("a rule goes by the new fields at once", async ({ made, refused }) => {
  const { collection, update } = await made([text("title")]);
  const fields = [...collection.fields, text("more")];
  same((await update({ fields, viewRule: "more = 'x'" })).viewRule, "more = 'x'");
  await refused(() => update({ fields: collection.fields }), 400, { viewRule: "invalid_rule" });
});

check("options of an auth collection", async ({ admin, named, refused }) => {
  const users = await admin.collections.create({ name: named("options"), type: "auth" });
  const found = await admin.collections.update(users.id, {
    authToken: { duration: 100 },
    passwordAuth: { enabled: false },
    manageRule: "id = @request.auth.id",
  });
  same([found.authToken, found.manageRule], [{ duration: 100 }, "id = @request.auth.id"]);
  same(found.passwordAuth, { enabled: false, identityFields: ["email"] });
  await refused(() => admin.collections.update(users.id, { authToken: { duration: 1 } }), 400, {
    authToken: { duration: "min_greater_equal_than_required" },
  });
  await refused(
    () => admin.collections.update(users.id, { passwordAuth: { enabled: true, identityFields: ["none"] } }),
    400,
    {
      passwordAuth: { identityFields: "missing_field" },
    },
  );
});

check("what a system collection keeps", async ({ admin, refused }) => {
  await refused(() => admin.collections.update("_superusers", { name: "others" }), 400, {
    name: "collection_system_name_change",
  });
  await refused(() => admin.collections.update("_superusers", { listRule: "" }), 400, {
    listRule: "collection_system_rule_change",
  });
});

check("a change that fails changes nothing", async ({ made, admin, refused }) => {
  const { collection, update } = await made([text("title")], { title: "a" });
  const fields = [...collection.fields, text("more"), text("bad name")];
  await refused(() => update({ fields, name: `${collection.name}_2` }), 400, {
    fields: { 3: { name: "match_invalid" } },
  });
  same(await admin.collections.getOne(collection.id), collection);
});
