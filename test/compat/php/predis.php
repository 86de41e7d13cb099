<?php
// Predis and its cluster client; see compat.php.

require 'Predis/Autoloader.php';
Predis\Autoloader::register();

// What Predis does, be it a client of one server or of a cluster.
function predis_checks(string $l, Predis\Client $r, callable $dial): void
{
    $check = fn (string $name, callable $run) => check($l, Predis\Client::VERSION, $name, $run);
    $check('scripts', function () use ($r) {
        $script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
        $k = key_of('s');
        same($r->eval($script, 1, $k, 5), 5);
        same($r->evalsha(sha1($script), 1, $k, 5), 10);
    });
    $check('blocking', function () use ($r, $dial) {
        $k = key_of('b');
        two_wait(fn () => $dial()->blpop([$k], 10)[1], fn () => $r->rpush($k, ['1', '2']));
    });
    $check('types', function () use ($r) {
        $k = key_of('h');
        $r->hmset($k, ['a' => '1', 'b' => '2']);
        same($r->hgetall($k), ['a' => '1', 'b' => '2']);
        $r->zadd("{$k}z", ['x' => 1.5]);
        same($r->zscore("{$k}z", 'x'), '1.5');
        same($r->get(key_of('nothing')), null);
    });
}

$dial = fn () => new Predis\Client("tcp://$plain", ['exceptions' => true]);
$r = $dial();
$check = fn (string $name, callable $run) => check('predis', Predis\Client::VERSION, $name, $run);
predis_checks('predis', $r, $dial);
$check('handshake', function () use ($r) {
    same((string) $r->ping(), 'PONG');
    same((string) $r->client('setname', 'app'), 'OK');
    same($r->client('getname'), 'app');
});
// Its cluster client cannot follow a redirect inside a pipeline.
$check('pipeline', function () use ($r) {
    $keys = array_map(fn () => key_of('p'), range(0, 199));
    $got = $r->pipeline(function ($p) use ($keys) {
        foreach ($keys as $i => $k) {
            $p->set($k, $i);
        }
        foreach ($keys as $k) {
            $p->get($k);
        }
    });
    same(array_slice($got, 200), array_map('strval', range(0, 199)));
});
$check('many', function () use ($r) {
    $keys = array_map(fn () => key_of('m'), range(0, 199));
    $r->mset(array_combine($keys, range(0, 199)));
    same($r->mget($keys), array_map('strval', range(0, 199)));
    same($r->del($keys), 200);
});
$check('transaction', function () use ($r) {
    $k = key_of('t');
    same($r->transaction(fn ($t) => [$t->incr($k), $t->incr($k)]), [1, 2]);
});
$check('retries', function () use ($dial) {
    $k = key_of('t');
    three_add(function () use ($dial, $k) {
        $c = $dial();
        for ($done = 0; $done < 20; $done++) {
            $c->transaction(['cas' => true, 'watch' => $k, 'retry' => 1000], function ($t) use ($k) {
                $n = (int) $t->get($k);
                $t->multi();
                $t->set($k, $n + 1);
            });
        }
        return $done;
    }, fn () => $dial()->get($k));
});
$check('pubsub', function () use ($r, $dial) {
    $channel = key_of('c');
    $wait = apart(function ($say) use ($dial, $channel) {
        $loop = $dial()->pubSubLoop(['psubscribe' => substr($channel, 0, 8) . '*']);
        foreach ($loop as $message) {
            if ($message->kind === 'pmessage') {
                $say($message->payload);
            }
        }
    });
    same($wait(fn () => $r->publish($channel, 'hello')), 'hello');
});
$check('streams', function () use ($r) {
    $k = key_of('st');
    $r->executeRaw(['XGROUP', 'CREATE', $k, 'g', '0', 'MKSTREAM']);
    $id = $r->executeRaw(['XADD', $k, '*', 'n', '1']);
    same($r->executeRaw(['XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', '1000', 'STREAMS', $k, '>']), [[$k, [[$id, ['n', '1']]]]]);
    same($r->executeRaw(['XACK', $k, 'g', $id]), 1);
});
$check('scan', function () use ($r) {
    $prefix = key_of('scan');
    for ($i = 0; $i < 200; $i++) {
        $r->set("$prefix:$i", 'x');
    }
    $seen = iterator_to_array(new Predis\Collection\Iterator\Keyspace($r, "$prefix*", 50), false);
    same(count(array_unique($seen)), 200);
});
foreach (['1' => $one, '3' => $several] as $name => $at) {
    $dial = fn () => new Predis\Client(["tcp://$at"], ['cluster' => 'redis']);
    predis_checks("predis-cluster-$name", $dial(), $dial);
}
