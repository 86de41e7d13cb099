package loop

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pipe moves bytes from one socket to another in the kernel, so that the process does not copy them. The zero value
// is closed. Only one thread may use a pipe, and Fill only while the pipe is empty.
//
//	socket of a node --Fill--> pipe --Drain--> socket of a client
//	                            |
//	                            +----Read----> buffer, for what the client's socket does not accept
type Pipe struct {
	isOpen, isRefused bool
	from, to          int32
	held              int
}

const (
	pipeRead, pipeWrite = 0, 1
	// Each page of the pipe's size gives it room for one buffer of a socket. That may be one packet of the network,
	// so a small pipe would move little at a time. A user who is not root may have 64 MiB of pipes.
	pipeSize    = 1 << 20
	minPipeSize = 256 << 10
	spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
)

// Open opens the pipe if it is not open, and reports whether it is. If the system has refused it, Open does not try
// again.
func (p *Pipe) Open() bool {
	if p.isOpen || p.isRefused {
		return !p.isRefused
	}
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		p.isRefused = true
		return false
	}
	p.isOpen, p.held, p.from, p.to = true, 0, int32(ends[pipeRead]), int32(ends[pipeWrite])
	for size := pipeSize; size >= minPipeSize; size /= 2 {
		if _, err := unix.FcntlInt(uintptr(p.from), unix.F_SETPIPE_SZ, size); err == nil {
			return true
		}
	}
	p.refuse()
	return false
}

// Fill moves up to n bytes from a socket into the pipe, and returns how many. It returns [ErrAgain] if none have
// arrived, io.EOF at the end, and [ErrRefused] if this socket or system cannot do it.
func (p *Pipe) Fill(socket, n int) (int, error) {
	moved, errno := splice(socket, int(p.to), n)
	p.held += moved
	switch {
	case errno == 0 && moved == 0:
		return 0, io.EOF
	case errno == 0:
		return moved, nil
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return 0, ErrAgain
	case isRefusal(errno):
		p.refuse()
		return 0, ErrRefused
	}
	return 0, errno
}

// Drain moves as much to a socket as it accepts, and returns how many bytes that are.
func (p *Pipe) Drain(socket int) (n int) {
	for p.held > 0 {
		moved, errno := splice(int(p.from), socket, p.held)
		if errno != 0 || moved == 0 { // if the socket has failed, writing to it says so
			p.isRefused = p.isRefused || isRefusal(errno)
			break
		}
		p.held -= moved
		n += moved
	}
	return n
}

// Read moves bytes that are still in the pipe into b. It returns 0 if there are none.
func (p *Pipe) Read(b []byte) int {
	if p.held == 0 {
		return 0
	}
	b = b[:min(len(b), p.held)]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(p.from), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	if errno != 0 {
		return 0
	}
	p.held -= int(n)
	return int(n)
}

// IsEmpty reports whether nothing is in the pipe.
func (p *Pipe) IsEmpty() bool { return p.held == 0 }

// Close closes the pipe. What is in it is lost.
func (p *Pipe) Close() {
	if p.isOpen {
		unix.Close(int(p.from))
		unix.Close(int(p.to))
		p.isOpen, p.held = false, 0
	}
}

// refuse closes the pipe for good.
func (p *Pipe) refuse() {
	p.Close()
	p.isRefused = true
}

// isRefusal reports whether an error says that the kernel cannot do it at all.
func isRefusal(errno syscall.Errno) bool {
	return errno == unix.EINVAL || errno == unix.ENOSYS || errno == unix.EPERM || errno == unix.EOPNOTSUPP
}

// splice moves bytes between a pipe and a socket, of which neither blocks.
func splice(from, to, n int) (moved int, errno syscall.Errno) {
	m, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceFlags)
	if errno != 0 {
		return 0, errno
	}
	return int(m), 0
}
