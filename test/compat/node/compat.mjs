// ioredis, node-redis, their cluster clients and BullMQ: one line for each check. With COMPAT_CA
// or COMPAT_USER only ioredis runs, with COMPAT_ONLY only BullMQ.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import Redis from "ioredis";
import { createClient, createCluster } from "redis";
import { Queue, Worker } from "bullmq";

const [layout, plain, one, several] = process.argv.slice(2);
const address = (at) => ({ host: at.split(":")[0], port: Number(at.split(":")[1]) });
const { host, port } = address(plain);
const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const { COMPAT_CA: ca, COMPAT_USER: user, COMPAT_PASSWORD: password } = process.env;
const guard = { ...(ca && { tls: { ca: readFileSync(ca) } }), ...(user && { username: user, password }) };
const key = (name) => `${user ? user + ":" : ""}${name}:${randomUUID()}`;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let failed = false;

async function check(library, name, run) {
  let error;
  let timer;
  try {
    const late = new Promise((_, no) => (timer = setTimeout(() => no(new Error("no end within 60 s")), 60_000)));
    await Promise.race([run(), late]);
  } catch (e) {
    error = e;
    failed = true;
  }
  clearTimeout(timer);
  const of = library.startsWith("node-redis") ? "redis" : library.split(/[-/]/)[0];
  console.log(`${error ? "FAIL" : "ok"} ${library} ${version(of)} ${layout} ${name}${error ? " " + String(error.message).replaceAll("\n", " ") : ""}`);
}

