// Filters, as clients write them with `pb.filter`.
import { check, group, pick, same } from "./kit.mjs";
import { magazine } from "./world.mjs";

group("filters", async (world) => {
  const { admin, client, named, refused } = world;
  const { ids } = await magazine(world);
  const guest = client();
  const of = (pb, collection = "posts") => pb.collection(named(collection));
  /** Give the numbers of the posts that a filter finds, and check that the total agrees. */
  async function numbers(filter, values = {}, pb = guest) {
    const found = await of(pb).getList(1, 100, { filter: pb.filter(filter, values), sort: "n" });
    same(found.totalItems, found.items.length);
    return pick(found.items, "n");
  }
  /** Check what each of some filters finds. */
  async function finds(expected) {
    for (const [filter, found] of Object.entries(expected)) {
      same(await numbers(filter), found, filter);
    }
  }
  const names = async (filter, pb = guest) =>
    pick(await of(pb, "authors").getFullList({ filter, sort: "name" }), "name");
  const bad = (filter, status = 400, pb = guest) => refused(() => of(pb).getList(1, 1, { filter }), status);
  return { admin, guest, ids, named, numbers, finds, names, bad, refused };
});

check("numbers and bools", ({ finds }) =>
  finds({
    "n = 3": [3],
    "n != 3 && n < 5": [1, 2, 4],
    "n >= 24": [24, 25],
    "n <= 2 || n > 24": [1, 2, 25],
    "n = 1 || n = 2 && public = true": [1, 2],
    "(n = 1 || n = 2) && public = true": [2],
    "public = true && n < 5": [2, 4],
    "public = false && n < 5": [1, 3],
    "n = -1": [],
    "n < 3.5 && n > 1.5": [2, 3],
  }),
);

