// Clients of ioredis that count until their input ends, and print what each has counted.
import Redis from 'ioredis';

const [host, port] = process.argv[2].split(':');
let stopped = false;
process.stdin.resume().on('end', () => { stopped = true; });

async function count(i) {
  const key = `ioredis:${i}`;
  const client = new Redis({ host, port: Number(port) });
  client.on('error', (e) => console.log('FAIL', key, e));
  let n = 0;
  try {
    while (!stopped) {
      await client.incr(key);
      n++;
      await new Promise((resume) => setTimeout(resume, i % 3 * i * 20));
    }
    console.log('counted', key, n);
  } catch (e) {
    console.log('FAIL', key, e);
  }
  client.disconnect();
}

await Promise.all([...Array(10).keys()].map(count));
