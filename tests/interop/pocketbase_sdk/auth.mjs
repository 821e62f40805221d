// Sign-in: passwords, tokens, refreshing, superusers, acting for others.
import { assert, check, group, has, pick, randomName, same } from "./kit.mjs";

group("auth", async (world) => {
  const { admin, client, named, refused, signedIn } = world;
  const users = await admin.collections.create({
    name: named("users"),
    type: "auth",
    listRule: "id = @request.auth.id",
    viewRule: "id = @request.auth.id",
    createRule: "",
    updateRule: "id = @request.auth.id",
    deleteRule: "id = @request.auth.id",
    fields: [
      { name: "name", type: "text" },
      { name: "username", type: "text" },
    ],
    indexes: [`CREATE UNIQUE INDEX idx_${named("username")} ON ${named("users")} (username) WHERE username != ''`],
    passwordAuth: { enabled: true, identityFields: ["email", "username"] },
  });
  const person = () => signedIn(users.name);
  return { ...world, users, person, of: (pb) => pb.collection(users.name) };
});

check("the ways to sign in", async ({ client, of }) => {
  same(await of(client()).listAuthMethods(), {
    mfa: { duration: 0, enabled: false },
    oauth2: { enabled: false, providers: [] },
    otp: { duration: 0, enabled: false },
    password: { enabled: true, identityFields: ["email", "username"] },
  });
  const all = await of(client()).listAuthMethods({ fields: "" });
  same(Object.keys(all).slice(0, 4), ["password", "oauth2", "mfa", "otp"]);
});

check("the ways to sign in of what is no auth collection", async ({ admin, named, client, refused }) => {
  await admin.collections.create({ name: named("base") });
  await refused(() => client().collection(named("base")).listAuthMethods(), 404);
  await refused(() => client().collection(named("base")).authWithPassword("a", "b"), 404);
  await refused(() => client().collection("not_there").authWithPassword("a", "b"), 404);
});

check("a guest makes an account and signs in", async ({ client, of }) => {
  const pb = client();
  const email = `${randomName()}@example.com`;
  const made = await of(pb).create({ email, password: "password1", passwordConfirm: "password1", name: "Ada" });
  has(made, { name: "Ada", verified: false, emailVisibility: false });
  same([made.email, made.password, made.tokenKey, pb.authStore.isValid], [undefined, undefined, undefined, false]);
  const found = await of(pb).authWithPassword(email, "password1");
  same(Object.keys(found).sort(), ["record", "token"]);
  has(found.record, { id: made.id, email, name: "Ada" });
  same([pb.authStore.isValid, pb.authStore.isSuperuser, pb.authStore.record.id], [true, false, made.id]);
  same([pb.authStore.token, (await of(pb).getOne(made.id)).email], [found.token, email]);
});

check("what a token says", async ({ person, users }) => {
  const { pb, record } = await person();
  const claims = JSON.parse(Buffer.from(pb.authStore.token.split(".")[1], "base64url").toString());
  same(Object.keys(claims).sort(), ["collectionId", "exp", "id", "refreshable", "type"]);
  has(claims, { collectionId: users.id, id: record.id, refreshable: true, type: "auth" });
  assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 432000) < 60);
});

check("accounts that cannot be made", async ({ client, of, refused, person }) => {
  const { email } = await person();
  const body = { email: `${randomName()}@example.com`, password: "password1", passwordConfirm: "password1" };
  const create = (change) => () => of(client()).create({ ...body, ...change });
  await refused(create({ passwordConfirm: "password2" }), 400, { passwordConfirm: "values_mismatch" });
  await refused(create({ passwordConfirm: "" }), 400, { passwordConfirm: "required" });
  await refused(create({ password: "", passwordConfirm: "" }), 400, {
    password: "required",
    passwordConfirm: "required",
  });
  await refused(create({ password: "short", passwordConfirm: "short" }), 400, { password: "min_text_constraint" });
  await refused(create({ email: "none" }), 400, { email: "is_email" });
  await refused(create({ email: "" }), 400, { email: "required" });
  await refused(create({ email }), 400, { email: "not_unique" });
  await refused(create({ verified: true }), 400, { verified: "values_mismatch" });
});

