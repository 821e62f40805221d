// One round of everything that @libsql/client does. Arguments: URL, token, name of a table of its own. Prints JSON.
import { pathToFileURL } from "node:url";

const [entry, url, authToken, table] = process.argv.slice(2);
const { createClient } = await import(pathToFileURL(entry));
const client = createClient({ url, authToken, intMode: "string" });
const found = {};
const count = async (on = client) => (await on.execute(`SELECT count(*) AS n FROM ${table}`)).rows[0].n;
const failure = async (work) => {
  try {
    await work();
    return "no error";
  } catch (error) {
    return error.code;
  }
};

await client.execute(`CREATE TABLE ${table}(id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)`);
const inserted = await client.execute({
  sql: `INSERT INTO ${table}(name, value) VALUES(?, ?)`,
  args: ["first", new Uint8Array([0, 255])],
});
found.inserted = [inserted.rowsAffected, inserted.lastInsertRowid.toString()];

const values = await client.execute({
  sql: `SELECT name, value, $big AS big, 0.5 AS half, NULL AS absent FROM ${table} WHERE id = :id`,
  args: { big: 9007199254740993n, id: 1 },
});
const [row] = values.rows;
found.values = [row.name, [...new Uint8Array(row.value)], row.big, row.half, row.absent];
found.columns = [values.columns, values.columnTypes];

const batch = await client.batch(
  [`INSERT INTO ${table}(name) VALUES('batch')`, { sql: `SELECT count(*) AS n FROM ${table}`, args: [] }],
  "write",
);
found.batch = batch[1].rows[0].n;
found.failedBatch = await failure(() =>
  client.batch([`INSERT INTO ${table}(name) VALUES('lost')`, `INSERT INTO ${table}(name) VALUES('first')`], "write"),
);
found.afterFailedBatch = await count();

const committed = await client.transaction("write");
await committed.execute(`INSERT INTO ${table}(name) VALUES('committed')`);
found.inTransaction = await count(committed);
await committed.batch([`INSERT INTO ${table}(name) VALUES('too')`]);
await committed.commit();
found.afterCommit = await count();

const rolledBack = await client.transaction("write");
await rolledBack.execute(`DELETE FROM ${table}`);
found.inRolledBack = await count(rolledBack);
await rolledBack.rollback();
found.afterRollback = await count();

const closed = await client.transaction("deferred");
await closed.execute(`DELETE FROM ${table}`);
closed.close();
found.afterClose = await count();

const reading = await client.transaction("read");
found.reading = await count(reading);
found.readOnly = await failure(() => reading.execute(`DELETE FROM ${table}`));
reading.close();

found.noTable = await failure(() => client.execute("SELECT * FROM there_is_no_such_table"));
found.syntax = await failure(() => client.execute("SELEC 1"));
found.unique = await failure(() => client.execute(`INSERT INTO ${table}(name) VALUES('first')`));
found.arguments = await failure(() => client.execute({ sql: "SELECT ?", args: [] }));

await client.executeMultiple(`INSERT INTO ${table}(name) VALUES('m1'); INSERT INTO ${table}(name) VALUES('m2');`);
found.afterMultiple = await count();

const many = Array.from({ length: 60 }, (_, n) => n);
const answers = await Promise.all(many.map((n) => client.execute({ sql: "SELECT ? AS n", args: [n] })));
found.parallelReads = answers.every((answer, n) => Number(answer.rows[0].n) === n);
await Promise.all(many.map((n) => client.execute({ sql: `INSERT INTO ${table}(name) VALUES(?)`, args: [`p${n}`] })));
found.afterParallelWrites = await count();

client.close();
console.log(JSON.stringify(found));
