// Rules: who may do what with records, and what the refusals look like.
import { check, group, has, pick, randomName, same } from "./kit.mjs";

const text = (name, more = {}) => ({ name, type: "text", ...more });

group("rules", async ({ admin, client, named, refused, signedIn }) => {
  const users = await admin.collections.create({ name: named("users"), type: "auth", fields: [text("role")] });
  const [one, other] = [await signedIn(users.name, { role: "editor" }), await signedIn(users.name)];
  const owner = { name: "owner", type: "relation", collectionId: users.id };
  /** Make a collection with these rules; gives access to it for all kinds of callers. */
  async function made(rules, ...more) {
    const collection = await admin.collections.create({
      name: named(randomName()),
      ...rules,
      fields: [text("title"), owner, ...more],
    });
    const of = ({ pb }) => pb.collection(collection.name);
    return {
      collection,
      guest: client().collection(collection.name),
      one: of(one),
      other: of(other),
      all: of({ pb: admin }),
    };
  }
  return { admin, client, named, refused, made, users, signedIn, one_id: one.record.id, other_id: other.record.id };
});

check("rules that are null", async ({ made, refused }) => {
  const { guest, one, all } = await made({});
  const { id } = await all.create({ title: "a" });
  for (const records of [guest, one]) {
    await refused(() => records.getList(), 403);
    await refused(() => records.getOne(id), 403);
    await refused(() => records.create({}), 403);
    await refused(() => records.update(id, {}), 403);
    await refused(() => records.delete(id), 403);
  }
  same([(await all.getList()).totalItems, await all.delete(id)], [1, true]);
});

check("rules that are empty", async ({ made }) => {
  const open = { listRule: "", viewRule: "", createRule: "", updateRule: "", deleteRule: "" };
  const { guest } = await made(open);
  const { id } = await guest.create({ title: "a" });
  same((await guest.update(id, { title: "b" })).title, "b");
  same([(await guest.getList()).totalItems, (await guest.getOne(id)).title, await guest.delete(id)], [1, "b", true]);
});

check("rules that are not satisfied", async ({ made, refused }) => {
  const rule = "title = 'open'";
  const { guest, all } = await made({
    listRule: rule,
    viewRule: rule,
    createRule: rule,
    updateRule: rule,
    deleteRule: rule,
  });
  const [open, closed] = [await all.create({ title: "open" }), await all.create({ title: "closed" })];
  same(pick((await guest.getList()).items, "id"), [open.id]);
  same((await guest.getOne(open.id)).title, "open");
  await refused(() => guest.getOne(closed.id), 404);
  await refused(() => guest.create({ title: "closed" }), 400);
  await refused(() => guest.update(closed.id, { title: "open" }), 404);
  await refused(() => guest.delete(closed.id), 404);
  same((await guest.create({ title: "open" })).title, "open");
  same((await guest.update(open.id, { title: "closed" })).title, "closed");
  await refused(() => guest.delete(open.id), 404);
});

check("own records", async ({ made, refused, one_id, other_id }) => {
  const own = "owner = @request.auth.id";
  const rules = { listRule: own, viewRule: own, updateRule: own, deleteRule: own };
  const { guest, one, other, all } = await made({
    ...rules,
    createRule: "@request.auth.id != '' && owner = @request.auth.id",
  });
  const mine = await one.create({ title: "mine", owner: one_id });
  const theirs = await other.create({ title: "theirs", owner: other_id });
  await refused(() => one.create({ owner: other_id }), 400);
  await refused(() => guest.create({ owner: one_id }), 400);
  await refused(() => guest.create({}), 400);
  const totals = [
    (await one.getList()).totalItems,
    (await guest.getList()).totalItems,
    (await all.getList()).totalItems,
  ];
  same(totals, [1, 0, 2]);
  await refused(() => one.getOne(theirs.id), 404);
  await refused(() => one.update(theirs.id, { title: "taken" }), 404);
  await refused(() => guest.getOne(mine.id), 404);
  same((await one.update(mine.id, { title: "changed" })).title, "changed");
  await refused(() => other.delete(mine.id), 404);
  same(await one.delete(mine.id), true);
});

check("what the caller is", async ({ made, refused, users }) => {
  const rule = `@request.auth.role = 'editor' && @request.auth.collectionName = '${users.name}'`;
  const { guest, one, other } = await made({ createRule: rule, viewRule: rule });
  await one.create({ title: "a" });
  await refused(() => other.create({}), 400);
  await refused(() => guest.create({}), 400);
});

check("what was sent", async ({ made, refused }) => {
  const { guest, all } = await made({
    viewRule: "",
    createRule: "@request.body.title:isset = true && title ~ 'a'",
    updateRule: "@request.body.title:changed = false && @request.body.owner:isset = false",
  });
  await refused(() => guest.create({}), 400);
  const { id } = await guest.create({ title: "a" });
  await refused(() => guest.update(id, { title: "b" }), 404);
  await refused(() => guest.update(id, { owner: "" }), 404);
  same((await guest.update(id, { title: "a" })).title, "a");
  same((await all.update(id, { title: "b" })).title, "b");
});

