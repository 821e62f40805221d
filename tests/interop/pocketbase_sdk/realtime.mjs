// Realtime: subscriptions, what they are told and what not.
//
// Waits end with the event that is waited for; that nothing comes is seen by a last event that must be the next one.
import { assert, check, group, same } from "./kit.mjs";

const text = (name, more = {}) => ({ name, type: "text", ...more });

group("realtime", async (world) => {
  const { admin, client, named, signedIn, other } = world;
  const users = await admin.collections.create({ name: named("users"), type: "auth", listRule: "", viewRule: "" });
  const owner = { name: "owner", type: "relation", collectionId: users.id };
  const open = { listRule: "", viewRule: "", createRule: "", updateRule: "", deleteRule: "" };
  const make = (name, rules) =>
    admin.collections.create({
      name: named(name),
      ...rules,
      fields: [text("title"), owner, text("secret", { hidden: true })],
    });
  const posts = await make("posts", open);
  const own = "owner = @request.auth.id";
  await make("own", { ...open, listRule: own, viewRule: own });
  await make("closed", {});
  await make("keyed", { ...open, listRule: "@request.query.key = 'open' && @request.headers.x_key = 'open'" });
  const [one, two] = [await signedIn(users.name), await signedIn(users.name)];
  return { ...world, users, posts, one, two, elsewhere: client(other), open };
});

/** Give a listener, and what takes the events that it heard one by one. */
function inbox() {
  const waiting = [];
  const events = [];
  return {
    hear: (event) => (waiting.length ? waiting.shift()(event) : events.push(event)),
    next: () => (events.length ? Promise.resolve(events.shift()) : new Promise((resolve) => waiting.push(resolve))),
    get left() {
      return events.length;
    },
  };
}

/** Check that the next events are these actions on these titles. */
async function hears(box, ...expected) {
  for (const each of expected) {
    const { action, record } = await box.next();
    same([action, record.title], each);
  }
}

/** A check with clients that are disconnected at its end. */
function live(name, work) {
  check(name, async (shared, world) => {
    const clients = [];
    const connect = (pb = world.client()) => {
      clients.push(pb);
      return pb;
    };
    try {
      await work({ ...shared, connect });
    } finally {
      await Promise.all(clients.map((pb) => pb.realtime.unsubscribe()));
    }
  });
}

live("all of a collection", async ({ connect, named, posts }) => {
  const pb = connect();
  const records = pb.collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", box.hear);
  same([pb.realtime.isConnected, pb.realtime.clientId.length > 0], [true, true]);
  const made = await records.create({ title: "a" });
  const event = await box.next();
  same([Object.keys(event), event.action, event.record], [["record", "action"], "create", made]);
  const changed = await records.update(made.id, { title: "b" });
  same(await box.next(), { action: "update", record: changed });
  await records.delete(made.id);
  same(await box.next(), { action: "delete", record: changed });
  same(made.collectionId, posts.id);
});

live("one record", async ({ connect, named }) => {
  const records = connect().collection(named("posts"));
  const [made, other] = [await records.create({ title: "a" }), await records.create({ title: "other" })];
  const box = inbox();
  await records.subscribe(made.id, box.hear);
  await records.update(other.id, { title: "not heard" });
  await records.update(made.id, { title: "b" });
  await records.delete(made.id);
  await hears(box, ["update", "b"], ["delete", "b"]);
  same(box.left, 0);
});

live("by the id of the collection", async ({ connect, posts }) => {
  const records = connect().collection(posts.id);
  const box = inbox();
  await records.subscribe("*", box.hear);
  await records.create({ title: "by id" });
  await hears(box, ["create", "by id"]);
});

live("many, in their order", async ({ connect, named }) => {
  const records = connect().collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", box.hear);
  const expected = [];
  for (let number = 0; number < 60; number += 1) {
    await records.create({ title: `number ${number}` });
    expected.push(["create", `number ${number}`]);
  }
  await hears(box, ...expected);
});

live("what happens at another node", async ({ connect, named, elsewhere }) => {
  const box = inbox();
  await connect().collection(named("posts")).subscribe("*", box.hear);
  const records = elsewhere.collection(named("posts"));
  const { id } = await records.create({ title: "elsewhere" });
  await records.update(id, { title: "changed" });
  await records.delete(id);
  await hears(box, ["create", "elsewhere"], ["update", "changed"], ["delete", "changed"]);
});

live("subscribers of both nodes hear the same", async ({ connect, named, elsewhere, admin }) => {
  const boxes = [inbox(), inbox()];
  await connect().collection(named("posts")).subscribe("*", boxes[0].hear);
  await connect(elsewhere).collection(named("posts")).subscribe("*", boxes[1].hear);
  const expected = [];
  for (let number = 0; number < 20; number += 1) {
    const records = (number % 2 ? admin : elsewhere).collection(named("posts"));
    await records.create({ title: `both ${number}` });
    expected.push(["create", `both ${number}`]);
  }
  await hears(boxes[0], ...expected);
  await hears(boxes[1], ...expected);
});

