// Data that lists, filters and views are asked about: authors, tags and posts of a small magazine.
export const AUTHORS = ["Ada", "Boris", "Cyril", "Dora"];
export const POSTS = 25;

/** Make three collections with records; gives their names and ids. Everything is open, but authors' `secret` hidden. */
export async function magazine({ admin, named }) {
  const open = { listRule: "", viewRule: "" };
  const make = (name, fields, more = {}) => admin.collections.create({ name: named(name), fields, ...open, ...more });
  const text = (name, more = {}) => ({ name, type: "text", ...more });
  const relation = (name, { id }, maxSelect = 1) => ({ name, type: "relation", collectionId: id, maxSelect });
  const authors = await make("authors", [
    text("name"),
    text("secret", { hidden: true }),
    { name: "born", type: "date" },
  ]);
  const tags = await make("tags", [text("name")]);
  const posts = await make("posts", [
    text("title"),
    { name: "body", type: "editor" },
    { name: "n", type: "number" },
    { name: "public", type: "bool" },
    { name: "at", type: "date" },
    { name: "kinds", type: "select", values: ["news", "essay", "poem"], maxSelect: 3 },
    { name: "data", type: "json" },
    { name: "place", type: "geoPoint" },
    relation("author", authors),
    relation("tags", tags, 5),
  ]);
  const profiles = await make("profiles", [relation("author", authors), text("text")], {
    indexes: [`CREATE UNIQUE INDEX idx_${named("profiles")} ON ${named("profiles")} (author)`],
  });
  const ids = { authors: [], tags: [], posts: [] };
  const put = async (where, body) => (await admin.collection(named(where)).create(body)).id;
  for (const [number, name] of AUTHORS.entries()) {
    const body = { name, secret: `secret of ${name}`, born: `19${number + 5}0-06-01` };
    ids.authors.push(await put("authors", body));
  }
  for (const name of ["red", "green", "blue"]) {
    ids.tags.push(await put("tags", { name }));
  }
  for (let n = 1; n <= POSTS; n += 1) {
    ids.posts.push(await put("posts", post(n, ids)));
  }
  await put("profiles", { author: ids.authors[0], text: "the first" });
  return { authors, tags, posts, profiles, ids };
}

/** Post number n: what belongs to it follows from n. */
function post(n, { authors, tags }) {
  return {
    title: `Post ${String(n).padStart(2, "0")}`,
    body: `<p>Body of <b>post</b> ${n} &amp; more</p>`,
    n,
    public: n % 2 === 0,
    at: `2024-01-${String(n).padStart(2, "0")} 12:00:00.000Z`,
    kinds: ["news", "essay", "poem"].slice(0, n % 4),
    data: { deep: { value: n }, list: [n, n * 2], text: n % 5 ? "some" : "other" },
    place: { lon: n, lat: n / 2 },
    author: n <= 20 ? authors[n % 4] : "",
    tags: tags.slice(0, n % 4),
  };
}
