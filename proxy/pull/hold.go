package pull

import (
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Hold makes all commands of a worker's clients wait, so that nothing is in flight when the layout
// changes. It ends with the first table of another epoch, with EndHold, or at the time until. Another
// table of the same epoch, such as that of a reload, does not end it. Clients inside blocking commands
// stop waiting at their nodes, and begin anew after that.
func Hold(w *engine.Worker, until int64) {
	p := engine.FeatureOf[*puller](w)
	p.heldUntil, p.heldIn = until, w.Options.Backend.Epoch
	w.Arrivals = p
	w.Blocked.BeginAnew()
}

// EndHold ends Hold.
func EndHold(w *engine.Worker) {
	p := engine.FeatureOf[*puller](w)
	if p.heldUntil == 0 {
		return
	}
	p.heldUntil = 0
	if !w.Table.IsMoving() {
		w.Arrivals = nil
	}
	p.lookAgain()
}

// IsHeld reports whether commands wait, and nothing is in flight to any node.
func IsHeld(w *engine.Worker) bool {
	return engine.FeatureOf[*puller](w).holds() && engine.InFlight(w) == 0
}

// holds reports whether commands have to wait.
func (p *puller) holds() bool {
	if p.heldUntil != 0 && p.w.Now >= p.heldUntil {
		EndHold(p.w)
	}
	return p.heldUntil != 0
}

// lookAgain resumes those who wait for the end of a hold, or for another table.
func (p *puller) lookAgain() {
	for _, all := range [][]*waiter{p.queue, p.calls} {
		for _, who := range all {
			if who.last == nil {
				p.setReady(who, "")
			}
		}
	}
	p.release()
}
