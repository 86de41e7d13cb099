package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
)

// reports writes the log of the loops. The log must not block (see admin.LogQueue). Nothing
// is logged, and nothing blocks, while mu is locked.
type reports struct {
	log    *slog.Logger
	audit  func(audit.Deed)          // nil: nobody records deeds
	remedy func(l *pool.Link) string // what to do about its Reason; see NodeSettings

	mu     sync.Mutex
	down   map[string]bool // nodes that were reported unreachable, by "name addr", or without register
	limits map[string]*limit
	logged map[string]time.Time // when entries that are logged seldom were last logged, by their kind
}

func newReports(log *slog.Logger, record func(audit.Deed), remedy func(l *pool.Link) string) *reports {
	return &reports{
		log: log, audit: record, remedy: remedy, down: map[string]bool{}, limits: map[string]*limit{},
		logged: map[string]time.Time{},
	}
}

// debug reports whether the log's level, which may change, is debug.
func (r *reports) debug() bool { return r.log.Enabled(context.Background(), slog.LevelDebug) }

// dialing logs the start of a connection to a node.
func (r *reports) dialing(l *pool.Link) {
	if r.debug() && l.Addr != "" {
		r.log.Debug("connecting to a node", "node", proxy.NodeName(l), "addr", l.Addr)
	}
}

// lost logs that a node has become unreachable. It does so once, until found logs that the
// node is reachable again.
func (r *reports) lost(l *pool.Link) {
	if l.Addr == "" {
		return // the follower of the sentinels logs the reason
	}
	name := proxy.NodeName(l)
	if r.debug() {
		r.log.Debug("connection to a node ended",
			"node", name, "addr", l.Addr, "state", l.State(), "reason", l.Reason())
	}
	if l.State() == pool.Closed || l.ConnectError() == "" {
		return // closed on purpose, or about to be dialed again at once
	}
	if refusal, ok := strings.CutPrefix(l.ConnectError(), pool.RefusesUser); ok { // the node itself is well
		if r.isDue("refused user of "+name, time.Minute) {
			r.log.Warn("a node refuses a user of clients that are connected",
				"node", name, "addr", l.Addr, "user", l.User.Username, "reason", refusal,
				"help", "if other nodes accept this user, give this node the same user with the same password")
		}
		return
	}
	if command, reason := pool.RefusedCommand(l); command != "" && l.Extra != "" { // the node itself is well
		if r.isDue("refused "+l.Extra+" of "+name, time.Hour) {
			r.log.Warn("a node refuses connections for "+l.Extra, "node", name, "addr", l.Addr, "command", command,
				"reason", reason, "remedy", r.remedy(l))
		}
		return
	}
	if r.setDown(name+" "+l.Addr, true) {
		r.log.Warn("node unreachable", "node", name, "addr", l.Addr, "reason", l.Reason(),
			"remedy", r.remedy(l))
	}
}

// found logs that a node is reachable again if lost has reported it unreachable.
func (r *reports) found(l *pool.Link) {
	name := proxy.NodeName(l)
	if r.debug() {
		r.log.Debug("connected to a node", "node", name, "addr", l.Addr, "db", l.DB, "resp3", l.RESP3)
	}
	if r.setDown(name+" "+l.Addr, false) {
		r.log.Info("node reachable again", "node", name, "addr", l.Addr)
	}
}

// behind logs that the register of a node is of an earlier epoch than that which is served. It
// does so once, until the node has that register again.
func (r *reports) behind(l *pool.Link, served int64) {
	name := proxy.NodeName(l)
	if r.setDown("register of "+name+" "+l.Addr, l.Epoch < served) && l.Epoch < served {
		r.log.Warn("the node has lost its register, as if it had started empty; keyway uses it all the same",
			"node", name, "addr", l.Addr, "epoch", l.Epoch, "served_epoch", served)
	}
}

// setDown records whether a node is unreachable, and reports whether that has changed.
func (r *reports) setDown(node string, down bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down[node] == down {
		return false
	}
	if down {
		r.down[node] = true
	} else {
		delete(r.down, node)
	}
	return true
}

// limit allows one log entry a second, so that no peer can flood the log.
type limit struct {
	next    time.Time
	dropped int
}

