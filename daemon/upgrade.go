package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/machine"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/upgrade"
)

// SuccessorTime is how long a new process may take until it can serve.
const SuccessorTime = time.Minute

// adminSockets is the name under which the admin address is handed over.
const adminSockets = "admin "

// upgrade starts the binary at this process's path, and makes it serve. It returns what to print
// then; the clients follow. If there is an error, nothing has changed.
func (r *running) upgrade(cause string) (report string, err error) {
	refuse := func(err error) {
		r.log.Error("not upgraded; this process goes on", "cause", cause, "error", err)
	}
	select {
	case <-r.isMain:
	case <-time.After(time.Second): // clients of the process before have yet to come
		refuse(errUpgrading)
		return "", errUpgrading
	}
	if r.upgrading.Swap(true) {
		refuse(errUpgrading)
		return "", errUpgrading
	}
	r.awaitReload() // no other one begins
	served := make(chan error, 1)
	r.watchers.Go(func() {
		err := r.replace(served)
		if err == nil {
			r.end(server.ErrHandedOver)
			return
		}
		refuse(err)
		r.upgrading.Store(false)
		r.usePasswords()
		served <- err
	})
	if err := <-served; err != nil {
		return "", err
	}
	return fmt.Sprintf("process %d serves now; process %d ends when its clients have gone over\n",
		r.successor, os.Getpid()), nil
}

// awaitReload returns when no reload is under way.
func (r *running) awaitReload() {
	r.reloading.Lock()
	defer r.reloading.Unlock()
}

var errUpgrading = errors.New("an upgrade is under way; try again when it has ended")

// replace replaces this process, and returns when its clients have gone over. It sends to served
// when the other process serves. If there is an error, this process goes on.
func (r *running) replace(served chan<- error) error {
	to, err := r.startSuccessor()
	if err != nil {
		return err
	}
	defer to.Close()
	r.successor = to.PID()
	r.log.Info("the new process can serve", "pid", to.PID())
	patience, before := r.first().cfg.Load().Shutdown.Upgrade, r.admin
	err = server.HandOver(r.ctx, r.servers(), to, patience, func() {
		r.log.Info("the new process serves; handing the clients over", "pid", to.PID())
		served <- nil
		r.serveAdmin(r.beside, new(adminListener))
		r.serveConsole(r.beside, "")
	})
	if err == nil {
		r.systemd.Replaced(to.PID()) // before the conversation ends, which the new process waits for
		return nil
	}
	if r.admin != before {
		l, listenErr := listenAdmin(r.first().cfg.Load(), r.admin)
		if listenErr != nil {
			return errors.Join(err, fmt.Errorf("the admin address is not served any more: %w", listenErr))
		}
		r.serveAdmin(r.beside, l)
		r.serveConsole(r.beside, r.consoleAddr())
	}
	return err
}

// servers returns the servers of all pools.
func (r *running) servers() server.Pools {
	all := server.Pools{}
	for _, p := range *r.pools.Load() {
		all[p.name] = p.srv
	}
	return all
}

func (r *running) threads() int { return r.first().cfg.Load().Threads.Count(machine.Available()) }

// upgradeOn upgrades whenever a signal comes, until ctx ends.
func (r *running) upgradeOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			report, err := r.upgrade("SIGUSR2") // it logs its error
			r.signalled("upgrade", audit.ViaSignal, report, err)
		}
	}
}

// startSuccessor returns a new process that can serve.
func (r *running) startSuccessor() (*upgrade.Successor, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("only Linux can hand connections over")
	}
	if r.ctx.Err() != nil {
		return nil, errors.New("keyway is stopping")
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("looking for this program: %w", err)
	}
	to, err := upgrade.Start(program, os.Args[1:], r.systemd.Environment())
	if err != nil {
		return nil, err
	}
	if err := r.introduce(to); err != nil {
		to.Kill()
		to.Close()
		return nil, fmt.Errorf("the new process %d: %w; its log says more", to.PID(), err)
	}
	return to, nil
}

// introduce sends a new process the sockets, and waits until it can serve.
func (r *running) introduce(to *upgrade.Successor) error {
	for name, s := range r.servers() {
		if err := server.SendListeners(name, s, to.Conn); err != nil {
			return err
		}
	}
	var err error
	if r.admin.ln != nil {
		err = to.SendListeners("", adminSockets+r.admin.addr, r.admin.ln)
	}
	if err == nil {
		err = to.Send(upgrade.Message{
			Kind: upgrade.Hello, Version: proxy.HandoverVersion, Program: r.version, Thread: r.threads(),
		})
	}
	if err != nil {
		return err
	}
	ready := make(chan error, 1)
	go func() {
		m, descriptors, err := to.Receive()
		upgrade.CloseAll(descriptors)
		if err == nil && m.Kind != upgrade.Ready {
			err = fmt.Errorf("says %q instead of ready", m.Kind)
		}
		ready <- err
	}()
	select {
	case err := <-ready:
		if err != nil {
			return errors.New("has ended before it could serve")
		}
		return nil
	case <-time.After(SuccessorTime):
		return fmt.Errorf("cannot serve after %s", SuccessorTime)
	case <-r.ctx.Done():
		return errors.New("keyway is stopping")
	}
}

