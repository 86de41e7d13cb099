package loop

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is epoll. Sockets are level-triggered while they are watched for reading,
// and edge-triggered otherwise; see interest.
type poller struct {
	epfd, evfd int
	events     [256]unix.EpollEvent
	ready      int
	handlers   []*block // by descriptor
	toClose    []int    // descriptors to close when the turn ends
}

// block has the handlers of the descriptors from a multiple of its length on. With one slice for all, each growth would
// leave the memory of the former one behind.
type block [512]Handler

// handler returns where the handler of a watched descriptor is.
func (p *poller) handler(fd int) *Handler { return &p.handlers[fd/len(block{})][fd%len(block{})] }

func (p *poller) open() (err error) {
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("creating an epoll instance: %w", err)
	}
	if p.evfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(p.epfd)
		return fmt.Errorf("creating an eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.evfd)}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, p.evfd, &ev); err != nil {
		return fmt.Errorf("watching the eventfd: %w", err)
	}
	return nil
}

// close leaves evfd open, because a late wake may still write to it. A closed descriptor's
// number could belong to another file by then.
func (p *poller) close() {
	p.endTurn()
	unix.Close(p.epfd)
	p.epfd = -1
}

func (p *poller) wake() {
	one := uint64(1)
	b := (*[8]byte)(unsafe.Pointer(&one))
	// EAGAIN means that the loop has a wake-up pending already.
	_, _ = unix.Write(p.evfd, b[:])
}

// look finds the descriptors that are ready now. It uses a raw system call, which does not
// involve Go's scheduler, because it does not block.
func (p *poller) look() error {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
		uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	p.ready = int(n)
	if errno != 0 {
		p.ready = 0
		if errno != unix.EINTR {
			return fmt.Errorf("looking for events: %w", errno)
		}
	}
	return nil
}

// yield lets other threads run. It returns at once if none is ready.
func (p *poller) yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// wait blocks until a descriptor is ready, wake is called, or timeout has passed.
func (p *poller) wait(timeout time.Duration) error {
	n, err := unix.EpollWait(p.epfd, p.events[:], int((timeout+time.Millisecond-1)/time.Millisecond))
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("waiting for events: %w", err)
	}
	p.ready = max(n, 0)
	return nil
}

// dispatch calls the handlers of the sockets that are ready, and returns how many these are.
func (p *poller) dispatch() (sockets int) {
	sockets = p.ready
	for i := range p.ready {
		ev := &p.events[i]
		fd := int(ev.Fd)
		if fd == p.evfd {
			var b [8]byte
			_, _ = unix.Read(fd, b[:]) // the mailbox itself says what is in it
			sockets--
			continue
		}
		if h := *p.handler(fd); h != nil { // nil: removed earlier in this turn
			const broken = unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLRDHUP
			h.Ready(ev.Events&(unix.EPOLLIN|broken) != 0, ev.Events&(unix.EPOLLOUT|unix.EPOLLERR) != 0)
		}
	}
	p.ready = 0
	return sockets
}

func (p *poller) endTurn() {
	for _, fd := range p.toClose {
		unix.Close(fd)
	}
	p.toClose = p.toClose[:0]
}

// interest returns the events to watch for. Reading is level-triggered, so that each socket
// gets one read in each turn. A socket that is not read from is edge-triggered: EPOLLHUP
// and EPOLLERR cannot be masked, and would otherwise be reported in every turn.
func interest(read, write bool) uint32 {
	ev := uint32(unix.EPOLLET)
	if read {
		ev = unix.EPOLLIN
	}
	if write {
		ev |= unix.EPOLLOUT
	}
	return ev
}

// Add watches a non-blocking descriptor.
func (l *Loop) Add(fd int, h Handler, read, write bool) error {
	p := &l.poll
	for fd/len(block{}) >= len(p.handlers) {
		p.handlers = append(p.handlers, new(block))
	}
	ev := unix.EpollEvent{Events: interest(read, write), Fd: int32(fd)}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("watching a socket: %w", err)
	}
	*p.handler(fd) = h
	return nil
}

// Handle replaces the handler of a descriptor. It may be called by a handler.
func (l *Loop) Handle(fd int, h Handler) { *l.poll.handler(fd) = h }

// Modify changes the events that a descriptor is watched for. If it is watched for writing,
// the caller must write until the descriptor accepts no more.
func (l *Loop) Modify(fd int, read, write bool) error {
	ev := unix.EpollEvent{Events: interest(read, write), Fd: int32(fd)}
	if err := unix.EpollCtl(l.poll.epfd, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("watching a socket: %w", err)
	}
	return nil
}

// Close stops watching a descriptor and closes it when the turn ends: until
// then its number cannot mean another socket.
func (l *Loop) Close(fd int) {
	if l.poll.epfd < 0 { // the loop has ended: there is no turn to wait for
		unix.Close(fd)
		return
	}
	*l.poll.handler(fd) = nil
	// It is about to be closed, which removes it anyway.
	_ = unix.EpollCtl(l.poll.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	l.poll.toClose = append(l.poll.toClose, fd)
}