// allow reports whether an entry of that kind may be logged now. dropped is how many
// entries of the kind have not been logged since the last one.
func (r *reports) allow(kind string) (ok bool, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limits[kind]
	if l == nil {
		l = new(limit)
		r.limits[kind] = l
	}
	now := time.Now()
	if now.Before(l.next) {
		l.dropped++
		return false, 0
	}
	dropped = l.dropped
	*l = limit{next: now.Add(time.Second)}
	return true, dropped
}

// warn logs a worker's warning. All of them share one limit.
func (r *reports) warn(text string) {
	if ok, dropped := r.allow("note"); ok {
		r.log.Warn(text, "others_like_it", dropped)
	}
}

// event logs a rare event.
func (r *reports) event(e proxy.Event) {
	if e.Seldom != "" && !r.isDue(e.Seldom, time.Hour) {
		return
	}
	level := slog.LevelInfo
	if e.IsBad {
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, e.Text, e.Fields...)
}

// deed records what a client has done as an operator. Those that programs send often share a limit.
func (r *reports) deed(d proxy.Deed) {
	if r.audit == nil {
		return
	}
	of := audit.Deed{Action: d.Command, Via: audit.ViaClient, Addr: d.Client, User: d.User, Result: d.Result,
		IsFrequent: d.IsWrite}
	if d.IsWrite {
		ok, dropped := r.allow("deed " + d.Command)
		if !ok {
			return
		}
		of.Unwritten = dropped
	}
	r.audit(of)
}

// refused logs that a client was refused or closed. Each reason has its own limit.
func (r *reports) refused(of proxy.Refusal) {
	if r.debug() {
		r.log.Debug("client refused", refusalFields(of)...)
		return
	}
	if ok, dropped := r.allow(of.Reason); ok {
		r.log.Warn("client refused", append(refusalFields(of), "others_like_it", dropped)...)
	}
}

func refusalFields(of proxy.Refusal) []any {
	fields := []any{"reason", of.Reason, "client", of.Client}
	if of.User != "" {
		fields = append(fields, "user", of.User)
	}
	return fields
}

// handshake logs that the TLS handshake with a client has failed. All of them share one limit:
// clients choose the errors.
func (r *reports) handshake(client string, err error) {
	if r.debug() {
		r.log.Debug("TLS handshake failed", "client", client, "reason", err)
		return
	}
	if ok, dropped := r.allow("TLS handshake"); ok {
		r.log.Warn("TLS handshake failed", "client", client, "reason", err, "others_like_it", dropped)
	}
}

// unnamed logs that the certificate of a client names no user. All of them share one limit.
func (r *reports) unnamed(client string, names []string) {
	if ok, dropped := r.allow("certificate without a user"); ok {
		r.log.Warn("the certificate of a client names no user that exists and is on, so the client is the default user",
			"client", client, "names", shortened(strings.Join(names, ", ")), "others_like_it", dropped)
	}
}

// shortened bounds what the log shows of a text that a client has sent.
func shortened(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// lock logs an alarm about a lock, once an hour for each pattern of keys: several threads may
// have the same.
func (r *reports) lock(a locks.Alarm) {
	if r.isDue("alarm "+a.Name+" "+a.Pattern, time.Hour) {
		r.log.Warn("a lock is not safe", "alarm", a.Name, "key", a.Key, "pattern", a.Pattern, "reason", a.Text)
	}
}

// limited logs that the clients of a user have begun to wait, once a minute for each limit of a user:
// under load they begin and end to wait all the time.
func (r *reports) limited(of proxy.Limitation) {
	if r.isDue("limit "+of.Limit+" of "+of.User, time.Minute) {
		r.log.Warn("clients of a user wait, since they have reached its limit",
			"user", of.User, "limit", of.Limit, "client", of.Client)
	}
}

// isDue reports whether an entry of this kind was not logged for some time, and records that it is now.
func (r *reports) isDue(kind string, every time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if last, before := r.logged[kind]; before && now.Sub(last) < every {
		return false
	}
	r.logged[kind] = now
	return true
}

// client logs that a client was accepted or has gone.
func (r *reports) client(event string, c *client) {
	if r.debug() {
		r.log.Debug(event, "client", c.session.Peer(), "id", c.session.ID(), "thread", c.t.index)
	}
}
