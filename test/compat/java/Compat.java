// Jedis, Lettuce, their cluster clients and Redisson: one line for each check. With COMPAT_CA or
// COMPAT_USER only Jedis runs.

import io.lettuce.core.ClientOptions;
import io.lettuce.core.Consumer;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScanArgs;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.XGroupCreateArgs;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.async.RedisClusterAsyncCommands;
import io.lettuce.core.cluster.api.sync.RedisClusterCommands;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import org.redisson.Redisson;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.UnifiedJedis;
import redis.clients.jedis.exceptions.JedisAccessControlException;
import redis.clients.jedis.exceptions.JedisConnectionException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.XReadGroupParams;

class Compat {
  interface Check {
    void run() throws Exception;
  }

  static final String CA = System.getenv("COMPAT_CA"), USER = System.getenv("COMPAT_USER");
  static String layout, plain;
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
    return (USER == null ? "" : USER + ":") + name + ":" + UUID.randomUUID();
  }

  // What Jedis does, be it a client of one server or of a cluster.
  static void jedisChecks(String l, UnifiedJedis r) {
    check(l, Jedis.class, "pipeline", () -> {
      List<Response<String>> replies = new ArrayList<>();
      String k = key("jedis");
      try (var p = r.pipelined()) {
        for (int i = 0; i < 200; i++) {
          p.set(k + i, "" + i);
          replies.add(p.get(k + i));
        }
        p.sync();
      }
      for (int i = 0; i < 200; i++) same(replies.get(i).get(), "" + i);
    });
    check(l, Jedis.class, "scripts", () -> {
      String k = key("s"), script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
      same(r.evalsha(r.scriptLoad(script, k), 1, k, "5"), 5L);
    });
    check(l, Jedis.class, "blocking", () -> {
      String k = key("b");
      var one = CompletableFuture.supplyAsync(() -> r.blpop(10, k));
      var two = CompletableFuture.supplyAsync(() -> r.blpop(10, k));
      Thread.sleep(100);
      r.rpush(k, "1", "2");
      same(Set.of(second(one.get(10, TimeUnit.SECONDS)), second(two.get(10, TimeUnit.SECONDS))), Set.of("1", "2"));
    });
    check(l, Jedis.class, "pubsub", () -> {
      String channel = key("c");
      var got = new CompletableFuture<String>();
      var ready = new CountDownLatch(1);
      var sub = new JedisPubSub() {
        @Override public void onPMessage(String p, String c, String m) { got.complete(m); punsubscribe(); }
        @Override public void onPSubscribe(String c, int n) { ready.countDown(); }
      };
      var thread = new Thread(() -> r.psubscribe(sub, channel.substring(0, channel.length() - 4) + "*"));
      thread.start();
      ready.await(10, TimeUnit.SECONDS);
      r.publish(channel, "hello");
      same(got.get(10, TimeUnit.SECONDS), "hello");
      thread.join(10_000);
    });
    check(l, Jedis.class, "streams", () -> {
      String k = key("st");
      r.xgroupCreate(k, "g", new StreamEntryID(), true);
      var id = r.xadd(k, StreamEntryID.NEW_ENTRY, Map.of("n", "1"));
      var entries = r.xreadGroup("g", "c", XReadGroupParams.xReadGroupParams().block(1000), Map.of(k, StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY));
      same(entries.get(0).getValue().get(0).getID(), id);
      same(r.xack(k, "g", id), 1L);
    });
    check(l, Jedis.class, "types", () -> {
      String k = key("h");
      r.hset(k, Map.of("a", "1"));
      same(r.hgetAll(k), Map.of("a", "1"));
      r.zadd(k + "z", 1.5, "x");
      same(r.zscore(k + "z", "x"), 1.5);
      same(r.zrangeWithScores(k + "z", 0, -1).get(0).getScore(), 1.5);
    });
  }

  static Object second(Object popped) {
    return ((List<?>) popped).get(1);
  }

  interface Attempt {
    boolean succeeds() throws Exception;
  }

  // Three threads repeat an attempt until each has succeeded so many times.
  static void retries(int times, Attempt attempt) throws Exception {
    List<CompletableFuture<Void>> threads = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      threads.add(CompletableFuture.runAsync(() -> {
        try {
          for (int done = 0; done < times; ) if (attempt.succeeds()) done++;
        } catch (Exception e) {
          throw new RuntimeException(e);
        }
      }));
    }
    for (var t : threads) t.get(30, TimeUnit.SECONDS);
  }

  // A socket factory that trusts only the authority in a file.
  static SSLSocketFactory trusting(String file) throws Exception {
    var store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (var in = new FileInputStream(file)) {
      store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    var context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    return context.getSocketFactory();
  }

  // What must not work: a certificate of an unknown authority, and what the user may not do.
  static void guarded(HostAndPort at, Jedis j) {
    if (CA != null) {
      try (var c = new Jedis(at, DefaultJedisClientConfig.builder().ssl(true).build())) { // which trusts Java's authorities only
        c.ping();
        throw new AssertionError("the certificate is not verified");
      } catch (JedisConnectionException e) {
        if (!(e.getCause() instanceof SSLHandshakeException)) throw e;
      }
    }
    if (USER != null) {
      same(j.aclWhoAmI(), USER);
      for (Runnable forbidden : List.<Runnable>of(() -> j.get("other:key"), () -> j.keys("*"))) {
        try {
          forbidden.run();
          throw new AssertionError("it is allowed");
        } catch (JedisAccessControlException e) {
          // as it should be
        }
      }
    }
  }

  static void jedis(RedisProtocol protocol) throws Exception {
    var builder = DefaultJedisClientConfig.builder().protocol(protocol).clientName("app");
    if (CA != null) builder.ssl(true).sslSocketFactory(trusting(CA));
    if (USER != null) builder.user(USER).password(System.getenv("COMPAT_PASSWORD"));
    var config = builder.build();
    var at = HostAndPort.from(plain);
    String l = "jedis/" + protocol;
    try (var r = redis.clients.jedis.RedisClient.builder().hostAndPort(at).clientConfig(config).build(); var j = new Jedis(at, config)) {
      check(l, Jedis.class, "handshake", () -> same(j.clientGetname(), "app"));
      if (CA != null || USER != null) check(l, Jedis.class, "guard", () -> guarded(at, j));
      jedisChecks(l, r);
      check(l, Jedis.class, "transaction", () -> {
        String k = key("{t}");
        retries(20, () -> {
          try (var t = r.transaction(false)) {
            t.watch(k);
            String n = r.get(k);
            t.multi();
            t.set(k, "" + (n == null ? 1 : Integer.parseInt(n) + 1));
            return t.exec() != null;
          }
        });
        same(r.get(k), "60");
      });
      check(l, Jedis.class, "scan", () -> {
        String prefix = key("scan");
        for (int i = 0; i < 200; i++) r.set(prefix + ":" + i, "x");
        Set<String> seen = new HashSet<>();
        var page = new redis.clients.jedis.resps.ScanResult<String>("0", List.of());
        do {
          page = r.scan(page.getCursor(), new ScanParams().match(prefix + "*").count(50));
          seen.addAll(page.getResult());
        } while (!page.isCompleteIteration());
        same(seen.size(), 200);
      });
    }
  }

  static void jedisCluster(RedisProtocol protocol, String name, String at) {
    var config = DefaultJedisClientConfig.builder().protocol(protocol).build();
    String l = "jedis-cluster-" + name + "/" + protocol;
    try (var r = redis.clients.jedis.RedisClusterClient.builder().nodes(Set.of(HostAndPort.from(at))).clientConfig(config).build()) {
      jedisChecks(l, r);
    }
  }

  // What Lettuce does, be it a client of one server or of a cluster.
  static void lettuceChecks(String l, RedisClusterCommands<String, String> r, RedisClusterAsyncCommands<String, String> a, RedisClusterAsyncCommands<String, String> other) {
    check(l, RedisClient.class, "pipeline", () -> {
      List<io.lettuce.core.RedisFuture<String>> replies = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        a.set("lettuce:" + i, "" + i);
        replies.add(a.get("lettuce:" + i));
      }
      for (int i = 0; i < 200; i++) same(replies.get(i).get(10, TimeUnit.SECONDS), "" + i);
    });
    check(l, RedisClient.class, "scripts", () -> same(r.evalsha(r.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])"), ScriptOutputType.INTEGER, new String[] {key("s")}, "5"), 5L));
    check(l, RedisClient.class, "blocking", () -> {
      String k = key("b");
      var got = other.blpop(10, k);
      Thread.sleep(100);
      r.rpush(k, "x");
      same(got.get(10, TimeUnit.SECONDS).getValue(), "x");
    });
    check(l, RedisClient.class, "streams", () -> {
      String k = key("st");
      r.xgroupCreate(XReadArgs.StreamOffset.from(k, "0"), "g", XGroupCreateArgs.Builder.mkstream());
      String id = r.xadd(k, Map.of("n", "1"));
      same(r.xreadgroup(Consumer.from("g", "c"), XReadArgs.Builder.block(1000), XReadArgs.StreamOffset.lastConsumed(k)).get(0).getId(), id);
      same(r.xack(k, "g", id), 1L);
    });
    check(l, RedisClient.class, "scan", () -> {
      String prefix = key("scan");
      for (int i = 0; i < 200; i++) r.set(prefix + ":" + i, "x");
      Set<String> seen = new HashSet<>();
      for (var scan = r.scan(ScanArgs.Builder.matches(prefix + "*").limit(50)); ; scan = r.scan(scan, ScanArgs.Builder.matches(prefix + "*").limit(50))) {
        seen.addAll(scan.getKeys());
        if (scan.isFinished()) break;
      }
      same(seen.size(), 200);
    });
  }

  static void lettucePubSub(String l, StatefulRedisPubSubConnection<String, String> p, RedisClusterCommands<String, String> r) {
    check(l, RedisClient.class, "pubsub", () -> {
      String channel = key("c");
      var got = new CompletableFuture<String>();
      p.addListener(new RedisPubSubAdapter<>() {
        @Override public void message(String pattern, String c, String m) { got.complete(m); }
      });
      p.sync().psubscribe(channel.substring(0, 8) + "*");
      r.publish(channel, "hello");
      same(got.get(10, TimeUnit.SECONDS), "hello");
    });
  }

  static void lettuce(ProtocolVersion protocol) {
    String l = "lettuce/" + protocol;
    var at = HostAndPort.from(plain);
    var client = RedisClient.create(RedisURI.builder().withHost(at.getHost()).withPort(at.getPort()).withClientName("app").build());
    client.setOptions(ClientOptions.builder().protocolVersion(protocol).build());
    try (var c = client.connect(); var other = client.connect(); var p = client.connectPubSub()) {
      var r = c.sync();
      check(l, RedisClient.class, "handshake", () -> same(r.clientGetname(), "app"));
      lettuceChecks(l, r, c.async(), other.async());
      lettucePubSub(l, p, r);
      check(l, RedisClient.class, "transaction", () -> {
        String k = key("t");
        retries(20, () -> {
          try (var own = client.connect()) {
            var t = own.sync();
            t.watch(k);
            String n = t.get(k);
            t.multi();
            t.set(k, "" + (n == null ? 1 : Integer.parseInt(n) + 1));
            return !t.exec().wasDiscarded();
          }
        });
        same(r.get(k), "60");
      });
      if (protocol == ProtocolVersion.RESP3) {
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
      }
    } finally {
      client.shutdown(0, 1, TimeUnit.SECONDS);
    }
  }

  static void lettuceCluster(ProtocolVersion protocol, String name, String at) {
    String l = "lettuce-cluster-" + name + "/" + protocol;
    var client = RedisClusterClient.create("redis://" + at);
    client.setOptions(ClusterClientOptions.builder().protocolVersion(protocol).build());
    try (var c = client.connect(); var other = client.connect(); var p = client.connectPubSub()) {
      lettuceChecks(l, c.sync(), c.async(), other.async());
      lettucePubSub(l, p, c.sync());
    } finally {
      client.shutdown(0, 1, TimeUnit.SECONDS);
    }
  }

  static void redisson() {
    String l = "redisson";
    var config = new Config();
    config.useSingleServer().setAddress("redis://" + plain).setConnectionMinimumIdleSize(2).setConnectionPoolSize(16);
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

  public static void main(String[] args) throws Exception {
    layout = args[0];
    plain = args[1];
    if (CA != null || USER != null) {
      jedis(RedisProtocol.RESP2);
      jedis(RedisProtocol.RESP3);
      System.exit(failed ? 1 : 0);
    }
    for (var protocol : List.of(RedisProtocol.RESP2, RedisProtocol.RESP3)) {
      jedis(protocol);
      jedisCluster(protocol, "1", args[2]);
      jedisCluster(protocol, "3", args[3]);
    }
    for (var protocol : List.of(ProtocolVersion.RESP2, ProtocolVersion.RESP3)) {
      lettuce(protocol);
      lettuceCluster(protocol, "1", args[2]);
      lettuceCluster(protocol, "3", args[3]);
    }
    redisson();
    System.exit(failed ? 1 : 0);
  }
}
