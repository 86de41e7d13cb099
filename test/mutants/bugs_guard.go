package main

// inGuard are planted in what looks at the nodes before keyway serves.
var inGuard = []bug{
	{
		"keyway starts over nodes of a cluster that redirects", "wiring/admit.go",
		"r.Peers == 0 || r.Agrees:", "r.Peers >= 0 || r.Agrees:",
		"./test", "TestClusterBehindOtherLayouts",
	},
	{
		"a cluster is said to have the static slots that it does not have", "topology/inspect.go",
		"== id && !owned[slot] {", "== id && owned[slot] {",
		"./test", "TestClusterBehindOtherLayouts",
	},
	{
		"keys that lie elsewhere are not seen", "guard/sample.go",
		"		if owner == id {\n", "		if owner != router.None {\n",
		"./test", "TestKeysElsewhere",
	},
	{
		"keyway starts over keys that clients do not find", "guard/guard.go",
		"	if g.o.Refuse && ", "	if !g.o.Refuse && ",
		"./test", "TestMisplacedKeysRefuseToStart",
	},
	{
		"only the first database of a node is looked at", "guard/sample.go",
		"	for _, db := range dbs {\n		var keys",
		"	for _, db := range dbs[:min(1, len(dbs))] {\n		var keys",
		"./test", "TestFewMisplacedKeysAreAWarning",
	},
}
