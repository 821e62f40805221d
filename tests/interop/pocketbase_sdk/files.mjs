// Files: sending, reading, replacing and removing them; thumbs, protected files.
import { assert, check, group, same } from "./kit.mjs";

const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

group("files", async ({ admin, client, named, refused, signedIn }) => {
  const file = (name, more) => ({ name, type: "file", ...more });
  const users = await admin.collections.create({ name: named("users"), type: "auth" });
  const open = { listRule: "", viewRule: "", createRule: "", updateRule: "", deleteRule: "" };
  const fields = [
    { name: "title", type: "text" },
    file("one", { maxSelect: 1, maxSize: 1000 }),
    file("some", { maxSelect: 3 }),
    file("image", { mimeTypes: ["image/png"], thumbs: ["10x10", "20x0"] }),
  ];
  await admin.collections.create({ name: named("posts"), ...open, fields });
  const closed = { ...open, viewRule: "@request.auth.id != ''" };
  await admin.collections.create({ name: named("closed"), ...closed, fields: [file("one", { protected: true })] });
  const { pb } = await signedIn(users.name);
  const guest = client();
  const get = (record, name, query, options) => fetch(guest.files.getURL(record, name, query), options);
  const body = async (...args) => {
    const answer = await get(...args);
    return [answer.status, await answer.text()];
  };
  return {
    admin,
    guest,
    user: pb,
    posts: guest.collection(named("posts")),
    closed: pb.collection(named("closed")),
    get,
    body,
    refused,
    named,
  };
});

const text = (content, name = "note.txt") => new File([content], name, { type: "text/plain" });

check("one", async ({ posts, body }) => {
  const found = await posts.create({ title: "with a file", one: text("content") });
  assert.match(found.one, /^note_[a-z0-9]{10}\.txt$/);
  same([found.title, found.some, await body(found, found.one)], ["with a file", [], [200, "content"]]);
  same((await posts.getOne(found.id)).one, found.one);
});

check("several", async ({ posts, body }) => {
  const found = await posts.create({ some: [text("a", "a.txt"), text("b", "Some Name (1).tar.gz")] });
  assert.match(found.some[1], /^some_name_1_[a-z0-9]{10}\.tar\.gz$/);
  same(
    [await body(found, found.some[0]), await body(found, found.some[1])],
    [
      [200, "a"],
      [200, "b"],
    ],
  );
});

check("as a form", async ({ posts, body }) => {
  const form = new FormData();
  form.append("title", "12.50");
  form.append("one", text("form"));
  const found = await posts.create(form);
  same([found.title, await body(found, found.one)], ["12.50", [200, "form"]]);
});

check("bytes are kept as they are", async ({ posts, get }) => {
  const bytes = new Uint8Array(Array.from({ length: 70_000 }, (_, at) => (at * 7) % 256));
  const found = await posts.create({ some: [new Blob([bytes])] });
  const answer = await get(found, found.some[0]);
  same(Buffer.from(await answer.arrayBuffer()).equals(Buffer.from(bytes)), true);
});

check("another in its place", async ({ posts, body }) => {
  const made = await posts.create({ one: text("old") });
  const found = await posts.update(made.id, { one: text("new") });
  same([await body(found, found.one), (await body(made, made.one))[0]], [[200, "new"], 404]);
});

check("more, fewer, in another order", async ({ posts, body }) => {
  const made = await posts.create({ some: [text("a"), text("b")] });
  const more = await posts.update(made.id, { "some+": text("c") });
  same(more.some.slice(0, 2), made.some);
  same(await body(more, more.some[2]), [200, "c"]);
  const fewer = await posts.update(made.id, { "some-": [made.some[0]] });
  same([fewer.some, (await body(made, made.some[0]))[0]], [more.some.slice(1), 404]);
  const [first, second] = fewer.some;
  same((await posts.update(made.id, { some: [second, first] })).some, [second, first]);
  same((await posts.update(made.id, { "+some": text("d") })).some.slice(1), [second, first]);
});

