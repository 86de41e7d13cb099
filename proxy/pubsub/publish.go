package pubsub

import (
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// For a node, each worker that subscribes to a channel is one subscriber, however many
// clients the worker has. PUBLISH and PUBSUB NUMSUB must count the clients, so keyway
// corrects the node's count. For this, each worker counts its own subscribers, and sends
// changes to its siblings.

// audience counts the subscribers of other workers, as the siblings reported them.
type audience struct {
	siblings map[int]*sibling           // by worker index
	news     [topicKinds]map[string]int // own subscribers by topic, changed since the last report to siblings
	moved    bool                       // the primary feed has changed since that report
	waits    []*subscribing             // requests that wait until the siblings have the report
	patterns patternSet                 // patterns with subscribers on any worker
}

// sibling is the last report of another worker.
type sibling struct {
	primary string                     // the address of its primary feed's node
	quiet   int64                      // until then it drops messages; see hub.quiet
	clients [topicKinds]map[string]int // subscribers by topic
}

// changed records for the next report that a topic's number of subscribers has changed.
func (a *audience) changed(h *hub, tp *topic) {
	if h.w.Options.Workers == 1 {
		return
	}
	if a.news[tp.kind] == nil {
		a.news[tp.kind] = map[string]int{}
	}
	a.news[tp.kind][tp.name] = tp.clients()
}

// tellAudience reports the changed numbers of subscribers to the siblings. When all have
// the report, it answers the requests that waited for it.
func (h *hub) tellAudience() {
	a := &h.audience
	if len(a.news[byChannel])+len(a.news[byPattern])+len(a.news[byShard])+len(a.waits) == 0 && !a.moved {
		return
	}
	news, waits, from, primary, quiet := a.news, a.waits, h.w.Options.Index, "", h.quiet
	if h.primary != nil {
		primary = h.primary.Addr
	}
	a.news, a.waits, a.moved = [topicKinds]map[string]int{}, nil, false
	h.w.Siblings.Ask(func(o *engine.Worker) any {
		if o != h.w {
			engine.FeatureOf[*hub](o).audience.learn(from, primary, quiet, news)
		}
		return nil
	}, func([]any) {
		for _, wait := range waits {
			h.finish(wait)
		}
	})
}

// learn stores a report of the sibling with the index from.
func (a *audience) learn(from int, primary string, quiet int64, news [topicKinds]map[string]int) {
	if a.siblings == nil {
		a.siblings = map[int]*sibling{}
	}
	s := a.siblings[from]
	if s == nil {
		s = new(sibling)
		for k := range s.clients {
			s.clients[k] = map[string]int{}
		}
		a.siblings[from] = s
	}
	s.primary, s.quiet = primary, quiet
	for kind, changes := range news {
		for name, clients := range changes {
			s.learn(a, topicKind(kind), name, clients)
		}
	}
}

// learn records how many clients of the sibling are subscribed to a topic.
func (s *sibling) learn(a *audience, kind topicKind, name string, clients int) {
	had := s.clients[kind][name] > 0
	if clients > 0 {
		s.clients[kind][name] = clients
	} else {
		delete(s.clients[kind], name)
	}
	switch has := clients > 0; {
	case kind != byPattern || had == has:
	case has:
		a.patterns.add(name)
	default:
		a.patterns.drop(name)
	}
}

// clients returns how many clients of all workers are subscribed to a topic.
func (h *hub) clients(kind topicKind, name string) (n int) {
	if tp := h.topics[kind][name]; tp != nil {
		n = tp.clients()
	}
	for _, s := range h.audience.siblings {
		n += s.clients[kind][name]
	}
	return n
}

// Subscribers implements the engine's counter.
func (h *hub) Subscribers(channel string) int {
	return h.clients(byChannel, channel) + h.clients(byShard, channel)
}

// PatternSubscribers implements the engine's counter.
func (h *hub) PatternSubscribers(pattern string) int { return h.clients(byPattern, pattern) }

// countedWorkers returns how many workers' feeds the node counts as subscribers of a topic.
func (h *hub) countedWorkers(n *engine.Node, kind topicKind, name string) (count int) {
	tp := h.topics[kind][name]
	if tp != nil && tp.clients() > 0 && h.shouldSubscribe(n, tp) {
		count++
	}
	if tp == nil {
		tp = &topic{kind: kind, name: name}
	}
	for _, s := range h.audience.siblings {
		if s.clients[kind][name] == 0 {
			continue
		}
		switch {
		case kind == byShard:
			if _, id := h.w.Table.Place([]byte(name)); id >= 0 && h.w.Nodes[id] == n {
				count++
			}
		case !h.w.Table.Clustered() || s.primary == n.Addr || tp.fromKeyspace():
			count++
		}
	}
	return count
}

// publishNode returns the cluster node that gets the messages of a channel, or nil if there
// is no master. While the masters stay the same, it is always the same node, so the messages
// keep their order, also when another process takes a client over. Different channels have
// different nodes.
func publishNode(w *engine.Worker, channel []byte) (best *engine.Node) {
	var most uint64
	of := fnv1a(offset64, channel)
	for _, n := range w.Masters {
		if n.IsFormer {
			continue
		}
		score := fnv1a(of, n.Addr) * 0xff51afd7ed558ccd
		score ^= score >> 33
		if best == nil || score > most {
			best, most = n, score
		}
	}
	return best
}

const offset64 = 14695981039346656037

// fnv1a goes on with the hash FNV-1a over b.
func fnv1a[T string | []byte](h uint64, b T) uint64 {
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * 1099511628211
	}
	return h
}

