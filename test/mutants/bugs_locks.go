package main

// inLocks are planted in what watches clients' locks.
var inLocks = []bug{
	{
		"a lock stays in the list after its release", "locks/table.go",
		"		t.endHold(e, ev.At)\n	}\n}", "	}\n}",
		"./locks", "TestSetNXIsALockOnceItIsCompared",
	},
	{
		"another thread's events are lost", "proxy/observe/observe.go",
		"			f.queue.Take(b)\n", "",
		"./test", "TestLockTable",
	},
	{
		"events of several threads are taken batch by batch", "locks/queue.go",
		"	limit = until\n", "	limit = until\n	return q.batches[0], limit\n",
		"./locks", "TestQueueMergesBatches",
	},
	{
		"events of locks take memory without a bound", "locks/queue.go",
		"	if len(b.events) == maxBatch {\n", "	if false {\n",
		"./locks", "TestQueueIsBounded",
	},
	{
		"a script that is no lock's is taken for one", "locks/text.go",
		"		case next == nil:\n			return nil\n", "		case next == nil:\n",
		"./locks", "TestClassify",
	},
	{
		"the release of a lock in a transaction is not seen", "proxy/txn/multi.go",
		"	t.locks = t.locks || cmd.Lock.Changes()\n", "",
		"./test/transcripts", "TestTranscripts/lock-table-multi",
	},
	{
		"time without a node does not count for leases", "proxy/observe/observe.go",
		"		o.table.NodeAway(o.w.Now - o.awaySince)\n", "",
		"./test/transcripts", "TestTranscripts/lock-unsafe-lease",
	},
	{
		"a known script is declared otherwise", "locks/declared.go",
		"	if known != nil {\n", "	if false {\n",
		"./locks", "TestDeclarationsThatContradict",
	},
	{
		"the table grows without a bound", "locks/table.go",
		"	case t.shown.n >= t.cfg.Size:\n", "	case false:\n",
		"./locks", "TestTableIsBounded",
	},
	{
		"an alarm is logged each time", "locks/alarm.go",
		"before && t.now-at < alarmEvery", "before && t.now < at",
		"./locks", "TestAlarms",
	},
	{
		"a lock that is not renewed is not noticed", "locks/table.go",
		"e.how.isRedisson() && e.lease == t.watchdog", "false",
		"./locks", "TestAlarms",
	},
}
