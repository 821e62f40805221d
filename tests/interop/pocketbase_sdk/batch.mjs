// Several writes in one transaction. The SDK always sends them as a form.
import { assert, check, group, has, pick, same } from "./kit.mjs";

group("batch", async ({ admin, client, named, refused, signedIn }) => {
  const text = (name, more = {}) => ({ name, type: "text", ...more });
  const open = { listRule: "", viewRule: "", createRule: "", updateRule: "", deleteRule: "" };
  const tags = await admin.collections.create({ name: named("tags"), ...open, fields: [text("name")] });
  const posts = await admin.collections.create({
    name: named("posts"),
    ...open,
    createRule: "title != 'closed'",
    fields: [
      text("title", { max: 20 }),
      { name: "n", type: "number" },
      { name: "tag", type: "relation", collectionId: tags.id },
      { name: "photos", type: "file", maxSelect: 3 },
    ],
  });
  const users = await admin.collections.create({ name: named("users"), type: "auth" });
  await admin.settings.update({ batch: { enabled: true, maxRequests: 20, timeout: 10 } });
  const guest = client();
  const all = admin.collection(posts.name);
  const titles = async () => pick(await all.getFullList({ sort: "title" }));
  const empty = () => admin.collections.truncate(posts.id);
  return {
    admin,
    guest,
    posts: posts.name,
    tags: tags.name,
    users: users.name,
    all,
    titles,
    empty,
    refused,
    named,
    signedIn,
  };
});

check("writes of all kinds in their order", async ({ guest, posts, all, titles, empty }) => {
  await empty();
  const [changed, removed] = [await all.create({ title: "old" }), await all.create({ title: "removed" })];
  const batch = guest.createBatch();
  batch.collection(posts).create({ title: "new", n: 1 });
  batch.collection(posts).update(changed.id, { title: "changed", "n+": 5 });
  batch.collection(posts).delete(removed.id);
  batch.collection(posts).upsert({ id: changed.id, "n+": 5 });
  batch.collection(posts).upsert({ id: "abcdefghijklmno", title: "put" });
  batch.collection(posts).upsert({ title: "put too" });
  const found = await batch.send();
  same(pick(found, "status"), [200, 200, 204, 200, 200, 200]);
  same(Object.keys(found[0]).sort(), ["body", "status"]);
  has(found[0].body, { title: "new", n: 1, collectionName: posts });
  has(found[1].body, { id: changed.id, title: "changed", n: 5 });
  same([found[2].body, found[3].body.n, found[4].body.id], [null, 10, "abcdefghijklmno"]);
  same(await titles(), ["changed", "new", "put", "put too"]);
});

check("what a batch made is read at once", async ({ guest, posts }) => {
  for (let number = 0; number < 10; number += 1) {
    const batch = guest.createBatch();
    batch.collection(posts).create({ title: `at once ${number}` });
    const [{ body }] = await batch.send();
    same(await guest.collection(posts).getOne(body.id), body);
  }
});

check("later ones see earlier ones", async ({ guest, posts, tags }) => {
  const batch = guest.createBatch();
  batch.collection(tags).create({ id: "tagtagtagtagtag", name: "red" });
  batch
    .collection(posts)
    .create({ title: "tagged", tag: "tagtagtagtagtag" }, { expand: "tag", fields: "title,expand.tag.name" });
  batch.collection(tags).delete("tagtagtagtagtag");
  same((await batch.send())[1].body, { expand: { tag: { name: "red" } }, title: "tagged" });
});

check("one that fails undoes all", async ({ guest, posts, titles, empty, refused }) => {
  await empty();
  const batch = guest.createBatch();
  batch.collection(posts).create({ title: "one" });
  batch.collection(posts).create({ title: "longer than twenty characters" });
  batch.collection(posts).create({ title: "three" });
  const error = await refused(() => batch.send(), 400, { requests: { 1: "batch_request_failed" } });
  const { response } = error.response.data.requests[1];
  same([response.status, response.data.title.code], [400, "validation_max_text_constraint"]);
  same(await titles(), []);
});

check("rules hold in a batch", async ({ guest, admin, posts, users, titles, empty, refused }) => {
  await empty();
  const send = (pb, work) => {
    const batch = pb.createBatch();
    batch.collection(posts).create({ title: "first" });
    work(batch);
    return batch.send();
  };
  const status = async (work) =>
    (await refused(() => send(guest, work), 400, { requests: { 1: "batch_request_failed" } })).response.data.requests[1]
      .response.status;
  same(await status((batch) => batch.collection(posts).create({ title: "closed" })), 400);
  same(await status((batch) => batch.collection(users).create({ email: "a@example.com" })), 403);
  same(await status((batch) => batch.collection(posts).update("0123456789abcde", {})), 404);
  same(await status((batch) => batch.collection("not_there").create({})), 404);
  same(await titles(), []);
  await send(admin, (batch) => batch.collection(posts).create({ title: "closed" }));
  same(await titles(), ["closed", "first"]);
});