// publishTo sends PUBLISH or SPUBLISH to the node of the channel, which is placed like a
// key. In a cluster, any node can take PUBLISH. keyway does not choose it by slot, so a
// migrating slot cannot make messages overtake each other.
func publishTo(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	sharded := cmd.Is(command.Sharded)
	group, id := w.Table.Place(a.Arg(1))
	var n *engine.Node
	switch {
	case !sharded && w.Table.Clustered():
		n = publishNode(w, a.Arg(1))
	case id >= 0:
		n = w.Nodes[id]
	case sharded:
		w.Keys = append(w.Keys[:0], 1)
		return engine.HandleUnowned(w, s, cmd, a, group)
	default:
		n, _ = w.AnyMaster(s)
	}
	if n == nil {
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	conn := n.Conn(s)
	if conn.Full() {
		return s.Stall()
	}
	r := s.NewRequest(cmd)
	r.End = receiversText
	r.Merge = w.Mergers.Get(1)
	r.Merge.Channel = append(r.Merge.Channel[:0], a.Arg(1)...)
	r.Merge.Uncounted = engine.FeatureOf[*hub](w).Uncounted(n, cmd, string(r.Merge.Channel))
	c := r.Merge.Call(r, 0)
	c.Group = -1
	if sharded {
		c.Group = group // a redirect of the slot is followed
	}
	c.SendTo(n, a.Frame())
	return true
}

// receiversText is the ending of PUBLISH. It turns the node's count of receivers into the
// number of clients.
func receiversText(w *engine.Worker, dst []byte, r *engine.Request) []byte {
	reply, n := r.Merge.Replies[0], r.Merge.Calls[0].Node
	count, ok := resp.Int(reply)
	if !ok {
		return append(dst, reply...)
	}
	clients := engine.FeatureOf[*hub](w).Receivers(n, r.Command, string(r.Merge.Channel), count, r.Merge.Uncounted)
	return resp.AppendInt(dst, clients)
}

// Receivers returns how many clients receive a message for which the node counted count
// receivers. before is the result of Uncounted when the message was sent: clients that
// have subscribed since then may have missed it.
func (h *hub) Receivers(n *engine.Node, cmd *command.Command, channel string, count, before int64) int64 {
	return max(count+min(before, h.Uncounted(n, cmd, channel)), 0)
}

// dropsMessages reports whether a worker drops messages now, which it does until quiet: its new
// primary feed might repeat what the former one has delivered.
func (h *hub) dropsMessages(kind topicKind, quiet int64) bool {
	return kind != byShard && h.w.Now < quiet && h.w.Table.Clustered()
}

// countMissing returns how many more clients of all workers get a message of a topic than the node
// counts. It leaves out the clients of workers that drop messages now.
func (h *hub) countMissing(n *engine.Node, kind topicKind, name string) int {
	more := h.clients(kind, name) - h.countedWorkers(n, kind, name)
	if tp := h.topics[kind][name]; tp != nil && h.dropsMessages(kind, h.quiet) {
		more -= tp.clients()
		if tp.clients() == 0 && h.shouldSubscribe(n, tp) {
			more-- // the node may count the feed already
		}
	}
	for _, s := range h.audience.siblings {
		if h.dropsMessages(kind, s.quiet) {
			more -= s.clients[kind][name]
		}
	}
	return more
}

// Uncounted returns how many more clients of all workers are subscribed to a channel, by
// name or by pattern, than the node counts.
func (h *hub) Uncounted(n *engine.Node, cmd *command.Command, channel string) int64 {
	kind := topicKindOf(cmd)
	more := h.countMissing(n, kind, channel)
	if kind == byChannel {
		h.audience.patterns.matching([]byte(channel), func(name string) {
			more += h.countMissing(n, byPattern, name)
		})
	}
	return int64(more)
}

// topicKindOf returns the kind of the channels that a command names.
func topicKindOf(cmd *command.Command) topicKind {
	if cmd.Is(command.Sharded) {
		return byShard
	}
	return byChannel
}

// subscribers is the ending of PUBSUB NUMSUB. It turns the nodes' counts of subscribers into
// numbers of clients.
func subscribers(w *engine.Worker, dst []byte, r *engine.Request) []byte {
	kind := topicKindOf(r.Command)
	var names []string
	var counts []int
	for i, reply := range r.Merge.Replies {
		n, rest, ok := resp.Elements(reply)
		if !ok {
			return append(dst, reply...)
		}
		for at := range n / 2 {
			var name, count []byte
			name, rest, _ = resp.Split(rest)
			count, rest, _ = resp.Split(rest)
			channel, _ := resp.Bulk(name)
			clients, _ := resp.Int(count)
			if i == 0 {
				names = append(names, string(channel))
				counts = append(counts, engine.FeatureOf[*hub](w).clients(kind, string(channel)))
			}
			if at < len(counts) {
				counted := engine.FeatureOf[*hub](w).countedWorkers(r.Merge.Calls[i].Node, kind, string(channel))
				counts[at] += int(clients) - counted
			}
		}
	}
	dst = resp.AppendArray(dst, 2*len(names))
	for i, name := range names {
		dst = resp.AppendBulkString(dst, name)
		dst = resp.AppendInt(dst, int64(max(counts[i], 0)))
	}
	return dst
}

// maxLooked is how many topics Topics looks at.
const maxLooked = 20_000

// Topics returns those topics of a worker's clients that have the most clients, at most count, and counts the
// clients of all workers. If there are very many topics, it looks at some of them.
func Topics(w *engine.Worker, count int) clients.Topics {
	h, top, looked := engine.FeatureOf[*hub](w), clients.NewTop[clients.Topic](count), 0
	for kind, name := range [topicKinds]string{clients.ChannelKind, clients.PatternKind, clients.ShardKind} {
		for _, tp := range h.topics[kind] {
			if looked++; looked > maxLooked {
				return clients.Topics{Topics: top.First()}
			}
			if n := h.clients(tp.kind, tp.name); n > 0 {
				t := clients.Topic{Name: resp.Text([]byte(tp.name)), Kind: name, Clients: n}
				top.Add(t.Key(), t)
			}
		}
	}
	return clients.Topics{Topics: top.First(), Whole: true}
}
