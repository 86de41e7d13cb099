package redistest

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Identify returns a value that contains its key, its client and its number in the client's
// sequence. A test can therefore detect a wrong reply. The format is
// key|client|seq|len|crc32|padding.
func Identify(key string, client, seq, size int) string {
	body := fmt.Sprintf("%s|%d|%d|%d", key, client, seq, size)
	return fmt.Sprintf("%s|%08x|%s", body, crc32.ChecksumIEEE([]byte(body)), strings.Repeat("x", size))
}

// Identity parses a value that Identify returned. ok is false for any other value.
func Identity(v string) (key string, client, seq int, ok bool) {
	f := strings.SplitN(v, "|", 6)
	if len(f) != 6 {
		return "", 0, 0, false
	}
	body := v[:len(v)-len(f[4])-len(f[5])-2]
	client, err1 := strconv.Atoi(f[1])
	seq, err2 := strconv.Atoi(f[2])
	size, err3 := strconv.Atoi(f[3])
	ok = err1 == nil && err2 == nil && err3 == nil && fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) == f[4] &&
		len(f[5]) == size && strings.Count(f[5], "x") == size
	return f[0], client, seq, ok
}

// Pipelines sends n commands of the client id in pipelines of 1 to 64 commands, and checks
// each reply.
func Pipelines(addr string, id, n int) error {
	c, err := TryDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	rng := rand.New(rand.NewPCG(uint64(id), 11))
	values := map[string]string{}
	for seq := 0; n > 0; {
		var want []string
		for range min(n, 1+rng.IntN(64)) {
			seq++
			key := func() string { return fmt.Sprintf("p%d:%d", id, rng.IntN(20)) }
			switch rng.IntN(5) {
			case 0, 1:
				k := key()
				values[k] = Identify(k, id, seq, rng.IntN(64))
				c.Send("SET", k, values[k])
				want = append(want, "OK")
			case 2:
				k := key()
				c.Send("GET", k)
				want = append(want, orNil(values[k]))
			case 3:
				a, b, d := key(), key(), key()
				c.Send("MGET", a, b, d)
				want = append(want, "["+orNil(values[a])+" "+orNil(values[b])+" "+orNil(values[d])+"]")
			default:
				word := fmt.Sprintf("echo-%d-%d", id, seq)
				c.Send("ECHO", word)
				want = append(want, word)
			}
		}
		if err := c.Flush(); err != nil {
			return err
		}
		for i, w := range want {
			r, err := c.Receive()
			if err != nil {
				return err
			}
			if got := r.String(); got != w {
				return fmt.Errorf("reply %d of a pipeline of %d: got %.100q, want %.100q", i, len(want), got, w)
			}
		}
		n -= len(want)
	}
	return nil
}

func orNil(s string) string {
	if s == "" {
		return "(nil)"
	}
	return s
}
