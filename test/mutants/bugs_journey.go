package main

// inJourney are planted in what records single commands, for traces and the access log.
var inJourney = []bug{
	{
		"a command whose client has left has no line", "proxy/engine/journeys.go",
		"	j.IsCut = true\n	js.end(j)\n", "	js.release(j)\n",
		"./proxy", "TestClientsThatLeaveAreRecorded",
	},
	{
		"the name of an unknown command is shown", "proxy/engine/journeys.go",
		"	if cmd == nil {\n		return\n",
		"	if cmd == nil {\n		j.Command = string(a.Arg(0))\n		return\n",
		"./proxy", "TestEveryCommandIsRecordedOnce",
	},
	{
		"a slow command's journey begins behind its redirects", "proxy/engine/journeys.go",
		"		js.follow(c, frame)\n	}\n	js.attempt(c, written, journey.Code(reply))",
		"	}\n	js.attempt(c, written, journey.Code(reply))",
		"./proxy", "TestSlowCommandsAreRecorded",
	},
	{
		"a command that fails because its node is away is not counted there", "proxy/engine/call.go",
		"	c.Node.failed.NotExecuted++\n	if", "	if",
		"./test", "TestFailuresAreCountedAtTheNode",
	},
	{
		"of many requests that a silent node owes, one counts as a timeout", "pool/timeouts.go",
		"c.Stats.Timeouts += overdue(c, i, now)", "c.Stats.Timeouts += min(overdue(c, i, now), 1)",
		"./pool", "TestSilentNodeIsGivenUp",
	},
	{
		"a blocked client that leaves was at no node", "proxy/blocking/blocking.go",
		"		engine.RecordAttempt(c, conn, p)\n", "		_ = conn\n",
		"./test", "TestAccessLogOfCommandsThatWait",
	},
	{
		"a split command has a try for each slot", "journey/journey.go",
		"if j.IsSplit && a.Result == \"\" && j.joined(&a)", "if j.IsSplit && a.Result != \"\" && j.joined(&a)",
		"./journey", "TestCallsAtANodeAreJoined",
	},
	{
		"all distances between chosen commands are the same", "journey/sampler.go",
		"s.random.Uint64N(2*uint64(c.every)-1)", "uint64(c.every) - 1",
		"./journey", "TestSamplerMeetsItsShare",
	},
	{
		"a command that has to wait is not recorded when it begins", "journey/sampler.go",
		"	s.owed, s.skip = chosen, 0\n", "	_ = chosen\n",
		"./journey", "TestSamplerOwes",
	},
	{
		"traces show keys that nobody has asked for", "traces/spans.go",
		"j.Keys > 0 && e.o.HasKeys", "j.Keys > 0",
		"./traces", "TestSpans",
	},
	{
		"lines that could not be written count as written", "accesslog/log.go",
		"l.Counts.Failed.Add(l.lines)", "l.Counts.Written.Add(l.lines)",
		"./accesslog", "TestFileThatCannotBeWritten",
	},
}
