// Collections: making, reading and removing them, scaffolds, meta routes, truncate, import.
import { assert, check, codesOf, group, has, MOMENT, pick, same } from "./kit.mjs";

const TOP = ["id", "listRule", "viewRule", "createRule", "updateRule", "deleteRule", "name", "type", "fields"];
const KEYS = [...TOP, "indexes", "created", "updated", "system"];
const AUTH_KEYS = [
  ...["authRule", "manageRule", "authAlert", "oauth2", "passwordAuth", "mfa", "otp", "authToken"],
  ...["passwordResetToken", "emailChangeToken", "verificationToken", "fileToken", "verificationTemplate"],
  ...["resetPasswordTemplate", "confirmEmailChangeTemplate"],
];

group("collections", async ({ admin, client, named, refused, signedIn }) => {
  const users = await admin.collections.create({ name: named("users"), type: "auth" });
  const kept = await admin.collections.create({ name: named("kept"), fields: [{ name: "title", type: "text" }] });
  const user = (await signedIn(users.name)).pb;
  return { admin, guest: client(), user, users, kept, named, refused };
});

check("scaffolds", async ({ admin }) => {
  const { auth, base, view } = await admin.collections.getScaffolds();
  same([auth.type, base.type, view.type], ["auth", "base", "view"]);
  same(pick(base.fields, "name"), ["id"]);
  same(pick(auth.fields, "name"), ["id", "password", "tokenKey", "email", "emailVisibility", "verified"]);
  same(view.fields, []);
  same([base.name, base.listRule, base.deleteRule, base.indexes], ["", null, null, []]);
  same([view.viewQuery, auth.authRule, auth.indexes.length], ["", "", 2]);
});

check("a base collection with its defaults", async ({ admin, named }) => {
  const found = await admin.collections.create({ name: named("plain") });
  same(Object.keys(found), KEYS);
  has(found, { type: "base", system: false, listRule: null, createRule: null, indexes: [] });
  assert.match(found.id, /^pbc_\d+$/);
  assert.match(found.created, MOMENT);
  same(found.updated, found.created);
  same(found.fields, [
    {
      autogeneratePattern: "[a-z0-9]{15}",
      help: "",
      hidden: false,
      id: "text3208210256",
      max: 15,
      min: 15,
      name: "id",
      pattern: "^[a-z0-9]+$",
      presentable: false,
      primaryKey: true,
      required: true,
      system: true,
      type: "text",
    },
  ]);
});

check("an auth collection with its defaults", async ({ users }) => {
  same(Object.keys(users), [...KEYS, ...AUTH_KEYS]);
  has(users, { type: "auth", authRule: "", manageRule: null });
  same(users.passwordAuth, { enabled: true, identityFields: ["email"] });
  same([users.mfa, users.authToken], [{ enabled: false, duration: 600, rule: "" }, { duration: 432000 }]);
  has(users.otp, { enabled: false, duration: 180, length: 8 });
  same([users.oauth2.enabled, users.oauth2.providers], [false, []]);
  same(pick(users.fields, "name"), ["id", "password", "tokenKey", "email", "emailVisibility", "verified"]);
  assert.ok(users.indexes.every((index) => index.startsWith("CREATE UNIQUE INDEX")));
});

check("every type of field with its options", async ({ admin, named, kept }) => {
  const types = [
    ["text", { min: 0, max: 0, pattern: "", autogeneratePattern: "", primaryKey: false }],
    ["editor", { maxSize: 0, convertURLs: false }],
    ["number", { min: null, max: null, onlyInt: false }],
    ["bool", {}],
    ["email", { exceptDomains: [], onlyDomains: [] }],
    ["url", { exceptDomains: [], onlyDomains: [] }],
    ["date", { min: "", max: "" }],
    ["select", { values: ["a", "b"], maxSelect: 0 }],
    ["json", { maxSize: 0 }],
    ["geoPoint", {}],
    ["file", { maxSize: 0, maxSelect: 0, mimeTypes: [], thumbs: [], protected: false }],
    ["relation", { collectionId: kept.id, cascadeDelete: false, minSelect: 0, maxSelect: 0 }],
  ];
  const fields = types.map(([type]) => ({ name: `a_${type}`, type, values: ["a", "b"], collectionId: kept.id }));
  const found = await admin.collections.create({
    name: named("types"),
    fields: [...fields, { name: "at", type: "autodate", onCreate: true }],
  });
  same(pick(found.fields, "name"), ["id", ...pick(fields, "name"), "at"]);
  for (const [number, [type, options]] of types.entries()) {
    const { id, ...rest } = found.fields[number + 1];
    assert.match(id, new RegExp(`^${type}\\d+$`));
    const common = { name: `a_${type}`, type, system: false, hidden: false, presentable: false, required: false };
    same(rest, { ...common, help: "", ...options });
    same(Object.keys(found.fields[number + 1]), Object.keys(found.fields[number + 1]).sort());
  }
  const { id, ...at } = found.fields.at(-1);
  const common = { name: "at", type: "autodate", system: false, hidden: false, presentable: false };
  same(at, { ...common, onCreate: true, onUpdate: false });
});