check("text", ({ finds }) =>
  finds({
    'title = "Post 07"': [7],
    "title = 'Post 07'": [7],
    "title ~ 'post 1'": [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
    "title ~ '%5'": [5, 15, 25],
    "title ~ 'Post _1'": [],
    "title !~ 'post' || n = 1": [1],
    "title > 'Post 23'": [24, 25],
    "title:lower = 'post 03'": [3],
    "body ~ '<b>post</b> 4 '": [4],
  }),
);

check("nothing and everything", async ({ numbers, finds, bad }) => {
  same((await numbers("")).length, 25);
  await bad("   ");
  await finds({
    "author = ''": [21, 22, 23, 24, 25],
    "author = null": [21, 22, 23, 24, 25],
    "author != '' && n > 18": [19, 20],
  });
});

check("comments and lines", ({ finds }) => finds({ "n = 1 // the first\n || n = 2": [1, 2], "\n\tn\n=\t3": [3] }));

check("dates and macros", ({ finds }) =>
  finds({
    "at = '2024-01-03 12:00:00.000Z'": [3],
    "at >= '2024-01-24'": [24, 25],
    "at > '2024-01-02 12:00:00.000Z' && at < '2024-01-05'": [3, 4],
    "at > @now": [],
    "at < @todayStart && n < 3": [1, 2],
    "@year > 2023 && @month > 0 && n = 1": [1],
    "strftime('%d', at) = '07'": [7],
    "strftime('%Y-%m', at, '+1 month') = '2024-02' && n = 2": [2],
  }),
);

check("choices", ({ finds }) =>
  finds({
    "kinds:length = 3 && n < 9": [3, 7],
    "kinds ?= 'poem' && n < 9": [],
    "kinds:each ?= 'poem' && n < 9": [3, 7],
    "kinds:each = 'news' && n < 9": [1, 5],
    "kinds:each ?= 'essay' && n < 9": [2, 3, 6, 7],
    "kinds:each != 'essay' && n < 9": [1, 4, 5, 8],
    "kinds ~ 'poem' && n < 9": [3, 7],
  }),
);

check("JSON and places", ({ finds }) =>
  finds({
    "data.deep.value = 4": [4],
    "data.list.1 = 8": [4],
    "data.list.0 > 23": [24, 25],
    "data.text = 'other'": [5, 10, 15, 20, 25],
    "data.nothing = null && n = 1": [1],
    "place.lon = 3": [3],
    "place.lat < 1.5": [1, 2],
    "geoDistance(place.lon, place.lat, 3, 1.5) < 10": [3],
    "geoDistance(place.lon, place.lat, 3, 1.5) < 150": [2, 3, 4],
  }),
);

check("relations", ({ finds }) =>
  finds({
    "author.name = 'Ada' && n < 10": [4, 8],
    "author.name ~ 'O' && n < 8": [1, 3, 5, 7],
    "author.born < '1955-01-01' && n < 10": [4, 8],
    "tags.name = 'red' && n < 9": [1, 5],
    "tags.name ?= 'red' && n < 9": [1, 2, 3, 5, 6, 7],
    "tags.name != 'green' && n < 9": [1, 4, 5, 8],
    "tags.name ?!= 'green' && n < 5": [1, 2, 3, 4],
    "tags:length > 2 && n < 9": [3, 7],
    "tags = '' && n < 9": [],
    "tags.id = '' && n < 9": [4, 8],
  }),
);

check("relations by id", async ({ numbers, ids }) => {
  const [, boris] = ids.authors;
  same(await numbers("author = {:id} && n < 10", { id: boris }), [1, 5, 9]);
  same(await numbers("author.id = {:id} && n < 10", { id: boris }), [1, 5, 9]);
  same(await numbers("tags ~ {:id} && n < 6", { id: ids.tags[2] }), [3]);
  same(await numbers("tags:each ?= {:id} && n < 6", { id: ids.tags[2] }), [3]);
  same(await numbers("tags.id ?= {:id} && n < 6", { id: ids.tags[2] }), [3]);
});

check("those that refer to it", async ({ names, named }) => {
  const via = `${named("posts")}_via_author`;
  same(await names(`${via}.n ?= 5`), ["Boris"]);
  same(await names(`${via}.n > 2`), ["Cyril", "Dora", "Ada"].filter((name) => name !== "Cyril").sort());
  same(await names(`${via}.tags.name ?= 'blue'`), ["Dora"]);
  same(await names(`${named("profiles")}_via_author.text = 'the first'`), ["Ada"]);
});

check("values of all kinds by pb.filter", async ({ numbers }) => {
  same(await numbers("n = {:n} && public = {:public}", { n: 4, public: true }), [4]);
  same(await numbers("title = {:title}", { title: "Post 04" }), [4]);
  same(await numbers("at = {:at}", { at: new Date(Date.UTC(2024, 0, 4, 12)) }), [4]);
  same(await numbers("author = {:none} && n < 23", { none: null }), [21, 22]);
  same(await numbers("title ~ {:a} && n < {:b}", { a: "Post", b: 3 }), [1, 2]);
});

check("texts that look like filters are only texts", async ({ admin, named, guest }) => {
  const posts = admin.collection(named("posts"));
  const texts = [
    "it's",
    'say "so"',
    "a\\b",
    "%",
    "_",
    "' || n > 0 || title = '",
    "{:x}",
    "ř 漢 🙂",
    "a // b",
    "tab\there",
    "a\nb",
  ];
  for (const [number, title] of texts.entries()) {
    const made = await posts.create({ title, n: 1000 + number });
    const filter = guest.filter("title = {:title} && n >= 1000", { title });
    same(pick(await guest.collection(named("posts")).getFullList({ filter }), "n"), [1000 + number], filter);
    await posts.delete(made.id);
  }
});

check("a superuser may ask about more", async ({ admin, numbers, named }) => {
  const id = admin.authStore.record.id;
  same(await numbers("@request.auth.id = {:id} && n = 1", { id }, admin), [1]);
  same(await numbers("@request.method = 'GET' && @request.query.perPage = '100' && n = 1", {}, admin), [1]);
  same(await numbers(`@collection.${named("tags")}.name ?= 'red' && n = 1`, {}, admin), [1]);
  same(await numbers("author.secret = 'secret of Ada' && n < 5", {}, admin), [4]);
});

check("others may not", async ({ bad, named }) => {
  await bad("@request.auth.id = ''", 403);
  await bad(`@collection.${named("tags")}.name ?= 'red'`, 403);
});

check("hidden fields cannot be asked about", async ({ bad, refused, guest, named }) => {
  await bad("author.secret ~ 'a'");
  await refused(() => guest.collection(named("authors")).getList(1, 1, { filter: "secret ~ 'a'" }), 400);
});

check("filters that cannot be", async ({ bad }) => {
  const filters = [
    ...["nothing = 1", "n", "n =", "= 1", "n == 1", "n = 1 &&", "(n = 1", "n = 1)", "n = 'a", "title ~", "n = 1 n = 2"],
    ...["author.nothing = 1", "title.more = 1", "n:nothing = 1", "nothing(1) = 1", "@nothing = 1"],
    ...["n = 1; DROP TABLE x", "n = (SELECT 1)", "n.id = 1"],
  ];
  for (const filter of filters) {
    await bad(filter).catch((error) => {
      throw new Error(`${filter}: ${error.message}`);
    });
  }
});

check("filters that are too long", async ({ bad }) => {
  await bad(`title = '${"a".repeat(3500)}'`);
  await bad(Array.from({ length: 201 }, (_, n) => `n=${n}`).join("||"));
});
