// Everything that the npm package `pocketbase` does with a server, on one node. Argument: JSON with the entries of the
// packages (`pocketbase`, `eventsource`), `url` and the `other` node's, a superuser's `email` and `password`, a
// `prefix` for names of its own, `only` for some groups, `inTurn` to send requests to both nodes in turn, the
// `proxyHeader` that a proxy before the nodes sets. Prints one line of JSON for each check.
import { pathToFileURL } from "node:url";
import { makeWorld, run } from "./kit.mjs";

const options = JSON.parse(process.argv[2]);
const sdk = await import(pathToFileURL(options.pocketbase));
const { EventSource } = await import(pathToFileURL(options.eventsource));
globalThis.EventSource = EventSource;

const groups = [
  ...["service", "collections", "changing", "views", "records", "values", "lists", "filters", "rules", "auth", "batch"],
  ...["files", "realtime"],
];
for (const name of options.only ?? groups) {
  await import(`./${name}.mjs`);
}
await run(await makeWorld({ sdk, ...options }));
process.exit(0);