check("none", async ({ posts, body }) => {
  const made = await posts.create({ one: text("a"), some: [text("b")] });
  const found = await posts.update(made.id, { one: null, some: [] });
  same([found.one, found.some, (await body(made, made.one))[0]], ["", [], 404]);
});

check("files go with their record", async ({ posts, body }) => {
  const made = await posts.create({ one: text("a") });
  await posts.delete(made.id);
  same((await body(made, made.one))[0], 404);
});

check("files that are refused", async ({ posts, refused }) => {
  await refused(() => posts.create({ one: text("x".repeat(1001)) }), 400, { one: "file_size_limit" });
  await refused(() => posts.create({ image: text("no image", "a.png") }), 400, { image: "invalid_mime_type" });
  await refused(() => posts.create({ some: ["a", "b", "c", "d"].map((each) => text(each)) }), 400, {
    some: "too_many_files",
  });
  await refused(() => posts.create({ one: "not_stored.txt" }), 400, { one: "invalid_file" });
});

check("thumbs", async ({ posts, get }) => {
  const found = await posts.create({ image: new File([PIXEL], "pixel.png", { type: "image/png" }) });
  for (const thumb of ["10x10", "20x0", "100x100"]) {
    const answer = await get(found, found.image, { thumb });
    const bytes = Buffer.from(await answer.arrayBuffer());
    same(
      [answer.status, answer.headers.get("content-type"), bytes.subarray(1, 4).toString()],
      [200, "image/png", "PNG"],
    );
    same(bytes.readUInt32BE(16), Number.parseInt(thumb, 10));
  }
  const other = Buffer.from(await (await get(found, found.image, { thumb: "33x33" })).arrayBuffer());
  same(other.equals(PIXEL), true);
});

check("how they are shown", async ({ posts, get }) => {
  const found = await posts.create({ one: text("<b>"), image: new File([PIXEL], "pixel.png", { type: "image/png" }) });
  const shown = async (...args) => (await get(found, ...args)).headers.get("content-disposition").split(";")[0];
  same(
    [await shown(found.image), await shown(found.image, { download: true }), await shown(found.one)],
    ["inline", "attachment", "attachment"],
  );
  const { headers } = await get(found, found.image);
  assert.ok(headers.get("content-security-policy").includes("default-src 'none'"));
  assert.ok(headers.get("cache-control").includes("max-age=2592000"));
});

check("parts, and only if changed", async ({ posts, get }) => {
  const found = await posts.create({ one: text("0123456789") });
  const part = await get(found, found.one, {}, { headers: { Range: "bytes=2-4" } });
  same([part.status, await part.text(), part.headers.get("content-range")], [206, "234", "bytes 2-4/10"]);
  const whole = await get(found, found.one, {}, { method: "HEAD" });
  same([whole.status, whole.headers.get("content-length"), await whole.text()], [200, "10", ""]);
  const since = { "If-Modified-Since": whole.headers.get("last-modified") };
  same((await get(found, found.one, {}, { headers: since })).status, 304);
});

check("what is not there", async ({ posts, get }) => {
  const found = await posts.create({ one: text("a") });
  same((await get(found, "nothing.txt")).status, 404);
  same((await get({ ...found, id: "0123456789abcde" }, found.one)).status, 404);
  same((await get({ ...found, collectionId: "not_there" }, found.one)).status, 404);
});

check("protected files", async ({ closed, user, admin, guest, get }) => {
  const found = await closed.create({ one: text("closed") });
  const status = async (query) => (await get(found, found.one, query)).status;
  same(
    [await status(), await status({ token: user.authStore.token }), await status({ token: "none" })],
    [404, 404, 404],
  );
  same(
    [await status({ token: await user.files.getToken() }), await status({ token: await admin.files.getToken() })],
    [200, 200],
  );
  same(guest.files.getURL(found, ""), "");
});

check("emptying a collection with files", async ({ admin, named, get }) => {
  const { id } = await admin.collections.create({ name: named("emptied"), fields: [{ name: "one", type: "file" }] });
  const found = await admin.collection(id).create({ one: text("a") });
  same((await get(found, found.one)).status, 200);
  await admin.collections.truncate(id);
  same((await get(found, found.one)).status, 404);
});
