package main

// inProxy are planted in package proxy.
var inProxy = []bug{
	{
		"threads are told of a script each time that it runs", "proxy/engine/script.go",
		"	if sc.Cache.Add(text) && sc.w.Options.Workers > 1 {",
		"	if sc.Cache.Add(text); sc.w.Options.Workers > 1 {",
		"./test", "TestThreadsWorkAlone",
	},
	{
		"what the nodes are too old for is answered", "info/software.go",
		"return slices.Compare(a[:], b[:]) < 0", "return slices.Compare(a[:], b[:]) < -1",
		"./test", "TestCommandsThatTheServerLacks",
	},
	{
		"a client that speaks TLS is read from", "proxy/engine/input.go",
		"b[0] == tlsHandshake && b[1] == 3:", "b[0] == tlsHandshake && s.Has(Dead):",
		"./test", "TestTLSOnPlainPort",
	},
	{
		"a blocking command that is sent again takes the shared connection", "proxy/engine/call.go",
		"	if c.lane == exclusiveLane {\n		c.startAlone",
		"	if c.lane == exclusiveLane && !c.Redirected {\n		c.startAlone",
		"./test/transcripts", "TestTranscripts/blocking-lanes",
	},
	{
		"a group's name is taken for an option", "command/traits.go",
		"		case EqualFold(arg, \"group\"):\n			i += 2\n", "",
		"./test/transcripts", "TestTranscripts/blocking-lanes",
	},
	{
		"MGET's values are dealt out to the wrong keys", "proxy/engine/split.go",
		"			r.Merge.PerArgument = append(r.Merge.PerArgument, sp.shardOf[k])",
		"			r.Merge.PerArgument = append(r.Merge.PerArgument, sp.shardOf[keys-1-k])",
		"./test", "TestSplitCommands",
	},
	{
		"scripts without keys run where the client's other commands without keys do", "proxy/engine/dispatch.go",
		"	case !cmd.Unproven():\n		return SendToAnyMaster(w",
		"	case true:\n		return SendToAnyMaster(w",
		"./test/transcripts", "TestTranscripts/keyless-scripts",
	},
	{
		"a request is reused while a node still owes its reply", "proxy/engine/line.go",
		"	if r.Unfinished == 0 {\n		w.free(r)\n	}\n", "	w.free(r)\n",
		"./test/transcripts", "TestTranscripts/departed-client",
	},
	{
		"a local answer overtakes a forwarded command", "proxy/engine/line.go",
		"	if s.line.head == nil {\n		s.output(b)", "	if true {\n		s.output(b)",
		"./test/transcripts", "TestTranscripts/local-replies-each",
	},
	{
		"a slow reader holds up others at each of its pauses", "proxy/engine/slow.go",
		"s.delayed += now - s.delayedAt", "s.delayed = now - s.delayedAt",
		"./proxy", "TestSlowReaderDelaysOthers",
	},
	{
		"a large request goes over the connection that others share", "proxy/engine/call.go",
		"		w.largeValues.sendAlone(c, n, 0)\n", "",
		"./test/transcripts", "TestTranscripts/large-requests",
	},
	{
		"a redirected command overtakes another that is on a retired connection", "proxy/engine/redirect.go",
		"(other.Node != target || other.Redirected && others.target != conn)", "other.Node != target",
		"./test/transcripts", "TestTranscripts/redirect-behind-large-reply",
	},
	{
		"a node without a connection to spare is taken for one that is gone", "proxy/engine/node.go",
		"len(n.Shared.Retired) > 0 {\n		n.reinstate", "false {\n		n.reinstate",
		"./test/transcripts", "TestTranscripts/replacement-refused",
	},
	{
		"reads wait behind a large reply", "shared/set.go",
		"c.IsReplySlow(now, slow)", "false",
		"./test/transcripts", "TestTranscripts/reads-behind-large-reply",
	},
	{
		"a read goes again though its client has a write behind the same large reply", "proxy/engine/slow.go",
		"			if place == 0 || !to.mayBeReread() {\n				stay",
		"			if place == 0 {\n				stay",
		"./test/transcripts", "TestTranscripts/reads-behind-large-reply",
	},
	{
		"a client gets two replies to a read that was sent again", "pool/unanswered.go",
		"	e.to, e.deadline = nil, 0\n", "",
		"./pool", "TestForgottenRequest",
	},
	{
		"a write waits for a slow client for as long as that takes", "proxy/engine/slow.go",
		"		if s.nearlyFull && !s.Has(Dead) {\n			s.closeSlow()\n		}\n", "",
		"./proxy", "TestSlowReaderNearItsLimit",
	},
	{
		"a slow client delays others though its connection is its own", "proxy/engine/slow.go",
		"		default: // on a connection of the session's own, or followed by the EXEC or the call\n",
		"		default:\n			return true\n",
		"./test/faults", "TestSlowReadOnItsOwnConnection",
	},
	{
		"others wait behind a large reply", "proxy/engine/slow.go",
		"	c.Node.replaceSlowConn(conn)\n", "",
		"./test/transcripts", "TestTranscripts/large-reply",
	},
	{
		"a command overtakes one that is behind a large reply", "proxy/engine/node.go",
		"	n.Shared.Replace(i, fresh)\n	n.Worker.epoch++\n", "	n.Shared.Replace(i, fresh)\n",
		"./test/transcripts", "TestTranscripts/large-reply-again",
	},
	{
		"a node that says BUSY is taken for a silent one", "pool/timeouts.go",
		"func (c *Conn) PostponeTimeouts(now int64) { c.progress.at = now }",
		"func (c *Conn) PostponeTimeouts(int64) {}",
		"./test/transcripts", "TestTranscripts/busy-script-ends",
	},
	{
		"a script has no time of its own behind one that was long", "pool/conn.go",
		"			c.progress.at = now // the requests behind this one waited for it\n", "",
		"./test/transcripts", "TestTranscripts/busy-script-behind-a-script",
	},
	{
		"reads behind a script wait for its end", "proxy/engine/slow.go",
		"	for _, c := range n.Shared.Retired {\n		n.Worker.largeValues.rereadBehind(c)\n",
		"	for _, c := range n.Shared.Retired {\n		_ = c\n",
		"./test/transcripts", "TestTranscripts/busy-script-ends",
	},
	{
		"the redirect of a node that has refused ASKING is followed", "proxy/engine/call.go",
		"			p.Bytes = c.asked.refusal\n", "			_ = c.asked.refusal\n",
		"./test/transcripts", "TestTranscripts/busy-for-asking",
	},
	{
		"an error follows the beginning of a reply", "proxy/engine/call.go",
		"	if r.Begun {\n", "	if r.Begun && w == nil {\n",
		"./test/faults", "TestNodeDiesInsideReply",
	},
	{
		"an unknown outcome is called not executed", "proxy/engine/call.go",
		"	if f.Sent {\n", "	if f.Sent && w == nil {\n",
		"./test/transcripts", "TestTranscripts/outcome",
	},
	{
		"a command is sent again when its connection is lost", "proxy/engine/call.go",
		"	if f.Sent {\n",
		"	if f.Sent && c.hops == 0 && w.Table.Changes() {\n		c.hops++\n" +
			"		c.resend(frame, c.Node, false)\n		return\n	}\n	if f.Sent {\n",
		"./test/sim", "TestSimulation",
	},
	{
		"a write is sent again when its connection is lost", "proxy/engine/verdict.go",
		"	case f.Sent && (c.isOvertaken || !c.isHarmless()):", "	case f.Sent && c.isOvertaken:",
		"./test/transcripts", "TestTranscripts/lost-commands",
	},
	{
		"a read that is sent again sees what its client wrote later", "proxy/engine/verdict.go",
		"			c.isOvertaken = true\n", "",
		"./test/transcripts", "TestTranscripts/lost-commands",
	},
	{
		"a transaction's keys are not taken for written", "proxy/engine/dispatch.go",
		"	if c.Block != nil {\n		frame = c.Block.Frames",
		"	if c.Block != nil {\n		return\n	}\n	if c.Block != nil {\n		frame = c.Block.Frames",
		"./test/transcripts", "TestTranscripts/lost-commands",
	},
	{
		"a read of all keys that is sent again sees what its client wrote later", "proxy/engine/verdict.go",
		"			sees(lostKey{session: s.id, hash: oneKey, node: c.Node})\n", "",
		"./test/transcripts", "TestTranscripts/lost-commands",
	},
	{
		"what outlives its connection overtakes what waits", "proxy/engine/verdict.go",
		"	if n == nil || len(c.Request.Session.Retry) > 0 {", "	if n == nil {",
		"./test/transcripts", "TestTranscripts/lost-behind-refused",
	},
	{
		"nothing waits for a failover", "proxy/engine/verdict.go",
		"	if w.mayFailOver(c, reason) && w.retries.mayWait(",
		"	if w.mayFailOver(c, reason) && c.hops > 0 && w.retries.mayWait(",
		"./test/transcripts", "TestTranscripts/failover",
	},
	{
		"a command for all masters waits for its dead one for ever", "proxy/engine/routing.go",
		"	return rt.OwnerOf(c.Node.group)\n", "	return c.Node\n",
		"./test/transcripts", "TestTranscripts/failover-all-masters",
	},
	{
		"a command for all masters overtakes what waits for one of them", "proxy/engine/verdict.go",
		"	if n == nil || len(c.Request.Session.Retry) > 0 {",
		"	if n == nil || len(c.Request.Session.Retry) > 0 && c.Group >= 0 {",
		"./test/transcripts", "TestTranscripts/lost-behind-refused",
	},
	{
		"commands wait where no failover can come", "proxy/engine/routing.go",
		"	return len(owner.replicas) > 0 || isRecent(", "	return len(owner.replicas) >= 0 || isRecent(",
		"./test/transcripts", "TestTranscripts/failover-not-held",
	},
	{
		"commands do not wait for a look at the topology", "proxy/engine/routing.go",
		"isRecent(rt.w, owner.followedAt) || rt.looks.awaits(owner)", "isRecent(rt.w, owner.followedAt)",
		"./proxy", "TestReplicaSeenAfterItsMasterDied",
	},
	{
		"every command to a dead master waits for a look at the topology", "proxy/engine/routing.go",
		"n.lostAt == 0 || n.losses != losses {", "l.doneAt < n.Worker.Now {",
		"./proxy", "TestLookThatShowsNoReplica",
	},
	{
		"a look that began before the question answers it", "topology/follow.go",
		"		for _, done := range waiting {", "		for _, done := range append(waiting, f.takeWaiting()...) {",
		"./topology", "TestLookIsReported",
	},
	{
		"commands wait for a failover without end", "proxy/engine/verdict.go",
		"w.retries.mayWait(c, frame, w.retries.failover)", "w.retries.mayWait(c, frame, 1<<60)",
		"./proxy", "TestHoldIsBounded",
	},
	{
		"slots without an owner are not waited for", "proxy/engine/redirect.go",
		"		if c.tries > 4 && !w.MayGetOwner() ||", "		if c.tries > 4 ||",
		"./test/transcripts", "TestTranscripts/failover",
	},
	{
		"a script's MOVED is followed", "proxy/engine/verdict.go",
		"refusal.ParseRedirect(answer, conn.Addr)", "refusal.ParseRedirect(reply, conn.Addr)",
		"./test/transcripts", "TestTranscripts/script-redirects",
	},
	{
		"a script's TRYAGAIN is retried", "proxy/engine/verdict.go",
		"		return bytes.Equal(answer, reply) || ",
		"		return bytes.HasPrefix(reply, []byte(\"-TRYAGAIN \")) || bytes.Equal(answer, reply) || ",
		"./test/transcripts", "TestTranscripts/script-redirects",
	},
	{
		"a script that a later command has overtaken is sent again", "proxy/engine/script.go",
		"		case c.isOvertaken:", "		case c.isOvertaken && !ok:",
		"./test/transcripts", "TestTranscripts/script-not-overtaken",
	},
	{
		"a script is sent to a node that refuses all", "proxy/engine/call.go",
		"	if n.Retries.Waiting() > 0 && c.Request.Command.Unproven() && n.Worker.retries.delay(c, n, frame) {",
		"	if n.Retries.Waiting() < 0 && n.Worker.retries.delay(c, n, frame) {",
		"./test/transcripts", "TestTranscripts/script-held",
	},
	{
		"what questions about scripts are refused is forgotten", "proxy/engine/script.go",
		"			c.Node.refusals.Record(w.Now, answer)", "			_ = answer",
		"./test/transcripts", "TestTranscripts/script-held",
	},
	{
		"a refusal of other keys is taken for the script's", "refusal/refusal.go",
		"	return all && l.at >= since", "	return (all || l.at > 0) && l.at >= since",
		"./test/transcripts", "TestTranscripts/script-refused-with-all",
	},
	{
		"no more than a few wait for the end of a failover", "retry/retry.go",
		"(!lasts || n.waiting < n.share(", "(!lasts || now > 0) && (n.waiting < n.share(",
		"./proxy", "TestRefusalsOfAMomentAreSeenByNobody",
	},
	{
		"a node is asked to let the time of a client be up that it has paused", "proxy/blocking/blocking.go",
		"strconv.FormatInt(b.nodeID, 10), \"ERROR\")", "strconv.FormatInt(b.nodeID, 10), \"TIMEOUT\")",
		"./test", "TestUnblockWhilePaused",
	},
	{
		"NOSCRIPT is believed without asking the node", "proxy/engine/script.go",
		"		if !ok || !bytes.Equal(exists, []byte(\"*1\\r\\n:0\\r\\n\")) {", "		if !ok {",
		"./test", "TestScriptsMayAnswerAnything",
	},
	{
		"a script that a sibling knows is not asked for", "proxy/engine/script.go",
		"		sc.find(sha, func() { sc.sendAsEval(c, frame, reply) })", "		sc.sendAsEval(c, frame, reply)",
		"./test/transcripts", "TestTranscripts/script-of-a-sibling",
	},
	{
		"OK is said before all workers have done it", "proxy/engine/worker.go",
		"	w.Ready.Asks = append(w.Ready.Asks, Ask{Token: sb.token, Do: do})",
		"	w.Ready.Asks = append(w.Ready.Asks, Ask{Token: sb.token, Do: do})\n	q.left = 0\n	done(q.answers)",
		"./test/transcripts", "TestTranscripts/workers-before-ok",
	},
	{
		"a redirect that makes no sense reaches the client", "proxy/engine/verdict.go",
		"	case unproven && (odd ||", "	case odd, unproven && (odd ||",
		"./test/transcripts", "TestTranscripts/redirect-targets",
	},
	{
		"a split command waits as a whole for a slot's owner", "proxy/engine/split.go",
		"		case w.Table.Slotted() && len(w.Nodes) > 0:", "		case false:",
		"./test/transcripts", "TestTranscripts/unowned-shard",
	},
	{
		"hops are not counted", "proxy/engine/redirect.go",
		"c.hops++; c.hops > maxHops", "c.hops > maxHops",
		"./test/transcripts", "TestTranscripts/redirect-circle",
	},
	{
		"ASKING is forgotten", "proxy/engine/call.go",
		"		conn.SendAsking(asksFirst(c), c, frame, w.Now, deadline)",
		"		conn.Send(c, frame, w.Now, deadline)",
		"./test/transcripts", "TestTranscripts/ask",
	},
	{
		"a later command overtakes a redirected one (barrier)", "proxy/engine/input.go",
		"		if (s.epoch != w.epoch || s.redirecting > 0) && in", "		if s.epoch > w.epoch && in",
		"./test/transcripts", "TestTranscripts/moved",
	},
	{
		"a new topology lets a command overtake (barrier)", "proxy/engine/input.go",
		"		if (s.epoch != w.epoch || s.redirecting > 0) && in", "		if s.redirecting > 0 && in",
		"./test/sim", "TestSimulation",
	},
	{
		"retries leave in the order they came back", "proxy/engine/redirect.go",
		"	s.Retry = slices.Insert(s.Retry, at, c)", "	s.Retry = append(s.Retry[:len(s.Retry)+0*at], c)",
		"./test/transcripts", "TestTranscripts/refused-in-order",
	},
	{
		"a retry is sent after a later command was executed", "proxy/engine/redirect.go",
		"	if len(s.Retry) == 0 || by.Group < 0 {", "	if true {",
		"./test/transcripts", "TestTranscripts/refused-not-overtaken",
	},
	{
		"keys are routed by one of them", "proxy/engine/dispatch.go",
		"		if i > 0 && g != group {", "		if i > 0 && g < -1 {",
		"./test", "TestKeysThatLiveApart",
	},
	{
		"a split write that was done in part is called not executed", "proxy/engine/split.go",
		"	if cmd.Has(readOnly) || cmd.AnySuffices() ||", "	if true || cmd.AnySuffices() ||",
		"./test/transcripts", "TestTranscripts/split-mset",
	},
	{
		"a client is told of the redirect of a watched block", "proxy/txn/multi.go",
		"c, conn, cause).Do == engine.Unwatched {", "c, conn, cause).Do == engine.Unwatched && w == nil {",
		"./test/transcripts", "TestTranscripts/watch",
	},
	{
		"EXEC succeeds on a socket that has watched nothing", "proxy/txn/multi.go",
		"t.watch.State() != pool.Ready || t.watch.Stats.Dials != t.dials || w.OwnerOf",
		"t.watch.State() != pool.Ready || w.OwnerOf",
		"./test/transcripts", "TestTranscripts/watch-reconnected",
	},
	{
		"a redirected call does not wait for an earlier one that is held up", "proxy/engine/redirect.go",
		"	if waitsBefore(c.Request.Session, c, w.Nodes[id]) {",
		"	if s := c.Request.Session; waitsBefore(s, c, w.Nodes[id]) && s == nil {",
		"./test/sim", "TestSimulation",
	},
	{
		"a client that leaves does not end its wait", "proxy/blocking/blocking.go",
		"		b.leave(of.w, s)\n", "		_ = s\n",
		"./test/transcripts", "TestTranscripts/blocked-client-leaves",
	},
	{
		"CLIENT UNBLOCK asks over the connection of the client's state alone", "proxy/engine/node.go",
		"		if c.User == nil && c.State() == pool.Ready {\n			return c",
		"		if c.User == nil && c.State() == pool.Closed {\n			return c",
		"./test/transcripts", "TestTranscripts/unblock-first",
	},
	{
		"redirects before a wait count with those after it", "proxy/engine/redirect.go",
		"	c.hops = 0 // the nodes may agree by then\n", "",
		"./test/transcripts", "TestTranscripts/ask-tryagain",
	},
	{
		"PUBLISH counts clients for whom messages are dropped", "proxy/pubsub/publish.go",
		"	return kind != byShard && h.w.Now < quiet", "	return false && kind != byShard && h.w.Now < quiet",
		"./proxy", "TestPublishedAfterALostFeed",
	},
	{
		"what a client has not got stays when it has left", "proxy/engine/session.go",
		"		r.dropReplies(&w.Buffers) // a node may take long to answer the rest\n", "",
		"./proxy", "TestRepliesOfAGoneClientAreFreed",
	},
	{
		"a connection that cannot be opened is tried again at once", "proxy/engine/verdict.go",
		"	case c.lane == exclusiveLane && n == c.Node && conn", "	case c.hops > 200 && conn",
		"./test/transcripts", "TestTranscripts/blocking-node-dies",
	},
	{
		"a wait goes on with its whole time where its slot has moved", "proxy/blocking/blocking.go",
		"max(b.call.Timeout-w.Now, int64(time.Millisecond))", "max(b.call.Timeout, int64(time.Millisecond))",
		"./test/transcripts", "TestTranscripts/blocking-redirected",
	},
	{
		"a connection that was unblocked goes to another client", "proxy/blocking/blocking.go",
		"c.Node.Release(b.conn, !b.ended && !b.moves)", "c.Node.Release(b.conn, true)",
		"./test/transcripts", "TestTranscripts/blocked-client-leaves",
	},
	{
		"a feed that comes back listens to nothing", "proxy/pubsub/feeds.go",
		"			h.updateFeed(n, tp, false)\n		}\n	})\n}\n\n// Down", "		}\n	})\n}\n\n// Down",
		"./test/transcripts", "TestTranscripts/subscribe",
	},
	{
		"a cluster's messages are passed on as often as nodes tell of them", "proxy/pubsub/pubsub.go",
		"(c.Owner != h.primary || h.w.Now < h.quiet) &&", "h.w.Now < h.quiet &&",
		"./test/transcripts", "TestTranscripts/keyspace-messages",
	},
	{
		"SUBSCRIBE is answered before the nodes listen", "proxy/pubsub/pubsub.go",
		"		if len(tp.pending) > 0 {\n			wait.left++",
		"		if len(tp.pending) > 99 {\n			wait.left++",
		"./test/transcripts", "TestTranscripts/subscribe",
	},
	{
		"SUBSCRIBE is answered before the siblings know", "proxy/pubsub/feeds.go",
		"	if h.w.Options.Workers == 1 {\n		h.finish(wait)",
		"	if h.w.Options.Workers > 0 {\n		h.finish(wait)",
		"./test/transcripts", "TestTranscripts/workers-count-subscribers",
	},
	{
		"a sharded channel does not follow its slot", "proxy/pubsub/feeds.go",
		"			h.recordUnconfirmed(tp)\n			h.ask(tp)\n", "			h.recordUnconfirmed(tp)\n",
		"./test/transcripts", "TestTranscripts/sharded-channel",
	},
	{
		"a push overtakes replies that came before it", "proxy/engine/line.go",
		"		if r.done || r.Begun || r.joined || r.reply.Len() > 0 || r.mayPublish() {", "		if r.Begun {",
		"./test/transcripts", "TestTranscripts/tracking-order",
	},
	{
		"a cache stays valid though its node is lost", "proxy/tracking/tracking.go",
		"func (t *tracking) Lost(*pool.Conn) { t.ForgetAll() }", "func (t *tracking) Lost(*pool.Conn) {}",
		"./test/transcripts", "TestTranscripts/tracking-lost",
	},
	{
		"clients of both protocols share connections", "shared/set.go",
		"return s.Conns[i].Mode == m", "like := s.Conns[i].Mode; like.RESP3 = m.RESP3; return like == m",
		"./test/transcripts", "TestTranscripts/resp3",
	},
	{
		"a parked reply's memory is reused while another reply lies in it", "buffer/parked.go",
		"	if n.refs--; n.refs > 0 {\n		return\n	}\n", "	n.refs--\n",
		"./test/transcripts", "TestTranscripts/parked-replies",
	},
	{
		"a worker keeps the memory of a large reply of its own", "buffer/pool.go",
		"	if cap(b) <= maxScratch {", "	if cap(b) >= 0 {",
		"./proxy", "TestLargeCommandsLeaveNothing",
	},
	{
		"requests that were needed once are kept for ever", "proxy/engine/line.go",
		"	if f.unused > maxUnusedRequests {", "	if f.unused < 0 {",
		"./proxy", "TestLargeCommandsLeaveNothing",
	},
	{
		"large replies overtake what waits to be written", "proxy/engine/session.go",
		"len(b) >= minDirectOfMany) && s.Unsent.Size() == 0 &&", "len(b) >= minDirectOfMany) &&",
		"./proxy", "TestLargeRepliesGoStraightToTheSocket",
	},
	{
		"connections of one client are dialed anew each time", "proxy/engine/node.go",
		"n < maxIdleExclusive && n+e.exclusive < max(e.peak, e.lastPeak) && HasRoom(w)", "false",
		"./proxy", "TestConnectionsOfOneClientAreKept",
	},
	{
		"mergers are kept whatever they take", "proxy/engine/split.go",
		"	if len(ms.unused) >= 64 || ms.bytes+m.kept > maxMergers {", "	if len(ms.unused) >= 64 {",
		"./proxy", "TestLargeCommandsLeaveNothing",
	},
	{
		"the client with the least unread is closed when memory is short", "proxy/engine/session.go",
		"s.memory() > largest.memory()", "s.memory() < largest.memory()",
		"./proxy", "TestLargestClientIsClosed",
	},
	{
		"replies that wait for their turn do not count as held", "proxy/engine/session.go",
		"s.Unsent.Size() + s.Parked + cap(s.In)", "s.Unsent.Size() + cap(s.In)",
		"./proxy", "TestLargestClientIsClosed",
	},
	{
		"replies that a client does not want shift the next ones", "proxy/engine/line.go",
		"	r.Mute = s.Unanswered()\n", "	s.Unanswered()\n",
		"./test/transcripts", "TestTranscripts/client-reply",
	},
	{
		"EXEC goes though the connection that watched was lost (by seeds)", "proxy/txn/multi.go",
		"if t.lost || t.watch.State() != pool.Ready || t.watch.Stats.Dials != t.dials || w.OwnerOf(t.group) != n {",
		"if t.watch.State() != pool.Ready {",
		"./test/sim", "TestSimulation",
	},
	{
		"EXEC goes though a command was refused", "proxy/txn/multi.go",
		"		txns.Get(s).broken = true\n", "",
		"./test/transcripts", "TestTranscripts/multi-errors",
	},
	{
		"CLIENT CACHING holds for more than one command", "proxy/tracking/caching.go",
		"	t.choice = engine.CachingDefault\n", "",
		"./test/transcripts", "TestTranscripts/tracking-caching",
	},
	{
		"nodes are not told of a client's new tracking options", "proxy/tracking/tracking.go",
		"	if wasActive {\n		t.change(added, done)",
		"	if !again && wasActive {\n		t.change(added, done)",
		"./test/transcripts", "TestTranscripts/tracking-options",
	},
	{
		"a greeting that waits for the invalidations' connection goes on no more", "proxy/tracking/tracking.go",
		"			own.ResumeGreeting()\n", "			_ = own\n",
		"./proxy", "TestTrackingAtANewMaster",
	},
	{
		"a subscription is confirmed by the answer to an earlier one", "proxy/pubsub/feeds.go",
		"a.round != a.topic.round || h.topics[a.topic.kind][name] != a.topic:\n	case a.topic.kind != byShard:\n" +
			"		h.confirm(a.topic, c)",
		"h.topics[a.topic.kind][name] == nil:\n	case a.topic.kind != byShard:\n" +
			"		h.confirm(h.topics[a.topic.kind][name], c)",
		"./test/transcripts", "TestTranscripts/subscribe-again",
	},
	{
		"nobody is told at the end of a turn that slots have moved", "proxy/engine/worker.go",
		"	if w.moved {\n		w.ownersChanged(true)", "	if w.moved {\n		w.ownersChanged(false)",
		"./proxy", "TestFailoverOfManySlots",
	},
	{
		"a redirected command passes one that followed and waits", "proxy/engine/redirect.go",
		"	recordTarget(s, c, nil)\n", "",
		"./test/transcripts", "TestTranscripts/moved-then-refused",
	},
	{
		"MONITOR leaves out a transaction's last command", "proxy/txn/late.go",
		"	for i := 1; i <= t.Queued; i++ {", "	for i := 1; i < t.Queued; i++ {",
		"./test", "TestMonitorLikeRedis",
	},
	{
		"a client that watches is closed for its silence", "proxy/engine/session.go",
		"case s.Has(Subscribed | Monitoring): //", "case s.Has(Subscribed): //",
		"./test/transcripts", "TestTranscripts/idle-clients",
	},
	{
		"PUBLISH in a transaction counts what its node counts", "proxy/txn/late.go",
		"published[0].at == i {", "published[0].at > i {",
		"./test", "TestPublishInTransactions",
	},
	{
		"a client's own message overtakes its EXEC", "proxy/engine/line.go",
		"	return r.Merge != nil || r.Command.Is(command.Executes) || r.Command.Unproven()", "	return false",
		"./test", "TestPublishInTransactions",
	},
	{
		"a client does not read its own writes", "freshness/lag.go",
		"return since <= 0 || n.fresh > since", "return n.fresh != never",
		"./test/transcripts", "TestTranscripts/reads-own-writes",
	},
	{
		"a write overtakes a read that is at a replica", "proxy/engine/reads.go",
		"if s.AtReplicas.Any() && (all || rd.readsAny(s, a)) {", "if false {",
		"./test/transcripts", "TestTranscripts/reads-before-writes",
	},
	{
		"a write overtakes a read whose keys are counted", "proxy/engine/reads.go",
		"		read.Key = hashKey(a.Arg(k))\n		read.Since = max(read.Since, s.writes.Since(read.Key))",
		"		read.Since = max(read.Since, s.writes.Since(hashKey(a.Arg(k))))",
		"./test/transcripts", "TestTranscripts/reads-before-writes",
	},
	{
		"what a replica of a moving slot lacks is believed", "proxy/engine/call.go",
		"c.read.Doubtful(p.Bytes) && ", "false && ",
		"./test/transcripts", "TestTranscripts/reads-doubtful",
	},
	{
		"what is watched is read from replicas", "proxy/engine/reads.go",
		"!cmd.Is(command.MastersOnly) && s.Block == nil && !s.Has(Tracks)",
		"!cmd.Is(command.MastersOnly) && !s.Has(Tracks)",
		"./test/transcripts", "TestTranscripts/reads-where",
	},
	{
		"a replica is as fresh as the last look at it", "freshness/lag.go",
		"if o.stream == stream && o.bytes <= bytes {", "if o.stream == stream {",
		"./test/transcripts", "TestTranscripts/reads-behind",
	},
	{
		"EXEC hides why a node refused what it queued", "transaction/block.go",
		"	if bytes.Equal(reply, cause) {\n		return reply", "	if len(cause) > 0 {\n		return reply",
		"./test/transcripts", "TestTranscripts/transaction-errors",
	},
	{
		"a shared connection finds out whether a database is there", "proxy/answers/local.go",
		"	case db == int64(s.DB) || db == 0 || n == nil || n.HasDB(s, int(db)):", "	case db >= 0:",
		"./test", "TestDatabaseThatIsNotThere",
	},
	{
		"SCRIPT EXISTS knows only the nodes' scripts", "lua/cache.go",
		"rest, _ = resp.Split(rest); k == 1 {", "rest, _ = resp.Split(rest); k > 1 {",
		"./test", "TestScripts",
	},
	{
		"who comes later waits behind a script", "proxy/engine/node.go",
		"c.IsStuck(n.Worker.Now, n.Worker.stuckAfter())", "false",
		"./test/transcripts", "TestTranscripts/stuck",
	},
	{
		"INFO tells of one thread's clients", "metrics/sum.go",
		"a.SetInt(a.Int() + b.Int())", "a.SetInt(a.Int())",
		"./test", "TestInfoCountsOwnClients",
	},
	{
		"clients of CLIENT NO-TOUCH share connections with others", "shared/set.go",
		"return s.Conns[i].Mode == m", "like := s.Conns[i].Mode; like.NoTouch = m.NoTouch; return like == m",
		"./test", "TestNoTouch",
	},
	{
		"keyway takes a setting that a node has refused", "proxy/engine/worker.go",
		"			if len(p) > 0 && p[0] == '-' {\n				last.SettleFor",
		"			if len(p) == 0 {\n				last.SettleFor",
		"./test", "TestConfigSetChangesKeyway",
	},
	{
		"a pause of writes lets every function pass", "proxy/answers/pause.go",
		"	return f == nil || !f.noWrites[", "	return f == nil || f.noWrites != nil && !f.noWrites[",
		"./test/transcripts", "TestTranscripts/pause-functions",
	},
	{
		"any flags of a script let it pass a pause of writes", "lua/cache.go",
		"				if string(flag) == \"no-writes\" {", "				if len(flag) > 0 {",
		"./test/transcripts", "TestTranscripts/pause-scripts",
	},
	{
		"a push comes into the midst of EXEC's reply", "proxy/engine/line.go",
		"r.Begun || r.joined || r.reply", "r.Begun || r.reply",
		"./test/transcripts", "TestTranscripts/late-commands-of-workers",
	},
	{
		"SELECT in a transaction leaves the shared connection in its database", "proxy/txn/multi.go",
		"	if len(t.selects) > 0 {\n		t.Add", "	if len(t.selects) > 99 {\n		t.Add",
		"./test", "TestLateCommandsLikeRedis",
	},
	{
		"each thread warns of a script without keys", "proxy/engine/script.go",
		"	w.Siblings.Tell(func(o *Worker) { o.Scripts.Cache.Warn(name) })\n", "",
		"./test", "TestKeylessWritesAreLogged",
	},
	{
		"a redirect walks through all that its client has under way", "proxy/engine/redirect.go",
		"	if len(s.checking) == 0 && (others.calls == 0 ||", "	if s.redirecting == 0 && (others.calls == 0 ||",
		"./proxy", "TestRedirectsCostTheSameInLongPipelines",
	},
	{
		"an invalidation looks for its client among all", "proxy/tracking/tracking.go",
		"	if target := t.w.ByID[t.redirect]; target != nil {\n",
		"	for _, target := range t.w.Sessions {\n" +
			"		if target.ID() != t.redirect {\n			continue\n		}\n",
		"./proxy", "TestInvalidationsCostTheSameWithManyClients",
	},
	{
		"WAIT counts from nothing", "proxy/blocking/wait.go",
		"	if e.behindWrites && s.WroteTo.Has(n.Ordinal) {", "	if e.behindWrites && n == nil {",
		"./test/transcripts", "TestTranscripts/waitaof",
	},
	{
		"WAIT counts more replicas than have the earlier writes", "freshness/synced.go",
		"		replicas = min(replicas, s.replicas)", "		s.replicas = replicas",
		"./test/transcripts", "TestTranscripts/wait-latest",
	},
	{
		"WAIT for more replicas asks about the latest writes alone", "freshness/synced.go",
		"	if replicas > s.replicas || *wrote", "	if *wrote",
		"./test/transcripts", "TestTranscripts/wait-latest",
	},
	{
		"A unit of a per-key script lives where its prefix does", "lua/perkey.go",
		"	if p.Prefix {", "	if p.Prefix && p.Keys == 0 {",
		"./proxy", "TestPerKeyScriptWithPrefixes",
	},
	{
		"a pattern without special bytes is forgotten when messages are counted", "proxy/pubsub/patterns.go",
		"		if n > len(channel) {", "		if n >= len(channel) {",
		"./proxy", "TestPatternsThatMatch",
	},
	{
		"a connection with few requests takes a large buffer for them", "pool/sendqueue.go",
		"writesPerChunk*max(q.perWrite, int(q.pos-q.written))", "chunkSizes[2]",
		"./pool", "TestManyNodesTakeLittleMemory",
	},
	{
		"the requests of a turn leave in two writes where a buffer ends", "pool/sendqueue.go",
		"(room >= q.perWrite ||", "(room >= 0 ||",
		"./pool", "TestBusyConnectionWritesOnce",
	},
	{
		"buffers that nobody needs stay for ever", "pool/chunks.go",
		"		free.unused = len(free.chunks)\n", "",
		"./pool", "TestUnneededChunksAreFreed",
	},
	{
		"what was read of the slow log changes with later commands", "slowlog/log.go",
		"all[i].args[k] = bytes.Clone(arg)", "_, _ = k, bytes.Clone(arg)",
		"./slowlog", "TestFullLogUsesItsMemoryAgain",
	},
}