check("signing in by another field", async ({ client, of, admin, refused }) => {
  const pb = client();
  const [email, username] = [`${randomName()}@example.com`, randomName()];
  const { id } = await of(admin).create({ email, username, password: "password1", passwordConfirm: "password1" });
  same((await of(pb).authWithPassword(username, "password1")).record.id, id);
  const only = (identityField) => ({ body: { identity: username, password: "password1", identityField } });
  same((await of(pb).authWithPassword("", "", only("username"))).record.id, id);
  await refused(() => of(pb).authWithPassword("", "", only("email")), 400);
  await refused(() => of(pb).authWithPassword("", "", only("name")), 400, { identityField: "in_invalid" });
});

check("credentials that are wrong", async ({ client, of, person, refused }) => {
  const { email } = await person();
  const pb = client();
  const error = await refused(() => of(pb).authWithPassword(email, "password2"), 400);
  same(pb.authStore.isValid, false);
  const other = await refused(() => of(pb).authWithPassword("nobody@example.com", "password1"), 400);
  same(other.response, error.response);
  await refused(() => of(pb).authWithPassword("", ""), 400, { identity: "required", password: "required" });
  await refused(() => of(pb).authWithPassword(email, ""), 400, { password: "required" });
});

check("signing in with fields", async ({ client, of, person }) => {
  const { email, password, record } = await person();
  const found = await of(client()).authWithPassword(email, password, { fields: "token,record.id" });
  same([Object.keys(found).sort(), found.record], [["record", "token"], { id: record.id }]);
});

check("signing in with what is beside", async ({ admin, named, signedIn, client }) => {
  const people = await admin.collections.create({ name: named("friends"), type: "auth", viewRule: "" });
  const friend = { name: "friend", type: "relation", collectionId: people.id };
  await admin.collections.update(people.id, { fields: [...people.fields, friend] });
  const first = await signedIn(people.name);
  const { email, password, pb } = await signedIn(people.name, { friend: first.record.id });
  const found = await client().collection(people.name).authWithPassword(email, password, { expand: "friend" });
  same(found.record.expand.friend.id, first.record.id);
  same((await pb.collection(people.name).authRefresh({ expand: "friend" })).record.expand.friend.id, first.record.id);
});

check("passwords that are off", async ({ admin, named, client, signedIn, refused }) => {
  const { name, id } = await admin.collections.create({ name: named("off"), type: "auth" });
  const { email, password } = await signedIn(name);
  await admin.collections.update(id, { passwordAuth: { enabled: false } });
  await refused(() => client().collection(name).authWithPassword(email, password), 403);
  same((await client().collection(name).listAuthMethods()).password, { enabled: false, identityFields: [] });
});

check("who is let in", async ({ admin, named, client, signedIn, refused }) => {
  const { name, id } = await admin.collections.create({ name: named("gate"), type: "auth" });
  const { email, password, pb } = await signedIn(name);
  const enter = () => client().collection(name).authWithPassword(email, password);
  await admin.collections.update(id, { authRule: "verified = true" });
  await refused(enter, 403);
  await refused(() => pb.collection(name).authRefresh(), 401);
  await admin.collection(name).update((await admin.collection(name).getFirstListItem("")).id, { verified: true });
  same((await enter()).record.verified, true);
  await admin.collections.update(id, { authRule: null });
  await refused(enter, 403);
});

check("refreshing", async ({ person, of }) => {
  const { pb, record } = await person();
  const before = pb.authStore.token;
  const found = await of(pb).authRefresh();
  same([found.record.id, found.record.email, pb.authStore.token], [record.id, record.email, found.token]);
  same([pb.authStore.isValid, before.split(".").length], [true, 3]);
  same((await of(pb).getList()).totalItems, 1);
});

check("refreshing without a token, or with another's", async ({ client, person, of, admin, refused }) => {
  await refused(() => of(client()).authRefresh(), 401);
  await refused(() => of(admin).authRefresh(), 403);
  const { pb } = await person();
  await refused(() => pb.collection("_superusers").authRefresh(), 403);
  pb.authStore.save(`${pb.authStore.token.slice(0, -3)}AAA`);
  await refused(() => of(pb).authRefresh(), 401);
});

