package main

// inMoving are planted in what commands do that meet keys while these move to the nodes of another
// layout.
var inMoving = []bug{
	{
		"SCAN makes one round while keys move", "scan/cursor.go",
		"m.state&moving != 0 && !at.isAgain", "m.state&moving != 0 && at.isAgain && at.Own > 0",
		"./test", "TestScanWhileKeysMove",
	},
	{
		"a cursor of SCAN is valid in another epoch", "scan/cursor.go",
		"	if n != m.cursor(at) || at.Master >= m.n {", "	if (n^m.cursor(at))<<7 != 0 || at.Master >= m.n {",
		"./scan", "TestCursorOfOtherEpochs",
	},
	{
		"the last page of SCAN counts although keys have begun to move", "scan/cursor.go",
		"	case now != m:", "	case now != m && now.n > m.n:",
		"./scan", "TestCursorOfOtherEpochs",
	},
	{
		"FLUSHALL makes one round while keys move", "proxy/engine/split.go",
		"sw.rounds >= 1+oneIf(w.Table.IsMoving())", "sw.rounds >= 1",
		"./proxy", "TestFlushInTwoRounds",
	},
	{
		"a round of KEYS counts during which keys have begun to move, or have moved", "proxy/engine/split.go",
		"		sw.epoch, sw.rounds = w.LayoutEpoch, 0", "		sw.epoch = w.LayoutEpoch",
		"./proxy", "TestKeysInTwoRounds",
	},
	{
		"MOVE does not find the key of the other database", "proxy/pull/wait.go",
		"cmd.Elsewhere(a); key > 0 {", "cmd.Elsewhere(a); key > 2 {",
		"./test", "TestDatabasesWhileKeysMove",
	},
	{
		"SORT does not find the keys that its patterns name", "proxy/pull/wait.go",
		"	case cmd.Action == command.DoSort:", "	case cmd.Action == command.DoSort && len(p.keys) > 2:",
		"./test", "TestSortWhileKeysMove",
	},
	{
		"a pipeline waits for each of its keys in turn", "proxy/pull/part.go",
		"			p.lookAhead(who.s)\n", "			_ = who.s\n",
		"./proxy", "TestPipelineWaitsForItsKeysTogether",
	},
	{
		"keys behind SELECT are looked for in the database before it", "proxy/pull/ahead.go",
		"		if !isPlain || a.Len() > maxBehind {", "		if a.Len() > maxBehind || isPlain && a.Len() < 0 {",
		"./proxy", "TestPipelineWaitsForItsKeysTogether",
	},
	{
		"nobody counts the arguments of commands that are looked at ahead", "proxy/engine/users.go",
		"	case !cmd.ArityOK(a.Len()), w.Options.Deny", "	case w.Options.Deny",
		"./proxy", "TestAnyCommandBehind",
	},
	{
		"keys for which nobody waits come first", "proxy/pull/pair.go",
		"	if first.size == 0 {", "	if pr.ahead.size > 0 {",
		"./proxy", "TestWaitingClientsComeFirst",
	},
	{
		"a key that its former node has counts as gone while a batch is under way", "proxy/pull/pair.go",
		"	case !k.isThere && !pr.isStrict():", "	case !pr.isStrict():",
		"./proxy", "TestRoundTripsOfAKey",
	},
	{
		"a key that has left is refused because its new node is full", "proxy/pull/pair.go",
		"		case full && pr.batch[i].isDue:\n", "		case false:\n",
		"./proxy", "TestAbsentKeyOnAFullNode",
	},
	{
		"a key that has left waits for the batch of others", "proxy/pull/pair.go",
		"	if len(pr.batch) > 0 && !k.isDue", "	if len(pr.batch) > 100 && !k.isDue",
		"./proxy", "TestRoundTripsOfAKey",
	},
	{
		"batches begin in vain for keys that have left", "proxy/pull/pair.go",
		"pr.present = max(pr.present-goneWeighs, 0)", "pr.present = max(pr.present, 0)",
		"./proxy", "TestRoundTripsOfAKey",
	},
	{
		"a key is refused because the keys beside it do not fit", "proxy/pull/pair.go",
		"pr.isAlone, full = true, false", "pr.isAlone = true",
		"./proxy", "TestKeyThatFits",
	},
	{
		"large keys for which nobody waits fill batches", "proxy/pull/pair.go",
		"		case k.isThere && k.bytes <= room:", "		case k.isThere:",
		"./proxy", "TestLargeKeysMoveInSmallBatches",
	},
	{
		"the keys of clients that have left stay wanted", "proxy/pull/ahead.go",
		"	if p.unmet <= others/2 {", "	if p.unmet >= 0 {",
		"./proxy", "TestDepartedClientsLeaveNothing",
	},
	{
		"hash tags of clients that have left stay wanted", "proxy/pull/tags.go",
		"dropOver(t.waiters); len(t.waiters) > 0 {", "dropOver(t.waiters); len(t.waiters) >= 0 {",
		"./proxy", "TestDepartedClientsLeaveNothing",
	},
	{
		"one hash places a key in two layouts with different hash tags", "router/moving.go",
		" && a.tag == b.tag\n", "\n",
		"./router", "TestMoving",
	},
	{
		"the tag between braces counts for a ring with other hash tags", "router/hashed.go",
		"	if l.tag.opening != '{' || l.tag.closing != '}' {", "	if len(tag) == 0 {",
		"./router", "TestMoving",
	},
	{
		"a command with one key is not held", "proxy/pull/wait.go",
		"	if p.heldUntil == 0 && p.w.Table.IsMoving() && cmd", "	if p.w.Table.IsMoving() && cmd",
		"./proxy", "TestHoldWhileKeysMove",
	},
	{
		"MOVE counts as a command with one key", "command/keys.go",
		"c.Single > 0 && c.elsewhere == nil", "c.Single > 0",
		"./command", "TestOneKey",
	},
	{
		"a replica serves a key that moves", "proxy/engine/reads.go",
		"	case at.IsKnown:\n		return at.IsMoving\n	case cmd.Single > 0:\n" +
			"		return isMoving(w, a.Arg(cmd.Single))",
		"	case cmd.Single > 0:\n		return false",
		"./test", "TestReplicasWhileKeysMove",
	},
	{
		"keys that a script does not declare are not brought", "proxy/pull/wait.go",
		"	if cmd.Is(command.RunsCode) {", "	if cmd.Is(command.RunsCode) && len(p.keys) > 5 {",
		"./test", "TestScriptsWhileKeysMove",
	},
	{
		"keyway scans nodes for scripts that use only their KEYS", "proxy/pull/tags.go",
		"if p.w.Scripts.Cache.UsesOnlyKeys(cmd, a) {", "if p.w.Scripts.Cache.UsesOnlyKeys(cmd, a) && len(p.keys) > 5 {",
		"./test", "TestScriptsOfDeclaredKeysWhileKeysMove",
	},
	{
		"a script that assigns to KEYS counts as one that uses only these", "lua/declared.go",
		"if s.isAssigned(s.closing(i+1) + 1) {", "if s.isAssigned(s.closing(i+1)+1) && i < 0 {",
		"./lua", "TestUsesOnlyKeys",
	},
}
