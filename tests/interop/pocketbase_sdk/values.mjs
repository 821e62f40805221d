// Values of every type of field: what is stored for what was sent, and what is refused.
import { assert, check, group, same } from "./kit.mjs";

group("values", async ({ admin, named, refused }) => {
  const target = await admin.collections.create({ name: named("target") });
  const to = { type: "relation", collectionId: target.id };
  const fields = [
    { name: "text", type: "text" },
    { name: "pattern", type: "text", pattern: "^[a-z]+$", min: 2, max: 5 },
    { name: "editor", type: "editor", maxSize: 20 },
    { name: "number", type: "number" },
    { name: "whole", type: "number", onlyInt: true, min: -5, max: 10 },
    { name: "bool", type: "bool" },
    { name: "email", type: "email", onlyDomains: ["example.com"] },
    { name: "url", type: "url", exceptDomains: ["example.org"] },
    { name: "date", type: "date", min: "2000-01-01 00:00:00.000Z", max: "2030-01-01 00:00:00.000Z" },
    { name: "one", type: "select", values: ["a", "b", "c"], maxSelect: 1 },
    { name: "some", type: "select", values: ["a", "b", "c"], maxSelect: 2 },
    { name: "to", ...to },
    { name: "many", ...to, minSelect: 2, maxSelect: 3 },
    { name: "json", type: "json", maxSize: 100 },
    { name: "geo", type: "geoPoint" },
  ];
  await admin.collections.create({ name: named("all"), fields });
  const required = fields.map(({ name, ...rest }) => ({ ...rest, name: `must_${name}`, required: true }));
  await admin.collections.create({ name: named("required"), fields: required });
  const ids = [];
  for (let number = 0; number < 4; number += 1) {
    ids.push((await admin.collection(target.id).create({})).id);
  }
  const all = admin.collection(named("all"));
  /** Check what is stored for each of some inputs, on create, when read, and on update. */
  async function stored(name, pairs) {
    const blank = await all.create({});
    for (const [sent, expected] of pairs) {
      const made = await all.create({ [name]: sent });
      const read = await all.getOne(made.id);
      const changed = await all.update(blank.id, { [name]: sent });
      const told = `${name}: ${JSON.stringify(sent)}`;
      same([made[name], read[name], changed[name]], [expected, expected, expected], told);
    }
  }
  /** Check the codes of some inputs. */
  async function codes(name, pairs) {
    for (const [sent, code] of pairs) {
      await refused(() => all.create({ [name]: sent }), 400, { [name]: code });
    }
  }
  return { all, stored, codes, ids, required: admin.collection(named("required")), refused };
});

check("text", async ({ stored }) => {
  await stored("text", [
    ["plain", "plain"],
    ["  ř 漢字 🙂 <&> \u2028 'q' \"d\" \\ ", "  ř 漢字 🙂 <&> \u2028 'q' \"d\" \\ "],
    [12.5, "12.5"],
    [true, "true"],
    [null, ""],
    [{ a: 1 }, ""],
    [["a"], ""],
  ]);
});

check("text that is refused", async ({ codes }) => {
  await codes("pattern", [
    ["a", "min_text_constraint"],
    ["abcdef", "max_text_constraint"],
    ["ab1", "invalid_format"],
  ]);
  await codes("text", [["a".repeat(5001), "max_text_constraint"]]);
});

check("editor", async ({ stored, codes }) => {
  await stored("editor", [["<p>ř</p>", "<p>ř</p>"]]);
  await codes("editor", [["<p>too long for this</p>", "content_size_limit"]]);
});

check("number", async ({ stored }) => {
  await stored("number", [
    [0, 0],
    [1, 1],
    [-2.75, -2.75],
    ["3.5", 3.5],
    ["none", 0],
    [true, 1],
    [null, 0],
    [1e21, 1e21],
    [9007199254740991, 9007199254740991],
    [0.1, 0.1],
    [1e-7, 1e-7],
  ]);
});

check("number that is refused", async ({ codes }) => {
  await codes("whole", [
    [1.5, "only_int_constraint"],
    [-6, "min_number_constraint"],
    [11, "max_number_constraint"],
  ]);
});

check("bool", async ({ stored }) => {
  await stored("bool", [
    [true, true],
    ["true", true],
    [1, true],
    ["t", true],
    ["yes", false],
    [0, false],
    [null, false],
  ]);
});

check("email", async ({ stored, codes }) => {
  await stored("email", [
    ["Some.One@example.com", "Some.One@example.com"],
    ["", ""],
  ]);
  await codes("email", [
    ["none", "is_email"],
    ["a@example.org", "email_domain_not_allowed"],
  ]);
});

check("url", async ({ stored, codes }) => {
  await stored("url", [["https://example.com/a?b=c#d", "https://example.com/a?b=c#d"]]);
  await codes("url", [
    ["none", "invalid_url"],
    ["https://example.org/a", "url_domain_not_allowed"],
  ]);
});

