//go:build race

package pool

// poison makes bytes that outlive their buffer show in tests.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