check("a new password ends all tokens", async ({ person, of, client, refused }) => {
  const { pb, record, email } = await person();
  const change = { password: "password2", passwordConfirm: "password2" };
  await refused(() => of(pb).update(record.id, change), 400, { oldPassword: "required" });
  await refused(() => of(pb).update(record.id, { ...change, oldPassword: "wrong" }), 400, {
    oldPassword: "invalid_old_password",
  });
  await refused(() => of(pb).update(record.id, { ...change, oldPassword: "password1", passwordConfirm: "x" }), 400, {
    passwordConfirm: "values_mismatch",
  });
  await of(pb).update(record.id, { ...change, oldPassword: "password1" });
  await refused(() => of(pb).authRefresh(), 401);
  await refused(() => of(client()).authWithPassword(email, "password1"), 400);
  same((await of(client()).authWithPassword(email, "password2")).record.id, record.id);
});

check("what users may not change of themselves", async ({ person, of, refused }) => {
  const { pb, record } = await person();
  await refused(() => of(pb).update(record.id, { email: "new@example.com" }), 400, { email: "values_mismatch" });
  await refused(() => of(pb).update(record.id, { verified: true }), 400, { verified: "values_mismatch" });
  has(await of(pb).update(record.id, { tokenKey: "x".repeat(40), name: "Eva" }), { name: "Eva" });
  same((await of(pb).authRefresh()).record.name, "Eva");
});

check("the store follows changes of one's own record", async ({ person, of }) => {
  const { pb, record } = await person();
  const seen = [];
  pb.authStore.onChange((_, changed) => seen.push(changed?.name));
  await of(pb).update(record.id, { name: "Eva" });
  same([pb.authStore.record.name, pb.authStore.record.email], ["Eva", record.email]);
  await of(pb).delete(record.id);
  same([seen, pb.authStore.isValid, pb.authStore.record], [["Eva", undefined], false, null]);
});

check("the token of one who is gone", async ({ person, of, admin, refused }) => {
  const { pb, record } = await person();
  await of(admin).delete(record.id);
  await refused(() => of(pb).authRefresh(), 401);
  same((await of(pb).getList()).totalItems, 0);
});

check("a token behind Bearer", async ({ person, of, client }) => {
  const { pb, record } = await person();
  const headers = { Authorization: `Bearer ${pb.authStore.token}` };
  same((await of(client()).getOne(record.id, { headers })).id, record.id);
});

check("a store as a cookie", async ({ person, of, client }) => {
  const { pb, record } = await person();
  const other = client();
  other.authStore.loadFromCookie(pb.authStore.exportToCookie());
  same([other.authStore.isValid, (await of(other).getOne(record.id)).id], [true, record.id]);
});

check("superusers", async ({ client, email, password, refused }) => {
  const pb = client();
  const { record, token } = await pb.collection("_superusers").authWithPassword(email, password);
  has(record, { collectionId: "pbc_3142635823", collectionName: "_superusers", email, verified: true });
  same([pb.authStore.isSuperuser, pb.authStore.token], [true, token]);
  same((await pb.collection("_superusers").authRefresh()).record.id, record.id);
  await refused(() => client().collection("_superusers").authWithPassword(email, "wrong password"), 400);
});

check("superusers make others", async ({ admin, client, named, refused }) => {
  const account = { email: `${named("second")}@example.com`, password: "password12" };
  const superusers = admin.collection("_superusers");
  await refused(() => superusers.create({ ...account, passwordConfirm: "x" }), 400, {
    passwordConfirm: "values_mismatch",
  });
  const { id } = await superusers.create({ ...account, passwordConfirm: account.password });
  const pb = client();
  await pb.collection("_superusers").authWithPassword(account.email, account.password);
  same((await pb.collections.getOne("_superusers")).name, "_superusers");
  same(await superusers.delete(id), true);
  await refused(() => pb.collections.getOne("_superusers"), 401);
});

check("the last superuser stays", async ({ admin, refused }) => {
  same((await admin.collection("_superusers").getList()).totalItems, 1);
  await refused(() => admin.collection("_superusers").delete(admin.authStore.record.id), 400);
});

check("superusers are refreshed by themselves", async ({ client, email, password }) => {
  const pb = client();
  const paths = [];
  pb.afterSend = (response, data) => {
    paths.push(new URL(response.url).pathname.split("/").at(-1));
    return data;
  };
  await pb.collection("_superusers").authWithPassword(email, password, { autoRefreshThreshold: 1_000_000 });
  same((await pb.collections.getOne("_superusers")).name, "_superusers");
  same(paths, ["auth-with-password", "auth-refresh", "_superusers"]);
  pb.authStore.save("not.a.token", pb.authStore.record);
  same((await pb.collections.getOne("_superusers")).name, "_superusers");
  same(paths.slice(3), ["auth-with-password", "_superusers"]);
});

