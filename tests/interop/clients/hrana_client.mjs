// What @libsql/hrana-client can ask, in each version. Arguments: entry, URL, token, version, name of a table. Prints JSON.
import { pathToFileURL } from "node:url";

const [entry, url, jwt, versionText, table] = process.argv.slice(2);
const hrana = await import(pathToFileURL(entry));
const version = Number(versionText);
const isWs = url.startsWith("ws");
const open = () => (isWs ? hrana.openWs(url, jwt, version) : hrana.openHttp(url, jwt, undefined, undefined, version));
const found = {};
const failure = async (work) => {
  try {
    await work();
    return "no error";
  } catch (error) {
    return error.code ?? error.constructor.name;
  }
};

const client = open();
found.version = await client.getVersion();
client.intMode = "bigint";
const stream = client.openStream();

await stream.run(`CREATE TABLE ${table}(id INTEGER PRIMARY KEY, name TEXT NOT NULL, value)`);
const inserted = await stream.run([`INSERT INTO ${table}(name, value) VALUES(?, ?)`, ["one", 2n ** 62n]]);
found.run = [inserted.affectedRowCount, inserted.lastInsertRowid.toString()];
const all = await stream.query(`SELECT * FROM ${table}`);
found.query = [all.columnNames, all.rows.length, all.rows[0].name, all.rows[0][2].toString()];
found.row = (await stream.queryRow(["SELECT $a, @b, :c", { a: "x", "@b": 0.25, ":c": null }])).row.length;
found.value = (await stream.queryValue("SELECT 'ř'")).value;
found.blob = [...new Uint8Array((await stream.queryValue("SELECT x'00ff'")).value)];
found.noRow = (await stream.queryRow(`SELECT * FROM ${table} WHERE id = -1`)).row === undefined;
found.errors = [
  await failure(() => stream.query("SELECT")),
  await failure(() => stream.query("SELECT 1; SELECT 2")),
  await failure(() => stream.query("-- nothing")),
  await failure(() => stream.query("SELECT ?")),
  await failure(() => stream.query(`INSERT INTO ${table} VALUES(1, 'again', 0)`)),
];

// Batches: steps depend on earlier ones; a failing one leaves the others alone.
const runBatch = async (useCursor) => {
  const batch = stream.batch(useCursor);
  const first = batch.step();
  const one = first.queryValue("SELECT 10");
  const bad = batch.step();
  const two = failure(() => bad.query("SELECT nothing_of_the_kind"));
  const third = batch.step().condition(hrana.BatchCond.ok(first));
  const three = third.query("SELECT 30 UNION ALL SELECT 31");
  const skipped = batch.step().condition(hrana.BatchCond.ok(bad)).query("SELECT 40");
  const either = batch
    .step()
    .condition(
      hrana.BatchCond.and(batch, [hrana.BatchCond.error(bad), hrana.BatchCond.not(hrana.BatchCond.error(first))]),
    )
    .queryValue("SELECT 50");
  await batch.execute();
  return [
    (await one).value.toString(),
    await two,
    (await three).rows.map((row) => row[0].toString()),
    (await skipped) === undefined,
    (await either).value.toString(),
  ];
};
found.batch = await runBatch(false);
if (version >= 3) {
  found.cursor = await runBatch(true);
  const large = stream.batch(true);
  const rows = large
    .step()
    .query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT i, 'text' FROM n");
  await large.execute();
  found.largeCursor = (await rows).rows.length;
  const inTransaction = stream.batch(true);
  inTransaction.step().run("BEGIN IMMEDIATE");
  inTransaction.step().run(`INSERT INTO ${table}(name) VALUES('in a cursor')`);
  await inTransaction.execute();
  found.cursorTransaction = (await stream.queryValue(`SELECT count(*) FROM ${table}`)).value.toString();
  await stream.run("ROLLBACK");
}

if (version >= 2) {
  const described = await stream.describe(`SELECT id, name AS n FROM ${table} WHERE id = :id`);
  found.describe = [described.paramNames, described.columns, described.isExplain, described.isReadonly];
  await stream.sequence(`INSERT INTO ${table}(name) VALUES('two'); INSERT INTO ${table}(name) VALUES('three');`);
  found.sequenceError = await failure(() => stream.sequence("SELECT 1; SELECT no_such_column"));
  const owner = isWs ? client : stream;
  const text = owner.storeSql(`SELECT count(*) FROM ${table}`);
  found.stored = (await stream.queryValue(text)).value.toString();
  text.close();
  found.closedText = await failure(() => stream.queryValue(text));
}
if (version >= 3) {
  const before = await stream.getAutocommit();
  await stream.run("BEGIN");
  found.autocommit = [before, await stream.getAutocommit()];
  await stream.run("ROLLBACK");
}

// A transaction is its stream's own. What is sent at once runs in order.
const other = client.openStream();
const sent = [
  stream.run("BEGIN IMMEDIATE"),
  stream.run(`DELETE FROM ${table}`),
  stream.queryValue(`SELECT count(*) FROM ${table}`),
];
const inside = (await sent.pop()).value.toString();
const outside = (await other.queryValue(`SELECT count(*) > 0 FROM ${table}`)).value.toString();
await stream.run("ROLLBACK");
found.isolation = [inside, outside];
other.close();

const streams = Array.from({ length: 20 }, () => client.openStream());
const answers = await Promise.all(streams.map((each, n) => each.queryValue(["SELECT ?", [n]])));
found.streams = answers.every((answer, n) => Number(answer.value) === n);
streams.forEach((each) => each.close());

stream.close();
found.closedStream = await failure(() => stream.query("SELECT 1"));
client.close();
found.closedClient = await failure(async () => client.openStream().query("SELECT 1"));
console.log(JSON.stringify(found));