live("what was heard of is read at once", async ({ connect, named, elsewhere }) => {
  const records = connect().collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", box.hear);
  for (let number = 0; number < 10; number += 1) {
    elsewhere.collection(named("posts")).create({ title: `read ${number}` });
    const { record } = await box.next();
    same(await records.getOne(record.id), record);
  }
});

live("a filter", async ({ connect, named }) => {
  const records = connect().collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", box.hear, { filter: "title ~ 'yes'" });
  const { id } = await records.create({ title: "no" });
  await records.update(id, { title: "yes" });
  await records.create({ title: "no too" });
  await records.delete(id);
  await hears(box, ["update", "yes"], ["delete", "yes"]);
  same(box.left, 0);
});

live("fields and what is beside", async ({ connect, named, one }) => {
  const records = connect().collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", box.hear, { expand: "owner", fields: "title,expand.owner.id" });
  await records.create({ title: "a", owner: one.record.id });
  same(await box.next(), { action: "create", record: { expand: { owner: { id: one.record.id } }, title: "a" } });
});

live("several of one topic with their own options", async ({ connect, named }) => {
  const records = connect().collection(named("posts"));
  const [short, long, filtered] = [inbox(), inbox(), inbox()];
  await Promise.all([
    records.subscribe("*", short.hear, { fields: "title" }),
    records.subscribe("*", long.hear),
    records.subscribe("*", filtered.hear, { filter: "title = 'b'" }),
  ]);
  await records.create({ title: "a" });
  const made = await records.create({ title: "b" });
  same([(await short.next()).record, (await short.next()).record], [{ title: "a" }, { title: "b" }]);
  await hears(long, ["create", "a"], ["create", "b"]);
  same((await filtered.next()).record, made);
});

live("query and headers of a subscription", async ({ connect, named, admin }) => {
  const [without, within] = [inbox(), inbox()];
  const records = connect().collection(named("keyed"));
  await records.subscribe("*", without.hear);
  await records.subscribe("*", within.hear, { query: { key: "open" }, headers: { "x-key": "open" } });
  await admin.collection(named("keyed")).create({ title: "keyed" });
  await hears(within, ["create", "keyed"]);
  same(without.left, 0);
});

live("rules", async ({ connect, named, admin, one, two }) => {
  const boxes = { guest: inbox(), one: inbox(), two: inbox(), admin: inbox() };
  const clients = { guest: undefined, one: one.pb, two: two.pb, admin };
  for (const [name, pb] of Object.entries(clients)) {
    await connect(pb).collection(named("own")).subscribe("*", boxes[name].hear);
  }
  const records = admin.collection(named("own"));
  const { id } = await records.create({ title: "of one", owner: one.record.id });
  await records.create({ title: "of two", owner: two.record.id });
  await records.update(id, { owner: two.record.id });
  await records.delete(id);
  const all = [
    ["create", "of one"],
    ["create", "of two"],
    ["update", "of one"],
    ["delete", "of one"],
  ];
  await hears(boxes.admin, ...all);
  await hears(boxes.two, ...all.slice(1));
  await hears(boxes.one, all[0]);
  same([boxes.one.left, boxes.guest.left], [0, 0]);
});

live("rules that are null", async ({ connect, named, admin }) => {
  const [guest, all] = [inbox(), inbox()];
  await connect().collection(named("closed")).subscribe("*", guest.hear);
  await connect(admin).collection(named("closed")).subscribe("*", all.hear);
  await admin.collection(named("closed")).create({ title: "closed" });
  await hears(all, ["create", "closed"]);
  same(guest.left, 0);
});

live("hidden fields and addresses", async ({ connect, named, admin, one, two }) => {
  const [guest, all, own] = [inbox(), inbox(), inbox()];
  const [posts, users] = [named("posts"), named("users")];
  const pb = connect();
  await pb.collection(posts).subscribe("*", guest.hear);
  await pb.collection(users).subscribe(one.record.id, guest.hear);
  await connect(admin).collection(posts).subscribe("*", all.hear);
  await connect(one.pb).collection(users).subscribe(one.record.id, own.hear);
  await admin.collection(posts).create({ title: "a", secret: "hidden" });
  same([(await guest.next()).record.secret, (await all.next()).record.secret], [undefined, "hidden"]);
  await admin.collection(users).update(one.record.id, { emailVisibility: false, verified: true });
  const seen = [(await guest.next()).record, (await own.next()).record];
  same(
    [seen[0].email, seen[1].email, seen[0].tokenKey, two.record.email !== one.email],
    [undefined, one.email, undefined, true],
  );
});

