package main

// inOverview are planted in what is known at a glance.
var inOverview = []bug{
	{
		"a node that owes replies and is silent does not stand out", "overview/nodes.go",
		"before.BytesIn == now.BytesIn", "before.BytesIn != now.BytesIn",
		"./overview", "TestFrozenNodeStandsOut",
	},
	{
		"nobody is told what is being lost", "overview/now.go",
		"	all = append(all, s.losses.problems(at)...)\n", "",
		"./overview", "TestLosses",
	},
	{
		"the reason why a node is away is that of the last attempt to connect", "overview/nodes.go",
		`n.cause == "" || now.Reason != "" && !pool.IsNoAnswer(now.Reason)`,
		`now.Reason != "" || pool.IsNoAnswer(n.cause)`,
		"./overview", "TestNodeStates",
	},
	{
		"problems of one kind are one, whatever their severity", "overview/groups.go",
		"alike{p.Kind, p.Severity, p.Help}", `alike{p.Kind, "", p.Help}`,
		"./overview", "TestManyAlikeAreOne",
	},
	{
		"a node whose p99 is that of the others stands out", "overview/nodes.go",
		"p99 > outlier*median", "p99 > median/outlier",
		"./overview", "TestSlowNodeStandsOut",
	},
	{
		"a node that stood still for a moment stands out", "overview/nodes.go",
		"n.slowIntervals(outlier*median) >= lasting", "n.slowIntervals(outlier*median) >= 1",
		"./overview", "TestSlowNodeStandsOut",
	},
	{
		"the last client that was looked at comes first", "clients/top.go",
		"t.isFull && key.compare(t.all[t.count-1].key) > 0", "t.isFull && key.compare(t.all[0].key) > 0",
		"./clients", "TestTopIsTheSortedBeginning",
	},
	{
		"a rate counts a second too few", "overview/sampler.go",
		"if len(s.samples) > windowSamples {", "if len(s.samples) >= windowSamples {",
		"./overview", "TestEveryFigureIsTheMetric",
	},
	{
		"an event is lost if the log's level is above it", "overview/recorder.go",
		"return level >= slog.LevelInfo || h.", "return h.",
		"./overview", "TestLogLinesAreEvents",
	},
	{
		"many events drive changes out of the state", "overview/recorder.go",
		"e.Kind == TopologyEvent || e.Kind == ConfigEvent", "e.Kind == TopologyEvent && e.Kind == ConfigEvent",
		"./overview", "TestManyEventsHideNoChange",
	},
	{
		"many events of nodes drive the others out", "overview/recorder.go",
		"count[e.Kind] > count[most]", "count[e.Kind] > count[most] && most == \"\"",
		"./overview", "TestEventsOfOneKindHideNoOthers",
	},
	{
		"KEYWAY CLIENTS ignores what comes first", "clients/row.go",
		`Sort: strings.ReplaceAll(l.By, "-", "_")`, `Sort: strings.ReplaceAll("commands", "-", "_"+l.By)`,
		"./test", "TestConsoleListsWhatClientsCanAsk",
	},
	{
		"the console takes commands with too many arguments", "console/answer.go",
		"!cmd.ArityOK(len(args) + 1)", "!cmd.ArityOK(len(args)+1) && len(args) < 2",
		"./test", "TestConsoleListsWhatClientsCanAsk",
	},
	{
		"the latency of a command is that since keyway started", "overview/sampler.go",
		"	return now.commands[id].Since(before.commands[id])", "	return *now.commands[id]",
		"./overview", "TestEveryFigureIsTheMetric",
	},
	{
		"the layout as JSON does not say what moves", "admin/layout.go",
		"Node: name(s.Node), From: name(s.From)", "Node: name(s.Node)",
		"./admin", "TestLayoutPlacesKeys",
	},
	{
		"a change that was cancelled is no event", "switching/member.go",
		"		if all[i].Decision == register.Cancelled {", "		if all[i].Decision == register.Go {",
		"./test", "TestSteeringByRequests",
	},
	{
		"nobody sees that clients are paused", "proxy/engine/worker.go",
		"		s.Paused = w.Gate.Left()", "		_ = w.Gate.Left()",
		"./test", "TestPauseByRequest",
	},
	{
		"the time that a client waits in WAIT counts as slowness", "proxy/blocking/wait.go",
		"// WAIT and WAITAOF\n		r.MayBlock()", "// WAIT and WAITAOF\n		r.MayLast()",
		"./test", "TestWaitingIsNotSlow",
	},
	{
		"a blocked client's time is in the slow log", "proxy/engine/call.go",
		"	if r.mayBlock {\n		return\n	}\n", "	if r.mayBlock && w == nil {\n		return\n	}\n",
		"./test", "TestWaitingIsNotSlow",
	},
}
