package main

// inUsers are planted in what users may do.
var inUsers = []bug{
	{
		"a transaction acts in the database of its watched keys", "proxy/txn/adapt.go",
		"\"SELECT\", strconv.Itoa(db)}", "\"SELECT\", strconv.Itoa(0*db)}",
		"./test", "TestWatchedInAnotherDatabase",
	},
	{
		"a transaction is answered in the protocol of the time of WATCH", "proxy/txn/adapt.go",
		"	case resp3 != c.RESP3:", "	case resp3 != c.RESP3 && false:",
		"./test", "TestWatchedInAnotherProtocol",
	},
	{
		"all users read from where the file says", "options/worker.go",
		"; isOwn {\n		return r", "; isOwn && r == FromMaster {\n		return r",
		"./test", "TestReadsOfUser",
	},
	{
		"a client that becomes another user goes on reading from the same nodes", "proxy/answers/auth.go",
		"	w.Reads.Decide(s)\n", "",
		"./test", "TestReadsOfUser",
	},
	{
		"replicas are not measured for a user who has come by a reload", "proxy/engine/reads.go",
		"	rd.inUse = w.Options.UsesReplicas()\n	switch", "	switch",
		"./test", "TestReloadReadsOfUsers",
	},
	{
		"commands behind AUTH overtake those of the former database", "proxy/answers/auth.go",
		"s.Inflight == 0 || u == nil ||", "s.Inflight >= 0 || u == nil ||",
		"./test", "TestDatabaseOfUserInOrder",
	},
	{
		"a client that authenticates again loses its database", "acl/users.go",
		"return u.Name != next.Name && (", "return (",
		"./test", "TestDatabaseOfUser/ring",
	},
	{
		"a node that lacks the database of a user is not refused", "topology/inspect.go",
		"control.IsReply(err) {\n				refusals", "err == nil {\n				refusals",
		"./test", "TestDatabaseOfUserThatIsNotThere",
	},
	{
		"users of the nodes share connections", "shared/set.go",
		"return s.Conns[i].Mode == m",
		"like := s.Conns[i].Mode; if like.User != nil && m.User != nil { like.User = m.User }; return like == m",
		"./proxy", "TestNodesUsersShareNoConnection",
	},
	{
		"keyway's new password goes over connections of the nodes' users", "proxy/engine/node.go",
		"c.User == nil && (c.State() == pool.Ready ||", "(c.State() == pool.Ready ||",
		"./proxy", "TestNewPasswordIsNotForNodesUsers",
	},
	{
		"connections are ready before the node has accepted the user", "pool/greeting.go",
		"		last = stepUser\n", "		last = stepID\n",
		"./pool", "TestGreetingEndsAsTheUser",
	},
	{
		"a connection that is still inside MULTI goes on", "pool/conn.go",
		"				wrong = to.Ends(piece)\n", "				_ = to.Ends(piece)\n",
		"./pool", "TestReplyThatEndsTheConnection",
	},
	{
		"commands that keyway answers are open to users of the nodes", "proxy/engine/users.go",
		"return isForwarded(w, cmd) || cmd.Has", "return !isForwarded(w, cmd) || isForwarded(w, cmd) || cmd.Has",
		"./test", "TestNoCommandBypassesNodesRules",
	},
	{
		"a client of a user of the nodes goes to another process", "proxy/handover/handover.go",
		"engine.Monitoring|engine.OfNodes) || !tracksPortably(s) {", "engine.Monitoring) || !tracksPortably(s) {",
		"./proxy", "TestClientsOfNodesUsersStay",
	},
	{
		"clients hear what the nodes' rules no longer allow", "proxy/pubsub/pubsub.go",
		"if !may && s.Login == of.login", "if !may && s.Login != of.login",
		"./test", "TestNodesUsersChange",
	},
	{
		"only the first of several passwords is valid", "acl/users.go",
		"range u.passwords {", "range u.passwords[:1] {",
		"./acl", "TestAuthenticate",
	},
	{
		"a user who is off can authenticate", "acl/users.go",
		"u == nil || !u.enabled", "u == nil",
		"./acl", "TestAuthenticate",
	},
	{
		"a user may write keys that the rules let it read", "acl/selector.go",
		"p.use&use == use &&", "(p.use&use != 0 || use == 0) &&",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"only the first key of a command is checked", "acl/selector.go",
		"range mem.at {", "range mem.at[:min(1, len(mem.at))] {",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"a pattern of channels is allowed if a rule matches it", "acl/selector.go",
		"!isPattern && p.matches(channel)", "p.matches(channel)",
		"./acl", "TestPatternsOfChannels",
	},
	{
		"a forbidden container leaves its subcommands allowed", "acl/selector.go",
		"		s.setCommand(&c.Subs[i], allow)\n", "		_ = i\n",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"a transaction runs although its user has lost the rights", "proxy/txn/multi.go",
		"t.user != s.User && !mayStillRun", "t.user == nil && !mayStillRun",
		"./test", "TestUsersReload",
	},
	{
		"a changed user shares its patterns with the former one", "acl/change.go",
		"slices.Clone(s.keys), slices.Clone(s.channels)", "s.keys, slices.Clone(s.channels)",
		"./acl", "TestSetChangesNoOthers",
	},
	{
		"commands behind ACL SETUSER do not wait for it", "proxy/engine/users.go",
		"	s.Set(Draining | Blocked)\n	task.By", "	task.By",
		"./test", "TestUserChangesLikeRedis",
	},
	{
		"a reload forgets what ACL SETUSER has changed", "server/users.go",
		"	if !c.Users {", "	if s.o.Streams {",
		"./test", "TestUserChangesAndReloads",
	},
	{
		"the file that ACL SAVE has written undoes later changes", "daemon/usersfile.go",
		"	p.cfg.Store(next) // so that", "	_ = next // so that",
		"./test", "TestUserChangesAndReloads",
	},
	{
		"a certificate makes its client a user who is off", "proxy/engine/users.go",
		"u != nil && u.Enabled()", "u != nil",
		"./test", "TestUserFromCertificate",
	},
	{
		"a client that leaves stays counted for its user", "proxy/limiting/limiter.go",
		"		s.Share.Leave()\n", "		_ = s.Share\n",
		"./test", "TestMaxClientsOfUser",
	},
	{
		"a thread whose clients wait takes all that a user may run", "quota/account.go",
		"isNext := others == 0 ||", "isNext := others >= 0 ||",
		"./quota", "TestThreadsShareTheRate",
	},
	{
		"a user may use what it has saved for hours", "quota/account.go",
		"return max(spent, now-max(int64(burst), cost(1, rate)))", "return spent + min(0, int64(burst), now)",
		"./quota", "TestNothingIsSavedBeyondTheBurst",
	},
	{
		"replies do not count for the rate of a user", "proxy/engine/session.go",
		"s.Share.SpendBytes(n)", "s.Share.SpendBytes(n - n)",
		"./test", "TestByteRateOfUser",
	},
	{
		"commands that a thread hands over are lost", "quota/share.go",
		"s.of.Hand(s, next, n)", "s.of.Hand(s, next, n-n)",
		"./quota", "TestCommandsUnderWayAreBounded",
	},
	{
		"a blocked client counts as a command under way", "proxy/blocking/blocking.go",
		"	r.MayBlock()\n	b :=", "	b :=",
		"./test", "TestBlockedAreNotInFlight",
	},
	{
		"ACL SETUSER reset forgets what the configuration denies", "acl/rules.go",
		"u.Settings = settings", "u.Prefix = settings.Prefix",
		"./test", "TestDeniedToUser",
	},
	{
		"a client that has waited for too long waits on", "proxy/limiting/limiter.go",
		"case s == l.refusing:", "case s == l.refusing && u.Delayed == 0:",
		"./test", "TestRateRefuses",
	},
	{
		"a client whose AUTH waits can send without end", "proxy/engine/input.go",
		"if len(s.In) >= buffer.Chunk && !s.Reading() {", "if len(s.In) < 0 {",
		"./test", "TestInputOfBlockedClientIsBounded",
	},
	{
		"a user that the nodes delete watches on by MONITOR", "proxy/answers/monitor.go",
		"if !may && s.Login == login", "if !may && s.Login != login",
		"./test", "TestMonitorOfNodesUsersEnds",
	},
	{
		"a command counts for the user who its client has become since", "proxy/engine/line.go",
		"w.Stats.Count(r.Command.ID, w.Now-r.start, failed, r.tally)",
		"w.Stats.Count(r.Command.ID, w.Now-r.start, failed, r.Session.tally)",
		"./test", "TestFiguresByUser",
	},
	{
		"what deleted users did is lost from the sum", "proxy/engine/tallies.go",
		"		others.Add(t)\n", "		others.Add(new(metrics.UserStats))\n",
		"./test", "TestUsersAreBounded",
	},
	{
		"any number of users have figures of their own", "server/users.go",
		"len(p.names) >= metrics.MaxUsers && !hasLimits", "len(p.names) >= 9*metrics.MaxUsers && !hasLimits",
		"./test", "TestUsersAreBounded",
	},
	{
		"any user acts at the admin address, whatever its rules", "admin/users.go",
		"mayAct = mayAct && u.MayAct(right)", "mayAct = mayAct && u.CanAct()",
		"./test", "TestUsersAct",
	},
	{
		"users who need no password act", "acl/users.go",
		"u.enabled && !u.noPass && len(u.passwords) > 0", "u.enabled",
		"./test", "TestNobodyActsWithoutPasswords",
	},
	{
		"passwords can be guessed at the admin address", "admin/users.go",
		"			o.brake.count(r)\n", "",
		"./test", "TestGuessesAtTheAdminAddress",
	},
}