live("what goes along with another", async ({ connect, named, admin, signedIn, users, open }) => {
  const owner = { name: "owner", type: "relation", collectionId: users.id, cascadeDelete: true };
  const { name } = await admin.collections.create({ name: named("cascade"), ...open, fields: [text("title"), owner] });
  const { record } = await signedIn(users.name);
  await admin.collection(name).create({ title: "goes along", owner: record.id });
  const box = inbox();
  await connect().collection(name).subscribe("*", box.hear);
  await admin.collection(users.name).delete(record.id);
  await hears(box, ["delete", "goes along"]);
});

live("what a batch did", async ({ connect, named, admin }) => {
  await admin.settings.update({ batch: { enabled: true } });
  const box = inbox();
  await connect().collection(named("posts")).subscribe("*", box.hear);
  const failing = admin.createBatch();
  failing.collection(named("posts")).create({ title: "undone" });
  failing.collection(named("posts")).delete("0123456789abcde");
  await assert.rejects(() => failing.send());
  const batch = admin.createBatch();
  batch.collection(named("posts")).create({ title: "first" });
  batch.collection(named("posts")).create({ title: "second" });
  await batch.send();
  const found = [(await box.next()).record.title, (await box.next()).record.title].sort();
  same(found, ["first", "second"]);
});

live("unsubscribing from a topic", async ({ connect, named }) => {
  const pb = connect();
  const records = pb.collection(named("posts"));
  const made = await records.create({ title: "a" });
  const [all, single] = [inbox(), inbox()];
  await records.subscribe("*", all.hear);
  await records.subscribe(made.id, single.hear);
  await records.unsubscribe("*");
  await records.update(made.id, { title: "b" });
  await hears(single, ["update", "b"]);
  same([all.left, pb.realtime.isConnected], [0, true]);
});

live("unsubscribing one listener", async ({ connect, named }) => {
  const records = connect().collection(named("posts"));
  const [first, second] = [inbox(), inbox()];
  const leave = await records.subscribe("*", first.hear);
  await records.subscribe("*", second.hear);
  await leave();
  await records.create({ title: "a" });
  await hears(second, ["create", "a"]);
  same(first.left, 0);
});

live("unsubscribing from a collection, and from all", async ({ connect, named }) => {
  const pb = connect();
  const [posts, closed] = [inbox(), inbox()];
  await pb.collection(named("posts")).subscribe("*", posts.hear);
  await pb.collection(named("closed")).subscribe("*", closed.hear);
  await pb.collection(named("closed")).unsubscribe();
  await pb.collection(named("posts")).create({ title: "a" });
  await hears(posts, ["create", "a"]);
  await pb.realtime.unsubscribe();
  same([pb.realtime.isConnected, pb.realtime.clientId], [false, ""]);
});

live("connecting again after all was left", async ({ connect, named }) => {
  const pb = connect();
  const records = pb.collection(named("posts"));
  const box = inbox();
  await records.subscribe("*", () => {});
  await pb.realtime.unsubscribe();
  await records.subscribe("*", box.hear);
  await records.create({ title: "again" });
  await hears(box, ["create", "again"]);
});

live("word of the connection", async ({ connect }) => {
  const pb = connect();
  const box = inbox();
  await pb.realtime.subscribe("PB_CONNECT", box.hear);
  const { clientId } = await box.next();
  same(clientId, pb.realtime.clientId);
  assert.ok(clientId.length > 10 && clientId.length <= 255);
});

live("signing in on a connection that is there", async ({ connect, named, admin, one, users }) => {
  const pb = connect();
  const [early, late] = [inbox(), inbox()];
  await pb.collection(named("own")).subscribe("*", early.hear);
  await pb.collection(users.name).authWithPassword(one.email, one.password);
  await pb.collection(named("own")).subscribe("0123456789abcde", late.hear);
  await admin.collection(named("own")).create({ title: "of one", owner: one.record.id });
  await hears(early, ["create", "of one"]);
});

live("another's connection", async ({ connect, one, two, refused, named, client }) => {
  const pb = connect(one.pb);
  await pb.collection(named("posts")).subscribe("*", () => {});
  const send = (by, clientId, subscriptions) =>
    by.send("/api/realtime", { method: "POST", body: { clientId, subscriptions } });
  await refused(() => send(two.pb, pb.realtime.clientId, []), 403);
  await refused(() => send(client(), "not_there", []), 404);
  await refused(() => send(client(), "", []), 400, { clientId: "required" });
});

live("subscribing through the other node", async ({ named, elsewhere, admin, url }) => {
  const source = new EventSource(`${url}/api/realtime`);
  try {
    const clientId = await new Promise((resolve) =>
      source.addEventListener("PB_CONNECT", (event) => resolve(event.lastEventId)),
    );
    const topic = `${named("posts")}/*`;
    const heard = new Promise((resolve) => source.addEventListener(topic, (event) => resolve(JSON.parse(event.data))));
    await elsewhere.send("/api/realtime", { method: "POST", body: { clientId, subscriptions: [topic] } });
    await admin.collection(named("posts")).create({ title: "through the other" });
    same((await heard).record.title, "through the other");
  } finally {
    source.close();
  }
});
