package locks

// Options say whether and how locks are observed, and which scripts work on them.
type Options struct {
	Observe  bool
	Patterns []string // globs of keys that are locks; each has figures of its own
	Scripts  Scripts
}
