//go:build race

package proxy

// poison makes bytes that outlive their buffer show in tests.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
