package main

// inSwitch are planted in what a switch of the layout does with nodes.
var inSwitch = []bug{
	{
		"a switch carries out the plan of another command", "switching/drive.go",
		" || p.New.Hash != wanted.New.Hash {", " {",
		"./test", "TestChangesPlannedAtOnce",
	},
	{
		"a change shortens the time of a command that blocks", "proxy/blocking/blocking.go",
		"	b.call.Deadline, b.call.AttemptCounts = w.Deadline(), engine.AttemptCounts{}\n", "	b.renew(w)\n",
		"./proxy", "TestBlockedClientOutlivesChanges",
	},
	{
		"with a strict switch, keys move to a node without a replica", "transfer/settle.go",
		"b.side == Destination && !b.pair.Strict:", "b.side == Destination:",
		"./transfer", "TestStrictNodeWithoutReplica",
	},
	{
		"keyways hold commands for another time than the plan says", "switching/member.go",
		"err == nil && o.Hold > 0 {", "err == nil && o.Hold < 0 {",
		"./test/sim", "TestHoldEnds",
	},
	{
		"all keys are remembered that have moved", "proxy/pull/gone.go",
		"len(g.newer) >= most/2 {", "len(g.newer) >= 1<<20 {",
		"./test", "TestRememberedKeys",
	},
	{
		"a repair sets keys aside that have not moved yet", "migrate/verify.go",
		"transfer.IsGuard(k) || from.place(k) == n ||", "transfer.IsGuard(k) ||",
		"./test", "TestVerifyRepairWhileKeysMove",
	},
	{
		"big keys move like others", "migrate/mover.go",
		"if c.bigOver > 0 && k.bytes > c.bigOver {", "if c.bigOver > 1<<40 && k.bytes > c.bigOver {",
		"./test", "TestBigKeys",
	},
	{
		"a node's name means two servers in a switch", "reshard/switch.go",
		"server(n) == server(older.Nodes[at]) {", "true {",
		"./reshard", "TestNamesOfOtherServers",
	},
	{
		"two clusters count as one in a switch", "reshard/switch.go",
		"	case older.Clustered() && !wiring.IsSameCluster(from, to):", "	case false:",
		"./reshard", "TestClustersWithoutNames",
	},
	{
		"clusters of different names place keys alike", "config/placement.go",
		"	case c.Clustered() && c.Slots.Cluster != \"\":", "	case false:",
		"./config", "TestPlacementHash",
	},
	{
		"the keys that are left are estimated by a node that keeps its keys", "mover/job.go",
		"		if known > 0 {\n			share", "		if false {\n			share",
		"./mover", "TestLeft",
	},
	{
		"the pause of a change ends when its home is another node", "switching/records.go",
		"	case former.Pace != nil && former.Paces > own.Paces:", "	case false:",
		"./switching", "TestHomeInherits",
	},
	{
		"a home that starts empty keeps the pace before the pause", "switching/records.go",
		"former.Pace != nil && former.Paces > own.Paces:", "former.Pace != nil && own.Pace == nil:",
		"./switching", "TestHomeInherits",
	},
	{
		"a strict change asks for replicas of nodes that no key leaves", "plan/replicas.go",
		"return n.source() && sends[n.name] ||", "return n.source() ||",
		"./plan", "TestStrictNodesThatTakePart",
	},
	{
		"auto undoes the way back to another home", "reshard/wish.go",
		"last.Entered != nil && last.Entered.Old.Hash == wish", "false",
		"./reshard", "TestTakenBack",
	},
	{
		"a process without files left lets in all clients of a turn", "proxy/engine/node.go",
		"w.Options.HasRoom(w.opening)", "w.Options.HasRoom(0)",
		"./proxy", "TestConnectionsOfOneTurnCount",
	},
	{
		"keyway status does not say that a node is down", "mover/status.go",
		"	for _, b := range s.Behind {\n		i ", "	for _, b := range s.Behind[:0] {\n		i ",
		"./mover", "TestAdvice",
	},
	{
		"keyway status advises to undo a wish", "mover/status.go",
		"func(file string) bool { return file == before }", "func(file string) bool { return file != \"\" }",
		"./mover", "TestAdvice",
	},
	{
		"a frozen process goes on as the one that moves keys", "mover/process.go",
		"last(a.Idle > frozen, b.Idle > frozen), ", "",
		"./mover", "TestWhoMovesKeys",
	},
	{
		"who moves keys makes way for an older process, and all begins anew", "mover/process.go",
		"last(!a.Moves, !b.Moves)", "0",
		"./mover", "TestWhoMovesKeys",
	},
	{
		"a process that cannot reach a node keeps others from moving keys", "mover/process.go",
		"last(a.Stuck, b.Stuck), ", "",
		"./mover", "TestWhoMovesKeys",
	},
	{
		"keys that wait for their turn do not see that there is another rate", "migrate/pace.go",
		"	close(p.changed)\n", "",
		"./migrate", "TestPaceChanges",
	},
	{
		"a pause does not keep keys from moving", "migrate/pace.go",
		"	if p.speed.Paused {\n		return at, p.changed\n", "	if false {\n		return at, p.changed\n",
		"./migrate", "TestPaceChanges",
	},
	{
		"a decided change waits for ever when its command has died", "switching/member.go",
		"	if time.Since(m.decided) < helpAfter {", "	if time.Since(m.decided) < time.Hour {",
		"./test", "TestSwitchOutlivesItsCommand",
	},
	{
		"a node enters an epoch, and connections of earlier ones stay", "switching/flip.go",
		"	return c.kill(ctx, kills)\n", "	return c.kill(ctx, kills[:0])\n",
		"./test", "TestFlipEndsOlderConnections",
	},
	{
		"by user, a node enters an epoch, and connections of earlier ones stay", "switching/flip.go",
		"	for _, user := range f.Users {", "	for _, user := range f.Users[:0] {",
		"./test", "TestFlipEndsOlderConnections",
	},
	{
		"connections are ended before the node is closed for those that come", "switching/flip.go",
		"		if err := c.create(ctx, register.Note(register.ClosingName(to.Epoch))); err != nil {",
		"		if err := error(nil); err != nil {",
		"./test", "TestFlipMeetsLatecomers",
	},
	{
		"a connection that has subscribed and can write stays", "guard/name.go",
		`strings.Contains(flags, "P") && protocol == "2"`, `strings.Contains(flags, "P") && protocol != ""`,
		"./test", "TestFlipEndsOlderConnections",
	},
	{
		"a flip ends connections that only listen", "switching/flip.go",
		" && !of.Subscribed ||", " ||",
		"./test", "TestFlipSparesOthers",
	},
	{
		"a keyway that knows no epochs counts as one of the new epoch", "guard/name.go",
		"const Unsaid = -1", "const Unsaid = 1 << 40",
		"./test", "TestFlipSparesOthers",
	},
	{
		"nodes that refuse names are flipped by names", "switching/flip.go",
		"	if c.named != nil {", "	if false {",
		"./test", "TestFlipRefusals",
	},
	{
		"a node is in an epoch of which its replicas do not know", "switching/replicas.go",
		"(fields[\"state\"] != \"online\" || offset < target)", "offset < 0",
		"./test", "TestFlipWaitsForReplicas",
	},
	{
		"keyways of earlier epochs go on reading from replicas", "switching/flip.go",
		"				return r.endOlder(ctx, epoch)\n", "				return nil\n",
		"./test", "TestFlipWaitsForReplicas",
	},
	{
		"a full node keeps the raised limit", "switching/room.go",
		"commands...), set(limit))", "commands...), set(raised))",
		"./test", "TestFlipOfAFullNode",
	},
	{
		"who decides takes the own decision for the one in force", "switching/records.go",
		"		switch of.Decision {", "		switch d {",
		"./test", "TestDecideOnce",
	},
	{
		"a change to a third layout begins while keys move", "switching/records.go",
		"	case last.Epoch == p.Epoch ||", "	case true || last.Epoch == p.Epoch ||",
		"./test", "TestReverseIsPlanned",
	},
	{
		"a change begins with a layout that is not in force any more", "switching/records.go",
		"	case last.Over() && was != nil && p.Old.Hash", "	case false && last.Over() && was != nil && p.Old.Hash",
		"./switching", "TestPlanBeginsWithTheLayoutInForce",
	},
	{
		"a change is decided although keyways hold commands no more", "switching/drive.go",
		"if isLate = time.Since(began) > atMost;", "if isLate = false;",
		"./test", "TestCommandIsSlow",
	},
	{
		"a connection that gets its name late takes requests of an earlier layout", "pool/greeting.go",
		"	if l.state == Ready { // otherwise", "	if true { // otherwise",
		"./pool", "TestNamedForAnotherLayout",
	},
	{
		"a keyway that has not prepared does not count", "switching/status.go",
		"		if m.Epoch != s.Epoch || m.State != prepared {", "		if m.Epoch != s.Epoch && m.State != \"\" {",
		"./test", "TestSwitchIsRead",
	},
	{
		"commands go on while keyways should hold them", "proxy/pull/wait.go",
		"	case p.holds():\n", "	case false:\n",
		"./test/faults", "TestSwitchCommand",
	},
	{
		"a mover of an earlier epoch goes on", "move/node.go",
		"	if epoch == n.o.Epoch {", "	if true {",
		"./move", "TestKeysMoveInTheirEpoch",
	},
	{
		"a client's command on a moving key leaves before UNLINK is answered", "proxy/pull/pair.go",
		"			pr.send(step)\n",
		"			pr.send(step)\n			if step.To == transfer.Source && step.Replies == 1 {\n" +
			"				for _, k := range pr.batch {\n					pr.arrived(k)\n				}\n" +
			"				pr.p.release()\n			}\n",
		"./test/sim", "TestChangeOfLayout",
	},
	{
		"a former node that was restarted answers reads", "proxy/pull/stay.go",
		"ok && info.Incarnation(text) == before", "ok && info.Incarnation(text) != \"\"",
		"./proxy", "TestReadOfARestartedNode",
	},
	{
		"a client with an account at the nodes reads by that of keyway", "proxy/pull/stay.go",
		"engine.InMulti | engine.Tracks | engine.OfNodes |", "engine.InMulti | engine.Tracks |",
		"./proxy", "TestReadOfAClientThatTracks",
	},
	{
		"a read at the former node overtakes what its client has sent before", "proxy/pull/stay.go",
		"!engine.IsAnswered(who.s) || ", "",
		"./proxy", "TestReadBehindAWrite",
	},
	{
		"a key that has left its former node counts as absent", "proxy/pull/stay.go",
		"		case resp.IsNull(reply):\n", "		case false:\n",
		"./proxy", "TestReadOfAKeyThatStays",
	},
	{
		"keys that had left by an earlier epoch count as gone in the next", "proxy/pull/part.go",
		"p.epoch, p.gone, p.swept = w.LayoutEpoch, gone{}, gone{}", "p.epoch, p.swept = w.LayoutEpoch, gone{}",
		"./test/sim", "TestChangeOfLayout",
	},
	{
		"one node in the new epoch counts as all", "pool/greeting.go",
		"	case l.OfLayout && l.Epoch < l.set.MinEpoch:", "	case false:",
		"./test/sim", "TestChangeOfLayout",
	},
	{
		"a call is sent again though its key may be on the former node", "proxy/engine/redirect.go",
		"of != nil && of.Bring(c, frame) {", "of != nil && ask && of.Bring(c, frame) {",
		"./test/sim", "TestChangeOfLayout",
	},
	{
		"connections that end at the question for the register keep later ones from it", "pool/greeting.go",
		"	case step == stepRegister && !l.WhileBusy:",
		"	case step == stepRegister && !l.WhileBusy && l.dialing.failures < 2:",
		"./pool", "TestEveryNodeIsAskedForItsRegister",
	},
	{
		"RESTORE goes over a socket that watches nothing", "proxy/pull/pair.go",
		"	if conn == pr.destination && pr.watched != 0 &&", "	if conn == nil && pr.watched != 0 &&",
		"./proxy", "TestRestoreOverTheSocketThatWatched",
	},
	{
		"a key goes on to a node from which its slot has moved", "proxy/pull/pair.go",
		"len(k.waiters) > 0 && pr.isOnRoute(k.name) {", "len(k.waiters) > 0 {",
		"./proxy", "TestSlotMovesMeanwhile",
	},
	{
		"the home of a cluster is another node after a failover", "reshard/nodes.go",
		"	if c.Clustered() && t.Slotted() {", "	if c == nil {",
		"./reshard", "TestHomeOfCluster",
	},
	{
		"a replica that is there again is not waited for", "transfer/settle.go",
		"		b.pair.isAlone = false\n", "",
		"./transfer", "TestNodeWithoutReplica",
	},
	{
		"nodes that only the older layout has count as those of the newer", "wiring/wiring.go",
		"	t, err := table(c, nil)\n", "	t, err := Table(c)\n",
		"./wiring", "TestFormerNodes",
	},
	{
		"a table lacks the cluster that has not answered yet", "wiring/changing.go",
		"				if t.IsMoving() {", "				if false {",
		"./wiring", "TestBothClustersAreKnown",
	},
	{
		"records of a layout are forgotten that a keyway's file still has", "reshard/forget.go",
		"		case m.Wish != \"\":", "		case false:",
		"./test", "TestOperatorChangesLayout",
	},
	{
		"a change back that was cancelled ends the change that goes on", "switching/status.go",
		"		if all[i].Decision != register.Cancelled {", "		if all[i].Epoch > 0 {",
		"./switching", "TestCancelledWayBack",
	},
	{
		"waiting for a node's epoch counts as not reaching the node", "pool/greeting.go",
		"		l.dialing.failures = failures\n", "		_ = failures\n",
		"./pool", "TestEndWhileTheEpochBegins",
	},
	{
		"a change begins by itself before all files agree", "reshard/wish.go",
		"m.Placement != serves || m.Wish != wish {", "m.Placement != serves {",
		"./reshard", "TestWishesAgree",
	},
	{
		"a change that was taken back begins by itself again", "reshard/wish.go",
		"o.TakesBack && last.Plan.Old.Hash == wish", "o.TakesBack && last.Plan.Old.Hash == \"\"",
		"./reshard", "TestTakenBack",
	},
	{
		"verify takes every key for one that moves", "migrate/verify.go",
		"v.former != nil && v.former.place(k) == v.node:", "v.former != nil:",
		"./test", "TestChangeUnderWay",
	},
	{
		"a change that is decided counts as none until a node has entered its epoch", "reshard/lastchange.go",
		"at.Epoch > l.Epoch && at.Decision == register.Go:", "at.Epoch > l.Epoch && false:",
		"./test", "TestOperatorChangesLayout",
	},
	{
		"a pass for hash tags counts although their slot is on its way to another node", "proxy/pull/tags.go",
		"	case p.w.Table.FromCluster():\n		pr.checkSlots(all)",
		"	case sk.asking:\n		pr.checkSlots(all)",
		"./test", "TestScriptsWhileSlotsMove",
	},
	{
		"a keyway does not start while keys leave a cluster", "topology/inspect.go",
		"	r.isFormer = t.IsFormer(id)\n", "",
		"./test", "TestScriptsWhileSlotsMove",
	},
}
