// ioredis, node-redis and BullMQ: one line for each check.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import Redis from "ioredis";
import { createClient } from "redis";
import { Queue, Worker } from "bullmq";

const [host, port, layout] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const key = (name) => `${name}:${randomUUID()}`;
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
  const [of] = library.split("/");
  console.log(`${error ? "FAIL" : "ok"} ${library} ${version(of === "node-redis" ? "redis" : of)} ${layout} ${name}${error ? " " + String(error.message).replaceAll("\n", " ") : ""}`);
}

async function ioredis() {
  const open = [];
  const dial = (more) => (open.push(new Redis({ host, port, ...more })), open.at(-1));
  const r = dial({ connectionName: "app" });
  const l = "ioredis";
  await check(l, "handshake", async () => assert.equal(await r.client("GETNAME"), "app"));
  await check(l, "pipeline", async () => {
    const k = Array.from({ length: 200 }, () => key("p"));
    const p = r.pipeline();
    k.forEach((k, i) => p.set(k, i));
    k.forEach((k) => p.get(k));
    const replies = await p.exec();
    assert.deepEqual(replies.slice(200).map(([e, v]) => e ?? v), k.map((_, i) => String(i)));
    assert.equal(await r.del(...k), 200);
  });
  await check(l, "transaction", async () => {
    const k = key("t");
    assert.deepEqual(await r.multi().incr(k).incr(k).exec(), [[null, 1], [null, 2]]);
    await r.watch(k);
    await dial().incr(k);
    assert.equal(await r.multi().incr(k).exec(), null);
  });
  await check(l, "scripts", async () => {
    r.defineCommand("plus", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    const k = key("s");
    assert.equal(await r.plus(k, 5), 5);
    assert.equal(await r.plus(k, 5), 10);
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
    await sub.psubscribe(channel.slice(0, 8) + "*");
    assert.equal(await r.publish(channel, "hello"), 2);
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
  await check(l, "scan", async () => {
    const prefix = key("scan");
    for (let i = 0; i < 200; i++) await r.set(`${prefix}:${i}`, i);
    const seen = new Set();
    for await (const keys of r.scanStream({ match: prefix + "*", count: 50 })) keys.forEach((k) => seen.add(k));
    assert.equal(seen.size, 200);
  });
  open.forEach((c) => c.disconnect());
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
    await r.watch(k);
    await (await dial()).incr(k);
    await assert.rejects(() => r.multi().incr(k).exec(), /watched keys has been changed/);
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
    const wait = (await dial()).blPop(k, 10);
    await sleep(100);
    await r.rPush(k, "x");
    assert.equal((await wait).element, "x");
  });
  await check(l, "pubsub", async () => {
    const sub = await dial();
    const channel = key("c");
    let heard;
    const got = new Promise((done) => (heard = done));
    await sub.subscribe(channel, heard);
    await r.publish(channel, "hello");
    assert.equal(await got, "hello");
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

await ioredis();
await nodeRedis(2);
await nodeRedis(3);
await bullmq();
process.exit(failed ? 1 : 0);
