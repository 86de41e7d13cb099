//go:build !linux

package loop

// Pipe is never open: only Linux moves bytes between sockets in the kernel.
type Pipe struct{}

// Open returns false.
func (*Pipe) Open() bool { return false }

// Fill is never called, and neither are Drain and Read.
func (*Pipe) Fill(socket, n int) (int, error) { return 0, ErrRefused }

// Drain is never called.
func (*Pipe) Drain(socket int) int { return 0 }

// Read is never called.
func (*Pipe) Read([]byte) int { return 0 }

// IsEmpty returns true.
func (*Pipe) IsEmpty() bool { return true }

// Close does nothing.
func (*Pipe) Close() {}
