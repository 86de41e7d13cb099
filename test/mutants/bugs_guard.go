package main

// inGuard are planted in what looks at the nodes before keyway serves.
var inGuard = []bug{
	{
		"FUNCTION FLUSH removes the register", "proxy/answers/functions.go",
		"	names, _ := register.Names(list)\n",
		"	names, _ := register.Names(list)\n	names = append(names, \"keyway_1\")\n",
		"./test", "TestFunctionsLikeRedisBesideARegister",
	},
	{
		"FUNCTION RESTORE brings in another register", "proxy/answers/functions.go",
		"	case d.Records == 0:\n", "	case true:\n",
		"./test", "TestFunctionsLikeRedisBesideARegister",
	},
	{
		"FUNCTION LIST in a transaction shows the register", "proxy/txn/multi.go",
		"h == command.AnyMaster && !mayBeLate(w, cmd)", "h == command.AnyMaster",
		"./test", "TestFunctionsLikeRedisBesideARegister",
	},
	{
		"FUNCTION STATS counts the register", "proxy/blocking/wait.go",
		"	if e.records > 0 && p.Whole() {", "	if false {",
		"./test", "TestFunctionsLikeRedisBesideARegister",
	},
	{
		"a node of a later epoch is used", "pool/greeting.go",
		"	case l.Epoch > l.set.Epoch:", "	case false:",
		"./test", "TestRegisterAppears",
	},
	{
		"a connection is greeted without the question for the register", "pool/greeting.go",
		"	case step == stepRegister && !l.", "	case step == stepRegister && false && !l.",
		"./pool", "TestGreetingReadsTheRegister",
	},
	{
		"a busy node counts as one that refuses names", "pool/greeting.go",
		"	if g.noName && !g.unread {", "	if g.noName {",
		"./pool", "TestBusyNodeIsNotNameless",
	},
	{
		"a node that was too busy for the question is not asked again", "pool/link.go",
		"	case l.greeting.unread && l.state == Ready:", "	case false:",
		"./test", "TestBusyNodeHidesNoEpoch",
	},
	{
		"a node that ends connections of earlier epochs is used by those of the new one", "pool/greeting.go",
		"	case closing == l.set.Epoch && closing > 0:", "	case false:",
		"./pool", "TestGreetingReadsTheRegister",
	},
	{
		"what was placed by an earlier layout leaves when the node is greeted by the new one", "pool/greeting.go",
		"	if l.traffic.busy() && l.dialing.epoch < l.set.Epoch {", "	if false {",
		"./pool", "TestQueuedForAnotherLayout",
	},
	{
		"a connection stays without a name because the last one ended", "pool/greeting.go",
		"		if reply[0] != '-' && g.noName {", "		if false {",
		"./pool", "TestConnectionThatEndedAtTheName",
	},
	{
		"keyway starts by the file although the nodes have a register", "daemon/served.go",
		"	cfg, err := wiring.InForce(ctx, cfg, nil, p.log)\n", "	var err error\n",
		"./test", "TestRegisterWinsOverFile",
	},
	{
		"verify looks while keys move", "wiring/register.go",
		"	if older := config.Older(next); older != nil {\n		return nil, c.",
		"	if older := next; false {\n		return nil, c.",
		"./test", "TestChangeUnderWay",
	},
	{
		"requests that were placed anew end the next link, too", "pool/link.go",
		"	l.dialing.epoch = l.set.Epoch // requests", "	// requests", "./pool", "TestRequestsOfAnEarlierEpoch",
	},
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
		"	case stepName, stepID:", "	case stepAuth, stepID:",
		"./test", "TestNodesWithoutNames",
	},
	{
		"a node that closes at CLIENT SETNAME is sent it for ever", "pool/greeting.go",
		"	return l.endedAt(stepName) || l.greeting.noName", "	return false && l.greeting.noName",
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
		"the first hash that explains most keys is named", "guard/cause.go",
		"case n > most:", "case n > most && len(names) == 0:",
		"./test", "TestMisplacedKeysOfAnotherHash",
	},
	{
		"only the first database of a node is looked at", "guard/sample.go",
		"	for _, db := range dbs {\n		var keys",
		"	for _, db := range dbs[:min(1, len(dbs))] {\n		var keys",
		"./test", "TestFewMisplacedKeysAreAWarning",
	},
	{
		"many keyways look at replicas as often as one", "freshness/lag.go",
		"max(least, time.Duration(r.lookers)*time.Second/looksPerSecond)", "least",
		"./freshness", "TestManyLookLessOften",
	},
	{
		"many keyways list a node's clients as often as one", "guard/peers.go",
		"control.Interval(peerInterval, keyways*bytes, float64(peerBytes*nodes))", "peerInterval",
		"./guard", "TestCensus",
	},
	{
		"reads leave keyway's zone", "proxy/engine/reads.go",
		"r.inZone && r.readable(s, since)", "!r.inZone && r.readable(s, since)",
		"./test", "TestReadsStayInTheZone",
	},
}
