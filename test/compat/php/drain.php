<?php
// Clients of phpredis that count until their input ends, and print what each has counted. Each
// is a process.

[$host, $port] = explode(':', $argv[1]);

function count_up(string $host, int $port, int $i): void
{
    $key = "phpredis:$i";
    $n = 0;
    stream_set_blocking(STDIN, false);
    try {
        $client = new Redis();
        $client->connect($host, $port);
        while (!feof(STDIN)) {
            if ($client->incr($key) === false) {
                throw new Exception((string)$client->getLastError());
            }
            $n++;
            usleep($i % 3 * $i * 20000);
            fread(STDIN, 1);
        }
        echo "counted $key $n\n";
    } catch (Throwable $e) {
        echo "FAIL $key " . $e->getMessage() . "\n";
    }
}

for ($i = 0; $i < 10; $i++) {
    if (pcntl_fork() === 0) {
        count_up($host, (int)$port, $i);
        exit;
    }
}
while (pcntl_wait($status) > 0) {
}
