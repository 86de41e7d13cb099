package sim

import "github.com/keyway-proxy/keyway/proxy"

// handOver lets the second worker take over clients at random, as a new process does: a client is
// held back until it has its replies, written down, and opened again from what was written.
func (w *world) handOver() {
	if len(w.workers) == 1 || w.change != nil {
		return
	}
	for _, c := range w.clients {
		if c.open && c.session.Worker == w.workers[0] && !c.heldBack && w.chance(20) {
			c.heldBack = true
		}
		switch {
		case !c.open || !c.heldBack:
		case proxy.PrepareToGo(c.session) == proxy.ReadyToGo:
			w.takeOver(c)
		case w.chance(100): // the other process has failed
			c.heldBack = false
			proxy.GoOn(c.session)
		}
	}
}

func (w *world) takeOver(c *client) {
	form, output := proxy.WriteDown(c.session)
	written, err := proxy.ReadClient(form)
	if err != nil {
		w.failf("client %d: %v", c.id, err)
		return
	}
	w.workers[0].Gone(c.session)
	to := w.workers[1]
	if c.session, err = written.Open(to, c, output, func() {}); err != nil {
		w.failf("client %d: %v", c.id, err)
		return
	}
	to.Received(c.session, written.Input())
	c.heldBack = false
	w.handovers++
}