// What ioredis does, be it a client of one server or of a cluster. dial makes one
// more client.
async function ioredisChecks(l, r, dial) {
  await check(l, "pipeline", async () => {
    const k = Array.from({ length: 200 }, () => key("{p}"));
    const p = r.pipeline();
    k.forEach((k, i) => p.set(k, i));
    k.forEach((k) => p.get(k));
    const replies = await p.exec();
    assert.deepEqual(replies.slice(200).map(([e, v]) => e ?? v), k.map((_, i) => String(i)));
    const apart = Array.from({ length: 200 }, () => key("p"));
    await Promise.all(apart.map((k, i) => r.set(k, i)));
    assert.deepEqual(await Promise.all(apart.map((k) => r.get(k))), apart.map((_, i) => String(i)));
  });
  await check(l, "scripts", async () => {
    r.defineCommand("plus", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    const k = key("s");
    assert.equal(await r.plus(k, 5), 5);
    assert.equal(await r.plus(k, 5), 10); // by EVALSHA
  });
  await check(l, "blocking", async () => {
    const k = key("b");
    const two = [dial().blpop(k, 10), dial().blpop(k, 10)];
    await sleep(100);
    await r.rpush(k, "1", "2");
    assert.deepEqual((await Promise.all(two)).map(([, v]) => v).sort(), ["1", "2"]);
  });
  await check(l, "pubsub", async () => {
    const sub = dial();
    const channel = key("c");
    const got = new Promise((done) => {
      const kinds = [];
      const add = (kind) => kinds.push(kind) === 2 && done(kinds.sort());
      sub.on("message", () => add("message"));
      sub.on("pmessage", () => add("pmessage"));
    });
    await sub.subscribe(channel);
    await sub.psubscribe(channel.slice(0, -4) + "*");
    await r.publish(channel, "hello");
    assert.deepEqual(await got, ["message", "pmessage"]);
  });
  await check(l, "streams", async () => {
    const k = key("st");
    await r.xgroup("CREATE", k, "g", "0", "MKSTREAM");
    const id = await r.xadd(k, "*", "n", "1");
    const [[, [[got]]]] = await r.xreadgroup("GROUP", "g", "c", "BLOCK", 1000, "STREAMS", k, ">");
    assert.equal(got, id);
    assert.equal(await r.xack(k, "g", id), 1);
  });
}

// retries increments a key by WATCH, from several clients at once.
async function retries(clients, k, times, { watch, get, set }) {
  await Promise.all(
    clients.map(async (c) => {
      for (let done = 0; done < times; ) {
        await watch(c);
        const n = Number((await get(c)) ?? 0);
        if (await set(c, n + 1)) done++;
      }
    }),
  );
}

async function ioredis() {
  const open = [];
  const dial = (more) => (open.push(new Redis({ host, port, ...guard, ...more })), open.at(-1));
  const r = dial({ connectionName: "app" });
  const l = "ioredis";
  await check(l, "handshake", async () => assert.equal(await r.client("GETNAME"), "app"));
  if (ca || user) await check(l, "guard", () => guarded(r));
  await ioredisChecks(l, r, dial);
  await check(l, "transaction", async () => {
    const k = key("t");
    assert.deepEqual(await r.multi().incr(k).incr(k).exec(), [[null, 1], [null, 2]]);
    await retries([dial(), dial(), dial()], k, 20, { watch: (c) => c.watch(k), get: (c) => c.get(k), set: (c, n) => c.multi().set(k, n).exec() });
    assert.equal(await r.get(k), "62");
  });
  await check(l, "scan", async () => {
    const prefix = key("scan");
    for (let i = 0; i < 200; i++) await r.set(`${prefix}:${i}`, i);
    const seen = new Set();
    for await (const keys of r.scanStream({ match: prefix + "*", count: 50 })) keys.forEach((k) => seen.add(k));
    assert.equal(seen.size, 200);
  });
  open.forEach((c) => c.disconnect());
}

// guarded tries what must not work: a certificate of an unknown authority, and what the user may
// not do.
async function guarded(r) {
  if (ca) {
    const c = new Redis({ host, port, tls: {}, retryStrategy: null }); // trusts node's authorities only
    const error = await new Promise((done) => (c.on("error", done), c.on("ready", done)));
    assert.match(String(error?.message), /certificate/);
    c.disconnect();
  }
  if (user) {
    assert.equal(await r.acl("WHOAMI"), user);
    await assert.rejects(r.get("other:key"), /^ReplyError: NOPERM/);
    await assert.rejects(r.keys("*"), /^ReplyError: NOPERM/);
  }
}

async function ioredisCluster(name, at) {
  const open = [];
  const dial = () => (open.push(new Redis.Cluster([address(at)])), open.at(-1));
  const l = `ioredis-cluster-${name}`;
  const r = dial();
  await ioredisChecks(l, r, dial);
  await check(l, "transaction", async () => {
    const k = key("t");
    assert.deepEqual(await r.multi().incr(k).incr(k).exec(), [[null, 1], [null, 2]]);
  });
  open.forEach((c) => c.disconnect());
}

async function nodeRedisCluster(RESP, name, at) {
  const l = `node-redis-cluster-${name}/RESP${RESP}`;
  const r = createCluster({ rootNodes: [{ socket: address(at) }], RESP });
  r.on("error", () => {});
  await r.connect();
  await check(l, "pipeline", async () => {
    const k = Array.from({ length: 200 }, () => key("p"));
    await Promise.all(k.map((k, i) => r.set(k, String(i))));
    assert.deepEqual(await Promise.all(k.map((k) => r.get(k))), k.map((_, i) => String(i)));
  });
  await check(l, "transaction", async () => {
    const k = key("t");
    assert.deepEqual(await r.multi().incr(k).incr(k).exec(), [1, 2]);
  });
  await check(l, "scripts", async () => {
    assert.equal(await r.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", { keys: [key("s")], arguments: ["5"] }), 5);
  });
  await check(l, "pubsub", async () => {
    const channel = key("c");
    let heard;
    const got = new Promise((done) => (heard = done));
    await r.sSubscribe(channel, heard);
    await r.sPublish(channel, "hello");
    assert.equal(await got, "hello");
  });
  r.destroy();
}

async function nodeRedis(RESP) {
  const l = `node-redis/RESP${RESP}`;
  const open = [];
  const dial = async (more) => {
    const c = createClient({ socket: { host, port }, RESP, ...more });
    c.on("error", () => {});
    open.push(await c.connect());
    return c;
  };
  const r = await dial({ name: "app" });
  await check(l, "handshake", async () => assert.equal(await r.clientGetName(), "app"));
  await check(l, "pipeline", async () => {
    const k = Array.from({ length: 200 }, () => key("p"));
    await Promise.all(k.map((k, i) => r.set(k, String(i))));
    assert.deepEqual(await Promise.all(k.map((k) => r.get(k))), k.map((_, i) => String(i)));
    assert.deepEqual(await r.mGet(k), k.map((_, i) => String(i)));
  });
  await check(l, "transaction", async () => {
    const k = key("t");
    assert.deepEqual(await r.multi().incr(k).incr(k).exec(), [1, 2]);
    await retries([await dial(), await dial(), await dial()], k, 20, {
      watch: (c) => c.watch(k),
      get: (c) => c.get(k),
      set: (c, n) => c.multi().set(k, String(n)).exec().catch((e) => assert.match(e.message, /watched keys has been changed/)),
    });
    assert.equal(await r.get(k), "62");
  });
  await check(l, "scripts", async () => {
    const sha = await r.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    assert.equal(await r.evalSha(sha, { keys: [key("s")], arguments: ["5"] }), 5);
  });
  await check(l, "streams", async () => {
    const k = key("st");
    await r.xGroupCreate(k, "g", "0", { MKSTREAM: true });
    const id = await r.xAdd(k, "*", { n: "1" });
    const [stream] = await r.xReadGroup("g", "c", { key: k, id: ">" }, { BLOCK: 1000 });
    assert.deepEqual(stream.messages.map((m) => m.id), [id]);
    assert.equal(await r.xAck(k, "g", id), 1);
  });
  await check(l, "hashes", async () => {
    const k = key("h");
    await r.hSet(k, { a: "1", b: "2" });
    assert.deepEqual({ ...(await r.hGetAll(k)) }, { a: "1", b: "2" });
    await r.zAdd(k + "z", [{ score: 1.5, value: "x" }]);
    assert.deepEqual((await r.zRangeWithScores(k + "z", 0, -1)).map((e) => ({ ...e })), [{ score: 1.5, value: "x" }]);
    assert.equal(await r.zScore(k + "z", "x"), 1.5);
  });
  await check(l, "blocking", async () => {
    const k = key("b");
    const two = [(await dial()).blPop(k, 10), (await dial()).blPop(k, 10)];
    await sleep(100);
    await r.rPush(k, ["1", "2"]);
    assert.deepEqual((await Promise.all(two)).map((e) => e.element).sort(), ["1", "2"]);
  });
  await check(l, "pubsub", async () => {
    const sub = await dial();
    const channel = key("c");
    let heard;
    const got = new Promise((done) => (heard = done));
    await sub.subscribe(channel, heard);
    let pattern;
    const matched = new Promise((done) => (pattern = done));
    await sub.pSubscribe(channel.slice(0, 8) + "*", pattern);
    await r.publish(channel, "hello");
    assert.deepEqual([await got, await matched], ["hello", "hello"]);
    let sharded;
    const other = new Promise((done) => (sharded = done));
    await sub.sSubscribe(channel, sharded);
    await r.sPublish(channel, "sharded");
    assert.equal(await other, "sharded");
  });
  await check(l, "scan", async () => {
    const prefix = key("scan");
    for (let i = 0; i < 200; i++) await r.set(`${prefix}:${i}`, String(i));
    const seen = new Set();
    for await (const keys of r.scanIterator({ MATCH: prefix + "*", COUNT: 50 })) [keys].flat().forEach((k) => seen.add(k));
    assert.equal(seen.size, 200);
  });
  if (RESP === 3) {
    await check(l, "client-side cache", async () => {
      const { BasicClientSideCache } = await import("@redis/client/dist/lib/client/cache.js");
      const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 0, evictPolicy: "LRU" });
      const c = await dial({ clientSideCache: cache });
      const k = key("cached");
      await r.set(k, "1");
      assert.equal(await c.get(k), "1");
      assert.equal(await c.get(k), "1");
      assert.equal(cache.stats().hitCount, 1);
      await r.set(k, "2");
      for (let i = 0; (await c.get(k)) !== "2"; i++) {
        assert.ok(i < 100, "the old value stays");
        await sleep(20);
      }
    });
  }
  open.forEach((c) => c.destroy());
}

