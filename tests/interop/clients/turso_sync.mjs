// One round of what npm's @tursodatabase/sync does. Arguments: module, URL, token, folder, name of a table of its own.

const [module, url, authToken, folder, table] = process.argv.slice(2);
const { connect } = await import(module);

const found = {};
const open = (name, options = {}) =>
  connect({ path: `${folder}/${table}-${name}.db`, url, authToken, clientName: `${table}-${name}`, ...options });
const all = async (db, sql) => await (await db.prepare(sql)).all();
const count = async (db) => (await all(db, `SELECT count(*) AS n FROM ${table}`))[0].n;
const isWhole = async (db) => JSON.stringify(await all(db, "PRAGMA integrity_check")).includes('"ok"');

const one = await open("one");
await one.exec(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, name TEXT, value BLOB)`);
await one.exec(`INSERT INTO ${table} SELECT value, 'one', randomblob(1500) FROM generate_series(1, 300)`);
await one.push();
const two = await open("two");
found.bootstrap = [await count(two), await isWhole(two)];
found.nothingNew = [await two.pull(), await one.pull(), await one.pull()];

await two.exec(`UPDATE ${table} SET name = 'two' WHERE id < 10`);
await two.exec(`DELETE FROM ${table} WHERE id > 290`);
await two.push();
found.pulled = [await one.pull(), await count(one), await isWhole(one)];
await one.exec(`UPDATE ${table} SET name = 'from one' WHERE id = 5`);
await two.exec(`UPDATE ${table} SET name = 'from two' WHERE id = 5`);
await two.push();
await one.push();
await two.pull();
found.lastPushWins = await all(two, `SELECT name FROM ${table} WHERE id = 5`);

const transaction = one.transaction(async () => {
  await (await one.prepare(`INSERT INTO ${table} (name) VALUES (?)`)).run("in a transaction");
  await (await one.prepare(`INSERT INTO ${table} (name) VALUES (?)`)).run("and one more");
});
await transaction();
await one.push();
await two.pull();
found.transaction = await count(two);

const chunked = await open("chunked", { pullBytesThreshold: 64 * 1024 });
found.chunks = [await count(chunked), await isWhole(chunked)];
const partial = await open("partial", {
  partialSyncExperimental: { bootstrapStrategy: { kind: "prefix", length: 128 * 1024 }, segmentSize: 16 * 1024 },
});
const before = (await partial.stats()).networkReceivedBytes;
found.partial = [(await all(partial, `SELECT sum(length(value)) AS n FROM ${table}`))[0].n];
found.partial.push(before < 400_000 && before < (await partial.stats()).networkReceivedBytes);

const waiting = await open("waiting", { longPollTimeoutMs: 30_000 });
const started = Date.now();
const pulling = waiting.pull();
await new Promise((done) => setTimeout(done, 500));
await two.exec(`INSERT INTO ${table} (name) VALUES ('late')`);
await two.push();
found.longPoll = [await pulling, Date.now() - started < 20_000, await count(waiting)];
await one.checkpoint();
await one.pull();
found.afterAll = [await count(one), await isWhole(one)];
console.log(JSON.stringify(found));
process.exit(0);
