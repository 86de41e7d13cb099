// redlock, its fork @sesamecare-oss/redlock and redis-semaphore, on all layouts at once: one
// line for each check. Arguments: LAYOUT,ADDR...
import { Redlock as Forked } from '@sesamecare-oss/redlock'
import Redis from 'ioredis'
import { createRequire } from 'node:module'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const require = createRequire(import.meta.url)
const Redlock = require('redlock')
const { Mutex, MultiSemaphore, RedlockMutex, Semaphore } = require('redis-semaphore')

const HOLDERS = 5
const ROUNDS = 4
const LEASE = 1000 // ms
const KEPT = 2500 // ms: how long a lock that is renewed outlives its lease
let failed = false

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version
const key = (name) => `${name}:${randomUUID()}`

async function check(layout, library, name, run) {
  try {
    await run()
    console.log(`ok ${library.replace(/@(.*)-oss\//, '$1-')} ${version(library)} ${layout} ${name}`)
  } catch (e) {
    failed = true
    console.log(`FAIL ${library.replace(/@(.*)-oss\//, '$1-')} ${version(library)} ${layout} ${name} ${String(e.stack).replaceAll('\n', ' ')}`)
  }
}

function assert(ok, text) {
  if (!ok) throw new Error(text)
}

// contended requires that many get a lock in turn, no more than `limit` at a time. It counts
// in this process how many have it.
async function contended(hold, limit = 1) {
  let inside = 0
  let overlaps = 0
  let acquired = 0
  await Promise.all(
    Array.from({ length: HOLDERS }, async () => {
      for (let i = 0; i < ROUNDS; i++) {
        await hold(async () => {
          if (++inside > limit) overlaps++
          acquired++
          await sleep(1)
          inside--
        })
      }
    }),
  )
  assert(overlaps === 0, `more than ${limit} held the lock at a time, ${overlaps} times`)
  assert(acquired === HOLDERS * ROUNDS, `it was acquired ${acquired} times`)
}

async function staysHeld(renew, steal) {
  for (const end = Date.now() + KEPT; Date.now() < end; await sleep(LEASE / 5)) {
    await renew()
    assert(!(await steal()), 'another acquired the lock while it was held')
  }
}

const got = (promise) => promise.then(() => true, () => false)
const NAMES = ['five holders', 'held by renewal, another gets it after the release']
const waits = { retryCount: 5000, retryDelay: 5, retryJitter: 5 }
const once = { retryCount: 0 }

async function withRedlock(layout, redis) {
  const locks = new Redlock([redis], waits)
  const impatient = new Redlock([redis], once)
  await check(layout, 'redlock', NAMES[0], async () => {
    const name = key('redlock')
    await contended(async (inside) => {
      const lock = await locks.lock(name, 10_000)
      await inside()
      await lock.unlock()
    })
  })
  await check(layout, 'redlock', NAMES[1], async () => {
    const name = key('redlock')
    let held = await locks.lock(name, LEASE)
    await staysHeld(async () => (held = await held.extend(LEASE)), () => got(impatient.lock(name, LEASE)))
    await held.unlock()
    assert(await got(impatient.lock(name, LEASE)), 'the lock was not released')
  })
  if (layout === 'quorum') return // a majority takes one lock at a time
  await check(layout, 'redlock', 'several resources in braces', async () => {
    const names = [1, 2, 3].map((i) => `{${layout}}:${key('several')}:${i}`)
    const lock = await locks.lock(names, LEASE)
    assert(!(await got(impatient.lock(names[1], LEASE))), 'one of the resources was free')
    await lock.unlock()
    assert(await got(impatient.lock(names[1], LEASE)), 'one of the resources was not released')
  })
}

// Three addresses of one Redis: the first lock keeps the others out.
async function withoutMajority(layout, redis) {
  await check(layout, 'redlock', 'three addresses of one server give no majority', async () => {
    const others = [redis.duplicate(), redis.duplicate()]
    const name = key('majority')
    assert(!(await got(new Redlock([redis, ...others], once).lock(name, LEASE))), 'it has a majority')
    for (const r of others) r.disconnect()
  })
}

async function withFork(layout, redis) {
  const library = '@sesamecare-oss/redlock'
  const locks = new Forked([redis], waits)
  const impatient = new Forked([redis], once)
  locks.on('error', () => {})
  impatient.on('error', () => {})
  await check(layout, library, NAMES[0], async () => {
    const name = key('fork')
    await contended(async (inside) => {
      const lock = await locks.acquire([name], 10_000)
      await inside()
      await lock.release()
    })
  })
  await check(layout, library, NAMES[1], async () => {
    const name = key('fork')
    await locks.using([name], LEASE, { automaticExtensionThreshold: 500 }, async (signal) => {
      await staysHeld(
        async () => assert(!signal.aborted, String(signal.error)),
        () => got(impatient.acquire([name], LEASE)),
      )
    })
    assert(await got(impatient.acquire([name], LEASE)), 'the lock was not released')
  })
}

async function withSemaphore(layout, redis) {
  const library = 'redis-semaphore'
  const patient = { acquireTimeout: 30_000, retryInterval: 5, lockTimeout: 10_000 }
  const renewed = { lockTimeout: LEASE, refreshInterval: LEASE / 4 } // it renews by itself
  const impatient = { acquireAttemptsLimit: 1, lockTimeout: LEASE }
  const kinds = {
    Mutex: (name, o) => new Mutex(redis, name, o),
    RedlockMutex: (name, o) => new RedlockMutex([redis], name, o),
    Semaphore: (name, o) => new Semaphore(redis, name, 2, o),
    MultiSemaphore: (name, o) => new MultiSemaphore(redis, name, 4, 2, o),
  }
  if (layout === 'quorum') { // semaphores are sorted sets, which belong to one node
    delete kinds.Semaphore
    delete kinds.MultiSemaphore
  }
  for (const [kind, make] of Object.entries(kinds)) {
    const limit = kind.endsWith('Semaphore') ? 2 : 1
    await check(layout, library, `${kind}: ${NAMES[0]}`, async () => {
      const name = key(kind)
      await contended(async (inside) => {
        const lock = make(name, patient)
        await lock.acquire()
        await inside()
        await lock.release()
      }, limit)
    })
    await check(layout, library, `${kind}: ${NAMES[1]}`, async () => {
      const name = key(kind)
      const held = Array.from({ length: limit }, () => make(name, { ...renewed, onLockLost: (e) => (lost = e) }))
      let lost
      for (const lock of held) await lock.acquire()
      const other = make(name, impatient)
      await staysHeld(async () => assert(!lost, String(lost)), () => other.tryAcquire())
      for (const lock of held) await lock.release()
      assert(await other.tryAcquire(), 'the lock was not released')
      await other.release()
    })
  }
}

await Promise.all(
  process.argv.slice(2).map(async (arg) => {
    const [layout, addr] = arg.split(',')
    const [host, port] = addr.split(':')
    const redis = new Redis({ host, port: Number(port) })
    await Promise.all([withRedlock, withoutMajority, withFork, withSemaphore].map((run) => run(layout, redis)))
    redis.disconnect()
  }),
)
process.exit(failed ? 1 : 0)
