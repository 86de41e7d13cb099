package main

import "slices"

// bugs are what must not go unnoticed: each breaks one thing that clients count on.
// Those whose tests take longest are best first.
var bugs = slices.Concat(inProxy, aroundProxy, inGuard, inMove, inDryrun, inQuorum, inReload, inTLS, inLocks, inUsers,
	inKeys, atDoor, inPrefix, inDrain, inUpgrade, inMoving, inSwitch, inHold, inInput, inForwarding, inOverview, inPage,
	inNear, inJourney, inBusy)

// aroundProxy are planted in every package but proxy.
var aroundProxy = []bug{
	{
		"a timeout takes its entry off the FIFO", "pool/timeouts.go",
		"		to := e.to\n		e.to = nil\n", "		to := e.to\n		c.fifo.pop()\n",
		"./pool", "TestTimeoutLeavesATombstone",
	},
	{
		"an owner of a loop is called after it has left", "loop/loop.go",
		"case m.to.state == joined:", "case m.to.state != outside:",
		"./loop", "TestOwnersShareALoop",
	},
	{
		"a full log makes whoever logs wait", "admin/log.go",
		"	default:\n		q.dropped.Add(1)\n	}", "	}",
		"./admin", "TestLogQueue",
	},
	{
		"systemd hears that a stuck keyway is alive", "systemd/notify.go",
		"alive); err == nil {", "alive); err == nil || true {",
		"./systemd", "TestWatchStopsWithTheThreads",
	},
	{
		"keyway is ready while it stops", "admin/http.go",
		"	if b.Stopping() {", "	if false {",
		"./test", "TestStoppingInTwoSteps",
	},
	{
		"a byte of four is left out of a key's slot", "slots/slot.go",
		"t[2][b[1]^byte(crc)]", "t[2][b[1]]",
		"./slots", "TestSlotIsTheChecksum",
	},
	{
		"replies that arrive together count as if their requests had been sent together", "pool/figures.go",
		"		a.count(to, now)\n		a.at", "		a.at",
		"./pool", "TestDurationsOfReplies",
	},
	{
		"a request that is half written counts as sent", "pool/figures.go",
		"		written = f.endsBehind(c.queue.written)\n", "",
		"./pool", "TestWritesAndQueue",
	},
	{
		"time in keyway's queue counts as the node's", "proxy/engine/call.go",
		"slow.Queued = max(written-r.start, 0)", "slow.Queued = min(written-r.start, 0)",
		"./proxy", "TestSlowLogSplitsTheTime",
	},
	{
		"a thread is busy while it sleeps", "loop/loop.go",
		"			t.over(now)\n			if err", "			if err",
		"./loop", "TestTurnsAreMeasured",
	},
	{
		"a node is up if it is for one thread", "metrics/sum.go",
		"a.Bool() && b.Bool()", "a.Bool()",
		"./metrics", "TestSum",
	},
	{
		"a key that moves to a node of another name is not counted", "plan/sample.go",
		"!ok || id != n.older {", "!ok || id < n.older {",
		"./test", "TestPlanCountsWhatMoves",
	},
	{
		"a sample of keys counts as all keys", "plan/sample.go",
		"scale = float64(keys) / s.seen", "scale = 1",
		"./test", "TestPlanSamples",
	},
	{
		"a node that cannot restore a value counts as one that can", "plan/probe.go",
		"\"payload\"):\n		return no", "\"payload\"):\n		return yes",
		"./test", "TestPlanVersions",
	},
	{
		"a full node that keys only leave stands in the way", "plan/probe.go",
		"		case p.receives(n):", "		case p.receives(n) || n.source():",
		"./test", "TestSwitchAwayFromFullNode",
	},
	{
		"a node that would be full fits", "plan/judge.go",
		"m.Fits = limit == 0 ||", "m.Fits = limit != 0 ||",
		"./test", "TestPlanMemory",
	},
	{
		"a plan does not say what concerns only some nodes", "plan/limits.go",
		"if l.concerns == nil || len(found.Nodes) > 0 {", "if l.concerns == nil {",
		"./test", "TestPlanPrintsWhatCannotBeHad",
	},
	{
		"a node's name says which server it is", "router/compare.go",
		"ok && addr != \"\" && !taken[id] {", "ok && addr == \"\" && !taken[id] {",
		"./router", "TestCompareKnowsNodesByAddress",
	},
	{
		"a number without a rule is said to be on the default node", "router/compare_range.go",
		"		if r.Text < end &&", "		if r.Text > end &&",
		"./router", "TestCompareRangesMissesNoKey",
	},
	{
		"two hashes are taken for the same", "router/compare.go",
		"ok && x.hash == y.hash {", "ok {",
		"./router", "TestCompareAgreesWithPlacingKeys",
	},
	{
		"a point of a ring belongs to the node of the next one", "hashring/ring.go",
		"points[i].value < uint32(b)<<r.shift {", "points[i].value <= uint32(b)<<r.shift {",
		"./hashring", "TestSearch",
	},
	{
		"a ring's last points belong to its last node", "hashring/overlap.go",
		"int(r.points[0].node)", "int(r.points[len(r.points)-1].node)",
		"./hashring", "TestOverlapCountsEveryPoint",
	},
	{
		"the points of a modulo's last round are left out", "hashring/overlap.go",
		"rest > start {", "rest >= stop {",
		"./hashring", "TestOverlapCountsEveryPoint",
	},
	{
		"a node in cluster mode counts as fit", "topology/inspect.go",
		"case r.Mode == \"cluster\" && !t.Clustered() && !r.Agrees && !r.isFormer:",
		"case r.Mode == \"cluster\" && t.Clustered() && !r.Agrees:",
		"./test", "TestClusterBehindRingIsReported",
	},
	{
		"a module's command is said to have a key that is not there", "command/keys.go",
		"max(c.Arity, -c.Arity) > s.Pos {", "max(c.Arity, -c.Arity) != 0 {",
		"./command", "TestSingleKeyIsThere",
	},
	{
		"slots without an owner are logged at every look", "topology/watch.go",
		"	w.seen = m\n", "	if w.seen == nil {\n		w.seen = m\n	}\n",
		"./topology", "TestLostSlotsAreLogged",
	},
	{
		"YAML sees the braces of a variable", "config/reference.go",
		"	if marked.Match(text) {", "	if len(text) > 0 {",
		"./config", "TestVariables",
	},
	{
		"a gap between rules goes unnoticed", "router/range.go",
		"			if b.From > a.To+1 {", "			if b.From > a.To+1 && a.From > b.To {",
		"./router", "TestRangeGaps",
	},
	{
		"a reply that nobody waits for is dropped, the connection stays", "pool/conn.go",
		"			c.Stats.Unsolicited++\n			c.violate(now, fmt.Sprintf(\"the node sent what",
		"			return\n			c.violate(now, fmt.Sprintf(\"the node sent what",
		"./pool", "TestUnaskedRepliesEndTheConnection",
	},
	{
		"bytes before the greeting's question are taken for its answer", "pool/greeting.go",
		"!noEcho && (!ok || string(b) != g.pingNonce())", "!noEcho && (!ok && string(b) == g.pingNonce())",
		"./pool", "TestGreetingRefused",
	},
	{
		"a blocking command reaches a shared connection", "command/rows.go",
		"{name: \"blpop\", handling: Block, timeout: LastSeconds}", "{name: \"blpop\"}",
		"./command", "TestStateCommandsAreNotShared",
	},
	{
		"what holds for all subcommands of a command does not", "command/rows.go",
		"		c.Traits |= container.Traits\n", "",
		"./command", "TestContainersSpeakForSubcommands",
	},
	{
		"after a failed write what was sent counts as not sent", "pool/conn.go",
		"f.Sent = e.pos < written", "f.Sent = e.pos > written",
		"./pool", "TestLossTellsWhatWasSent",
	},
	{
		"a map has as many elements as its header says", "resp/reply.go",
		"	case '%':\n		s.left += 2 * s.num", "	case '%':\n		s.left += s.num",
		"./resp", "TestScanner",
	},
	{
		"an empty array counts as if an element followed", "resp/reply.go",
		"		s.left += items\n", "		s.left += max(items, 1)\n",
		"./resp", "TestScanner",
	},
	{
		"a frame's buffer is reused while replies are outstanding", "pool/sendqueue.go",
		"	if c.refs--; c.refs > 0 {\n		return\n	}\n", "	c.refs--\n",
		"./pool", "TestFramesLiveUntilAnswered",
	},
	{
		"a failed connection's buffers are given back twice", "pool/chunks.go",
		"	if c.refs--; c.refs == 0 {\n		s.release", "	if c.refs--; c.refs <= 1 {\n		s.release",
		"./pool", "TestBuffersOfAFailedConnection",
	},
	{
		"a per-key script's ARGV go to the next key", "lua/perkey.go",
		"Keys: size, arg: next,", "Keys: size, arg: min(next+1, tail-1),",
		"./test", "TestPerKeyScripts",
	},
	{
		"the error of one key of a per-key script is dropped", "lua/perkey.go",
		"			return append(dst, reply...)\n", "			return append(dst, \"*1\\r\\n:0\\r\\n\"...)\n",
		"./lua", "TestMergedUnits",
	},
	{
		"a thread that drains leaves its siblings without an answer", "server/thread.go",
		"(t.srv.clients.Load() <= 0 ||", "(t.worker.Clients() == 0 ||",
		"./test", "TestDrainAnswersSiblings",
	},
	{
		"a node's refusal is lost with its connection", "server/backend.go",
		"			b.readRest(err)\n", "			b.link.Fail(b.t.now, err.Error())\n",
		"./server", "TestRefusalIsRead",
	},
	{
		"a process that was stopped looks at the clock first", "server/thread.go",
		"t.late == 0 && t.now-t.nextTick <= int64(maxTurn)", "t.late == 0",
		"./test/faults", "TestStoppedKeywayReadsFirst",
	},
	{
		"a reply is taken for a request that was not written yet", "pool/conn.go",
		"c.fifo.n > 0 && c.fifo.at(0).pos < c.queue.written", "c.fifo.n > 0",
		"./pool", "TestUnaskedRepliesEndTheConnection",
	},
	{
		"what waits behind a transfer times out", "pool/conn.go",
		"	c.progress.at = now\n	if !done", "	if !done",
		"./pool", "TestTransfersDoNotTimeOut",
	},
	{
		"an upload times out while it goes on", "pool/timeouts.go",
		"	if c.progress.written || c.readPaused {", "	if c.readPaused {",
		"./pool", "TestUploadsDoNotTimeOut",
	},
	{
		"a closed socket that nobody reads from is reported in every turn", "loop/epoll_linux.go",
		"ev := uint32(unix.EPOLLET)", "ev := uint32(0)",
		"./test/faults", "TestGoneClientCostsNothing",
	},
	{
		"a header's number may have leading zeros", "resp/command.go",
		"b[0] == '0' && (len(b) > 1 || neg)", "b[0] == '0' && neg",
		"./resp", "TestParser",
	},
	{
		"the number of arguments is not limited", "resp/command.go",
		"		case v.n > int64(lim.MaxArgs):", "		case v.n > 1<<40:",
		"./resp", "TestParserLimits",
	},
	{
		"what is not canonical is forwarded as received", "resp/command.go",
		"	if !p.canonical {\n		p.reencode()\n	}\n", "",
		"./resp", "TestParser",
	},
	{
		"a connection closed in its greeting makes the node refuse", "pool/link.go",
		"l.state == Greeting && l.dialing.failures > 5)", "l.state == Greeting)",
		"./pool", "TestClosedInGreeting",
	},
	{
		"a connection that has served is not dialed at once", "pool/link.go",
		"	if was == Ready && (l.served || now", "	if was == Ready && (now",
		"./pool", "TestSentAgainInOrder",
	},
	{
		"a feed that has ended counts as one that can be used", "pool/feed.go",
		"		f.dialing.refused = true\n", "",
		"./pool", "TestFeedEnds",
	},
	{
		"a feed keeps the buffer of a large message", "pool/feed.go",
		"			f.input.clear()\n", "			f.input.part = f.input.part[:0]\n",
		"./pool", "TestFeedDeliversWholeMessages",
	},
	{
		"a node that refuses is dialed at once", "pool/link.go",
		"		l.dialing.retryAt = now + l.backoff()\n", "		l.dialing.retryAt = now\n",
		"./pool", "TestBackoff",
	},
	{
		"the tick recedes under load", "server/thread.go",
		"	if ticked {\n		t.nextTick = math.MaxInt64\n	}\n", "	t.nextTick = math.MaxInt64\n",
		"./server", "TestTickUnderLoad",
	},
	{
		"an echo out of its place goes unnoticed", "pool/integrity.go",
		"	if bytes.Equal(reply, want) {", "	if len(reply) > 0 {",
		"./pool", "TestShiftedRepliesAreNoticed",
	},
	{
		"a node that is made a master is not tried before its back-off ends", "pool/link.go",
		"		l.dialing.failures, l.dialing.awaits, l.dialing.refused = 0, 0, false\n		l.dial(now)\n",
		"		l.dialing.failures += 0\n",
		"./pool", "TestNewMasterIsDialedAtOnce",
	},
	{
		"a block's commands leave one by one", "pool/conn.go",
		"			c.put(ch, each, block[from:end], now, 0)\n",
		"			c.put(ch, each, block[from:end], now, 0)\n			c.countRequest(now)\n",
		"./pool", "TestBlockStaysTogether",
	},
	{
		"a client that expects no more replies waits for busy turns to end", "server/thread.go",
		"			case everything || !s.Expecting():", "			case everything:",
		"./server", "TestWritesLeaveOnceATurn",
	},
	{
		"buffers that were needed once are kept for ever", "buffer/spare.go",
		"	if s.unused > keep {", "	if s.unused < 0 {",
		"./buffer", "TestUnusedBuffersAreDropped",
	},
	{
		"a client keeps the queue of its output while it idles", "buffer/output.go",
		"		q.cur, o.q = nil, nil\n		p.putQueue(q)\n", "		q.cur = nil\n",
		"./buffer", "TestUnusedBuffersAreDropped",
	},
	{
		"a little garbage is collected as often as if that cost nothing", "server/host.go",
		"		rest := max(giveLittleRest, giveLittleShare*time.Duration(g.took.Load()))",
		"		rest := giveLittleRest",
		"./server", "TestLittleGarbageIsReturnedSeldom",
	},
	{
		"the memory of clients that have left stays with the process", "server/host.go",
		"	debug.FreeOSMemory()\n", "	debug.SetGCPercent(100)\n",
		"./test/faults", "TestBurstOfClientsLeavesNoMemory",
	},
	{
		"requests for many nodes wait though nothing else is ready", "server/thread.go",
		"	if len(t.waiting.nodes) > 0 && !wasSuspended(t) {", "	if t.waiting.turns == 0 && !wasSuspended(t) {",
		"./server", "TestRequestsForManyNodesShareWrites",
	},
	{
		"each turn writes to each of many nodes", "server/thread.go",
		"		if len(t.waiting.nodes) < manyNodes {", "		if len(t.waiting.nodes) > 0 {",
		"./server", "TestRequestsForManyNodesShareWrites",
	},
	{
		"clients are closed for memory that only waits for nodes", "server/host.go",
		" && clients > limit/2 && ", " && clients > 0 && ",
		"./server", "TestThreadWithTheLargestClientClosesIt",
	},
	{
		"limits.memory bounds nothing", "server/host.go",
		"; total > limit && clients", "; total > 2*limit && clients",
		"./test/faults", "TestMemoryStaysBelowItsLimit",
	},
	{
		"a script is pinned by the first of its KEYS alone", "command/keys.go",
		"		for ; num > 0; num-- {", "		for ; num > 0; num = 0 {",
		"./test", "TestKeysThatLiveApart",
	},
	{
		"a sentinel that is behind is believed", "topology/sentinel.go",
		"	if r.epoch < s.last.epoch {", "	if false {",
		"./topology", "TestBelieveSentinels",
	},
	{
		"a replica is taken for the master that it was", "pool/greeting.go",
		"role != \"master\" {", "role == \"unknown\" {",
		"./pool", "TestGreetingAsksForTheRole",
	},
	{
		"only the first star of a pattern may take more", "command/glob.go",
		"			afterStar, tried = pattern, s\n",
		"			if afterStar == nil {\n				afterStar, tried = pattern, s\n			}\n",
		"./command", "TestGlob",
	},
	{
		"a node that is busy with a script cannot be told to end it", "pool/greeting.go",
		"isBusy(text) && worksWhileBusy(l)", "false",
		"./test", "TestBusyNode",
	},
	{
		"a script that has ended still counts as one that runs", "pool/timeouts.go",
		"c.fifo.at(0).pos < c.script", "c.script > 0",
		"./test/transcripts", "TestTranscripts/stuck",
	},
	{
		"clients take the files that connections to nodes need", "server/host.go",
		"h.open.Load()+int64(opening) <= h.room.Load()", "true || opening == 0",
		"./test/faults", "TestFilesStayFreeForSharedConnections",
	},
	{
		"INFO adds up what every node says alike", "info/merge.go",
		"latest_fork_usec instantaneous_eventloop_* number_of_* engines_count", "latest_fork_usec",
		"./info", "TestMergeInfoFields",
	},
	{
		"an index of one node answers for all", "command/modules.go",
		"		c.Handling, c.Refusal = Whole, indexOfOneNode\n", "		c.Handling = AnyMaster\n",
		"./command", "TestModuleCommandsThatNameTooFewKeys",
	},
	{
		"an element that is an error is taken for its part's error", "command/merge.go",
		"		if errs != nil && errs[at] && len(p) > 0 && p[0] == '-' {", "		if len(p) > 0 && p[0] == '-' {",
		"./command", "TestMerge",
	},
	{
		"JSON.MGET's path goes to one part only", "command/split.go",
		"	for i := args.Len() - c.Tail; i < args.Len(); i++ {", "	for i := args.Len() - c.Tail; i < 0; i++ {",
		"./command", "TestModuleCommandsThatNameTooFewKeys",
	},
	{
		"a master that became a replica goes unnoticed", "topology/survey.go",
		`(!known || f.Unfit != "" || all && !n.Sentinel)`, `(!known || f.Unfit != "")`,
		"./test", "TestDemotedMasterIsLogged",
	},
}
