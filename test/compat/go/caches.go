package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// withCaches runs caches beside a writer that they know nothing of.
func withCaches(ctx context.Context) {
	for name, at := range map[string]string{"": addr, "-cluster-1": os.Args[3], "-cluster-3": os.Args[4]} {
		check("rueidis"+name+"/RESP3", "github.com/redis/rueidis", "no old value is cached", func() error {
			return cached(ctx, rueidis.ClientOption{InitAddress: []string{at}, ForceSingleClient: name == ""})
		})
	}
}

// cached reads keys from a cache while another client writes them. A value that the writer was
// answered for must soon be read, and no older one after it.
func cached(ctx context.Context, o rueidis.ClientOption) error {
	cache, err := rueidis.NewClient(o)
	if err != nil {
		return err
	}
	defer cache.Close()
	writer := goredis.NewClient(&goredis.Options{Addr: addr, MaxRetries: -1})
	defer writer.Close()
	hits, last, prefix := 0, map[string]int64{}, key("cache")
	read := func(k string) (int64, error) {
		r := cache.DoCache(ctx, cache.B().Get().Key(k).Cache(), time.Hour)
		n, err := r.AsInt64()
		if r.IsCacheHit() {
			hits++
		}
		if err == nil && n < last[k] {
			err = fmt.Errorf("%s: %d is read after %d", k, n, last[k])
		}
		last[k] = n
		return n, err
	}
	for n := range int64(1500) {
		k := fmt.Sprint(prefix, ":", n%30)
		if err := writer.Set(ctx, k, n, 0).Err(); err != nil {
			return err
		}
		for since := time.Now(); ; time.Sleep(100 * time.Microsecond) {
			got, err := read(k)
			if err != nil {
				return err
			}
			if got == n {
				break
			}
			if time.Since(since) > 5*time.Second {
				return fmt.Errorf("%s: the old value %d stays, after %d was written", k, got, n)
			}
		}
		if _, err := read(fmt.Sprint(prefix, ":", n*7%min(n+1, 30))); err != nil {
			return err
		}
	}
	if hits == 0 {
		return errors.New("nothing was cached")
	}
	return nil
}
