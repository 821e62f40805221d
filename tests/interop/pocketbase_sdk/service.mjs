// The client itself, health, settings, and what is not there.
import { assert, check, group, has, same } from "./kit.mjs";

group("service", async ({ admin, client, named, refused, signedIn, url }) => {
  await admin.collections.create({ name: named("users"), type: "auth" });
  return { admin, guest: client(), refused, user: (await signedIn(named("users"))).pb, url };
});

check("health of a guest", async ({ guest }) => {
  const found = await guest.health.check();
  same([Object.keys(found), found.code, found.data], [["message", "code", "data"], 200, {}]);
});

check("health of a user has no data", async ({ user }) => {
  same((await user.health.check()).data, {});
});

check("health of a superuser", async ({ admin }, { proxyHeader }) => {
  const { data } = await admin.health.check();
  same(Object.keys(data).sort(), ["canBackup", "possibleProxyHeader", "realIP"]);
  same([typeof data.canBackup, data.realIP, data.possibleProxyHeader], ["boolean", "127.0.0.1", proxyHeader]);
});

check("health tells of a proxy that is not trusted", async ({ admin }) => {
  const { data } = await admin.health.check({ headers: { "X-Forwarded-For": "10.0.0.1" } });
  same(data.possibleProxyHeader, "X-Forwarded-For");
});

check("health with fields", async ({ guest }) => {
  same(await guest.health.check({ fields: "code" }), { code: 200 });
});

check("health by HEAD", async ({ url }) => {
  const found = await fetch(`${url}/api/health`, { method: "HEAD" });
  same([found.status, await found.text()], [200, ""]);
});

check("settings in their order", async ({ admin }) => {
  const found = await admin.settings.getAll();
  const groups = ["superuserIPs", "smtp", "backups", "s3", "meta", "rateLimits", "trustedProxy", "batch", "logs"];
  same(Object.keys(found), groups);
  same(Object.keys(found.smtp), ["enabled", "port", "host", "username", "authMethod", "tls", "localName"]);
  same(Object.keys(found.s3), ["enabled", "bucket", "region", "endpoint", "accessKey", "forcePathStyle"]);
  has(found.meta, { appName: "Acme", appURL: "http://localhost:8090", senderName: "Support" });
  same(found.rateLimits.rules.length, 4);
});

check("settings change group by group", async ({ admin }) => {
  const before = await admin.settings.getAll();
  const changed = await admin.settings.update({ meta: { appName: "Checked" } });
  same(changed, { ...before, meta: { ...before.meta, appName: "Checked" } });
  same(await admin.settings.getAll(), changed);
  same(await admin.settings.update({ meta: { appName: before.meta.appName } }), before);
});

check("settings keep secrets to themselves", async ({ admin }) => {
  const found = await admin.settings.update({ smtp: { password: "secret" }, s3: { secret: "secret" } });
  same([found.smtp.password, found.s3.secret, found.backups.s3.secret], [undefined, undefined, undefined]);
});

check("settings with fields", async ({ admin }) => {
  const { batch, meta } = await admin.settings.getAll();
  same(await admin.settings.getAll({ fields: "meta.appName,batch.maxRequests" }), {
    batch: { maxRequests: batch.maxRequests },
    meta: { appName: meta.appName },
  });
});

check("settings that cannot be", async ({ admin, refused }) => {
  await refused(() => admin.settings.update({ meta: { appName: "" } }), 400, { meta: { appName: "required" } });
  await refused(() => admin.settings.update({ smtp: { enabled: true, host: "", port: 0 } }), 400, {
    smtp: { host: "required", port: "required" },
  });
  await refused(() => admin.settings.update({ batch: { enabled: true, maxRequests: 0 } }), 400, {
    batch: { maxRequests: "required" },
  });
});

check("settings are for superusers", async ({ guest, user, refused }) => {
  await refused(() => guest.settings.getAll(), 401);
  await refused(() => user.settings.getAll(), 403);
  await refused(() => guest.settings.update({}), 401);
  await refused(() => user.settings.update({}), 403);
});

check("an unknown route", async ({ admin, refused }) => {
  const error = await refused(() => admin.send("/api/nothing/here", {}), 404);
  same(error.message, error.response.message);
  assert.ok(error.url.endsWith("/api/nothing/here"));
  same([error.isAbort, error.name], [false, "ClientResponseError 404"]);
});

check("an unknown method of a route", async ({ admin }) => {
  await assert.rejects(
    () => admin.send("/api/health", { method: "PATCH" }),
    ({ status }) => [404, 405].includes(status),
  );
});

check("broken JSON", async ({ admin, refused }) => {
  const options = { method: "POST", body: '{"identity":', headers: { "Content-Type": "application/json" } };
  await refused(() => admin.send("/api/collections/_superusers/auth-with-password", options), 400);
});

check("an unknown kind of body", async ({ admin, refused }) => {
  const options = { method: "POST", body: "identity", headers: { "Content-Type": "text/plain" } };
  await refused(() => admin.send("/api/collections/_superusers/auth-with-password", options), 400);
});

check("a token that is none makes a guest", async ({ guest, refused }) => {
  const options = { headers: { Authorization: "not.a.token" } };
  same((await guest.health.check(options)).data, {});
  await refused(() => guest.settings.getAll(options), 401);
});

check("security headers on every answer", async ({ url }) => {
  for (const path of ["/api/health", "/api/nothing"]) {
    const { headers } = await fetch(url + path);
    same(headers.get("x-content-type-options"), "nosniff");
    same(headers.get("x-frame-options"), "SAMEORIGIN");
    same(headers.get("content-type"), "application/json");
  }
});

check("other origins may ask", async ({ url }) => {
  const headers = { Origin: "http://app.example", "Access-Control-Request-Method": "PATCH" };
  const asked = { ...headers, "Access-Control-Request-Headers": "authorization,content-type" };
  const preflight = await fetch(`${url}/api/collections/users/records/x`, { method: "OPTIONS", headers: asked });
  same(preflight.status, 204);
  same(preflight.headers.get("access-control-allow-origin"), "*");
  assert.ok(preflight.headers.get("access-control-allow-methods").includes("PATCH"));
  same(preflight.headers.get("access-control-allow-headers").toLowerCase(), "authorization,content-type");
  const found = await fetch(`${url}/api/health`, { headers: { Origin: "http://app.example" } });
  same(found.headers.get("access-control-allow-origin"), "*");
});

check("a repeated request ends the one before", async ({ url }, { PocketBase, BaseAuthStore }) => {
  const pb = new PocketBase(url, new BaseAuthStore());
  const [first, second] = await Promise.allSettled([pb.health.check(), pb.health.check()]);
  same([first.status, first.reason.isAbort, first.reason.status], ["rejected", true, 0]);
  same(second.status, "fulfilled");
});

check("hooks of the client see requests and answers", async (_, { client }) => {
  const pb = client();
  const seen = [];
  pb.beforeSend = (url, options) => {
    seen.push(options.method);
    return { url, options };
  };
  pb.afterSend = (response, data) => ({ ...data, status: response.status });
  same((await pb.health.check()).status, 200);
  same(seen, ["GET"]);
});
