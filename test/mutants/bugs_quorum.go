package main

// inQuorum are planted where a majority of nodes holds locks.
var inQuorum = []bug{
	{
		"half of the nodes are a majority", "quorum/rule.go",
		"len(r.Nodes)/2 + 1", "len(r.Nodes) / 2",
		"./quorum", "TestAcquireNeedsAMajority",
	},
	{
		"a lock is acquired although its lease is over", "quorum/op.go",
		"return now-o.written < o.group.surely(o.cmd.Lease)", "return now-o.written < o.cmd.Lease*1e6",
		"./quorum", "TestLeaseMustOutlastTheAnswers",
	},
	{
		"a node that has not answered keeps a lock that was not acquired", "quorum/op.go",
		"v.sent && (v.counts() || v.state == asked || v.state == absent) {", "v.counts() {",
		"./quorum", "TestAcquireThatFailsIsUndone",
	},
	{
		"a node that answers other commands counts as absent", "quorum/op.go",
		"	return max(o.began, o.group.Members[i].heard) + int64(o.group.Timeout)",
		"	return o.began + int64(o.group.Timeout)",
		"./quorum", "TestBusyNodeIsNotAbsent",
	},
	{
		"a number that less than a majority has is given out", "quorum/op.go",
		"	if raised >= most {", "	if raised >= 0 {",
		"./quorum", "TestNumberIsRaised",
	},
	{
		"an acquisition that comes late shortens the lease", "quorum/node.go",
		"      ms = math.max(ms, redis.call('PTTL', key))\n", "",
		"./test", "TestLateAcquisitionOnlyProlongs",
	},
	{
		"a lock that is not acquired stays where it was granted", "quorum/op.go",
		"			o.send(i, stepUndo, 0)", "			_ = i",
		"./test", "TestContendedLocksLeaveNothing",
	},
	{
		"a release comes between the two steps of an acquisition", "proxy/quorum/commands.go",
		" || g.Fencing && isAcquiring(s, lock) {", " || g.Fencing && isAcquiring(s, nil) {",
		"./test", "TestQuorumPipelinesOfOneLock",
	},
	{
		"a client reads the number of a lock's former holder", "proxy/quorum/commands.go",
		"		lock, _ = quorum.LockOf(key)", "		_, _ = quorum.LockOf(key)",
		"./test", "TestQuorumPipelinesOfSeveralLocks",
	},
	{
		"only a client's last attempt is awaited", "proxy/quorum/running.go",
		"		r.attempt.before = lastAttempt.Get(s).withoutEnded()", "",
		"./test", "TestQuorumPipelinesOfSeveralLocks",
	},
	{
		"a clock that has jumped is not noticed", "quorum/node.go",
		"	case low > c.high+drift+clockMargin:", "	case low > c.high+drift+1<<60:",
		"./quorum", "TestLocksUnderFaults",
	},
	{
		"a node that has restarted votes", "quorum/node.go",
		"  redis.call('SET', KEYS[4], 1, 'PX', longest)\n", "",
		"./test", "TestQuorumNodesThatRestartWait",
	},
	{
		"a renewed lock is not set on nodes that lack it", "quorum/node.go",
		"  set(ARGV[5], since < tonumber(now) and ARGV[10] or now)\n", "",
		"./test", "TestQuorumLockSurvivesOneRestartAfterAnother",
	},
	{
		"a client's token lets another client acquire its lock again", "quorum/node.go",
		"(by == ARGV[5] or by == ARGV[6])", "true",
		"./test", "TestQuorumLockReplies",
	},
	{
		"a client acquires a lock with its token that a renewal has set again", "quorum/node.go",
		"by ~= '' and ", "",
		"./test", "TestQuorumLockSurvivesOneRestartAfterAnother",
	},
	{
		"a lock node that has forgotten locks can be made to vote", "topology/lockvote.go",
		"		if lost != \"\" {", "		if lost == \"none\" {",
		"./test", "TestLocksVote",
	},
	{
		"a lock node with leases that end too early can be made to vote", "topology/lockvote.go",
		"other.lease > 0 && l.lease >= other.lease", "other.lease > 0",
		"./test", "TestLocksVote",
	},
	{
		"a reload replaces a majority of the nodes of a rule", "wiring/lockrules.go",
		"n < is.Majority()", "n < 0",
		"./wiring", "TestRulesThatLoseLocksAreRefused",
	},
	{
		"the table of locks lacks those of a majority", "proxy/quorum/running.go",
		"	req.Witness(cmd, a, req.Call.Node)\n", "",
		"./test", "TestQuorumLocksAreSeen",
	},
	{
		"the log does not say that locks have lost their majority", "proxy/quorum/watch.go",
		"now < last.health || last.better == steady", "last.better == steady",
		"./test", "TestLockNodesAreWatched",
	},
	{
		"a lock node that fails again and again fills the log", "proxy/quorum/watch.go",
		"steady = 3", "steady = 1",
		"./proxy", "TestLockNodeThatFailsAgainAndAgainIsLoggedOnce",
	},
	{
		"the log says again and again that a lock node waits", "proxy/quorum/watch.go",
		"at-until > waitMargin", "at-until >= -waitMargin",
		"./proxy", "TestLockNodeThatWaitsIsLoggedOnce",
	},
	{
		"a client that fails to acquire its lock again loses it", "quorum/node.go",
		"set('again ' .. ARGV[5])", "set(ARGV[5])",
		"./test", "TestQuorumFailedReentryKeepsLock",
	},
	{
		"a release that comes late frees the next client's lock", "quorum/node.go",
		"at > since", "at < 0",
		"./test", "TestLateReleaseKeepsNextLock",
	},
	{
		"a late undo frees a lock that another client with its token has renewed", "quorum/node.go",
		"if by and by ~= '' then", "if false then",
		"./test", "TestLateUndoKeepsRenewedLock",
	},
	{
		"a slow node keeps a lock that its client has released", "quorum/op.go",
		"case v.state == newer && v.answer.by == o.concerned():", "case false:",
		"./test", "TestLateLocksAreReleased",
	},
	{
		"a node sets a lock whose release has come first", "quorum/node.go",
		"if by == 'freed ' .. ARGV[5] then", "if false then",
		"./test", "TestLocksThatComeAfterTheirRelease",
	},
	{
		"nodes that lack a freed lock are not told which it was", "quorum/op.go",
		"if attempt != unknown && attempt != o.cmd.ID {", "if false {",
		"./quorum", "TestNodesThatLackAFreedLockAreTold",
	},
	{
		"a release that is sent with its lock does not know which it is", "proxy/quorum/running.go",
		"		lastAttempt.Set(s, r.attempt)\n", "",
		"./test", "TestQuorumPipelinesOfOneLock",
	},
	{
		"a release that knows its attempt frees another that is as old", "quorum/node.go",
		"return attempt ~= ARGV[5] end", "return false end",
		"./test", "TestLateReleaseOfAKnownAttempt",
	},
}
