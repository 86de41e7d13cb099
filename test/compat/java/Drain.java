// Clients of Jedis that count until their input ends, and print what each has counted. They
// share a pool, which tests a connection before it lends it.

import java.util.ArrayList;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.RedisClient;

class Drain {
    static volatile boolean stopped;

    static void count(RedisClient client, int i) {
        String key = "jedis:" + i;
        long n = 0;
        try {
            while (!stopped) {
                client.incr(key);
                n++;
                Thread.sleep(i % 3 * i * 20);
            }
            System.out.println("counted " + key + " " + n);
        } catch (Exception e) {
            System.out.println("FAIL " + key + " " + e);
        }
    }

    public static void main(String[] args) throws Exception {
        String[] at = args[0].split(":");
        var config = new ConnectionPoolConfig();
        config.setMaxTotal(10);
        config.setMaxIdle(10);
        config.setTestOnBorrow(true);
        var client = RedisClient.builder().hostAndPort(at[0], Integer.parseInt(at[1])).poolConfig(config).build();
        var threads = new ArrayList<Thread>();
        for (int i = 0; i < 10; i++) {
            int id = i;
            threads.add(new Thread(() -> count(client, id)));
            threads.get(i).start();
        }
        System.in.readAllBytes();
        stopped = true;
        for (Thread t : threads) {
            t.join();
        }
        client.close();
    }
}