check("rules know that it is a batch", async ({ admin, guest, named }) => {
  const { name } = await admin.collections.create({
    name: named("context"),
    createRule: "@request.context = 'batch' && @request.headers.x_key = 'open' && @request.method = 'POST'",
  });
  const batch = guest.createBatch();
  batch.collection(name).create({}, { headers: { "X-Key": "open" } });
  same((await batch.send())[0].status, 200);
  await assert.rejects(() => guest.collection(name).create({}, { headers: { "X-Key": "open" } }));
});

check("who asks for the batch asks for each of its requests", async ({ admin, named, signedIn, users, refused }) => {
  const { pb, record } = await signedIn(users);
  const { name } = await admin.collections.create({ name: named("signed"), createRule: "@request.auth.id != ''" });
  const batch = pb.createBatch();
  batch.collection(name).create({}, { headers: { Authorization: "nobody" } });
  same([(await batch.send())[0].status, record.collectionName], [200, users]);
  const other = pb.createBatch();
  other.collection(name).create({}, { headers: { Authorization: admin.authStore.token } });
  other.collection(name).delete("0123456789abcde");
  const error = await refused(() => other.send(), 400, { requests: { 1: "batch_request_failed" } });
  same(error.response.data.requests[1].response.status, 403);
});

check("accounts in a batch", async ({ admin, guest, users }) => {
  const batch = admin.createBatch();
  const passwords = { password: "password1", passwordConfirm: "password1" };
  batch.collection(users).create({ email: `${users}1@example.com`, ...passwords });
  batch.collection(users).create({ email: `${users}2@example.com`, ...passwords });
  same(pick(await batch.send(), "status"), [200, 200]);
  same(
    (await guest.collection(users).authWithPassword(`${users}2@example.com`, "password1")).record.collectionName,
    users,
  );
  guest.authStore.clear();
});

check("many with + lose none", async ({ guest, posts, all }) => {
  const { id } = await all.create({ n: 0 });
  const send = () => {
    const batch = guest.createBatch();
    for (let step = 0; step < 5; step += 1) {
      batch.collection(posts).update(id, { "n+": 1 });
    }
    return batch.send();
  };
  await Promise.all([send(), send(), send(), send()]);
  same((await all.getOne(id)).n, 20);
});

check("too many, and none", async ({ guest, posts, refused, titles, empty }) => {
  await empty();
  const batch = guest.createBatch();
  for (let number = 0; number < 21; number += 1) {
    batch.collection(posts).create({ title: "many" });
  }
  await refused(() => batch.send(), 400, { requests: "length_too_long" });
  await refused(() => guest.createBatch().send(), 400, { requests: "required" });
  same(await titles(), []);
});

check("as JSON", async ({ guest, posts, refused }) => {
  const send = (...requests) => guest.send("/api/batch", { method: "POST", body: { requests } });
  const url = `/api/collections/${posts}/records`;
  same((await send({ method: "POST", url, body: { title: "JSON" } }))[0].body.title, "JSON");
  await refused(() => send({ method: "GET", url }), 400, { requests: { 0: "batch_request_failed" } });
  await refused(() => send({ method: "POST", url: "/api/settings" }), 400, { requests: { 0: "batch_request_failed" } });
});

check("files in a batch", async ({ guest, posts }) => {
  const batch = guest.createBatch();
  batch
    .collection(posts)
    .create({ title: "files", photos: [new File(["one"], "one.txt"), new File(["two"], "two.txt")] });
  batch.collection(posts).create({ title: "none" });
  const [{ body }, other] = await batch.send();
  same([body.photos.length, other.body.photos], [2, []]);
  const answer = await fetch(guest.files.getURL(body, body.photos[1]));
  same(await answer.text(), "two");
});

check("batches that are off", async ({ admin, guest, posts, refused }) => {
  await admin.settings.update({ batch: { enabled: false } });
  const batch = guest.createBatch();
  batch.collection(posts).create({ title: "off" });
  try {
    await refused(() => batch.send(), 403);
  } finally {
    await admin.settings.update({ batch: { enabled: true } });
  }
});