check("date", async ({ stored, codes }) => {
  await stored("date", [
    ["2022-01-02 03:04:05.678Z", "2022-01-02 03:04:05.678Z"],
    ["2022-01-02T03:04:05.678Z", "2022-01-02 03:04:05.678Z"],
    [new Date(Date.UTC(2022, 0, 2)), "2022-01-02 00:00:00.000Z"],
    ["2022-01-02T03:04:05+02:00", "2022-01-02 01:04:05.000Z"],
    ["2022-01-02", "2022-01-02 00:00:00.000Z"],
    ["2022-01-02 03:04:05", "2022-01-02 03:04:05.000Z"],
    [1641092645, ""],
    ["none", ""],
    ["", ""],
    [null, ""],
  ]);
  await codes("date", [
    ["1999-01-01", "min_greater_equal_than_required"],
    ["2031-01-01", "max_less_equal_than_required"],
  ]);
});

check("one choice", async ({ stored, codes }) => {
  await stored("one", [
    ["a", "a"],
    [["a", "b"], "b"],
    ["", ""],
    [null, ""],
  ]);
  await codes("one", [["d", "invalid_value"]]);
});

check("several choices", async ({ stored, codes }) => {
  await stored("some", [
    [
      ["b", "a"],
      ["b", "a"],
    ],
    [["b", "b", ""], ["b"]],
    ["a", ["a"]],
    ['["a","c"]', ["a", "c"]],
    [null, []],
  ]);
  await codes("some", [
    [["a", "b", "c"], "too_many_values"],
    [["a", "d"], "invalid_value"],
  ]);
});

check("relations", async ({ stored, codes, ids }) => {
  await stored("to", [
    [ids[0], ids[0]],
    [[ids[0], ids[1]], ids[1]],
    ["", ""],
  ]);
  await stored("many", [
    [
      [ids[1], ids[0]],
      [ids[1], ids[0]],
    ],
    [
      [ids[1], ids[1], ids[2]],
      [ids[1], ids[2]],
    ],
    [[], []],
  ]);
  await codes("to", [["0123456789abcde", "missing_rel_records"]]);
  await codes("many", [
    [[ids[0]], "not_enough_values"],
    [ids, "too_many_values"],
    [[ids[0], "0123456789abcde"], "missing_rel_records"],
  ]);
});

check("json", async ({ stored, codes }) => {
  await stored("json", [
    [
      { b: 1, a: [1.5, "x", null, true, { c: "ř" }] },
      { a: [1.5, "x", null, true, { c: "ř" }], b: 1 },
    ],
    [[], []],
    ["text", "text"],
    ["", ""],
    ['{"a":1}', { a: 1 }],
    ["[1,2]", [1, 2]],
    ["12", 12],
    ["true", true],
    ["null", null],
    [null, null],
    [12.5, 12.5],
    [false, false],
    ['{"broken', '{"broken'],
  ]);
  await codes("json", [["x".repeat(200), "json_size_limit"]]);
});

check("geo points", async ({ stored, codes }) => {
  await stored("geo", [
    [
      { lon: 14.42, lat: 50.09 },
      { lon: 14.42, lat: 50.09 },
    ],
    ['{"lon":1,"lat":2}', { lon: 1, lat: 2 }],
    [null, { lon: 0, lat: 0 }],
  ]);
  await codes("geo", [
    [{ lon: 0, lat: 91 }, "invalid_latitude"],
    [{ lon: 181, lat: 0 }, "invalid_longitude"],
  ]);
});

check("what is required", async ({ required, refused }) => {
  const names = ["text", "pattern", "editor", "number", "whole", "bool", "email", "url", "date", "one", "some", "to"];
  const codes = Object.fromEntries([...names, "many", "json", "geo"].map((name) => [`must_${name}`, "required"]));
  await refused(() => required.create({}), 400, codes);
  const zero = { must_number: 0, must_bool: false, must_json: {}, must_geo: { lon: 0, lat: 0 }, must_some: [] };
  await refused(() => required.create(zero), 400, codes);
});

check("several refusals in one answer", async ({ all, refused }) => {
  await refused(() => all.create({ whole: 99, email: "none", text: "fine" }), 400, {
    whole: "max_number_constraint",
    email: "is_email",
  });
});

check("texts of refusals", async ({ required, refused }) => {
  const error = await refused(() => required.update("0123456789abcde", {}), 404);
  assert.match(error.message, /^[A-Z].*\.$/);
  const { response } = await required.create({}).catch((found) => found);
  same(response.data.must_text, { code: "validation_required", message: "Cannot be blank." });
});

check("values stay when others change", async ({ all, ids }) => {
  const body = {
    text: "a",
    number: 1.5,
    bool: true,
    some: ["a", "b"],
    many: [ids[0], ids[1]],
    json: { a: 1 },
    geo: { lon: 1, lat: 2 },
  };
  const made = await all.create(body);
  same(await all.update(made.id, { pattern: "abc" }), { ...made, pattern: "abc" });
});
