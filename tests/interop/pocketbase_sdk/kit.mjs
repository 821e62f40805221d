// What the checks stand on: groups of named checks, clients, and how a refusal is compared.
//
// A file is a group: `group("name", setup)` first, then one `check("name", work)` for each. What the setup gives is
// handed to each check; if it fails, all checks of its group fail. Names are literals behind `check(` at the beginning
// of a line (or `live(`, in realtime), so that the Python side can list them without running anything.
import assert from "node:assert/strict";

export { assert };
export const same = assert.deepEqual;

const groups = [];

export function group(name, setup = async () => ({})) {
  groups.push({ name, setup, checks: [] });
}

export function check(name, work) {
  groups.at(-1).checks.push({ name, work });
}

/** Run all groups; prints one line of JSON for each check. */
export async function run(world) {
  for (const { name, setup, checks } of groups) {
    let shared;
    const inSetup = await attempt(async () => {
      shared = await setup({ ...world, named: (what) => `${world.prefix}_${name}_${what}` });
    });
    for (const each of checks) {
      const error = inSetup ? `the group's setup failed: ${inSetup}` : await attempt(() => each.work(shared, world));
      print({ check: `${name}: ${each.name}`, ok: !error, error });
    }
  }
}

/** Give the error of some work as text, "" for none. */
async function attempt(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("took longer than 30 s")), 30_000);
  });
  try {
    await Promise.race([work(), late]);
    return "";
  } catch (error) {
    const told = error.response ? ` ${error.status} ${error.url} ${JSON.stringify(error.response)}` : "";
    return `${error.stack ?? error}${told}`.slice(0, 3000);
  } finally {
    clearTimeout(timer);
  }
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** What all checks know: addresses, how to make clients, a superuser. */
export async function makeWorld({ sdk, url, other, email, password, prefix, inTurn = false, proxyHeader = "" }) {
  const { default: PocketBase, BaseAuthStore, ClientResponseError } = sdk;
  /** Make a client of this node, or one whose requests go to both nodes in turn, as a balancer sends them. */
  function client(at = url) {
    const pb = new PocketBase(at, new BaseAuthStore()).autoCancellation(false);
    if (inTurn) {
      let number = 0;
      pb.beforeSend = (asked, options) => ({
        url: (number += 1) % 2 ? asked : asked.replace(at, at === url ? other : url),
        options,
      });
    }
    return pb;
  }
  const admin = client();
  await admin.collection("_superusers").authWithPassword(email, password);

  /** Check that a request is refused with this status, and these codes by field. */
  async function refused(work, status, codes = {}) {
    let error;
    await assert.rejects(work, (found) => {
      error = found;
      return true;
    });
    if (!(error instanceof ClientResponseError)) {
      throw error;
    }
    same([error.status, codesOf(error.response.data)], [status, codes], JSON.stringify(error.response));
    same(Object.keys(error.response), ["data", "message", "status"]);
    same(error.response.status, status);
    return error;
  }

  /** Make a user, give its client that has signed in. */
  async function signedIn(collection, fields = {}) {
    const body = { email: `${randomName()}@example.com`, password: "password1", ...fields };
    const record = await admin.collection(collection).create({ passwordConfirm: body.password, ...body });
    const pb = client();
    await pb.collection(collection).authWithPassword(body.email, body.password);
    return { pb, record, ...body };
  }

  return {
    PocketBase,
    BaseAuthStore,
    ClientResponseError,
    url,
    other,
    email,
    password,
    prefix,
    proxyHeader,
    client,
    admin,
    refused,
    signedIn,
  };
}

/** Give the codes of an error's data: `{title: "validation_required"}`, nested as they are. */
export function codesOf(data) {
  const found = {};
  for (const [name, value] of Object.entries(data ?? {})) {
    found[name] = typeof value.code === "string" ? value.code.replace(/^validation_/, "") : codesOf(value);
  }
  return found;
}

export function randomName() {
  return Math.random().toString(36).slice(2, 12).padEnd(10, "0");
}

/** Give one key of each item. */
export function pick(items, key = "title") {
  return items.map((item) => item[key]);
}

/** Give what the values have in common with the expected ones: the same keys. */
export function part(value, expected) {
  return Object.fromEntries(Object.keys(expected).map((key) => [key, value[key]]));
}

export function has(value, expected) {
  same(part(value, expected), expected);
}

export const RECORD_ID = /^[a-z0-9]{15}$/;
export const MOMENT = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/;
