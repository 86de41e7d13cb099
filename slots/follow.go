package slots

import "context"

// Follower repeatedly asks servers for what the configuration does not say: a cluster's
// Map, or the Shard that sentinels monitor.
type Follower[T any] interface {
	// Run calls publish with each answer until ctx ends, and returns ctx's error.
	Run(ctx context.Context, publish func(T)) error
	// Refresh makes Run ask again soon. It may be called from any goroutine.
	Refresh()
}
