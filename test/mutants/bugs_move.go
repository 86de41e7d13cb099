package main

// inMove are planted in the packages that move keys between nodes.
var inMove = []bug{
	{
		"a value is dumped before the destination is watched", "move/link.go",
		"	missing, both, err := l.look(ctx, keys)\n	if err != nil {\n		return nil, err\n	}\n" +
			"	values, err := l.read(ctx, missing)\n	if err != nil {\n		return nil, err\n	}\n",
		"	values, err := l.read(ctx, keys)\n	if err != nil {\n		return nil, err\n	}\n" +
			"	missing, both, err := l.look(ctx, keys)\n	if err != nil {\n		return nil, err\n	}\n",
		"./move", "TestAbsentIsNotRevived",
	},
	{
		"a copy replaces what is at the destination", "move/value.go",
		"v.dump, \"ABSTTL\"}", "v.dump, \"ABSTTL\", \"REPLACE\"}",
		"./move", "TestNothingIsReplaced",
	},
	{
		"a key is removed before the destination has accepted it", "move/link.go",
		"	restored, overtaken, err := l.restore(ctx, values)\n",
		"	if _, err := l.remove(ctx, names(values)); err != nil {\n		return nil, err\n	}\n" +
			"	restored, overtaken, err := l.restore(ctx, values)\n",
		"./move", "TestRefusedCopyStaysAtTheSource",
	},
	{
		"a key that expires while it is read lives for ever", "move/value.go",
		"	case expiry == -2:\n		return v, false, nil // it has expired since DUMP\n	case expiry == -1:",
		"	case expiry < 0:",
		"./move", "TestExpiredKeysDoNotRevive",
	},
	{
		"a key on both nodes is removed without a comparison", "move/settle.go",
		"	if !equal {", "	if !equal && false {",
		"./move", "TestKeysOnBothNodes",
	},
	{
		"a change at the source during the copy is lost", "move/value.go",
		"watch = p.Do(ctx, args(\"WATCH\", keys)...)", "watch = p.Do(ctx, \"PING\")",
		"./move", "TestChangedAtTheSource",
	},
	{
		"the copy does not notice another at the destination", "move/link.go",
		"watch = p.Do(ctx, args(\"WATCH\", keys)...)", "watch = p.Do(ctx, \"PING\")",
		"./move", "TestDeletedWhileCopied",
	},
	{
		"a key is removed before a replica has its copy", "move/link.go",
		"		if l.to.node.hasReplicas {", "		if false {",
		"./move", "TestReplicaHasTheCopyFirst",
	},
	{
		"expiry is not compared", "move/settle.go",
		"	case (expiry == -1) != (v.expiry == 0):\n		return false, true, nil\n", "",
		"./move", "TestKeysOnBothNodes",
	},
	{
		"keys that an older migration has moved hide strays", "migrate/migrate.go",
		"		p.strays.Store(true)\n	}\n",
		"	}\n	p.strays.Store(p.strays.Load() || p.to.place(key) != at)\n",
		"./migrate", "TestStrayIsNotForgotten",
	},
	{
		"only the first database is looked at", "info/keyspace.go",
		"			all = append(all, Database{", "			return append(all, Database{",
		"./test", "TestVerify",
	},
	{
		"a key on its node and on another is taken for unique", "migrate/verify.go",
		"			if there {", "			if there && v.place.place(misplaced[i]) != other {",
		"./test", "TestVerify",
	},
	{
		"a key that was set aside is moved back", "migrate/mover.go",
		" && !move.IsAside(k) {", " {",
		"./test", "TestVerifyRepair",
	},
	{
		"keys of several slots move in one transaction", "migrate/mover.go",
		" || bySlot && slotOf(k) != slot {", " || bySlot && slotOf(k) == slot+1 {",
		"./migrate", "TestBatches",
	},
	{
		"a slow node does not slow the mover down", "migrate/pace.go",
		"p.rate/2, slow", "p.rate, slow",
		"./migrate", "TestPaceFollowsLatency",
	},
	{
		"keys that wait for their batch are forgotten at the end", "migrate/mover.go",
		"			if err := c.flush(); err != nil {\n				return err\n			}\n", "",
		"./test", "TestVerifyRepair",
	},
	{
		"those who move keys do not show themselves", "move/node.go",
		"	if n.announced.name != \"\" {", "	if n.announced.name == \"?\" {",
		"./test", "TestMigrateRefusesTheOppositeWay",
	},
	{
		"two move keys in opposite directions", "migrate/admission.go",
		"target != a.target {", "target == \"\" {",
		"./test", "TestMigrateRefusesTheOppositeWay",
	},
	{
		"keyways that start while keys move go unnoticed", "migrate/migrate.go",
		"		if err := s.watch(moving); err != nil && moving.Err() == nil {",
		"		if err := s.watch(moving); err == nil {",
		"./test", "TestMigrateRefusesServingKeyways",
	},
	{
		"a lost connection ends the scan of a node, and nobody repeats it", "migrate/retry.go",
		"		text := fmt.Sprintf(\"node %s: %v\", failed.Node, failed.Err)\n",
		"		text := \"\"\n		if advanced {\n			return nil\n		}\n",
		"./test", "TestMigrateOutlivesLostConnections",
	},
	{
		"a node that was restarted is trusted to have all keys", "move/presence.go",
		"c.runID == n.seenID", "c.runID != \"\"",
		"./test", "TestMigrateNoticesANodeThatForgets",
	},
	{
		"a key moves onto itself", "move/link.go",
		"	if l.from.runID == l.to.runID {", "	if from.ID == to.ID {",
		"./move", "TestAddressThatLeadsToTheSource",
	},
	{
		"a value that is set aside leaves its slot", "move/aside.go",
		"	if !n.cluster {", "	if true {",
		"./move", "TestMoveInAndOutOfAClusterSlot",
	},
}