check("query, headers and method", async ({ made, refused }) => {
  const rule = "@request.query.key = 'open' && @request.headers.x_key = 'open' && @request.method = 'GET'";
  const { guest, all } = await made({ listRule: rule, viewRule: rule });
  const { id } = await all.create({});
  const options = { key: "open", headers: { "X-Key": "open" } };
  same((await guest.getOne(id, options)).id, id);
  same([(await guest.getList(1, 1, options)).totalItems, (await guest.getList()).totalItems], [1, 0]);
  await refused(() => guest.getOne(id, { key: "open" }), 404);
});

check("other collections", async ({ made, admin, named, refused, one_id }) => {
  const members = await admin.collections.create({ name: named("members"), fields: [text("user"), text("team")] });
  await admin.collection(members.id).create({ user: one_id, team: "red" });
  const rule = `@collection.${members.name}.user ?= @request.auth.id && @collection.${members.name}.team ?= title`;
  const { one, other, guest, all } = await made({ listRule: rule, viewRule: rule, createRule: rule });
  const [red, blue] = [await one.create({ title: "red" }), await all.create({ title: "blue" })];
  await refused(() => one.create({ title: "blue" }), 400);
  await refused(() => other.create({ title: "red" }), 400);
  same(pick((await one.getList()).items), ["red"]);
  same([(await other.getList()).totalItems, (await guest.getList()).totalItems], [0, 0]);
  same((await one.getOne(red.id)).title, "red");
  await refused(() => one.getOne(blue.id), 404);
});

check("over relations of what is made", async ({ made, refused, one_id, other_id }) => {
  const { one } = await made({ createRule: "owner.role = 'editor'", viewRule: "" });
  same((await one.create({ owner: one_id })).owner, one_id);
  await refused(() => one.create({ owner: other_id }), 400);
});

check("a rule comes before the checks of values", async ({ made, refused }) => {
  const { guest } = await made({ createRule: "title = 'open'" }, text("short", { max: 2 }));
  await refused(() => guest.create({ title: "closed", short: "long" }), 400);
  await refused(() => guest.create({ title: "open", short: "long" }), 400, { short: "max_text_constraint" });
});

check("rules hold from the moment they change", async ({ made, admin, refused }) => {
  const { collection, guest, all } = await made({ listRule: "" });
  await all.create({});
  same((await guest.getList()).totalItems, 1);
  await admin.collections.update(collection.id, { listRule: null });
  await refused(() => guest.getList(), 403);
  await admin.collections.update(collection.id, { listRule: "title = 'x'" });
  same((await guest.getList()).totalItems, 0);
});

check("addresses of others are not shown", async ({ admin, named, signedIn, client }) => {
  const rules = { listRule: "", viewRule: "" };
  const people = await admin.collections.create({ name: named("people"), type: "auth", ...rules });
  const shy = await signedIn(people.name);
  const shown = await signedIn(people.name, { emailVisibility: true });
  const get = async (pb, { record }) => (await pb.collection(people.name).getOne(record.id)).email;
  const guest = client();
  same([await get(guest, shy), await get(guest, shown)], [undefined, shown.email]);
  same([await get(shy.pb, shy), await get(shown.pb, shy), await get(admin, shy)], [shy.email, undefined, shy.email]);
  const filter = guest.filter("email = {:email}", shy);
  const total = async (pb) => (await pb.collection(people.name).getList(1, 1, { filter })).totalItems;
  same([await total(guest), await total(admin)], [0, 1]);
  const found = await guest.collection(people.name).getOne(shown.record.id);
  same([found.password, found.tokenKey], [undefined, undefined]);
});

check("managers", async ({ admin, named, signedIn, refused }) => {
  const managed = await admin.collections.create({
    name: named("managed"),
    type: "auth",
    fields: [text("role")],
    listRule: "",
    viewRule: "",
    createRule: "",
    updateRule: "@request.auth.id != ''",
    manageRule: "@request.auth.role = 'boss'",
  });
  const [boss, worker] = [await signedIn(managed.name, { role: "boss" }), await signedIn(managed.name)];
  const { id } = worker.record;
  const as = ({ pb }) => pb.collection(managed.name);
  await refused(() => as(worker).update(id, { email: "new@example.com" }), 400, { email: "values_mismatch" });
  await refused(() => as(worker).update(id, { verified: true }), 400, { verified: "values_mismatch" });
  await refused(() => as(worker).update(id, { password: "password2", passwordConfirm: "password2" }), 400, {
    oldPassword: "required",
  });
  same((await as(boss).getOne(id)).email, worker.email);
  const email = `${randomName()}@example.com`;
  const changed = await as(boss).update(id, {
    email,
    verified: true,
    password: "password2",
    passwordConfirm: "password2",
  });
  has(changed, { email, verified: true });
  same((await as(boss).authWithPassword(email, "password2")).record.id, id);
});

check("system collections", async ({ client, refused }) => {
  const guest = client();
  for (const name of ["_superusers"]) {
    await refused(() => guest.collection(name).getList(), 403);
    await refused(() => guest.collection(name).create({}), 403);
  }
  for (const name of ["_externalAuths", "_mfas", "_otps", "_authOrigins"]) {
    same((await guest.collection(name).getList()).totalItems, 0);
    await refused(() => guest.collection(name).create({}), 403);
  }
});