check("one by name, by id", async ({ admin, kept }) => {
  same(await admin.collections.getOne(kept.name), kept);
  same(await admin.collections.getOne(kept.id), kept);
});

check("one that is not there", async ({ admin, refused }) => {
  await refused(() => admin.collections.getOne("not_there"), 404);
  await refused(() => admin.collections.update("not_there", {}), 404);
  await refused(() => admin.collections.delete("not_there"), 404);
  await refused(() => admin.collections.truncate("not_there"), 404);
});

check("a list", async ({ admin }) => {
  const found = await admin.collections.getList(1, 2);
  same(Object.keys(found), ["items", "page", "perPage", "totalItems", "totalPages"]);
  same([found.items.length, found.page, found.perPage, found.totalPages], [2, 1, 2, Math.ceil(found.totalItems / 2)]);
  const all = await admin.collections.getFullList({ batch: 3 });
  same(all.length, found.totalItems);
  assert.ok(pick(all, "name").includes("_superusers"));
});

check("a list sorted and filtered", async ({ admin, named }) => {
  const filter = admin.filter("name ~ {:some} && type = 'auth'", { some: named("") });
  same(pick(await admin.collections.getFullList({ filter, sort: "-name" }), "name"), [named("users")]);
  same(pick(await admin.collections.getFullList({ filter: "system = true", sort: "name" }), "name"), [
    "_authOrigins",
    "_externalAuths",
    "_mfas",
    "_otps",
    "_superusers",
  ]);
});

check("the first that a filter finds", async ({ admin, kept }) => {
  same((await admin.collections.getFirstListItem(`name = "${kept.name}"`)).id, kept.id);
  await assert.rejects(
    () => admin.collections.getFirstListItem('name = "not_there"'),
    ({ status }) => status === 404,
  );
});

check("a list filtered by what is not there", async ({ admin, refused }) => {
  await refused(() => admin.collections.getList(1, 1, { filter: "fields = 'x'" }), 400);
  await refused(() => admin.collections.getList(1, 1, { filter: "name = " }), 400);
  await refused(() => admin.collections.getList(1, 1, { sort: "nothing" }), 400);
});

check("with fields", async ({ admin, kept }) => {
  same(await admin.collections.getOne(kept.id, { fields: "name,fields.name" }), {
    fields: [{ name: "id" }, { name: "title" }],
    name: kept.name,
  });
  const list = await admin.collections.getList(1, 1, { fields: "type", skipTotal: true });
  same([Object.keys(list.items[0]), list.totalItems], [["type"], -1]);
});

check("names that cannot be", async ({ admin, refused, kept }) => {
  const create = (name) => () => admin.collections.create({ name });
  await refused(create(""), 400, { name: "required" });
  await refused(create("with space"), 400, { name: "match_invalid" });
  await refused(create("a_via_b"), 400, { name: "found_via" });
  await refused(create(kept.name.toUpperCase()), 400, { name: "collection_name_exists" });
  await refused(create("_params"), 400, { name: "collection_name_invalid" });
});

check("types that cannot be", async ({ admin, refused, kept, named }) => {
  await refused(() => admin.collections.create({ name: named("type"), type: "other" }), 400, { type: "in_invalid" });
  const error = await admin.collections.update(kept.id, { type: "auth" }).catch((found) => found);
  same([error.status, codesOf(error.response.data).type], [400, "collection_type_change"]);
});

check("fields that cannot be", async ({ admin, refused, named }) => {
  const create =
    (...fields) =>
    () =>
      admin.collections.create({ name: named("bad"), fields });
  const text = (name, more = {}) => ({ name, type: "text", ...more });
  await refused(create(text("")), 400, { fields: { 1: { name: "required" } } });
  await refused(create(text("a b")), 400, { fields: { 1: { name: "match_invalid" } } });
  await refused(create(text("expand")), 400, { fields: { 1: { name: "not_in_invalid" } } });
  await refused(create(text("a"), text("A")), 400, { fields: { 2: { name: "duplicated_field_name" } } });
  await refused(create(text("a", { min: 5, max: 2 })), 400, {
    fields: { 1: { max: "min_greater_equal_than_required" } },
  });
  await refused(create({ name: "a", type: "select" }), 400, { fields: { 1: { values: "required" } } });
  await refused(create({ name: "a", type: "relation" }), 400, { fields: { 1: { collectionId: "required" } } });
  await refused(create({ name: "a", type: "relation", collectionId: "not_there" }), 400, {
    fields: { 1: { collectionId: "field_relation_missing_collection" } },
  });
  await refused(create({ name: "a", type: "autodate" }), 400, {
    fields: { 1: { onCreate: "required", onUpdate: "required" } },
  });
});

check("a type of field that there is not", async ({ admin, refused, named }) => {
  await refused(() => admin.collections.create({ name: named("bad"), fields: [{ name: "a", type: "nothing" }] }), 400);
});

check("rules that cannot be", async ({ admin, refused, named }) => {
  await refused(
    () => admin.collections.create({ name: named("rule"), listRule: "nothing = 1", viewRule: "id = " }),
    400,
    {
      listRule: "invalid_rule",
      viewRule: "invalid_rule",
    },
  );
});

