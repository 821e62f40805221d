// A local copy kept by @libsql/client, driven by lines of JSON: arguments are the package, path, URL and token.
import { createInterface } from "node:readline";

const [, , library, path, url, authToken] = process.argv;
const { createClient } = await import(library);
let client = null;

const rowsOf = (result) => result.rows.map((row) => Array.from({ length: result.columns.length }, (_, at) => row[at]));
const actions = {
  connect: async () => {
    client = createClient({ url: `file:${path}`, syncUrl: url, authToken });
    return true;
  },
  sync: async () => {
    await client.sync();
    return true;
  },
  execute: async (sql, ...args) => rowsOf(await client.execute({ sql, args })),
  commit: async () => true,
  batch: async (...statements) => (await client.batch(statements, "write")).length,
  rolled_back: async (...statements) => {
    const transaction = await client.transaction("write");
    let seen = null;
    for (const sql of statements) {
      seen = rowsOf(await transaction.execute(sql));
    }
    await transaction.rollback();
    return seen;
  },
  begin: async () => {
    globalThis.transaction = await client.transaction("write");
    return true;
  },
  within: async (sql) => rowsOf(await globalThis.transaction.execute(sql)),
  end: async () => {
    await globalThis.transaction.commit();
    return true;
  },
  abandon: async () => {
    globalThis.transaction.close();
    return true;
  },
  close: async () => {
    client.close();
    return true;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [action, ...args] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await actions[action](...args) };
  } catch (error) {
    answer = { error: `${error.code ?? error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
