package main

// inGuard are planted in what looks at the nodes before keyway serves.
var inGuard = []bug{
	{
		"keyway starts beside one with another placement", "guard/guard.go",
		"	if g.o.Refuse && len(others) > 0 {", "	if !g.o.Refuse && len(others) > 0 {",
		"./test", "TestDisagreeingKeyways",
	},
	{
		"a keyway with another placement is not seen", "guard/peers.go",
		"case p.placement == self:", "case p.placement != self:",
		"./test", "TestDisagreeingKeyways",
	},
	{
		"the ranges of a rule are not part of the placement", "config/placement.go",
		"append(parts, r.placement())", "append(parts, r.Node)",
		"./config", "TestPlacementHash",
	},
	{
		"a node that does not know CLIENT SETNAME is not used", "pool/greeting.go",
		"	case isErr && g.step == stepName &&", "	case isErr && g.step == stepAuth &&",
		"./test", "TestNodesWithoutNames",
	},
	{
		"a node that closes at CLIENT SETNAME is sent it for ever", "pool/link.go",
		"	l.greeting.noName = atName\n", "",
		"./pool", "TestNodeThatClosesAtTheName",
	},
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
		"	if g.o.Refuse && slices", "	if !g.o.Refuse && slices",
		"./test", "TestMisplacedKeysRefuseToStart",
	},
	{
		"only the first database of a node is looked at", "guard/sample.go",
		"	for _, db := range dbs {\n		var keys",
		"	for _, db := range dbs[:min(1, len(dbs))] {\n		var keys",
		"./test", "TestFewMisplacedKeysAreAWarning",
	},
}
