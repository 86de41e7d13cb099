package main

// inReload are planted in what changes the configuration of a running keyway.
var inReload = []bug{
	{
		"a new password of a command does not reach the threads", "daemon/running.go",
		"wiring.UsePasswords(p.srv, next)", "error(nil)",
		"./test", "TestPasswordCommandRotates",
	},
	{
		"commands fail when a node refuses a password that has expired", "pool/greeting.go",
		"l.account().Renewed && l.dialing", "!l.account().Renewed && l.dialing",
		"./test", "TestPasswordCommandRotates",
	},
	{
		"open connections keep a token until it expires", "proxy/engine/worker.go",
		"changed && n.account.Renewed", "changed && !n.account.Renewed",
		"./test/transcripts", "TestTranscripts/reload-token",
	},
	{
		"a refused password is not replaced", "server/backend.go",
		"of != nil && pool.PasswordRefused(l)", "of != nil && pool.PasswordRefused(l) && l.Addr == \"\"",
		"./test", "TestPasswordCommandRotates",
	},
	{
		"a command that fails takes the last password away", "passwords/keeper.go",
		"	p.lost++\n", "	p.lost++\n	p.text = \"\"\n",
		"./passwords", "TestKeeperKeepsTheLast",
	},
	{
		"refusals make a command run without a pause", "passwords/keeper.go",
		"now.Add(after(max(0, p.unchanged-1)))", "now.Add(0 * after(p.unchanged))",
		"./passwords", "TestKeeperObeysServers",
	},
	{
		"a command that hangs leaves its processes", "passwords/run.go",
		"syscall.Kill(-cmd.Process.Pid", "syscall.Kill(cmd.Process.Pid",
		"./passwords", "TestRunEnds",
	},
	{
		"a node's own password is that of backend", "proxy/engine/node.go",
		"Accounts[name]; !isOwn {", "Accounts[name]; !isOwn || n.Addr != \"\" {",
		"./test", "TestPasswordsOfSingleNodes",
	},
	{
		"a placement from others can have a command", "config/exchange.go",
		"loginKey(c, path); key != \"\" {", "loginKey(c, path); len(key) > 99 {",
		"./config", "TestParsePlacementRefuses",
	},
	{
		"a reload moves keys without a word", "wiring/reload.go",
		"if allowMisplaced {\n		return nil // to compare",
		"if !allowMisplaced {\n		return nil // to compare",
		"./test", "TestFileWishes",
	},
	{
		"a reload changes one part of what needs a restart", "wiring/reload.go",
		"config.Restart); len(restart) > 0 {", "config.Restart); len(restart) > 1 {",
		"./test", "TestReloadRefusesWhole",
	},
	{
		"a change has the values of secrets", "config/changes.go",
		"				change.From, change.To = \"\", \"\"\n", "",
		"./config", "TestSecretsAreNotShown",
	},
	{
		"a changed password is logged as empty", "config/changes.go",
		`"value", "not shown"}`, `"from", c.From, "to", c.To}`,
		"./test", "TestReloadSaysWhatChanged",
	},
	{
		"a changed weight is not reported", "config/changes.go",
		"f.add(v.Index(i), \"nodes[\"+n.Name+\"]\", \"nodes[]\")", "_ = i",
		"./config", "TestChanges",
	},
	{
		"a listener that was removed still accepts", "server/configure.go",
		"			t.detach(l)\n", "			_ = l\n",
		"./test", "TestReloadListeners",
	},
	{
		"a node that moves drops what is under way", "proxy/engine/routing.go",
		"		w.part(n)\n", "		n.close(w.Now, leftTopology)\n",
		"./test/transcripts", "TestTranscripts/other-layout-commands",
	},
	{
		"a command for a key that has moved overtakes the one before", "proxy/engine/routing.go",
		"	w.epoch++ // clients with calls in flight wait for their replies first; see consume\n" +
			"	w.LayoutEpoch = w.epoch\n",
		"	w.LayoutEpoch++\n	w.epoch = max(w.epoch, 1)\n",
		"./test/transcripts", "TestTranscripts/other-layout-commands",
	},
	{
		"a command that is sent again goes by the number of its old node", "proxy/engine/routing.go",
		"		changeGroup(c.Request.Session, c, group)\n", "",
		"./test/transcripts", "TestTranscripts/other-layout-commands",
	},
	{
		"a transaction goes on at another node than the one that watches", "proxy/txn/multi.go",
		" || w.OwnerOf(t.group) != n {", " || n == nil {",
		"./test/transcripts", "TestTranscripts/other-layout-transactions",
	},
	{
		"a transaction is sent by the number of its old node", "proxy/txn/multi.go",
		"	t.layoutEpoch, t.group = w.LayoutEpoch, -1\n", "	t.layoutEpoch = w.LayoutEpoch\n	return \"\"\n",
		"./test/transcripts", "TestTranscripts/other-layout-transactions",
	},
	{
		"a client stays blocked at the former owner of a key", "proxy/blocking/blocking.go",
		"b.conn.FrameFor(b)) {\n			b.leaves, of.move = true, true\n",
		"b.conn.FrameFor(b)) {\n			b.leaves = true\n",
		"./test/transcripts", "TestTranscripts/other-layout-blocked",
	},
	{
		"a wait ends that another layout has ended before", "proxy/blocking/blocking.go",
		"!b.ended && !b.moves)", "!b.ended)",
		"./test/transcripts", "TestTranscripts/other-layout-blocked",
	},
	{
		"a client's cache stays valid when its layout changes", "proxy/tracking/tracking.go",
		"		t.ForgetAll()\n		t.openAll()\n", "		t.openAll()\n",
		"./test/transcripts", "TestTranscripts/other-layout-tracking",
	},
	{
		"a former owner's reply stays in a client's cache", "proxy/tracking/tracking.go",
		"s.Inflight > 0 && of.w.LayoutEpoch", "s.Inflight < 0 && of.w.LayoutEpoch",
		"./test/transcripts", "TestTranscripts/other-layout-tracking",
	},
	{
		"WAIT counts replicas of other nodes than the client has written to", "proxy/engine/routing.go",
		"		rt.Former.Add(n.Ordinal)\n", "		rt.Former.Drop(rt.Former)\n",
		"./test/transcripts", "TestTranscripts/other-layout-wait",
	},
	{
		"SCAN goes on at another node with the cursor of the former", "proxy/answers/scan.go",
		"return walk.AppendReply(", "_ = walk\n\t\treturn mastersOf(w).AppendReply(",
		"./test/transcripts", "TestTranscripts/other-layout-scan",
	},
	{
		"a client stays blocked at the old address of a node", "proxy/blocking/blocking.go",
		"			b.askToUnblock(of.w, conn)\n", "			_ = conn\n",
		"./test", "TestReloadMovesNode",
	},
	{
		"seeds of another cluster are taken", "wiring/reload.go",
		"		case IsSameCluster(current, t):", "		case IsSameCluster(current, t) || t != nil:",
		"./test", "TestReloadSeeds",
	},
	{
		"a reload makes clients read from replicas what they have just written", "proxy/engine/reads.go",
		"	t.writes.RecordAll(s.seq)\n}\n\n// configure", "}\n\n// configure",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"a command overtakes an earlier one when a reload changes the number of connections", "proxy/engine/node.go",
		"			w.epoch++ // clients with calls", "			// clients with calls",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"a surplus connection is closed before its replies have come", "shared/set.go",
		"		if c.InFlight() > 0 && c.ConnectError() == \"\" {", "		if false {",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"a denied command is executed", "proxy/engine/dispatch.go",
		"	case w.Options.Deny != nil && w.Options.Deny[cmd.ID]:", "	case false:",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"a refused reload leaves the new admin address open", "daemon/reload.go",
		"		n.admin.close()\n", "",
		"./test", "TestReloadAdmin",
	},
	{
		"a node that has refused the former epoch is asked again only later", "proxy/engine/worker.go",
		"changed || otherEpoch {", "changed || otherEpoch && n == nil {",
		"./proxy", "TestOtherGreetingIsTriedAtOnce",
	},
	{
		"keyway reload hides that the file's layout is not in force", "daemon/reload.go",
		"len(k.prepared.Changes) == 0 && inForce == \"\"", "len(k.prepared.Changes) == 0",
		"./test", "TestRegisterWinsOverFile",
	},
	{
		"a reload that refuses a change of one pool applies those of others", "daemon/reload.go",
		"	k.prepared, err = wiring.PrepareReload(ctx, p.srv, k.old, k.next, allowed, p.log)\n",
		"	if k.prepared, err = wiring.PrepareReload(ctx, p.srv, k.old, k.next, allowed, p.log); err == nil {\n" +
			"		k.prepared.Apply()\n	}\n",
		"./test", "TestReloadOfPools",
	},
}
