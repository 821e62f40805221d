// One round of what npm's @tursodatabase/serverless does. Arguments: modules, URL, token, folder (not used), a table.

const [module, compat, url, authToken, , table] = process.argv.slice(2);
const { connect } = await import(module);
const { createClient } = await import(compat);

const found = {};
const failure = async (work) => {
  try {
    await work();
  } catch (error) {
    return error.code ?? error.message;
  }
  return "no error";
};
const db = connect({ url, authToken });
const count = async (on = db) => (await on.get(`SELECT count(*) AS n FROM ${table}`)).n;

await db.exec(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)`);
const inserted = await db.run(`INSERT INTO ${table} (name, value) VALUES (?, ?)`, ["first", Buffer.from([0, 255])]);
found.inserted = [inserted.changes, Number(inserted.lastInsertRowid)];
const statement = await db.prepare(`SELECT name, value, 0.5, NULL, id FROM ${table} WHERE name = ?`);
found.columns = statement.columns().map((column) => column.name);
const row = await statement.get(["first"]);
found.values = [row.name, [...new Uint8Array(row.value)], row["0.5"], row.NULL, row.id];
await db.batch([`INSERT INTO ${table} (name) VALUES ('a')`, `INSERT INTO ${table} (name) VALUES ('b')`]);
found.batch = await count();
const both = [`INSERT INTO ${table} (name) VALUES ('lost')`, `INSERT INTO ${table} (name) VALUES ('a')`];
found.failedBatch = await failure(() => db.batch(both, "immediate"));
found.afterFailedBatch = await count();
const insertTwo = db.transaction(async () => {
  await db.run(`INSERT INTO ${table} (name) VALUES ('t1')`);
  await db.run(`INSERT INTO ${table} (name) VALUES ('t2')`);
});
await insertTwo();
found.transaction = await count();
const fails = db.transaction(async () => {
  await db.run(`DELETE FROM ${table}`);
  throw new Error("no");
});
found.failedTransaction = [await failure(fails), await count()];
let seen = 0;
for await (const _ of (await db.prepare(`SELECT * FROM ${table} a, ${table} b, ${table} c`)).iterate()) seen += 1;
found.iterated = seen;
found.errors = [
  await failure(() => db.run("SELECT * FROM there_is_no_such_table")),
  await failure(() => db.run("SELEC 1")),
  await failure(() => db.run(`INSERT INTO ${table} (name) VALUES ('a')`)),
];
found.wrongToken = (await failure(() => connect({ url, authToken: "wrong" }).exec("SELECT 1"))).includes("401");

const client = createClient({ url, authToken });
const rows = await client.execute({ sql: `SELECT count(*) AS n FROM ${table} WHERE name LIKE ?`, args: ["t%"] });
found.compat = [rows.columns, Number(rows.rows[0].n)];
const results = await client.batch([`INSERT INTO ${table} (name) VALUES ('c')`, `SELECT count(*) AS n FROM ${table}`], "write");
found.compatBatch = [results[0].rowsAffected, Number(results[1].rows[0].n)];
await Promise.all([...Array(10).keys()].map((n) => createClient({ url, authToken }).execute(
  { sql: `INSERT INTO ${table} (name) VALUES (?)`, args: [`p${n}`] })));
found.afterParallel = await count();
client.close();
await db.close();
console.log(JSON.stringify(found));
