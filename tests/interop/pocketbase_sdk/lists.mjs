// Lists: pages, sorting, what stands beside records, which fields are shown.
import { assert, check, group, pick, same } from "./kit.mjs";
import { AUTHORS, magazine, POSTS } from "./world.mjs";

group("lists", async (world) => {
  const { client, named } = world;
  const { ids } = await magazine(world);
  const guest = client();
  const of = (name) => guest.collection(named(name));
  return { ...world, ids, guest, posts: of("posts"), authors: of("authors") };
});

const titles = (found) => pick(found.items ?? found).map((title) => Number(title.slice(5)));

check("a page", async ({ posts }) => {
  const found = await posts.getList(2, 10, { sort: "title" });
  same(Object.keys(found), ["items", "page", "perPage", "totalItems", "totalPages"]);
  same([found.page, found.perPage, found.totalItems, found.totalPages], [2, 10, POSTS, 3]);
  same(titles(found), [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
});

check("the first page without saying so", async ({ posts }) => {
  const found = await posts.getList();
  same([found.page, found.perPage, found.items.length], [1, 30, POSTS]);
  same(
    titles(found),
    Array.from({ length: POSTS }, (_, n) => n + 1),
  );
});

check("a page behind the end", async ({ posts }) => {
  const found = await posts.getList(9, 10);
  same([found.items, found.page, found.totalItems, found.totalPages], [[], 9, POSTS, 3]);
});

check("pages that cannot be are the nearest that can", async ({ posts }) => {
  const found = await posts.getList(-1, 5000);
  same([found.page, found.perPage, found.items.length], [1, 1000, POSTS]);
  same((await posts.getList(1, -1)).perPage, 30);
});

check("without a total", async ({ posts }) => {
  const found = await posts.getList(1, 5, { skipTotal: true });
  same([found.totalItems, found.totalPages, found.items.length], [-1, -1, 5]);
});

check("all, by pages", async ({ posts }) => {
  same(titles(await posts.getFullList({ batch: 10, sort: "n" })).length, POSTS);
  same(titles(await posts.getFullList(5, { sort: "-n" })).slice(0, 3), [25, 24, 23]);
  same((await posts.getFullList()).length, POSTS);
});

check("the first that a filter finds", async ({ posts, refused }) => {
  same((await posts.getFirstListItem("n > 10", { sort: "-n" })).n, 25);
  await assert.rejects(
    () => posts.getFirstListItem("n > 100"),
    ({ status }) => status === 404,
  );
  await refused(() => posts.getFirstListItem("n >"), 400);
});

check("sorted", async ({ posts }) => {
  const sorted = async (sort) => titles(await posts.getList(1, 5, { sort }));
  same(await sorted("-n"), [25, 24, 23, 22, 21]);
  same(await sorted("public,-n"), [25, 23, 21, 19, 17]);
  same(await sorted("+public,+n"), [1, 3, 5, 7, 9]);
  same(await sorted("-at"), [25, 24, 23, 22, 21]);
  same(await sorted("-@rowid"), [25, 24, 23, 22, 21]);
  same(await sorted("-author.name,n"), [3, 7, 11, 15, 19]);
  same(await sorted("-data.deep.value"), [25, 24, 23, 22, 21]);
  same(await sorted("-place.lat"), [25, 24, 23, 22, 21]);
});

check("in any order", async ({ posts }) => {
  const found = titles(await posts.getFullList({ sort: "@random" }));
  same(found.sort((a, b) => a - b).length, POSTS);
});

check("sorts that cannot be", async ({ posts, refused }) => {
  for (const sort of ["nothing", "author.nothing", "author.secret", "n,,-nothing"]) {
    await refused(() => posts.getList(1, 1, { sort }), 400);
  }
});

check("one beside", async ({ posts, ids }) => {
  const found = await posts.getOne(ids.posts[0], { expand: "author" });
  same(Object.keys(found).slice(0, 8), [
    "at",
    "author",
    "body",
    "collectionId",
    "collectionName",
    "data",
    "expand",
    "id",
  ]);
  same([found.expand.author.id, found.expand.author.name, found.author], [ids.authors[1], "Boris", ids.authors[1]]);
  same(found.expand.author.secret, undefined);
});

check("several beside", async ({ posts, ids }) => {
  const found = await posts.getOne(ids.posts[2], { expand: "tags,author" });
  same([pick(found.expand.tags, "name"), found.expand.author.name], [["red", "green", "blue"], "Dora"]);
});

check("nothing to put beside", async ({ posts, ids }) => {
  const beside = async (number, expand) => (await posts.getOne(ids.posts[number], { expand })).expand;
  same(await beside(23, "author,tags,nothing,title"), {});
  same(await beside(23, "nothing,title,author_via_nothing"), undefined);
  same(await beside(0, "author.nothing"), undefined);
  same(await beside(0, "author.nothing,tags"), { tags: (await beside(0, "tags")).tags });
});

check("beside each of a list", async ({ posts }) => {
  const found = await posts.getList(1, 25, { expand: "author,tags", sort: "n" });
  const names = found.items.map(({ expand }) => expand?.author?.name);
  same(
    names.slice(0, 20),
    Array.from({ length: 20 }, (_, at) => AUTHORS[(at + 1) % 4]),
  );
  same(names.slice(20), [undefined, undefined, undefined, undefined, undefined]);
  same(
    found.items.map(({ expand }) => (expand?.tags ?? []).length),
    Array.from({ length: 25 }, (_, at) => (at + 1) % 4),
  );
});

check("those that refer to it beside", async ({ authors, ids, named }) => {
  const key = `${named("posts")}_via_author`;
  const found = await authors.getOne(ids.authors[1], { expand: key });
  same(titles(found.expand[key]), [1, 5, 9, 13, 17]);
});

check("the only one that refers to it beside", async ({ authors, ids, named }) => {
  const key = `${named("profiles")}_via_author`;
  const [first, second] = await authors.getFullList({ sort: "name", expand: key });
  same([first.expand[key].text, second.expand], ["the first", {}]);
});

check("beside what is beside", async ({ posts, ids, named }) => {
  const [own, tagged] = [`${named("profiles")}_via_author`, `${named("posts")}_via_tags`];
  const found = await posts.getOne(ids.posts[3], { expand: `author.${own},tags.${tagged}.author` });
  same(found.expand.author.expand[own].author, ids.authors[0]);
  const other = await posts.getOne(ids.posts[0], { expand: `tags.${tagged}.author` });
  const [red] = other.expand.tags;
  same(red.expand[tagged].length, 19);
  same(red.expand[tagged][0].expand.author.name, "Boris");
});

check("what may not be viewed is not beside", async ({ admin, client, named, ids }) => {
  const { id } = await admin.collections.create({
    name: named("closed"),
    listRule: "",
    viewRule: null,
    fields: [{ name: "author", type: "relation", collectionId: (await admin.collections.getOne(named("authors"))).id }],
  });
  await admin.collection(id).create({ author: ids.authors[2] });
  const options = { expand: `${named("closed")}_via_author` };
  const get = (pb) => pb.collection(named("authors")).getOne(ids.authors[2], options);
  same((await get(client())).expand, undefined);
  same((await get(admin)).expand[options.expand].length, 1);
});

check("fields", async ({ posts, ids }) => {
  const get = (fields, expand = "") => posts.getOne(ids.posts[0], { fields, expand });
  same(await get("title,n"), { n: 1, title: "Post 01" });
  same(await get("data.deep,data.list"), { data: { deep: { value: 1 }, list: [1, 2] } });
  same(await get("title,expand.author.name", "author"), { expand: { author: { name: "Boris" } }, title: "Post 01" });
  same(await get("expand.tags.name", "tags"), { expand: { tags: [{ name: "red" }] } });
  same(Object.keys(await get("*,expand.author.name", "author")).includes("title"), true);
  same(await get("nothing"), {});
  same(await get("body:excerpt(7)"), { body: "Body of" });
  same(await get("body:excerpt(9,true)"), { body: "Body of p..." });
});

check("fields of a list", async ({ posts }) => {
  const found = await posts.getList(1, 2, { fields: "n", sort: "n" });
  same(found, { items: [{ n: 1 }, { n: 2 }], page: 1, perPage: 2, totalItems: POSTS, totalPages: 13 });
});

check("fields that cannot be", async ({ posts, refused }) => {
  await refused(() => posts.getList(1, 1, { fields: "n:nothing(1)" }), 400);
});

check("a list of a collection by its id", async ({ guest, posts }) => {
  const [{ collectionId }] = (await posts.getList(1, 1)).items;
  same((await guest.collection(collectionId).getList(1, 1)).totalItems, POSTS);
});

check("dates and objects as parameters", async ({ guest, posts }) => {
  const query = { filter: guest.filter("at < {:then}", { then: new Date(Date.UTC(2024, 0, 3)) }), ignored: { a: 1 } };
  same((await posts.getList(1, 5, { query })).totalItems, 2);
});