check("indexes that cannot be", async ({ admin, refused, named }) => {
  const create =
    (...indexes) =>
    () =>
      admin.collections.create({ name: named("index"), indexes });
  await refused(create("not an index"), 400, { indexes: { 0: "invalid_index_expression" } });
  await refused(create("CREATE INDEX idx_x_bad ON t (nothing)"), 400, { indexes: { 0: "invalid_index_expression" } });
});

check("removing one", async ({ admin, named, refused }) => {
  const { id } = await admin.collections.create({ name: named("removed") });
  await admin.collection(named("removed")).create({});
  same(await admin.collections.delete(id), true);
  await refused(() => admin.collections.getOne(id), 404);
  await refused(() => admin.collection(named("removed")).getList(), 404);
  const again = await admin.collections.create({ name: named("removed") });
  same((await admin.collection(again.name).getList()).totalItems, 0);
});

check("removing one that others refer to, or a system's", async ({ admin, named, refused }) => {
  const target = await admin.collections.create({ name: named("target") });
  const field = { name: "target", type: "relation", collectionId: target.id };
  await admin.collections.create({ name: named("source"), fields: [field] });
  await refused(() => admin.collections.delete(target.id), 400);
  await refused(() => admin.collections.delete("_superusers"), 400);
  same(await admin.collections.delete(named("source")), true);
  same(await admin.collections.delete(target.id), true);
});

check("truncate", async ({ admin, named }) => {
  const target = await admin.collections.create({ name: named("emptied") });
  const relation = (name, more) => ({ name, type: "relation", collectionId: target.id, ...more });
  const source = await admin.collections.create({
    name: named("pointing"),
    fields: [relation("with", { cascadeDelete: true }), relation("without")],
  });
  const [one, other] = [await admin.collection(target.id).create({}), await admin.collection(target.id).create({})];
  await admin.collection(source.id).create({ with: one.id });
  const left = await admin.collection(source.id).create({ without: other.id });
  same(await admin.collections.truncate(target.name), true);
  same((await admin.collection(target.id).getList()).totalItems, 0);
  const found = await admin.collection(source.id).getFullList();
  same([pick(found, "id"), found[0].without], [[left.id], ""]);
});

check("providers of sign-in", async ({ admin }) => {
  const found = await admin.collections.getAllOAuth2Providers();
  assert.ok(found.length > 20);
  for (const each of found) {
    same(Object.keys(each).sort(), ["displayName", "logo", "name"]);
  }
  same(found.find(({ name }) => name === "github").displayName, "GitHub");
});

check("import makes and changes", async ({ admin, named, kept }) => {
  const made = { name: named("imported"), type: "base", fields: [{ name: "n", type: "number" }] };
  const changed = { ...kept, listRule: "", fields: [{ name: "more", type: "bool" }] };
  same(await admin.collections.import([made, changed]), true);
  same(pick((await admin.collections.getOne(named("imported"))).fields, "name"), ["id", "n"]);
  const found = await admin.collections.getOne(kept.id);
  same([found.listRule, pick(found.fields, "name").sort()], ["", ["id", "more", "title"]]);
});

check("import that removes what is missing", async ({ admin, named, refused }) => {
  await admin.collections.create({ name: named("unlisted"), fields: [{ name: "a", type: "text" }] });
  await admin.collections.create({ name: named("listed"), fields: [{ name: "a", type: "text" }] });
  const all = (await admin.collections.getFullList()).filter(({ name }) => name !== named("unlisted"));
  const listed = all.find(({ name }) => name === named("listed"));
  listed.fields = [{ name: "b", type: "text" }];
  same(await admin.collections.import(all, true), true);
  await refused(() => admin.collections.getOne(named("unlisted")), 404);
  same(pick((await admin.collections.getOne(named("listed"))).fields, "name").sort(), ["b", "id"]);
});

check("import of what cannot be changes nothing", async ({ admin, named, refused }) => {
  const good = { name: named("good"), type: "base", fields: [] };
  const bad = { name: named("bad_rule"), type: "base", fields: [], listRule: "nothing = 1" };
  await refused(() => admin.collections.import([good, bad]), 400, { collections: "collections_import_failure" });
  await refused(() => admin.collections.getOne(named("good")), 404);
  await refused(() => admin.collections.import([]), 400, { collections: "required" });
});

check("only superusers", async ({ guest, user, refused, kept }) => {
  const calls = (pb) => [
    () => pb.collections.getList(),
    () => pb.collections.getOne(kept.id),
    () => pb.collections.create({ name: "x" }),
    () => pb.collections.update(kept.id, {}),
    () => pb.collections.delete(kept.id),
    () => pb.collections.truncate(kept.id),
    () => pb.collections.getScaffolds(),
    () => pb.collections.import([{ name: "x" }]),
    () => pb.collections.getAllOAuth2Providers(),
    () => pb.collections.dryRunViewQuery("SELECT 1 as id"),
  ];
  for (const call of calls(guest)) {
    await refused(call, 401);
  }
  for (const call of calls(user)) {
    await refused(call, 403);
  }
});
