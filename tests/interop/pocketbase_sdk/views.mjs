// View collections: definitions from queries, reading, what is refused.
import { assert, check, codesOf, group, pick, same } from "./kit.mjs";
import { magazine } from "./world.mjs";

group("views", async (world) => {
  const { admin, client, named } = world;
  const { ids } = await magazine(world);
  const columns = "p.id, p.title, p.n, p.author, p.kinds, p.data, a.name as writer, CAST(p.n AS TEXT) as label";
  const tables = `${named("posts")} p LEFT JOIN ${named("authors")} a ON a.id = p.author`;
  const query = `SELECT ${columns}, (p.n * 2) as twice FROM ${tables}`;
  const make = (name, viewQuery, more = {}) =>
    admin.collections.create({ name: named(name), type: "view", viewQuery, listRule: "", viewRule: "", ...more });
  const view = await make("posts_view", query);
  return { ...world, ids, make, view, records: client().collection(view.name), query };
});

check("fields that follow from the query", async ({ view, query }) => {
  same([view.type, view.viewQuery, view.indexes], ["view", query, []]);
  same([view.createRule, view.updateRule, view.deleteRule], [null, null, null]);
  same(Object.keys(view).at(-1), "viewQuery");
  const types = Object.fromEntries(view.fields.map(({ name, type }) => [name, type]));
  same(types, {
    id: "text",
    title: "text",
    n: "number",
    author: "relation",
    kinds: "select",
    writer: "text",
    label: "text",
    data: "json",
    twice: "json",
  });
});

check("records", async ({ records, ids, view }) => {
  const found = await records.getOne(ids.posts[2], { expand: "author" });
  const { id, title, n, kinds, writer, label, data, twice, collectionName, expand } = found;
  same([id, title, n, kinds, writer, label], [ids.posts[2], "Post 03", 3, ["news", "essay", "poem"], "Dora", "3"]);
  same([data.deep.value, twice, collectionName, expand.author.name], [3, 6, view.name, "Dora"]);
});

check("counts and sums", async ({ make, named, client }) => {
  const numbers = "count(id) as posts, total(n) as all_n, sum(n) as sum_n, max(n) as most";
  const view = await make(
    "sums",
    `SELECT (author) as id, ${numbers} FROM ${named("posts")} WHERE author != '' GROUP BY author`,
  );
  const types = view.fields.map(({ name, type }) => [name, type]).slice(1);
  same(types, [
    ["posts", "number"],
    ["all_n", "number"],
    ["sum_n", "json"],
    ["most", "json"],
  ]);
  const found = await client().collection(view.name).getFirstListItem("posts = 5", { sort: "all_n" });
  same([found.posts, found.all_n, found.sum_n, found.most], [5, 45, 45, 17]);
});

check("lists, filters, sorts", async ({ records }) => {
  const found = await records.getList(1, 3, { filter: "writer = 'Dora' && n > 4", sort: "-n" });
  same([pick(found.items, "n"), found.totalItems], [[19, 15, 11], 4]);
  same((await records.getFullList()).length, 25);
  same((await records.getFirstListItem("twice = 8")).n, 4);
  same((await records.getList(1, 50, { filter: "author.name = 'Ada'" })).totalItems, 5);
});

check("it shows what is written", async ({ admin, named, records }) => {
  const made = await admin.collection(named("posts")).create({ title: "new", n: 500 });
  same((await records.getOne(made.id)).title, "new");
  await admin.collection(named("posts")).delete(made.id);
  await assert.rejects(
    () => records.getOne(made.id),
    ({ status }) => status === 404,
  );
});

check("nothing is written to it", async ({ admin, view, refused, ids }) => {
  const records = admin.collection(view.name);
  await refused(() => records.create({}), 400);
  await refused(() => records.update(ids.posts[0], {}), 400);
  await refused(() => records.delete(ids.posts[0]), 400);
  await refused(() => admin.collections.truncate(view.name), 400);
});

check("rules", async ({ admin, view, records, refused }) => {
  await admin.collections.update(view.id, { listRule: "n < 3", viewRule: null });
  same((await records.getFullList()).length, 2);
  await refused(() => records.getOne("0123456789abcde"), 403);
  await admin.collections.update(view.id, { listRule: "", viewRule: "" });
});

check("another query", async ({ make, admin, named, client }) => {
  const { id, name } = await make("changing", `SELECT id, title FROM ${named("posts")}`);
  const found = await admin.collections.update(id, { viewQuery: `SELECT id, n FROM ${named("posts")} WHERE n > 20` });
  same(pick(found.fields, "name"), ["id", "n"]);
  same((await client().collection(name).getList()).totalItems, 5);
  same(await admin.collections.delete(id), true);
});

check("queries that cannot be", async ({ make, named }) => {
  const bad = async (query, code = "invalid_view_query") => {
    const error = await make("bad", query).catch((found) => found);
    same([error.status, codesOf(error.response.data).viewQuery], [400, code], query);
  };
  await bad("", "required");
  await bad("SELECT");
  await bad(`SELECT title FROM ${named("posts")}`);
  await bad("SELECT id FROM not_there");
  await bad(`DELETE FROM ${named("posts")}`);
  await bad(`SELECT * FROM ${named("posts")}`);
});

check("rules that a view cannot have", async ({ make, named }) => {
  const query = `SELECT id FROM ${named("posts")}`;
  const error = await make("bad", query, { createRule: "" }).catch((found) => found);
  same([error.status, Object.keys(error.response.data)], [400, ["createRule"]]);
});

check("what a view stands on stays", async ({ admin, named, refused }) => {
  await refused(() => admin.collections.delete(named("posts")), 400);
});

check("trying a query", async ({ admin, named, refused }) => {
  const found = await admin.collections.dryRunViewQuery(`SELECT id, title, n FROM ${named("posts")} ORDER BY n`);
  same(Object.keys(found).sort(), ["fields", "sample"]);
  same([pick(found.fields, "name"), found.sample.length], [["id", "title", "n"], 10]);
  same([found.sample[0].title, found.sample[0].n], ["Post 01", 1]);
  await refused(() => admin.collections.dryRunViewQuery("SELECT nothing"), 400);
  await refused(() => admin.collections.dryRunViewQuery(""), 400, { query: "required" });
});
