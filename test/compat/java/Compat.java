// Jedis, Lettuce and Redisson: one line for each check.

import io.lettuce.core.Consumer;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.XGroupCreateArgs;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.redisson.Redisson;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPooled;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;

class Compat {
  interface Check {
    void run() throws Exception;
  }

  static String host, layout;
  static int port;
  static boolean failed;

  static void check(String library, Class<?> of, String name, Check run) {
    String version = of.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1");
    String line = library + " " + version + " " + layout + " " + name;
    try {
      run.run();
      System.out.println("ok " + line);
    } catch (Throwable e) {
      failed = true;
      System.out.println("FAIL " + line + " " + String.valueOf(e).replace('\n', ' '));
    }
  }

  static void same(Object got, Object want) {
    if (!Objects.equals(got, want)) throw new AssertionError("got " + got + ", want " + want);
  }

  static String key(String name) {
    return name + ":" + UUID.randomUUID();
  }

  static void jedis(RedisProtocol protocol) {
    var config = DefaultJedisClientConfig.builder().protocol(protocol).clientName("app").build();
    var at = new HostAndPort(host, port);
    String l = "jedis/" + protocol;
    try (var pool = new JedisPooled(at, config); var j = new Jedis(at, config)) {
      check(l, Jedis.class, "handshake", () -> same(j.clientGetname(), "app"));
      check(l, Jedis.class, "pipeline", () -> {
        List<Response<String>> replies = new ArrayList<>();
        try (var p = pool.pipelined()) {
          for (int i = 0; i < 200; i++) {
            p.set("jedis:" + i, "" + i);
            replies.add(p.get("jedis:" + i));
          }
          p.sync();
        }
        for (int i = 0; i < 200; i++) same(replies.get(i).get(), "" + i);
      });
      check(l, Jedis.class, "transaction", () -> {
        String k = key("t");
        j.watch(k);
        var t = j.multi();
        t.incr(k);
        t.incr(k);
        same(t.exec(), List.of(1L, 2L));
        j.watch(k);
        pool.incr(k);
        t = j.multi();
        t.incr(k);
        same(t.exec(), null);
      });
      check(l, Jedis.class, "scripts", () -> same(j.evalsha(j.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])"), 1, key("s"), "5"), 5L));
      check(l, Jedis.class, "blocking", () -> {
        String k = key("b");
        var got = CompletableFuture.supplyAsync(() -> pool.blpop(10, k));
        Thread.sleep(100);
        pool.rpush(k, "x");
        same(got.get(10, TimeUnit.SECONDS).get(1), "x");
      });
      check(l, Jedis.class, "pubsub", () -> {
        String channel = key("c");
        var got = new CompletableFuture<String>();
        var ready = new CountDownLatch(1);
        var sub = new JedisPubSub() {
          @Override public void onMessage(String c, String m) { got.complete(m); unsubscribe(); }
          @Override public void onSubscribe(String c, int n) { ready.countDown(); }
        };
        var thread = new Thread(() -> pool.subscribe(sub, channel));
        thread.start();
        ready.await(10, TimeUnit.SECONDS);
        pool.publish(channel, "hello");
        same(got.get(10, TimeUnit.SECONDS), "hello");
        thread.join(10_000);
      });
      check(l, Jedis.class, "types", () -> {
        String k = key("h");
        pool.hset(k, Map.of("a", "1"));
        same(pool.hgetAll(k), Map.of("a", "1"));
        pool.zadd(k + "z", 1.5, "x");
        same(pool.zscore(k + "z", "x"), 1.5);
        same(pool.zrangeWithScores(k + "z", 0, -1).get(0).getScore(), 1.5);
      });
    }
  }

  static void lettuce() {
    String l = "lettuce";
    var client = RedisClient.create(RedisURI.builder().withHost(host).withPort(port).withClientName("app").build());
    try (var c = client.connect(); var other = client.connect()) {
      var r = c.sync();
      check(l, RedisClient.class, "handshake", () -> same(r.clientGetname(), "app"));
      check(l, RedisClient.class, "pipeline", () -> {
        var a = c.async();
        List<io.lettuce.core.RedisFuture<String>> replies = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
          a.set("lettuce:" + i, "" + i);
          replies.add(a.get("lettuce:" + i));
        }
        for (int i = 0; i < 200; i++) same(replies.get(i).get(10, TimeUnit.SECONDS), "" + i);
      });
      check(l, RedisClient.class, "transaction", () -> {
        String k = key("t");
        r.watch(k);
        r.multi();
        r.incr(k);
        r.incr(k);
        same(new ArrayList<>(r.exec().stream().toList()), List.of(1L, 2L));
        r.watch(k);
        other.sync().incr(k);
        r.multi();
        r.incr(k);
        same(r.exec().wasDiscarded(), true);
      });
      check(l, RedisClient.class, "scripts", () -> same(r.evalsha(r.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])"), ScriptOutputType.INTEGER, new String[] {key("s")}, "5"), 5L));
      check(l, RedisClient.class, "blocking", () -> {
        String k = key("b");
        var got = other.async().blpop(10, k);
        Thread.sleep(100);
        r.rpush(k, "x");
        same(got.get(10, TimeUnit.SECONDS).getValue(), "x");
      });
      check(l, RedisClient.class, "streams", () -> {
        String k = key("st");
        r.xgroupCreate(XReadArgs.StreamOffset.from(k, "0"), "g", XGroupCreateArgs.Builder.mkstream());
        String id = r.xadd(k, Map.of("n", "1"));
        same(r.xreadgroup(Consumer.from("g", "c"), XReadArgs.StreamOffset.lastConsumed(k)).get(0).getId(), id);
        same(r.xack(k, "g", id), 1L);
      });
      check(l, RedisClient.class, "pubsub", () -> {
        try (var p = client.connectPubSub()) {
          String channel = key("c");
          var got = new CompletableFuture<String>();
          p.addListener(new RedisPubSubAdapter<>() {
            @Override public void message(String c, String m) { got.complete(m); }
          });
          p.sync().subscribe(channel);
          r.publish(channel, "hello");
          same(got.get(10, TimeUnit.SECONDS), "hello");
        }
      });
      check(l, RedisClient.class, "client-side-cache", () -> {
        var map = new ConcurrentHashMap<String, String>();
        try (var own = client.connect()) {
          var cache = ClientSideCaching.enable(CacheAccessor.forMap(map), own, TrackingArgs.Builder.enabled());
          String k = key("cached");
          r.set(k, "1");
          same(cache.get(k), "1");
          r.set(k, "2");
          for (int i = 0; !"2".equals(cache.get(k)); i++) {
            if (i == 200) throw new AssertionError("the old value stays");
            Thread.sleep(10);
          }
        }
      });
    } finally {
      client.shutdown(0, 1, TimeUnit.SECONDS);
    }
  }

  static void redisson() {
    String l = "redisson";
    var config = new Config();
    config.useSingleServer().setAddress("redis://" + host + ":" + port).setConnectionMinimumIdleSize(2).setConnectionPoolSize(16);
    RedissonClient r = Redisson.create(config);
    try {
      check(l, Redisson.class, "buckets and maps", () -> {
        r.getBucket(key("bucket")).set("x");
        var m = r.getMap(key("map"));
        m.put("a", 1);
        same(m.get("a"), 1);
        same(r.getAtomicLong(key("n")).incrementAndGet(), 1L);
      });
      check(l, Redisson.class, "locks that wait", () -> {
        String name = key("lock");
        var inside = new AtomicInteger();
        var entered = new AtomicInteger();
        List<Thread> threads = new ArrayList<>();
        var wrong = new CompletableFuture<AssertionError>();
        for (int i = 0; i < 8; i++) {
          var t = new Thread(() -> {
            for (int n = 0; n < 10; n++) {
              var lock = r.getLock(name);
              lock.lock();
              try {
                if (inside.incrementAndGet() != 1) wrong.complete(new AssertionError("two hold the lock"));
                entered.incrementAndGet();
                inside.decrementAndGet();
              } finally {
                lock.unlock();
              }
            }
          });
          threads.add(t);
          t.start();
        }
        for (var t : threads) t.join(30_000);
        if (wrong.isDone()) throw wrong.get();
        same(entered.get(), 80);
      });
      check(l, Redisson.class, "topics", () -> {
        var topic = r.getTopic(key("topic"));
        var got = new CompletableFuture<String>();
        topic.addListener(String.class, (c, m) -> got.complete(m));
        topic.publish("hello");
        same(got.get(10, TimeUnit.SECONDS), "hello");
      });
      check(l, Redisson.class, "blocking queue", () -> {
        var q = r.<String>getBlockingQueue(key("q"));
        var got = CompletableFuture.supplyAsync(() -> {
          try {
            return q.poll(10, TimeUnit.SECONDS);
          } catch (InterruptedException e) {
            throw new RuntimeException(e);
          }
        });
        Thread.sleep(100);
        q.add("x");
        same(got.get(10, TimeUnit.SECONDS), "x");
      });
    } finally {
      r.shutdown(0, 1, TimeUnit.SECONDS);
    }
  }

  public static void main(String[] args) {
    host = args[0];
    port = Integer.parseInt(args[1]);
    layout = args[2];
    jedis(RedisProtocol.RESP2);
    jedis(RedisProtocol.RESP3);
    lettuce();
    redisson();
    System.exit(failed ? 1 : 0);
  }
}
