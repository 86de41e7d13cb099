package main

// inKeys are planted in what watches hot keys and big keys.
var inKeys = []bug{
	{
		"every N-th access is looked at, not one in N at random", "hotkeys/sampler.go",
		"	return int(math.Log(u) * s.scale)\n", "	return int(s.ratio - 1 + 0*uint64(u))\n",
		"./hotkeys", "TestTurns",
	},
	{
		"an access that was looked at counts once", "hotkeys/tracker.go",
		"	times := t.sampler.ratio * max(a.Times, 1)\n", "	times := max(a.Times, 1)\n",
		"./hotkeys", "TestOneInAHundred",
	},
	{
		"what a key has done before it was seen counts as its own", "hotkeys/table.go",
		"		lightest.count(s, a, c)\n	}\n}\n",
		"		lightest.count(s, a, c)\n		lightest.reads += all - weight\n	}\n}\n",
		"./hotkeys", "TestUniform|TestZipf",
	},
	{
		"a light load is not noticed behind a heavy one", "proxy/observe/traffic.go",
		"	t.w.Pass = t.hot.Gap()\n", "",
		"./proxy", "TestLoadThatFallsIsSeen",
	},
	{
		"the size of a reply in pieces is that of the last one", "proxy/engine/feature.go",
		"		replied = c.received\n", "",
		"./proxy", "TestBigKeysOfCommands",
	},
	{
		"a large value pushes out larger ones", "bigkeys/log.go",
		"if l.seen[i].Bytes < l.seen[smallest].Bytes {", "if false {",
		"./bigkeys", "TestLogKeepsLatestAndLargest",
	},
	{
		"HOTKEYS counts on behind its end", "hotkeys/session.go",
		"return !ends || now < at", "return !ends || now < at || s.of.Duration > 0",
		"./hotkeys", "TestSessionCoversItsTime",
	},
	{
		"HOTKEYS GET has the keys of one thread", "hotkeys/session.go",
		"keys[k.name] += k.bytes", "keys[k.name] = k.bytes",
		"./test", "TestHotKeysLikeRedis",
	},
	{
		"keys of a command with many are looked at beyond the bound", "hotkeys/tracker.go",
		"	if !t.isFirst { // it", "	if false { // it", "./hotkeys", "TestKeysOfACommandCount",
	},
	{
		"numbers between two rules belong to the later one", "router/numbers.go",
		"	if s.all[i].from > number {", "	if false {", "./router", "TestRangeFindsTheRule",
	},
	{
		"numbers of several rules are taken for those of the last", "router/numbers.go",
		"	case begin <= from && end >= to:", "	case end >= to:", "./router", "TestRangeFindsTheRule",
	},
	{
		"where rules are not spread evenly, the one behind is taken", "router/numbers.go",
		"			i = middle + 1", "			i = middle + 2", "./router", "TestRangeFindsTheRule",
	},
}
