package slots

import "context"

// Follower finds out, again and again, what a configuration leaves to the servers:
// a cluster's Map, or the Shard that sentinels watch over.
type Follower[T any] interface {
	// Run calls publish with what it finds until ctx ends, and returns ctx's error.
	Run(ctx context.Context, publish func(T)) error
	// Refresh asks for a new look soon. It may be called from any goroutine.
	Refresh()
}
