package main

// inMove are planted in the packages that move keys between nodes.
var inMove = []bug{
	{
		"a key that is at the destination counts as moved", "transfer/batch.go",
		"		k.state = both\n", "		b.absent(k)\n",
		"./move", "TestKeysOnBothNodes",
	},
	{
		"a copy replaces what is at the destination", "transfer/value.go",
		"dst := resp.AppendBulkString(resp.AppendArray(b.copies, args), \"RESTORE\")\n" +
			"	dst = appendBulkInt(resp.AppendBulkString(dst, k.Name), expiry)\n",
		"dst := resp.AppendBulkString(resp.AppendArray(b.copies, args+1), \"RESTORE\")\n" +
			"	dst = appendBulkInt(resp.AppendBulkString(dst, k.Name), expiry)\n" +
			"	defer func() { b.copies = resp.AppendBulkString(b.copies, \"REPLACE\") }()\n",
		"./move", "TestNothingIsReplaced",
	},
	{
		"a key is removed before the destination has accepted it", "transfer/batch.go",
		"	case i == b.commands+1:\n		b.executed(doing, reply)\n", "	case i == b.commands+1:\n",
		"./move", "TestNewerValuesAreRefused",
	},
	{
		"a key on both nodes is removed without a comparison", "transfer/settle.go",
		"			b.settlement.readHere()\n", "			k.state = equal\n			b.remove()\n",
		"./move", "TestKeysOnBothNodes",
	},
	{
		"a change at the source during the copy is lost", "transfer/value.go",
		"		b.askKeys(\"WATCH\", missing, missing, \"\")\n", "		b.ask(\"UNWATCH\")\n",
		"./move", "TestChangedAtTheSource",
	},
	{
		"the copy does not notice another at the destination", "transfer/batch.go",
		"	b.askKeys(\"WATCH\", unknown, unknown, b.guard)\n", "	b.ask(\"UNWATCH\")\n",
		"./move", "TestDeletedWhileCopied",
	},
	{
		"a key is removed before a replica has its copy", "transfer/batch.go",
		"	if b.pair.Durable {\n		atMost", "	if false {\n		atMost",
		"./move", "TestReplicaHasTheCopyFirst",
	},
	{
		"expiry is not compared", "transfer/compare.go",
		"		case !s.same || !s.sameExpiry():\n", "		case !s.same:\n",
		"./move", "TestKeysOnBothNodes",
	},
	{
		"a copy that another has made is not waited for", "transfer/compare.go",
		"s.key.state == equal && s.pair.Durable &&", "s.key.state == equal && s.pair.Strict && s.pair.Durable &&",
		"./move", "TestReplicaHasTheCopyFirst",
	},
	{
		"a value is dumped before the destination is watched", "transfer/batch.go",
		"	case looking:\n		b.afterLook(now)\n	case readingValues:\n		b.afterRead(now)\n",
		"	case looking:\n		if b.values > 0 {\n			b.restore()\n" +
			"			return\n		}\n		b.afterLook(now)\n" +
			"	case readingValues:\n		if b.values == 0 {\n" +
			"			b.afterRead(now)\n			return\n		}\n" +
			"		b.send(looking, Destination)\n		b.tryTransaction()\n" +
			"		b.askKeys(\"WATCH\", copied, copied, b.guard)\n",
		"./transfer", "TestKeysUnderFaults",
	},
	{
		"a copy is made outside of the transaction", "transfer/value.go",
		"resp.AppendCommand(b.copies[:0], \"MULTI\")", "resp.AppendCommand(b.copies[:0], \"UNWATCH\")",
		"./transfer", "TestConversation",
	},
	{
		"a copy is sent although transactions are refused", "transfer/exchange.go",
		"	if !isRight {", "	if !isRight && i > 1 {",
		"./transfer", "TestRefusedTransaction",
	},
	{
		"the last millisecond of a lease becomes for ever", "transfer/value.go",
		"			b.reading.expiry = max(b.reading.expiry, 1)\n",
		"			if b.reading.expiry == 0 {\n				b.reading.expiry = never\n			}\n",
		"./transfer", "TestLastMillisecond",
	},
	{
		"a copy comes after all keys were flushed", "transfer/batch.go",
		"	b.askKeys(\"WATCH\", unknown, unknown, b.guard)\n",
		"	b.askKeys(\"WATCH\", unknown, unknown, \"\")\n",
		"./transfer", "TestKeysUnderFaults",
	},
	{
		"a copy does not look whether its guard is there", "transfer/guard.go",
		"b.isGuarded = ok && n == 1; !ok", "b.isGuarded = ok; !ok",
		"./transfer", "TestGuardIsThere",
	},
	{
		"a guard is left behind", "transfer/batch.go",
		"	if b.isGuarded && (b.failure", "	if b.isGuarded && b.attempts > maxAttempts && (b.failure",
		"./transfer", "TestGuardIsThere",
	},
	{
		"a failover brings a key back that had moved", "transfer/batch.go",
		"	b.stale = b.stale || b.pair.Strict\n", "",
		"./transfer", "TestConversation",
	},
	{
		"an expired lease comes back because clocks differ", "transfer/pair.go",
		"c.readings[2]-c.readings[1]", "c.readings[2]-c.readings[1]+time.Minute",
		"./transfer", "TestKeysUnderFaults",
	},
	{
		"a lease gets shorter because clocks differ", "transfer/pair.go",
		"c.readings[2]-c.readings[1]", "c.readings[0]-c.readings[1]",
		"./transfer", "TestKeysUnderFaults",
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
		" && !transfer.IsAside(k) && ", " && ",
		"./test", "TestVerifyRepair",
	},
	{
		"keys of several slots move in one transaction", "migrate/mover.go",
		" || bySlot && slotOf(k) != slot {", " || bySlot && slotOf(k) == slot+1 {",
		"./migrate", "TestBatches",
	},
	{
		"a switch copies no functions", "reshard/switch.go",
		"	loaded, err := migrate.Equip(ctx, s.work.From, s.work.To)\n",
		"	var loaded []migrate.Loaded\n	var err error\n",
		"./test", "TestFunctionsMove",
	},
	{
		"a slow node does not slow the mover down", "migrate/pace.go",
		"p.rate/2, slow", "p.rate, slow",
		"./migrate", "TestPaceFollowsLatency",
	},
	{
		"the rate grows again before the slow node has been measured", "migrate/pace.go",
		"		case v == isUnknown && all != isSlow:", "		case v == isUnknown && len(probes) == 0:",
		"./migrate", "TestSlowestOfNodes",
	},
	{
		"a scan that waits for its turn seems to move keys too slowly", "migrate/pace.go",
		"	if n > 0 && least == 0 {", "	if n > 0 {",
		"./migrate", "TestBatchesFollowThePace",
	},
	{
		"all keys are looked at as fast as it goes, also during a pause", "migrate/verify.go",
		"			if err := v.servers.pace.page(ctx, len(v.servers.all)); err != nil {\n" +
			"				return err\n			}\n", "",
		"./migrate", "TestPaceOfLooks",
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
		"		if err := s.watch(beside); err != nil && beside.Err() == nil {",
		"		if err := s.watch(beside); err == nil {",
		"./test", "TestMigrateRefusesServingKeyways",
	},
	{
		"a lost connection ends the scan of a node, and nobody repeats it", "migrate/retry.go",
		"		text := fmt.Sprintf(\"node %s: %s: %v\", failed.Node, failed.Doing, failed.Err)\n",
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
		"a value that is set aside leaves its slot", "transfer/aside.go",
		"	if !inCluster {", "	if true {",
		"./move", "TestMoveInAndOutOfAClusterSlot",
	},
	{
		"a scan goes on over another connection", "move/scan.go",
		"	c := n.database(db).Conn()\n	defer c.Close()\n", "	c := n.database(db)\n",
		"./move", "TestScanOverOneConnection",
	},
}
