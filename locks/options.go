package locks

// Options say whether and how locks are observed.
type Options struct {
	Observe  bool
	Patterns []string // globs of keys that are locks; each has figures of its own
}
