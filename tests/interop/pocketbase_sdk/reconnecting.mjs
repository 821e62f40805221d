// A subscriber whose node is killed and started again. Argument as of `main.mjs`. Prints a line at each step:
// "heard" (an event; now the node may be killed), "lost" (the connection), "connected" (again), "heard again".
import { pathToFileURL } from "node:url";
import { makeWorld, same } from "./kit.mjs";

const options = JSON.parse(process.argv[2]);
const sdk = await import(pathToFileURL(options.pocketbase));
globalThis.EventSource = (await import(pathToFileURL(options.eventsource))).EventSource;
const { admin, client } = await makeWorld({ sdk, ...options });
const step = (name) => process.stdout.write(`${JSON.stringify(name)}\n`);

const rules = { listRule: "", createRule: "" };
const { name } = await admin.collections.create({
  name: options.prefix,
  ...rules,
  fields: [{ name: "title", type: "text" }],
});
const pb = client();
const events = [];
let heard;
const next = () => new Promise((resolve) => (events.length ? resolve(events.shift()) : (heard = resolve)));
const take = (event) => (heard ? heard(event) : events.push(event), (heard = undefined));
let connections = 0;
let connected;
const again = new Promise((resolve) => (connected = resolve));
const lost = new Promise((resolve) => (pb.realtime.onDisconnect = resolve));
await pb.realtime.subscribe("PB_CONNECT", () => (connections += 1) > 1 && connected());
await pb.collection(name).subscribe("*", take);

await pb.collection(name).create({ title: "before" });
same((await next()).record.title, "before");
step("heard");
same((await lost).sort(), ["PB_CONNECT", `${name}/*`]);
step("lost");
await again;
step("connected");
await pb.collection(name).create({ title: "after" });
same((await next()).record.title, "after");
step("heard again");
process.exit(0);