async function bullmq() {
  await check("bullmq", "1,000 jobs, none lost or doubled", async () => {
    const connection = { host, port, maxRetriesPerRequest: null };
    const name = key("queue").replaceAll(":", "-");
    const prefix = "{bull}"; // a queue's keys live together
    const queue = new Queue(name, { connection, prefix });
    const done = new Map();
    let all;
    const finished = new Promise((yes) => (all = yes));
    const worker = new Worker(name, async (job) => {
      done.set(job.data.n, (done.get(job.data.n) ?? 0) + 1);
      if (done.size === 1000) all();
    }, { connection, prefix, concurrency: 20 });
    await queue.addBulk(Array.from({ length: 1000 }, (_, n) => ({ name: "job", data: { n } })));
    await finished;
    await sleep(200);
    assert.equal(Math.max(...done.values()), 1);
    await worker.close();
    await queue.close();
  });
}

if (process.env.COMPAT_ONLY) {
  await bullmq();
  process.exit(failed ? 1 : 0);
}
await ioredis();
if (ca || user) process.exit(failed ? 1 : 0);
await nodeRedis(2);
await nodeRedis(3);
for (const [name, at] of [["1", one], ["3", several]]) {
  await ioredisCluster(name, at);
  await nodeRedisCluster(2, name, at);
  await nodeRedisCluster(3, name, at);
}
await bullmq();
process.exit(failed ? 1 : 0);
