// Writes rows and reads them back, with a loop that tries again, until its input ends: what test_sql_clients_kills.py
// drives. Arguments: kind of client, its module, URL, token, name of a table of its own. Prints a line of JSON for each
// thing that it did.

const [kind, module, url, authToken, table] = process.argv.slice(2);
const { createClient, connect } = await import(module);
let isOver = false;
process.stdin.on("end", () => (isOver = true)).resume();

const insert = (key, attempt, part) => ({
  sql: `INSERT INTO ${table}(key, attempt, part) VALUES(?, ?, ?)`,
  args: [key, attempt, part],
});
const text = (error) => [error, error.cause, error.cause?.cause].map((one) => one?.message ?? "").join(" / ");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const say = (line) => console.log(JSON.stringify(line));

function openLibsql() {
  const client = createClient({ url, authToken });
  return {
    run: (sql) => client.execute(sql),
    single: (key, attempt) => client.execute(insert(key, attempt, 0)),
    batch: (key, attempt) => client.batch([insert(key, attempt, 0), insert(key, attempt, 1)], "write"),
    transaction: async (key, attempt) => {
      const transaction = await client.transaction("write");
      try {
        await transaction.execute(insert(key, attempt, 0));
        await transaction.execute(insert(key, attempt, 1));
        await transaction.commit();
      } finally {
        transaction.close();
      }
    },
    read: async (sql, args) => {
      const [row] = (await client.execute({ sql, args })).rows;
      return [row[0], row[1]];
    },
    close: () => client.close(),
  };
}

function openServerless() {
  const client = connect({ url, authToken });
  const run = (on, { sql, args }) => on.run(sql, args);
  return {
    run: (sql) => client.exec(sql),
    single: (key, attempt) => run(client, insert(key, attempt, 0)),
    batch: (key, attempt) => client.batch([insert(key, attempt, 0), insert(key, attempt, 1)], "immediate"),
    transaction: (key, attempt) =>
      client.transactionAsync(async (transaction) => {
        await run(transaction, insert(key, attempt, 0));
        await run(transaction, insert(key, attempt, 1));
      })(),
    read: async (sql, args) => Object.values(await client.get(sql, args)),
    close: () => client.close(),
  };
}

async function attempt(line, work) {
  const began = performance.now();
  try {
    Object.assign(line, { ok: true }, await work());
  } catch (error) {
    Object.assign(line, { ok: false, code: String(error.code ?? ""), text: text(error) });
  }
  say({ ...line, ms: performance.now() - began });
  return line.ok;
}

const client = kind === "serverless" ? openServerless() : openLibsql();
const columns = "seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, attempt INTEGER, part INTEGER";
const create = async () => void (await client.run(`CREATE TABLE IF NOT EXISTS ${table}(${columns})`));
while (!(await attempt({ way: "schema" }, create))) await pause(50);
const ways = ["single", "batch", "transaction"];
const counting = `SELECT count(*), coalesce(sum(key = ?), 0) FROM ${table}`;
let kept = "";
for (let step = 0; !isOver; step += 1) {
  const [key, way] = [`k${step}`, ways[step % ways.length]];
  for (let number = 0, wait = 20; !isOver; number += 1, wait = Math.min(2 * wait, 300)) {
    const isKept = await attempt({ way, key, attempt: number }, async () => void (await client[way](key, number)));
    if (isKept) kept = key;
    await attempt({ way: "read", key: kept }, async () => {
      const [rows, own] = (await client.read(counting, [kept])).map(Number);
      return { rows, own };
    });
    if (isKept) break;
    await pause(wait);
  }
  await pause(10);
}
await client.close();
say({ way: "end", ok: true, ms: 0 });
