package main

// inReload are planted in what changes the configuration of a running keyway.
var inReload = []bug{
	{
		"a reload moves keys without a word", "wiring/reload.go",
		"c.Moves && !allowMisplaced {", "c.Moves && allowMisplaced {",
		"./test", "TestReloadRefusesWhole",
	},
	{
		"a reload changes one part of what needs a restart", "wiring/reload.go",
		"config.Restart); len(restart) > 0 {", "config.Restart); len(restart) > 1 {",
		"./test", "TestReloadRefusesWhole",
	},
	{
		"the log of a reload shows passwords", "config/changes.go",
		"				change.From, change.To = \"\", \"\"\n", "",
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
		"	if !rt.drains {", "	if rt.drains {",
		"./test", "TestReloadMovesNodeUnderLoad",
	},
	{
		"a client stays blocked at the old address of a node", "proxy/blocking/blocking.go",
		"			b.askToUnblock(of.w, conn)\n", "			_ = conn\n",
		"./test", "TestReloadMovesNode",
	},
	{
		"seeds of another cluster are taken", "wiring/reload.go",
		"|| slices.ContainsFunc(found.Nodes, known) {",
		"|| slices.ContainsFunc(found.Nodes, known) || c != nil {",
		"./test", "TestReloadSeeds",
	},
	{
		"only the first of several passwords is valid", "proxy/answers/auth.go",
		"range w.Options.Passwords {", "range w.Options.Passwords[:1] {",
		"./test", "TestReloadPasswords",
	},
}