// predecessor is the process that this one replaces.
type predecessor struct {
	*upgrade.Conn
	sockets map[string]map[string][]net.Listener // by pool, and by address as in its configuration
}

// meetPredecessor returns the process that this one replaces, or nil.
func meetPredecessor(cfg *config.Config) (*predecessor, error) {
	conn, err := upgrade.Predecessor()
	if conn == nil {
		return nil, err
	}
	p := &predecessor{Conn: conn, sockets: map[string]map[string][]net.Listener{}}
	for {
		m, descriptors, err := p.Receive()
		if err != nil {
			return nil, err
		}
		switch m.Kind {
		case upgrade.Listener:
			if p.sockets[m.Pool] == nil {
				p.sockets[m.Pool] = map[string][]net.Listener{}
			}
			if p.sockets[m.Pool][m.Name], err = upgrade.ListenersOf(m.Name, descriptors); err != nil {
				return nil, err
			}
		case upgrade.Hello:
			if m.Version != proxy.HandoverVersion {
				return nil, fmt.Errorf("keyway %s writes clients down in form %d, and this version reads form %d; "+
					"stop the one and start the other", m.Program, m.Version, proxy.HandoverVersion)
			}
			if n := cfg.Threads.Count(machine.Available()); n != m.Thread {
				return nil, fmt.Errorf("the process to replace has %d threads, and the configuration says %d; restart "+
					"keyway to change that", m.Thread, n)
			}
			return p, nil
		default:
			return nil, fmt.Errorf("the process to replace says %q", m.Kind)
		}
	}
}

// inherited returns the sockets of a pool; nil if this process replaces none.
func (p *predecessor) inherited(pool string) map[string][]net.Listener {
	if p == nil {
		return nil
	}
	sockets := p.sockets[pool]
	if sockets == nil {
		sockets = map[string][]net.Listener{} // a new pool
	}
	return sockets
}

// adminListener returns the listener of the admin address, if the predecessor had the same.
func (p *predecessor) adminListener(addr string) *adminListener {
	if p == nil {
		return new(adminListener)
	}
	name := adminSockets + addr
	l := p.sockets[""][name]
	delete(p.sockets[""], name)
	if len(l) == 0 {
		return new(adminListener)
	}
	return &adminListener{addr: addr, ln: l[0]}
}

// closeUnused closes the sockets that no pool has taken: the configuration does not have them any more.
func (p *predecessor) closeUnused() {
	if p == nil {
		return
	}
	for _, pool := range p.sockets {
		for _, sockets := range pool {
			for _, ln := range sockets {
				ln.Close()
			}
		}
	}
}

// takeOver tells the predecessor that this process can serve, and then takes its clients over.
func (r *running) takeOver(ctx context.Context, from *predecessor, admin *adminListener) {
	defer close(r.isMain)
	defer from.Close()
	defer context.AfterFunc(ctx, from.Close)()
	if err := r.awaitNodes(ctx); err != nil {
		r.log.Error("this process cannot serve; the one that it was to replace goes on", "error", err)
		r.end(server.ErrHandedOver)
		return
	}
	if err := from.Send(upgrade.Message{Kind: upgrade.Ready, Program: r.version}); err != nil {
		r.log.Error("the process to replace has ended", "error", err)
	}
	err := server.TakeOver(r.servers(), from.Conn, func() {
		r.serveAdmin(ctx, admin)
		r.serveConsole(ctx, r.consoleAddr())
		r.before = nil // pools that a reload adds are not its
		r.upgrading.Store(false)
		r.usePasswords()
	})
	if err != nil {
		r.log.Error("the process that this one replaces has ended before all its clients were here", "error", err)
		return
	}
	r.log.Info("this process has the clients of the one before")
	_, _, _ = from.Receive() // fails when the process before has told systemd
}

// awaitNodes waits until all masters can be reached, for a while. Then one of each pool is enough:
// clients go on as they would with the process before.
func (r *running) awaitNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, SuccessorTime/6)
	defer cancel()
	for _, p := range *r.pools.Load() {
		if err := p.awaitNodes(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *served) awaitNodes(ctx context.Context) error {
	up, masters := 0, 0
	for {
		if threads, err := p.srv.Snapshot(ctx); err == nil {
			up, masters = mastersUp(threads)
		}
		switch {
		case masters > 0 && up == masters:
			return nil
		case ctx.Err() != nil && up > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("no node can be reached after %s", SuccessorTime/6)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func mastersUp(threads []metrics.Snapshot) (up, masters int) {
	for _, n := range metrics.Sum(threads).Nodes {
		if n.Master {
			masters++
			if n.Up {
				up++
			}
		}
	}
	return up, masters
}
