package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// withCaches runs caches beside writers that they know nothing of.
func withCaches(ctx context.Context) {
	names, errs := []string{"", "-cluster-1", "-cluster-3"}, make([]error, 3)
	var all sync.WaitGroup
	for i, at := range []string{addr, os.Args[3], os.Args[4]} {
		all.Go(func() {
			errs[i] = cached(ctx, rueidis.ClientOption{InitAddress: []string{at}, ForceSingleClient: i == 0})
		})
	}
	all.Wait()
	for i, err := range errs {
		report("rueidis"+names[i]+"/RESP3", version("github.com/redis/rueidis"), "no old value is cached", err)
	}
}

// cached reads keys from a cache while another client writes them. A value that the writer was
// answered for must soon be read, and no older one after it. If the layout changes again and again, it does so
// twice meanwhile.
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
	enough := changes(ctx, writer) + 2 // all keys are in the cache before the second
	for n := int64(0); n < 1500 || layout == "switching" && changes(ctx, writer) < enough; n++ {
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

// changes returns how often the layout has changed, which the test counts in a key.
func changes(ctx context.Context, c *goredis.Client) int {
	n, _ := c.Get(ctx, "layouts").Int()
	return n
}
