package main

// inDryrun are planted in the dry run of a next layout, and in what keyways tell of theirs.
var inDryrun = []bug{
	{
		"only two keys of a command are placed by the next layout", "dryrun/router.go",
		"range keys[1:] {", "range keys[1:2] {",
		"./proxy", "TestNextLayoutCounts",
	},
	{
		"a command that waits counts each time", "proxy/engine/dispatch.go",
		"	w.tryNext(cmd, a)\n	return", "	w.tryNext(cmd, a)\n	w.countNext(s)\n	return",
		"./proxy", "TestNextLayoutCountsOnce",
	},
	{
		"each key of a split script has to be with all others", "proxy/engine/routing.go",
		"how != nil {\n			rt.Next", "how == nil {\n			rt.Next",
		"./proxy", "TestNextLayoutOfPerKeyScripts",
	},
	{
		"a transaction has only the keys of its last command", "dryrun/router.go",
		"case k.first == nil:", "case true:",
		"./test", "TestPlanWatches",
	},
	{
		"the placement has the sentinels' passwords", "config/exchange.go",
		"\"addrs\": s.Addrs}", "\"addrs\": s.Addrs, \"password\": s.Password}",
		"./config", "TestPlacementText",
	},
	{
		"a placement from others may name files and more", "config/exchange.go",
		"if !slices.Contains(placementSections, section) {", "if false {",
		"./config", "TestParsePlacementRefuses",
	},
	{
		"a keyway tries the layout of a plan that has ended", "daemon/trials.go",
		"	ts.set(ts.file)\n	ts.log", "	ts.log",
		"./test", "TestPlanWatches",
	},
	{
		"a keyway that was not asked is not missed", "plan/keyways.go",
		"return k.Instance == s.instance }", "return true }",
		"./test", "TestPlanAsksRunningKeyways",
	},
}