check("acting for another", async ({ admin, of, person, refused }) => {
  const { record } = await person();
  const acting = await of(admin).impersonate(record.id, 3600);
  same([acting.authStore.record.id, acting.authStore.isValid], [record.id, true]);
  const claims = JSON.parse(Buffer.from(acting.authStore.token.split(".")[1], "base64url").toString());
  same([claims.refreshable, claims.exp - Math.floor(Date.now() / 1000) > 3500], [false, true]);
  assert.ok(claims.exp - Date.now() / 1000 < 3700);
  same((await of(acting).getList()).totalItems, 1);
  await refused(() => acting.settings.getAll(), 403);
  const before = acting.authStore.token;
  same((await of(acting).authRefresh()).token, before);
});

check("acting for another as long as the collection says", async ({ admin, of, person }) => {
  const { record } = await person();
  const acting = await of(admin).impersonate(record.id, 0, { fields: "token,record.id" });
  same(acting.authStore.record, { id: record.id });
  const { exp } = JSON.parse(Buffer.from(acting.authStore.token.split(".")[1], "base64url").toString());
  assert.ok(Math.abs(exp - Date.now() / 1000 - 432000) < 60);
});

check("who may not act for another", async ({ admin, of, person, client, refused }) => {
  const { pb, record } = await person();
  await refused(() => of(pb).impersonate(record.id, 10), 403);
  await refused(() => of(client()).impersonate(record.id, 10), 401);
  await refused(() => of(admin).impersonate("0123456789abcde", 10), 404);
  await refused(() => of(admin).impersonate(record.id, -1), 400, { duration: "min_greater_equal_than_required" });
});

check("tokens for files", async ({ person, client, admin, refused }) => {
  const { pb, record } = await person();
  const claims = JSON.parse(Buffer.from((await pb.files.getToken()).split(".")[1], "base64url").toString());
  has(claims, { id: record.id, type: "file" });
  same("refreshable" in claims, false);
  assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 180) < 30);
  assert.ok(await admin.files.getToken());
  await refused(() => client().files.getToken(), 401);
});

check("a token for files opens nothing else", async ({ person, of, client, refused }) => {
  const { pb } = await person();
  const headers = { Authorization: await pb.files.getToken() };
  await refused(() => of(client()).authRefresh({ headers }), 401);
});

check("a new secret ends the tokens of all", async ({ admin, named, signedIn, refused }) => {
  const { name, id } = await admin.collections.create({ name: named("secret"), type: "auth" });
  const { pb } = await signedIn(name);
  await pb.collection(name).authRefresh();
  await admin.collections.update(id, { authToken: { secret: "x".repeat(40) } });
  await refused(() => pb.collection(name).authRefresh(), 401);
});

check("accounts elsewhere", async ({ admin, person, of, users, refused }) => {
  const { pb, record } = await person();
  const body = { collectionRef: users.id, recordRef: record.id, provider: "github", providerId: randomName() };
  await admin.collection("_externalAuths").create(body);
  same(pick(await of(pb).listExternalAuths(record.id), "provider"), ["github"]);
  same(await of(pb).unlinkExternalAuth(record.id, "github"), true);
  same(await of(pb).listExternalAuths(record.id), []);
  await assert.rejects(
    () => of(pb).unlinkExternalAuth(record.id, "github"),
    ({ status }) => status === 404,
  );
  await refused(() => pb.collection("_externalAuths").create(body), 403);
});

check("what was kept for signing in goes with the account", async ({ admin, person, of, users }) => {
  const { record } = await person();
  const body = { collectionRef: users.id, recordRef: record.id, provider: "github", providerId: randomName() };
  const { id } = await admin.collection("_externalAuths").create(body);
  await of(admin).delete(record.id);
  await assert.rejects(
    () => admin.collection("_externalAuths").getOne(id),
    ({ status }) => status === 404,
  );
});

check("the collection that is there from the start", async ({ client }) => {
  const pb = client();
  const email = `${randomName()}@example.com`;
  const users = pb.collection("users");
  const { id } = await users.create({ email, password: "password1", passwordConfirm: "password1", name: "Ada" });
  has((await users.authWithPassword(email, "password1")).record, {
    id,
    name: "Ada",
    avatar: "",
    collectionId: "_pb_users_auth_",
  });
  same(pick(await users.getFullList(), "id"), [id]);
  same(await users.delete(id), true);
});
