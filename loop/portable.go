//go:build !linux

package loop

import "time"

// poller has no sockets: the mailbox wakes it.
type poller struct {
	woken chan struct{}
	timer *time.Timer
	ready int // always 0
}

func (p *poller) open() error {
	p.woken = make(chan struct{}, 1)
	p.timer = time.NewTimer(time.Hour)
	return nil
}

func (p *poller) close() { p.timer.Stop() }

func (p *poller) wake() {
	select {
	case p.woken <- struct{}{}:
	default: // a wake-up is pending already
	}
}

func (p *poller) look() error { return nil }

func (p *poller) yield() {}

func (p *poller) wait(timeout time.Duration) error {
	p.timer.Reset(timeout)
	select {
	case <-p.woken:
	case <-p.timer.C:
	}
	return nil
}

func (p *poller) dispatch() int { return 0 }
func (p *poller) endTurn()      {}
