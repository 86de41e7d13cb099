// Package pubsub owns the clients' subscriptions and the feeds that serve them: connections
// that carry only messages. A worker listens to a channel once, for all its clients.
package pubsub
