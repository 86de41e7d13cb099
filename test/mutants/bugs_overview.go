package main

// inOverview are planted in what is known at a glance.
var inOverview = []bug{
	{
		"a node that owes replies and is silent does not stand out", "overview/nodes.go",
		"before.BytesIn == now.BytesIn", "before.BytesIn != now.BytesIn",
		"./overview", "TestFrozenNodeStandsOut",
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
}
